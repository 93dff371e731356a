"""From a gateway's frames over a real broker to what the fleet reads: outages, kills, orders the other way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewPartitions

from edge.batches import Batches, BatchSettings
from edge.outbox import JSON
from edge.retention import BLACKBOX, FRAMES, INCIDENT
from edge.sender import Sender, SenderSettings
from edge.uplink import KafkaUplink
from flows.kafka_source import Input, KafkaSource
from operators.clean import CleanStep
from operators.kernels.clean import CleanConfig
from operators.shard import ShardLogic
from operators.step import Slots
from schemas.frames import BACKFILL, LIVE, FrameBlock, concat
from schemas.kafka_partition import order_key, partition_of
from schemas.pack import PackModel, load_pack
from schemas.signed import LIMITS, SOC
from schemas.wire import decode
from schemas.wire_arrow import ARROW
from tests.support.broker import Cluster
from tests.support.edge_kafka import PATIENCE_S, Lain, keep, lain, open_outbox, topics_for, until, uplink
from tests.support.fleet import SETTINGS, differences, drive, run
from tests.support.frames import NS, frames
from tests.support.history import history


def _frames(seconds: np.ndarray, now_ns: int) -> FrameBlock:
    """Make frames that end now, of a car that drives."""
    cells = np.round(3.7 + 0.01 * np.sin(seconds)[:, None] + 0.001 * np.arange(4), 3)
    made = frames(seconds, np.round(20 * np.sin(seconds), 1), cell_v=cells, names=("V1",))
    return made.with_frames(t_ns=now_ns + ((seconds - seconds[-1]) * NS).astype(np.int64))


def _read(kafka: Cluster, topics: dict[str, str], rows: int) -> list[FrameBlock]:
    """Read frames as the fleet does, live and backfill."""
    names = topics["frames"], topics["backfill"]
    given = Input({"bootstrap.servers": kafka.bootstrap}, names, names[0], readers=1)
    reader = KafkaSource(given).build_part("source", "reader-0000", None)
    got: list[FrameBlock] = []

    def read() -> None:
        got.extend(item for item in reader.next_batch() if isinstance(item, FrameBlock))

    until(lambda: sum(map(len, got)) >= rows, read)
    read()
    reader.close()
    return got


def _cleaned(blocks: list[FrameBlock]) -> list[int]:
    """Give the seq of every frame that the fleet's first step passes on."""

    def build(pack: PackModel, slots: Slots) -> CleanStep:
        return CleanStep(pack, slots, CleanConfig(), "test")

    logic = ShardLogic(build, load_pack, None, assigns=True)
    items = [*logic.on_batch([*blocks])[0], *logic.on_eof()[0]]
    return [s for i in items if isinstance(i, FrameBlock) for s in i.seq.tolist()]


def _topic(lain_: list[Lain], role: str) -> list[str]:
    return [m.headers["id"].decode() for m in lain_ if m.role == role]


def test_a_gateways_frames_reach_the_fleet_bit_for_bit(kafka: Cluster, tmp_path: Path) -> None:
    topics, box = topics_for(kafka), open_outbox(tmp_path / "box")
    sender = Sender(box, uplink(kafka, topics))
    drive = _frames(np.arange(0, 61, 0.1), time.time_ns())
    batches = Batches(BatchSettings(period_s=1.0, batch_s=10.0))
    parts = batches.push(drive, int(drive.t_ns[-1])) + batches.flush()
    ids = [keep(box, part, int(part.t_ns[-1])) for part in parts]
    until(lambda: not any(box.waiting.values()), lambda: sender.step(time.time_ns()))
    sender.close()
    sent = lain(kafka, topics, "backfill", "frames")
    assert sorted(m.headers["id"].decode() for m in sent) == sorted(ids)
    assert {m.key for m in sent} == {"V1"}
    blocks = _read(kafka, topics, sum(map(len, parts)))
    assert {int(lane) for b in blocks for lane in b.lane} == {LIVE, BACKFILL}  # older than 30 s is history
    whole = concat(parts)
    order = np.argsort(np.concatenate([b.seq for b in blocks]), kind="stable")
    for name in ("seq", "t_ns", "current_a", "pack_v", "cell_v", "temp_c"):
        back = np.concatenate([getattr(b, name) for b in blocks])[order]
        assert np.array_equal(back, getattr(whole, name), equal_nan=True), name
    told = sum(len(name) + len(value) for m in sent for name, value in m.headers.items())
    assert sender.day_bytes == told + sum(len(m.value) + len(m.key) for m in sent)


