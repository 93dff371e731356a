"""Gateways and a real broker: topics, settings for an uplink, what lies in a topic."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from edge.blackbox import BlackboxSettings
from edge.care import care_config
from edge.cloud_limits import CloudConfig
from edge.commands import writer
from edge.keeping import Keeping
from edge.outbox import Outbox, OutboxSettings
from edge.retention import FRAMES
from edge.telemetry import Telemetry, TelemetryConfig
from edge.telemetry_settings import TelemetrySettings
from edge.uplink import KafkaUplink, encode
from operators.dbc import load_dbc
from schemas.frames import FrameBlock
from schemas.ids import record_id
from schemas.pack import load_pack
from schemas.signals import DBC_DIR
from tests.support.broker import Cluster
from tests.support.frames import NS, T0_NS, frames

ROLES = ("frames", "backfill", "gateways", "commands")
PATIENCE_S = 60.0


class Lain(NamedTuple):
    """A message as it lies in a topic."""

    role: str
    key: str
    headers: dict[str, bytes]
    value: bytes


def topics_for(kafka: Cluster) -> dict[str, str]:
    return {role: kafka.topic(role) for role in ROLES}


def uplink(kafka: Cluster, topics: dict[str, str], vehicle: str = "V1", **more: Any) -> KafkaUplink:
    return KafkaUplink({"bootstrap.servers": kafka.bootstrap, "reconnect.backoff.max.ms": 500}, topics, vehicle, **more)


def keep(box: Outbox, frames: FrameBlock, now_ns: int) -> str:
    """Put a batch into an outbox, as a gateway does; gives its id."""
    payload, content_type = encode(frames)
    first_ns, last_ns = int(frames.t_ns[0]), int(frames.t_ns[-1])
    name = record_id("V1", FRAMES, str(int(frames.seq[0])), first_ns)
    assert box.append(FRAMES, name, first_ns, last_ns, payload, content_type=content_type, now_ns=now_ns)
    return name


def open_outbox(folder: Path, live_age_s: float = 30.0) -> Outbox:
    return Outbox(folder, "V1", OutboxSettings(live_age_s=live_age_s, segment_bytes=4096))


def lain(kafka: Cluster, topics: dict[str, str], *roles: str) -> list[Lain]:
    """Read topics from their begin to their end."""
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "enable.auto.commit": False})
    found: list[Lain] = []
    try:
        for role in roles:
            partition = TopicPartition(topics[role], 0)
            begin, end = reader.get_watermark_offsets(partition, timeout=20)
            if begin == end:
                continue
            reader.assign([TopicPartition(topics[role], 0, begin)])
            at, until = begin, time.monotonic() + PATIENCE_S
            while at < end:
                assert time.monotonic() < until
                for message in reader.consume(500, 0.1):
                    assert message.error() is None
                    value, key, offset = message.value(), message.key(), message.offset()
                    assert isinstance(value, bytes)
                    assert isinstance(key, bytes)
                    assert offset is not None
                    given: Any = message.headers() or []
                    told = {name: data for name, data in given if isinstance(data, bytes)}
                    found.append(Lain(role, key.decode(), told, value))
                    at = offset + 1
    finally:
        reader.close()
    return found


def until(done: Callable[[], bool], act: Callable[[], object], pause_s: float = 0.02) -> None:
    """Act until something is true."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end
        act()
        time.sleep(pause_s)


def tripped(folder: Path, way: KafkaUplink, vehicle: str) -> None:
    """Run a gateway's telemetry over 12 s with a trip in them, until all of it has arrived.

    Its start, the decision, ten frames a second and a black box of 8 s go out, by a clock that begins at T0.
    """
    told = TelemetrySettings(folder, blackbox=BlackboxSettings(before_s=5.0, after_s=3.0, piece_s=1.0))
    pack = load_pack("generic-nmc@4c2t60ah")
    cloud = CloudConfig(vehicle, (), pack.limits, pack.charge_max_a, pack.discharge_max_a)
    about = {"model": pack.name, "gateway_version": "1.2.0"}
    config = TelemetryConfig(care_config(pack, None), cloud, folder.with_suffix(".soc"), asks=False, about=about)
    keeping = Keeping(told, vehicle, way, encode)
    telemetry = Telemetry(config, keeping, writer(load_dbc(DBC_DIR / "ibms_edge.dbc")))
    decision = {
        "kind": "decision", "number": 0, "key": "cell_v/MSL/over/any", "active": True, "opens": True, "tier": "MSL",
        "quantity": "cell_v", "subject": "cell 2", "value": 4.3, "bound": 4.25, "at_ns": T0_NS + 6 * NS, "text": "…",
    }  # fmt: skip
    for k in range(120):
        block = frames([k / 10], seq=[k], names=(vehicle,), cell_v=3.7 + k / 1000)
        telemetry.step(block, [decision] if k == 60 else [], k * NS // 10, T0_NS + k * NS // 10)
    box = keeping.outbox
    assert box is not None
    until(lambda: not any(box.waiting.values()), lambda: telemetry.step(None, [], 12 * NS, T0_NS + 12 * NS))
    telemetry.close(T0_NS + 12 * NS)
