"""Gateways and a real broker: topics, settings for an uplink, what lies in a topic."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from edge.outbox import Outbox, OutboxSettings
from edge.retention import FRAMES
from edge.uplink import KafkaUplink, encode
from schemas.frames import FrameBlock
from schemas.ids import record_id
from tests.support.broker import Cluster

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