def test_incidents_and_black_boxes_are_cloud_events_and_orders_come_back(kafka: Cluster, tmp_path: Path) -> None:
    topics, box = topics_for(kafka), open_outbox(tmp_path / "box")
    way = uplink(kafka, topics)
    sender, now_ns = Sender(box, way), time.time_ns()
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for key, value in (("V2", b"for another"), ("V1", b"for us")):
        producer.produce(topics["commands"], value, key)
    assert producer.flush(20) == 0
    box.append(BLACKBOX, "box-1", now_ns, now_ns, b"frames", content_type="t/x", now_ns=now_ns, subject="trip")
    box.append(INCIDENT, "incident-1", now_ns, now_ns, b"{}", content_type=JSON, now_ns=now_ns, subject="cell_v on")
    until(lambda: not any(box.waiting.values()), lambda: sender.step(time.time_ns()))
    heard: list[bytes] = []
    until(lambda: bool(heard), lambda: heard.extend(way.hear()))
    sender.close()
    assert heard == [b"for us"]
    events = lain(kafka, topics, "gateways")
    assert [m.headers["ce_id"] for m in events] == [b"incident-1", b"box-1"]
    assert [m.headers["ce_type"] for m in events] == [b"ibms.gateway.incident", b"ibms.gateway.blackbox"]


def test_a_gateway_reads_its_own_share_of_the_orders_also_where_partitions_are_added(kafka: Cluster) -> None:
    topics = topics_for(kafka) | {"commands": kafka.topic("commands", 6)}
    refresh = {"bootstrap.servers": kafka.bootstrap, "topic.metadata.refresh.interval.ms": 300}
    vehicle = next(v for v in map("V{}".format, range(99)) if partition_of(v, 6) != partition_of(v, 12))
    way, producer = KafkaUplink(refresh, topics, vehicle), Producer(refresh)
    heard: list[bytes] = []

    def order(text: str, partition: int, key: str) -> None:
        producer.produce(topics["commands"], text.encode(), key, partition)
        assert producer.flush(20) == 0

    def waits(for_: bytes) -> None:
        until(lambda: for_ in heard, lambda: heard.extend(way.hear()))

    for partition in range(6):
        order(f"elsewhere {partition}", partition, "another")
        if partition != partition_of(vehicle, 6):
            order(f"not read {partition}", partition, order_key(vehicle, LIMITS))
    order("limits", partition_of(vehicle, 6), order_key(vehicle, LIMITS))
    order("as before", partition_of(vehicle, 6), vehicle)
    waits(b"as before")
    assert heard == [b"limits", b"as before"]
    assert [one.partition for one in way.reads()] == [partition_of(vehicle, 6)]
    kafka.admin.create_partitions([NewPartitions(topics["commands"], 12)])[topics["commands"]].result(20)
    until(lambda: len(way.reads()) == 2, way.hear)
    order("to the new one", partition_of(vehicle, 12), order_key(vehicle, SOC))
    waits(b"to the new one")
    order("left in the old one", partition_of(vehicle, 6), order_key(vehicle, SOC))
    waits(b"left in the old one")
    way.close()


