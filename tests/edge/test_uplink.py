"""The way out: what a message holds, and files that are whole or not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException

from edge.outbox import BACKFILL, LIVE, URGENT, Record
from edge.retention import BLACKBOX, FRAMES, INCIDENT
from edge.telemetry_settings import FILE, KAFKA, UplinkSettings
from edge.uplink import FileUplink, KafkaUplink, NoUplink, cost, encode, headers, open_uplink, read_message
from schemas.checked import ConfigError
from schemas.frames import FrameBlock
from schemas.kafka_settings import KafkaSettings
from schemas.wire import decode
from tests.support.frames import T0_NS, frames


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _record(n: int = 1, kind: str = FRAMES, payload: bytes = b"payload") -> Record:
    return Record(n, kind, f"id-{n}", T0_NS + n, T0_NS + n + 1, "t/x", payload, "cell_v on")


_COLUMNS = ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c")


def _same(a: FrameBlock, b: FrameBlock) -> bool:
    fixed = all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in _COLUMNS)
    return fixed and {k: v.tolist() for k, v in a.context.items()} == {k: v.tolist() for k, v in b.context.items()}


@pytest.mark.parametrize("rows", [10, 3000])
def test_the_fleet_reads_what_is_sent_bit_for_bit(rows: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (rows, 4)).astype(np.float32)
    block = frames(np.arange(rows) / 10, 12.5, cell_v=3.7 + noise, context={"soc_bms": np.full(rows, 0.5, np.float32)})
    payload, content_type = encode(block)
    (back,) = decode(payload, content_type, "frames", 0, 0)
    assert isinstance(back, FrameBlock)
    assert _same(block, back)


def test_a_lane_and_an_id_are_on_frames_and_a_cloud_event_is_everything_else() -> None:
    assert dict(headers(LIVE, _record(), "V1")) == {"content-type": b"t/x", "id": b"id-1", "lane": b"live"}
    assert dict(headers(BACKFILL, _record(), "V1"))["lane"] == b"backfill"
    event = dict(headers(URGENT, _record(kind=INCIDENT), "V1"))
    assert event == {
        "content-type": b"t/x", "id": b"id-1", "ce_specversion": b"1.0", "ce_id": b"id-1",
        "ce_source": b"/ibms/gateways/V1", "ce_type": b"ibms.gateway.incident", "ce_subject": b"cell_v on",
        "ce_time": b"2026-01-05T00:00:00.000Z",
    }  # fmt: skip
    assert cost(LIVE, _record(), "V1") == len(b"payloadV1content-typet/xidid-1lanelive")


def test_a_file_holds_the_whole_message_and_a_repeat_is_the_same_file(tmp_path: Path) -> None:
    out = FileUplink(tmp_path, "V1")
    payload = bytes(range(256)) + b"\n" * 3
    for _ in range(2):
        assert out.send(LIVE, _record(payload=payload))
    assert out.report().delivered == [1, 1]
    assert out.report().delivered == []
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    topic, key, told, back = read_message(path.read_bytes())
    assert (topic, key, back) == ("frames", "V1", payload)
    assert told == headers(LIVE, _record(), "V1")


def test_lanes_are_folders_and_files_lie_in_the_order_of_their_times(tmp_path: Path) -> None:
    out = FileUplink(tmp_path, "V1")
    for n in (30, 4, 100):
        out.send(BACKFILL, _record(n))
    out.send(URGENT, _record(5, BLACKBOX))
    assert [read_message(p.read_bytes())[2][1][1] for p in sorted((tmp_path / BACKFILL).iterdir())] == [
        b"id-4", b"id-30", b"id-100",
    ]  # fmt: skip
    assert read_message(next((tmp_path / URGENT).iterdir()).read_bytes())[0] == "gateways"


def test_a_disk_that_takes_nothing_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = FileUplink(tmp_path, "V1")

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not out.send(LIVE, _record())
    assert out.report().failed == [1]
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] in ([], [".new"])  # nothing that has its name
    monkeypatch.setattr(os, "fsync", lambda _: None)
    assert out.send(LIVE, _record())
    assert out.close().delivered == [1]


def test_orders_are_read_once_and_one_that_is_being_written_is_left(tmp_path: Path) -> None:
    out = FileUplink(tmp_path, "V1")
    assert out.hear() == []
    (tmp_path / "orders").mkdir()
    for name in ("2", "1", "3.new"):
        (tmp_path / "orders" / name).write_bytes(name.encode())
    assert out.hear() == [b"1", b"2"]
    assert out.hear() == []
    assert (tmp_path / "orders" / "3.new").exists()


def test_no_uplink_takes_nothing() -> None:
    out = NoUplink()
    assert not out.send(LIVE, _record())
    assert (out.report(), out.close(), out.hear()) == (([], []), ([], []), [])


@pytest.mark.parametrize("data", [b"", b"{}", b"{}\n", b"[]\npayload", b"no json\nx"])
def test_a_file_of_somebody_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own errors are of it
        read_message(data)


NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
TOPICS = {"frames": "f", "backfill": "b", "gateways": "g", "commands": "c"}


def test_a_record_that_no_broker_would_take_holds_up_no_other() -> None:
    out = KafkaUplink(NOWHERE, TOPICS, "V1", timeout_s=0.2)
    assert out.send(LIVE, _record(1, payload=bytes(2 << 20)))
    assert out.send(LIVE, _record(2))
    assert out.report() == ([], [1])
    assert out.close().failed == [2]


def test_a_queue_that_is_full_takes_nothing_more_until_there_is_room() -> None:
    out = KafkaUplink(NOWHERE, TOPICS, "V1", timeout_s=0.2)
    taken = [out.send(BACKFILL, _record(n, payload=bytes(900_000))) for n in range(6)]
    assert taken[:4] == [True] * 4
    assert not taken[-1]
    assert len(out.close().failed) == sum(taken)


def test_a_producer_that_has_failed_for_good_is_replaced_and_what_it_had_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = KafkaUplink(NOWHERE, TOPICS, "V1")
    first = out._producer
    assert out.send(LIVE, _record(1))

    class Failed:
        def produce(self, *_: object, **__: object) -> None:
            raise KafkaException(KafkaError(KafkaError._FATAL, "out of order", fatal=True))

        purge, flush = first.purge, first.flush

    monkeypatch.setattr(out, "_producer", Failed())
    assert out.send(LIVE, _record(2))
    assert sorted(out.report().failed) == [1, 2]
    assert out._producer is not first
    assert out.send(LIVE, _record(3))
    monkeypatch.setattr("edge.uplink._CLOSE_S", 0.1)
    out.close()


def test_settings_open_the_way_that_they_name(tmp_path: Path) -> None:
    assert isinstance(open_uplink(UplinkSettings(), "V1"), NoUplink)
    assert isinstance(open_uplink(UplinkSettings(FILE, tmp_path), "V1"), FileUplink)
    kafka = KafkaSettings("127.0.0.1:1", properties={"log_level": 0}, file="gateway.toml")
    way = open_uplink(UplinkSettings(KAFKA, kafka=kafka), "V1")
    assert isinstance(way, KafkaUplink)
    way.close()
    wrong = replace(kafka, properties={"no.such.thing": 1})
    with pytest.raises(ConfigError, match=r"uplink.kafka must be settings .* got .*no.such.thing.* \(gateway.toml\)"):
        open_uplink(UplinkSettings(KAFKA, kafka=wrong), "V1")
