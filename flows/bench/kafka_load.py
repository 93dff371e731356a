"""What a broker holds for the benchmark: a fleet's frames as gateways send them, in topics of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from confluent_kafka import Producer

from flows.bench.blocks import fleet_blocks
from flows.kafka_admin import Step, apply, connect
from flows.kafka_send import messages_of
from schemas.frames import concat
from schemas.kafka_settings import KafkaSettings
from schemas.wire_arrow import ARROW
from schemas.wire_json import JSON

Sendable = tuple[str, bytes, int]  # key, value, time (ms)
TYPES = {"arrow": ARROW, "json": JSON}
_DISTINCT = 500  # vehicles whose messages are written; more are copies of them under other names
_PRODUCER = {
    "linger.ms": 20,
    "compression.type": "zstd",
    "partitioner": "murmur2",
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 262_144,
    "log_level": 2,
}
_FLUSH_S = 300.0
_ANSWER_S = 30.0
_HOUR_NS = 3600 * 10**9
_LATER_MS = 1_000  # after its time a frame was with the broker: the vehicle's clock is right
_ANY_TIME = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}


def make_topics(settings: KafkaSettings) -> None:
    """Make the declared topics."""
    topics = settings.topics().values()
    kept = [replace(t, config={**t.config, **_ANY_TIME}) if t.role == "frames" else t for t in topics]
    apply(connect(settings), [Step("create", topic, "") for topic in kept])


def remove_topics(settings: KafkaSettings) -> None:
    """Take the benchmark's topics, and what they hold, away."""
    admin = connect(settings)
    for answer in admin.delete_topics([t.name for t in settings.topics().values()]).values():
        answer.result(_ANSWER_S)


def fill(settings: KafkaSettings, vehicles: int, rounds: int, encoding: str, frames: int) -> int:
    """Send `rounds` frames of each vehicle, `frames` of them a message, in order of time; gives the frames sent."""
    topic = settings.topics()["frames"].name
    return frames * sum(1 for _ in send(settings, topic, messages(vehicles, rounds, encoding, frames), encoding))


def send(settings: KafkaSettings, topic: str, made: Iterable[Sendable], encoding: str) -> Iterator[bytes]:
    """Send messages to a topic, giving each one's value; after the last the broker has all."""
    producer = Producer(settings.client() | _PRODUCER)
    headers: list[tuple[str, str | bytes | None]] = [("content-type", TYPES[encoding])]
    for key, value, t_ms in made:
        while True:
            try:
                producer.produce(topic, value, key, headers=headers, timestamp=t_ms + _LATER_MS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        yield value
    assert producer.flush(_FLUSH_S) == 0, "the broker does not take the benchmark's frames"


def messages(vehicles: int, rounds: int, encoding: str, frames: int) -> Iterator[Sendable]:
    """Give each message with its key and the time (ms) of its last frame, in order of time.

    `vehicles` is a multiple of 500 or less than that, `rounds` one of `frames`.  Times lie ahead of the clock, and
    stay there: a fleet that seems silent would have each open window shown again with every tick.
    """
    base = min(vehicles, _DISTINCT)
    assert vehicles % base == 0, f"vehicles must be a multiple of {base}; got {vehicles}"
    assert rounds % frames == 0, f"rounds must be a multiple of {frames}; got {rounds}"
    rows = concat(fleet_blocks(base, rounds))
    rows = rows.with_frames(t_ns=rows.t_ns + (time.time_ns() - int(rows.t_ns.min())) // _HOUR_NS * _HOUR_NS + _HOUR_NS)
    assert len(rows) == base * rounds, "every vehicle must send in every round"
    for begin in range(0, len(rows), frames * base):
        block = rows.take(slice(begin, begin + frames * base))
        t_ms = int(block.t_ns.max()) // 10**6
        written = list(messages_of(block, encoding, frames))
        for copy in range(vehicles // base):
            for key, value in written:
                name = f"{key[:-3]}{copy:03d}"  # fleet_blocks ends each name by the number of the copy
                yield name, value.replace(key.encode(), name.encode()) if copy else value, t_ms