def test_an_outage_keeps_history_and_live_frames_do_not_wait_for_it(kafka: Cluster, tmp_path: Path) -> None:
    topics, box = topics_for(kafka), open_outbox(tmp_path / "box", live_age_s=3.0)
    sender = Sender(box, uplink(kafka, topics, timeout_s=1.0), SenderSettings(backfill_bytes=4000))
    ids: list[str] = []
    phase = {"before": 0, "away": 0, "after": 0}

    def drive(name: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            n = len(ids)
            now_ns = time.time_ns()
            block = frames([0.0], float(n % 50), seq=[n], names=("V1",)).with_frames(t_ns=np.array([now_ns]))
            ids.append(keep(box, block, now_ns))
            phase[name] += 1
            for _ in range(2):
                sender.step(time.time_ns())
                time.sleep(0.01)

    drive("before", 0.5)
    kafka.brokers[0].pause()
    try:
        drive("away", 4.5)
        waited = box.waiting[FRAMES]
    finally:
        kafka.brokers[0].resume()
    drive("after", 2.0)
    until(lambda: not any(box.waiting.values()), lambda: sender.step(time.time_ns()))
    sender.close()
    assert waited >= phase["away"]  # nothing went, nothing was lost
    assert sender.failures > 0
    sent = lain(kafka, topics, "frames", "backfill")
    by_id = Counter(m.headers["id"].decode() for m in sent)
    assert by_id.keys() == set(ids)
    live = set(_topic(sent, "frames"))
    newest = ids[-phase["after"] // 2 :]  # made while history was being sent again
    assert set(newest) <= live
    assert set(_topic(sent, "backfill")) & set(ids[phase["before"] : -phase["after"]])
    once = [decode(value, ARROW, "frames", 0, 0)[0] for value in {m.headers["id"]: m.value for m in sent}.values()]
    assert sorted(s for b in once if isinstance(b, FrameBlock) for s in b.seq.tolist()) == list(range(len(ids)))
    assert set(_cleaned(_read(kafka, topics, len(sent)))) == set(range(len(ids)))


def test_what_an_outage_held_back_fills_its_gap_at_the_fleet_bit_for_bit(kafka: Cluster, tmp_path: Path) -> None:
    """A gateway's outbox, the broker, the fleet's source and its steps: what holds is what a run in order says."""
    topics, box = topics_for(kafka), open_outbox(tmp_path / "box")
    sender = Sender(box, uplink(kafka, topics), SenderSettings(backfill_bytes=4000))
    driven = drive(1, 0.4, 1.0)
    driven = driven.with_frames(t_ns=driven.t_ns - driven.t_ns.max() + time.time_ns() // NS * NS)
    parts = [driven.take(slice(at, at + 10)) for at in range(0, len(driven), 10)]
    away = range(40, 100)  # ten minutes of 24
    for number, part in enumerate(parts):
        now_ns = int(part.t_ns.max())
        keep(box, part, now_ns)
        for _ in range(0 if number in away else 3):  # history goes in handfuls beside what is live
            sender.step(now_ns)
            time.sleep(0.002)
    until(lambda: not any(box.waiting.values()), lambda: sender.step(int(driven.t_ns.max())))
    sender.close()
    sent = lain(kafka, topics, "backfill", "frames")
    assert len(_topic(sent, "backfill")) >= len(away) - 4  # the last half minute of them is not history yet
    got = run(_read(kafka, topics, len(driven)), SETTINGS)
    assert "dead_letters" not in got
    assert max(got["windows"]["revision"].to_pylist()) > 0
    assert differences(history(run([driven], SETTINGS)), history(got)) == []


def test_a_killed_sender_loses_nothing_and_its_repeats_have_their_ids(
    kafka: Cluster, tmp_path: Path, kills: int
) -> None:
    topics = topics_for(kafka)
    program = [sys.executable, "-m", "tests.support.sender_process"]
    command: list[str] = [*program, str(tmp_path), kafka.bootstrap, json.dumps(topics)]
    kept = tmp_path / "kept"
    for kill in range(max(3, kills // 5)):
        with subprocess.Popen([*command, "1000000"]) as running:
            before = len(kept.read_text().splitlines()) if kept.exists() else 0

            def grown(least: int) -> bool:
                return kept.exists() and len(kept.read_text().splitlines()) >= least

            until(lambda: grown(before + 20 + 7 * kill), lambda: None)  # noqa: B023 - called here alone
            running.send_signal(signal.SIGKILL)
    subprocess.run([*command, str(len(kept.read_text().splitlines()))], check=True, timeout=PATIENCE_S)
    told = kept.read_text().splitlines()
    sent = lain(kafka, topics, "frames", "backfill", "gateways")
    assert set(told) <= {m.headers["id"].decode() for m in sent}
    payloads: dict[str, set[bytes]] = {}
    for m in sent:
        payloads.setdefault(m.headers["id"].decode(), set()).add(m.value)
    assert all(len(values) == 1 for values in payloads.values())
