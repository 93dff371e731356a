"""What `ibms kafka send` does: frames of a file, or what a gateway left in a folder, onto the topics, as gateways."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Producer

from edge.outbox import BACKFILL, LIVE, URGENT
from edge.uplink import read_message
from flows.kafka_admin import read_kafka
from flows.progress import watched
from replay.frames_file import read_frames
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import FrameBlock
from schemas.headers import Headers
from schemas.topics import INPUTS
from schemas.wire_arrow import ARROW, encode_arrow
from schemas.wire_json import JSON, encode_json

_TYPES = {"arrow": ARROW, "json": JSON}
_FLUSH_S = 60.0
_ROWS, _MADE, _UNREAD = "rows", "made", "unread"  # what is counted beside the messages of each role


def run_send(config: Path, files: Sequence[Path], encoding: str, frames: int) -> None:
    """Send files that `ibms simulate` or `ibms replay --frames` wrote, or all that a gateway's uplink left in a folder.

    Messages of a folder go as they are, each to its topic; to send one again fills no second record.  Raises
    ConfigError where a broker refuses.
    """
    if encoding not in _TYPES:
        msg = f"--encoding must be {' or '.join(_TYPES)}; got {encoding}"
        raise ConfigError(msg)
    settings = read_kafka(config)
    topics = {role: settings.topics()[role].name for role in INPUTS}
    client = {"enable.idempotence": True, "partitioner": "murmur2", "linger.ms": 20, "compression.type": "zstd"}
    client["topic.metadata.propagation.max.ms"] = 5_000  # a topic that is not there is told soon
    producer = Producer({**settings.client(), **client})
    refused: list[str] = []
    counts: Counter[str] = Counter()

    def delivered(error: KafkaError | None, message: Any) -> None:  # noqa: ANN401 - the client's
        if error is not None:
            refused.append(f"takes records of {message.topic()}; got {error.str()}")

    for role, key, headers, value in _messages(files, encoding, frames, counts):
        _produce(producer, topics[role], key, value, headers, delivered)
        if refused:
            break
    if producer.flush(_FLUSH_S):
        refused.append(f"answers; got no answer within {_FLUSH_S:.0f} s")
    if refused:
        msg = f"kafka.bootstrap must be a broker that {refused[0]} ({settings.bootstrap})"
        raise ConfigError(msg)
    sys.stdout.write(_summary(counts, topics))


def _messages(
    files: Sequence[Path], encoding: str, frames: int, counts: Counter[str]
) -> Iterator[tuple[str, str, Headers, bytes]]:
    """Give role of the topic, key, headers and payload of each message, and count what it holds."""
    for file in files:
        if file.is_dir():
            for message in left_in(file):
                counts[message[0]] += 1
                yield message
            continue
        for item in watched(read_frames(file), "send"):
            if isinstance(item, DeadLetter):
                counts[_UNREAD] += 1
                continue
            counts[_ROWS] += len(item)
            for vehicle, value in messages_of(item, encoding, frames):
                counts[_MADE] += 1
                yield "frames", vehicle, [("content-type", _TYPES[encoding].encode())], value


def _summary(counts: Counter[str], topics: Mapping[str, str]) -> str:
    unread = f", {counts[_UNREAD]:,} rows could not be read" if counts[_UNREAD] else ""
    left = [f"{counts[role]:,} messages of gateways → {topics[role]}\n" for role in INPUTS if counts[role]]
    made = f"{counts[_ROWS]:,} frames in {counts[_MADE]:,} messages → {topics['frames']}{unread}\n"
    return "".join(left if left and not counts[_MADE] else [made, *left])


def left_in(folder: Path) -> Iterator[tuple[str, str, Headers, bytes]]:
    """Give role of the topic, key, headers and payload of each message in a folder of a gateway's uplink, lane by lane.

    Raises ConfigError where a file is no such message, or the folder has none.
    """
    paths = [path for lane in (LIVE, BACKFILL, URGENT) for path in sorted((folder / lane).glob("*"))]
    if not paths:
        msg = f"FILES must be files of frames, or a folder that a gateway's uplink wrote; got {folder}"
        raise ConfigError(msg)
    for path in paths:
        if path.suffix == ".new":  # not whole
            continue
        try:
            role, key, headers, value = read_message(path.read_bytes())
        except (ValueError, AttributeError) as bad:
            msg = f"{path} must be a message that a gateway's uplink wrote; got {bad}"
            raise ConfigError(msg) from None
        if role not in INPUTS:
            msg = f"{path} must be for {', '.join(INPUTS)}; got {role!r:.40}"
            raise ConfigError(msg)
        yield role, key, list(headers), value


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


def _produce(producer: Producer, topic: str, key: str, value: bytes, headers: Any, delivered: Any) -> None:  # noqa: ANN401 - the client's types
    """Hand over one message, waiting while the client's queue is full."""
    while True:
        try:
            producer.produce(topic, value, key, headers=headers, on_delivery=delivered)
        except BufferError:
            producer.poll(0.1)
            continue
        except KafkaException as error:
            msg = f"kafka.bootstrap must be a broker that takes records of {topic}; got {error.args[0].str()}"
            raise ConfigError(msg) from None
        producer.poll(0)
        return
