"""The Kafka sink on a real broker: what lies in the topics, and what a resumed sink adds."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Message

from schemas.arrow import SCHEMAS, LakeItem
from schemas.events import DeadLetter, Incident, Rows, Tick
from schemas.headers import pack_headers
from schemas.kafka_partition import partition_of
from schemas.topics import OUTPUTS
from sinks.kafka import KafkaDeliveryError, KafkaPartition, KafkaSink, KafkaSinkError, _passes
from sinks.kafka_records import PAYLOAD_MAX, _values
from tests.support.broker import Cluster
from tests.support.kafka_account import messages
from tests.support.kafka_kill_flow import Blind, Forgetful, Sound
from tests.support.lake import T0_NS, records, session, windows

PARTITIONS = 3


@pytest.fixture
def topics(kafka: Cluster) -> dict[str, str]:
    return {table: kafka.topic(table, PARTITIONS) for table in OUTPUTS}


def _sink(kafka: Cluster, topics: dict[str, str], started: Path | None = None, queue: int = 1000) -> KafkaSink:
    client = {"bootstrap.servers": kafka.bootstrap, "queue.buffering.max.messages": queue}
    return KafkaSink(client, topics, "test", started=started)


def _part(sink: KafkaSink, state: dict[str, Any] | None = None) -> KafkaPartition:
    return sink.build_part("kafka", "kafka", state)


def _headers(message: Message) -> dict[str, Any]:
    return dict(message.headers() or ())


def _starts(kafka: Cluster, topics: dict[str, str]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for message in messages(kafka, topics["windows"]):
        value = message.value()
        assert isinstance(value, bytes)
        rows = pa.ipc.open_stream(value).read_all()
        found += zip(rows["pack_id"].to_pylist(), rows["start_ns"].cast(pa.int64()).to_pylist(), strict=True)
    return sorted(found)


def _fleet_windows(first: int, n: int, packs: int = 7) -> Rows:
    parts = [windows(n, first=first, pack=f"P{i}") for i in range(packs)]
    names = tuple(f"P{i}" for i in range(packs))
    pack = np.repeat(np.arange(packs, dtype=np.int32), n)
    return Rows(
        "windows", "m", names, names, pack, {k: np.concatenate([p.data[k] for p in parts]) for k in parts[0].data}
    )


def _incident(revision: int = 0, status: str = "open") -> Incident:
    return Incident(
        "i1", revision, "m", "A", "V", "imbalance", "cell 3", 2, status, T0_NS, T0_NS + 1_500, 0, "text", {"x": 1.5}
    )


def test_windows_stay_columns_and_a_vehicle_stays_in_one_partition(kafka: Cluster, topics: dict[str, str]) -> None:
    part = _part(_sink(kafka, topics))
    part.write_batch(records(_fleet_windows(0, 20)))
    part.snapshot()
    assert len(_starts(kafka, topics)) == 7 * 20
    found = messages(kafka, topics["windows"])
    assert len(found) <= PARTITIONS  # not a message per window
    for message in found:
        value = message.value()
        assert isinstance(value, bytes)
        vehicles = pa.ipc.open_stream(value).read_all()["vehicle_id"].to_pylist()
        assert {partition_of(v, PARTITIONS) for v in vehicles} == {message.partition()}


def test_keys_go_where_kafkas_own_clients_put_them(kafka: Cluster, topics: dict[str, str]) -> None:
    part = _part(_sink(kafka, topics))
    many = [DeadLetter(str(i), "t", 0, i, 0, "late", "", "k" * i + "é", 0, 0, "", b"") for i in range(20)]
    part.write_batch(records(*many))
    part.snapshot()
    found = messages(kafka, topics["dead_letters"])
    assert len(found) == 20
    for message in found:
        key = message.key()
        assert isinstance(key, bytes)
        assert partition_of(key.decode(), PARTITIONS) == message.partition()


def test_an_incident_is_a_cloud_event_of_its_own_for_each_revision(kafka: Cluster, topics: dict[str, str]) -> None:
    part = _part(_sink(kafka, topics))
    part.write_batch(records(_incident(), _incident(1, "clear"), session()))
    part.snapshot()
    opened, cleared = messages(kafka, topics["incidents"])
    assert opened.key() == b"V"
    value = opened.value()
    assert isinstance(value, bytes)
    body = json.loads(value)
    assert (body["subject"], body["evidence"], body["opened_ns"]) == ("cell 3", {"x": 1.5}, T0_NS)
    assert {k: v for k, v in _headers(opened).items() if k.startswith("ce_") or k == "content-type"} == {
        "ce_specversion": b"1.0",
        "ce_id": b"i1/0",
        "ce_source": b"/ibms/test",
        "ce_type": b"ibms.incident.open",
        "ce_subject": b"A",
        "ce_time": b"2026-01-05T00:00:00.000001Z",
        "content-type": b"application/json",
    }
    assert (_headers(cleared)["ce_id"], _headers(cleared)["ibms.revision"]) == (b"i1/1", b"1")
    (park,) = messages(kafka, topics["sessions"])
    assert _headers(park)["ce_type"] == b"ibms.session.park"


def test_a_dead_letter_has_key_value_and_headers_as_they_came(kafka: Cluster, topics: dict[str, str]) -> None:
    headers = [("content-type", b"application/json"), ("odd", b"\xff\x00"), ("odd", None)]
    packed = pack_headers(b"\xfeV", headers)
    letter = DeadLetter("d1", "frames", 3, 99, 0, "undecodable", "no JSON", "", 0, 0, "text/x", b"\x00{", packed)
    large = DeadLetter("d2", "frames", 3, 100, 0, "too_large", "", "", 0, 0, "", bytes(PAYLOAD_MAX + 1))
    big = kafka.topic("dead", 1, {"max.message.bytes": "8000000"})
    part = _part(_sink(kafka, topics | {"dead_letters": big}))
    part.write_batch(records(letter, large))
    part.snapshot()
    verbatim, cut = messages(kafka, big)
    assert (verbatim.key(), verbatim.value()) == (b"\xfeV", b"\x00{")
    assert list(verbatim.headers() or ())[:3] == headers
    why = _headers(verbatim)
    names = ("error.reason", "error.topic", "error.partition", "error.offset")
    assert [why[n] for n in names] == [b"undecodable", b"frames", b"3", b"99"]
    assert _headers(cut)["error.cut_from_bytes"] == str(PAYLOAD_MAX + 1).encode()


def test_a_state_holds_every_cell_of_its_own_pack_and_a_corrected_one_takes_no_newer_ones_place(
    kafka: Cluster, topics: dict[str, str]
) -> None:
    soc = np.array([[0.1, 0.2], [np.nan, 0.4], [0.5, 0.6], [0.7, 0.7]], np.float32)
    revision, t_ns = np.array([0, 0, 0, 1], np.int32), T0_NS + np.array([0, 1, 2, -900])
    data: dict[str, Any] = {"t_ns": t_ns, "revision": revision, "soc_cell": soc}
    names = ("P0", "P1", "P2")
    (made,) = records(Rows("states", "m", names, names, np.array([0, 1, 2, 2], np.int32), data))
    assert not isinstance(made, Tick)
    part = _part(_sink(kafka, topics))
    part.write_batch([(made[0], made[1].slice(1))])
    part.snapshot()
    found = {m.key(): json.loads(m.value() or b"") for m in messages(kafka, topics["states"])}
    assert {k: (v["pack_id"], v["t_ns"], v["soc_cell"]) for k, v in found.items()} == {
        b"P1": ("P1", T0_NS + 1, [None, 0.4]),
        b"P2": ("P2", T0_NS + 2, [0.5, 0.6]),
    }


def test_an_undeliverable_record_stops_the_flow(kafka: Cluster, topics: dict[str, str]) -> None:
    small = kafka.topic("small", 1, {"max.message.bytes": "300"})
    part = _part(_sink(kafka, topics | {"incidents": small}))
    part.write_batch(records(_incident()))
    with pytest.raises(KafkaDeliveryError, match=rf"a record must reach topic {small}; got MSG_SIZE_TOO_LARGE"):
        part.snapshot()


def test_a_topic_that_is_not_there_is_an_error_at_start(kafka: Cluster, topics: dict[str, str]) -> None:
    with pytest.raises(KafkaSinkError, match=r"topics must exist: nowhere do not; `ibms kafka init` makes them"):
        _part(_sink(kafka, topics | {"gaps": "nowhere"}))


def test_a_full_queue_holds_the_flow_back_and_loses_nothing(kafka: Cluster, topics: dict[str, str]) -> None:
    part = _part(_sink(kafka, topics, queue=10))
    part.write_batch(records(*(_incident(i) for i in range(500))))
    part.snapshot()
    assert sorted(int(_headers(m)["ibms.revision"]) for m in messages(kafka, topics["incidents"])) == list(range(500))


@pytest.mark.parametrize("name", ["NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "_TRANSPORT", "_TIMED_OUT"])
def test_a_leader_that_moves_is_waited_for(name: str) -> None:
    assert _passes(KafkaError(getattr(KafkaError, name)))
    assert not _passes(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


def test_a_broker_that_is_away_is_waited_for(kafka: Cluster, topics: dict[str, str]) -> None:
    said: list[str] = []
    sink = KafkaSink({"bootstrap.servers": kafka.bootstrap}, topics, "test", started=None, waiting=said.append)
    part = _part(sink)
    said.clear()
    kafka.brokers[0].pause()
    back = threading.Timer(2.5, kafka.brokers[0].resume)
    back.start()
    try:
        part.write_batch(records(_incident()))
        part.snapshot()
    finally:
        back.join()
    assert said[0] == "records wait for brokers to take them"
    assert said[-1] == "", "once brokers are back nothing waits, or a hang would never be seen"
    assert len(messages(kafka, topics["incidents"])) == 1


def _items(seed: int, n: int) -> list[LakeItem]:
    """Give records one by one, in the order in which every run makes them."""
    draw = random.Random(seed)
    out: list[LakeItem] = []
    for i in range(n):
        kind = draw.choice(["windows", "incident", "tick"])
        if kind == "windows":
            out += records(_fleet_windows(i * 10, draw.randint(1, 3)))
        else:
            out += records(_incident(i)) if kind == "incident" else [Tick(i)]
    return out


def _cut(items: list[LakeItem], draw: random.Random) -> list[LakeItem]:
    """Cut windows into other batches of the same rows in the same order."""
    out: list[LakeItem] = []
    for item in items:
        if isinstance(item, Tick):
            if draw.random() < 0.5:
                out.append(item)
            continue
        table, batch = item
        at = draw.randint(0, batch.num_rows)
        out += [(table, part) for part in (batch.slice(0, at), batch.slice(at)) if part.num_rows]
    return out


def _killed_often(sink: KafkaSink, items: list[LakeItem], draw: random.Random) -> int:
    """Run over the items in many lives, not all of whose snapshots became durable; gives the lives."""
    state: dict[str, Any] | None = None
    done = lives = 0  # items that the last durable snapshot covers
    while done < len(items):
        lives += 1
        part = _part(sink, state)
        at = done
        for _ in range(draw.randint(1, 3)):  # epochs of this life
            end = min(len(items), at + draw.randint(0, 12))
            part.write_batch(_cut(items[at:end], draw))
            at = end
            made = part.snapshot()
            if draw.random() < 0.5:  # it became durable
                done, state = at, made
        part.write_batch(_cut(items[at : at + 5], draw))
        part._producer.flush()  # delivered, and killed before any snapshot
        part._held.clear()
    _part(sink, state).snapshot()
    return lives


def _windows_of(items: list[LakeItem]) -> list[tuple[str, int]]:
    batches = [item[1] for item in items if not isinstance(item, Tick) and item[0] == "windows"]
    columns = [(b["pack_id"].to_pylist(), b["start_ns"].cast(pa.int64()).to_pylist()) for b in batches]
    return sorted(row for pack, start in columns for row in zip(pack, start, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_what_was_delivered_after_the_snapshot_is_skipped_however_it_is_cut(
    kafka: Cluster, topics: dict[str, str], tmp_path: Path, seed: int
) -> None:
    items = _items(seed, 40)
    sink = _sink(kafka, topics, tmp_path / "state" / "kafka-test.json")
    assert _killed_often(sink, items, random.Random(f"cuts {seed}")) > 2
    assert _starts(kafka, topics) == _windows_of(items)
    revisions = [int(_headers(m)["ibms.revision"]) for m in messages(kafka, topics["incidents"])]
    incidents = [item[1] for item in items if not isinstance(item, Tick) and item[0] == "incidents"]
    assert sorted(revisions) == sorted(b["revision"][0].as_py() for b in incidents)


@pytest.mark.parametrize("broken", [Forgetful, Blind])
def test_a_sink_that_forgets_what_to_skip_fails_the_same_account(
    kafka: Cluster, topics: dict[str, str], tmp_path: Path, broken: type[Sound]
) -> None:
    sink = broken({"bootstrap.servers": kafka.bootstrap}, topics, "test", started=tmp_path / "started.json")
    sink.folder = tmp_path
    items = _items(0, 40)
    _killed_often(sink, items, random.Random("cuts 0"))
    assert len(_starts(kafka, topics)) > len(_windows_of(items))


def test_another_writers_records_are_not_taken_for_ones_own(
    kafka: Cluster, topics: dict[str, str], tmp_path: Path
) -> None:
    part = _part(_sink(kafka, topics, tmp_path / "a"))
    other = KafkaSink({"bootstrap.servers": kafka.bootstrap}, topics, "other", started=None).build_part("k", "k", None)
    other.write_batch(records(_incident()))
    other.snapshot()
    del part
    again = _part(_sink(kafka, topics, tmp_path / "a"))
    again.write_batch(records(_incident()))
    again.snapshot()
    assert len(messages(kafka, topics["incidents"])) == 2


def test_ticks_send_windows_that_wait_but_the_first_of_a_run_go_at_once(kafka: Cluster, topics: dict[str, str]) -> None:
    part = _part(_sink(kafka, topics))
    part.write_batch(records(windows(1)))
    part._producer.flush()
    assert len(_starts(kafka, topics)) == 1
    part.write_batch(records(windows(2, first=1)))
    assert part._held_rows == 2
    part.write_batch([Tick(time.time_ns())])
    part._producer.flush()
    assert len(_starts(kafka, topics)) == 3


@pytest.mark.parametrize("table", SCHEMAS)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_column_of_any_kind_becomes_the_values_that_arrow_gives_one_by_one(table: str, gaps: bool) -> None:
    for field in SCHEMAS[table]:
        whole = _column(field.type, gaps)
        for column in (whole, whole.slice(1, 2)):
            plain = column.cast(pa.int64()) if pa.types.is_timestamp(field.type) else column
            got = [v.tolist() if isinstance(v, np.ndarray) else v for v in _values(column, field.type)]
            assert got == plain.to_pylist(), field.name
            assert list(map(type, got)) == list(map(type, plain.to_pylist())), field.name


def _column(kind: pa.DataType, gaps: bool) -> pa.Array:
    """Four values of a kind, the second missing where there are gaps."""
    if pa.types.is_dictionary(kind):
        return pa.array(["a", None if gaps else "c", "b", "a"]).dictionary_encode()
    if pa.types.is_list(kind):
        return pa.array([[1, 2], None if gaps else [], [3], []], kind)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pa.array(["a", None if gaps else "x", "", "b"], kind)
    if pa.types.is_boolean(kind):
        return pa.array([True, None if gaps else False, False, True])
    return pa.array([1, None if gaps else 5, 3, 2], kind)
