"""What `ibms kafka send` does: frames from a file onto the frames topic, as a gateway sends them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Producer

from flows.kafka_admin import read_kafka
from flows.progress import watched
from replay.frames_file import read_frames
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import FrameBlock
from schemas.wire_arrow import ARROW, encode_arrow
from schemas.wire_json import JSON, encode_json

_TYPES = {"arrow": ARROW, "json": JSON}
_FLUSH_S = 60.0


def run_send(config: Path, files: Sequence[Path], encoding: str, frames: int) -> None:
    """Send files that `ibms simulate` or `ibms replay --frames` wrote; raises ConfigError where a broker refuses."""
    if encoding not in _TYPES:
        msg = f"--encoding must be {' or '.join(_TYPES)}; got {encoding}"
        raise ConfigError(msg)
    settings = read_kafka(config)
    topic = settings.topics()["frames"].name
    client = {"enable.idempotence": True, "partitioner": "murmur2", "linger.ms": 20, "compression.type": "zstd"}
    client["topic.metadata.propagation.max.ms"] = 5_000  # a topic that is not there is told soon
    producer = Producer({**settings.client(), **client})
    refused: list[str] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            refused.append(error.str())

    sent = messages = unread = 0
    for file in files:
        for item in watched(read_frames(file), "send"):
            if isinstance(item, DeadLetter):
                unread += 1
                continue
            for vehicle, value in messages_of(item, encoding, frames):
                _produce(producer, topic, vehicle, value, _TYPES[encoding], delivered)
                messages += 1
            sent += len(item)
            if refused:
                break
    left = producer.flush(_FLUSH_S)
    if refused or left:
        why = refused[0] if refused else f"no answer within {_FLUSH_S:.0f} s"
        msg = f"kafka.bootstrap must be a broker that takes records of {topic}; got {why} ({settings.bootstrap})"
        raise ConfigError(msg)
    said = f", {unread:,} rows could not be read" if unread else ""
    sys.stdout.write(f"{sent:,} frames in {messages:,} messages → {topic}{said}\n")


def messages_of(block: FrameBlock, encoding: str, frames: int) -> Iterator[tuple[str, bytes]]:
    """Cut a block into messages of one pack and at most `frames` frames, each with its key, the vehicle.

    Rows of a pack keep their order; a vehicle's messages go in the order of their first frames.
    """
    order = np.argsort(block.pack, kind="stable")
    packs, begins = np.unique(block.pack[order], return_index=True)
    pieces = [
        (rows[at : at + frames], int(pack))
        for pack, rows in zip(packs.tolist(), np.split(order, begins[1:]), strict=True)
        for at in range(0, len(rows), frames)
    ]
    for rows, pack in sorted(pieces, key=lambda piece: int(piece[0][0])):
        part = block.take(rows).pruned()
        if encoding == "arrow":
            yield block.vehicles[pack], encode_arrow(part)
        else:
            yield from encode_json(part)


def _produce(producer: Producer, topic: str, key: str, value: bytes, content_type: str, delivered: Any) -> None:  # noqa: ANN401 - a callback
    """Hand over one message, waiting while the client's queue is full."""
    while True:
        try:
            producer.produce(topic, value, key, headers=[("content-type", content_type)], on_delivery=delivered)
        except BufferError:
            producer.poll(0.1)
            continue
        except KafkaException as error:
            msg = f"kafka.bootstrap must be a broker that takes records of {topic}; got {error.args[0].str()}"
            raise ConfigError(msg) from None
        producer.poll(0)
        return
