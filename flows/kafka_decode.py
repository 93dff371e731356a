"""What the messages of one poll become: few blocks, rows in order of arrival, and dead letters with key and headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE
from confluent_kafka import Message as Polled

from schemas.events import DeadLetter, Item
from schemas.frames import BACKFILL, NO_RECV, FrameBlock
from schemas.headers import Headers, pack_headers
from schemas.message import MAX_BYTES, Message, Packs
from schemas.pack import load_pack
from schemas.wire import decode_all

CONTENT_TYPE = "content-type"
LANE = "lane"
BACKFILL_PARTS = 1 << 20  # added to `src_part` of frames from the backfill topic, so that a place is one topic's


def decode_poll(
    polled: Sequence[Polled], *, backfill: str = "", max_bytes: int = MAX_BYTES, packs: Packs = load_pack
) -> list[Item]:
    """Decode messages without errors, in the order in which they came.

    Frames from the topic `backfill`, or under a header `lane: backfill`, go to the backfill lane.  A dead letter
    names the message's topic, partition and offset, and holds its value, its key and all headers.
    """
    items: list[Item] = []
    for (topic, resent), run in groupby(zip(polled, map(_lane, polled), strict=True), lambda m: (m[0].topic(), m[1])):
        own = [message for message, _ in run]
        lane = resent or topic == backfill
        offset = BACKFILL_PARTS if topic == backfill else 0
        made = decode_all(map(_message, own), max_bytes=max_bytes, packs=packs)
        items += [_letter(i, own) if isinstance(i, DeadLetter) else _placed(i, offset, lane=lane) for i in made]
    return items


def _lane(message: Polled) -> bool:
    return any(name == LANE and value == b"backfill" for name, value in _headers(message))


def _headers(message: Polled) -> Headers:
    found = message.headers()
    if not isinstance(found, list):
        return []
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in found]


def _message(polled: Polled) -> Message:
    content_type = next((v for k, v in _headers(polled) if k == CONTENT_TYPE and v is not None), b"")
    kind, stamp_ms = polled.timestamp()
    return Message(
        polled.value() or b"",
        content_type.decode(errors="replace"),
        polled.topic() or "",
        polled.partition() or 0,
        polled.offset() or 0,
        NO_RECV if kind == TIMESTAMP_NOT_AVAILABLE else stamp_ms * 1_000_000,
    )


def _letter(letter: DeadLetter, polled: Sequence[Polled]) -> DeadLetter:
    """Give a dead letter key and headers; they are written as text for the few refused only."""
    own = next(m for m in polled if m.partition() == letter.partition and m.offset() == letter.offset)
    key = own.key()
    return replace(letter, headers=pack_headers(key.encode() if isinstance(key, str) else key, _headers(own)))


def _placed(block: FrameBlock, offset: int, *, lane: bool) -> FrameBlock:
    if not lane and not offset:
        return block
    rows = len(block)
    lanes = np.full(rows, BACKFILL, np.uint8) if lane else block.lane
    return block.with_frames(lane=lanes, src_part=block.src_part + np.int32(offset))
