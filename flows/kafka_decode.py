"""What the messages of one poll become: few blocks, rows in order of arrival, what gateways say, and dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE
from confluent_kafka import Message as Polled

from schemas.events import DeadLetter, Item
from schemas.frames import BACKFILL, NO_RECV, FrameBlock
from schemas.headers import Headers, pack_headers
from schemas.message import Message
from schemas.wire import Decoder
from schemas.wire_gateway import Said, decode_gateways

CONTENT_TYPE = "content-type"
LANE = "lane"
BACKFILL_PARTS = 1 << 20  # added to `src_part` of frames from the backfill topic, so that a place is one topic's


def decode_poll(polled: Sequence[Polled], decoder: Decoder, *, backfill: str = "", gateways: str = "") -> list[Item]:
    """Decode messages without errors, in the order in which they came.

    Frames from the topic `backfill`, or under a header `lane: backfill`, go to the backfill lane; what gateways say
    beside frames comes from the topic `gateways`.  A dead letter names the message's topic, partition and offset, and
    holds its value, its key and all headers.
    """
    items: list[Item] = []
    at = 0
    for topic, resent, run in _runs(polled):
        begin, at = at, at + len(run)
        if topic == gateways:
            items += decode_gateways(map(_said, run, polled[begin:at]), decoder)
            continue
        lane = resent or topic == backfill
        offset = BACKFILL_PARTS if topic == backfill else 0
        made = decoder.decode(run)
        items += [_placed(i, offset, lane=lane) if isinstance(i, FrameBlock) else i for i in made]
    if any(isinstance(i, DeadLetter) for i in items):
        places = {(p.topic(), p.partition(), p.offset()): p for p in polled}
        items = [_letter(i, places) if isinstance(i, DeadLetter) else i for i in items]
    return items


def _runs(polled: Iterable[Polled]) -> Iterator[tuple[str, bool, list[Message]]]:
    """Give messages of one topic and lane that follow each other; what is done here is done for each message."""
    topic, resent, run = "", False, list[Message]()
    for one in polled:
        content_type, again = _told(_headers(one))
        source = one.topic() or ""
        if source != topic or again is not resent:
            if run:
                yield topic, resent, run
            topic, resent, run = source, again, []
        kind, stamp_ms = one.timestamp()
        recv_ns = NO_RECV if kind == TIMESTAMP_NOT_AVAILABLE else stamp_ms * 1_000_000
        run.append(Message(one.value() or b"", content_type, source, one.partition() or 0, one.offset() or 0, recv_ns))
    if run:
        yield topic, resent, run


def _said(message: Message, own: Polled) -> Said:
    return Said(message, _key(own), _headers(own))


def _key(own: Polled) -> bytes | None:
    key = own.key()
    return key.encode() if isinstance(key, str) else key


def _told(headers: Headers) -> tuple[str, bool]:
    """Give content type, and whether it is history."""
    content_type, resent = "", False
    for name, value in headers:
        if name == CONTENT_TYPE and value is not None and not content_type:
            content_type = value.decode(errors="replace")
        elif name == LANE and value == b"backfill":
            resent = True
    return content_type, resent


def _headers(message: Polled) -> Headers:
    found = message.headers()
    if not isinstance(found, list):
        return []
    return found  # type: ignore[return-value] # what comes is bytes; its type is of what one may send


def _letter(letter: DeadLetter, places: Mapping[tuple[str | None, int | None, int | None], Polled]) -> DeadLetter:
    """Give a dead letter key and headers; they are written as text for the few refused only."""
    own = places[letter.source, letter.partition, letter.offset]
    return replace(letter, headers=pack_headers(_key(own), _headers(own)))


def _placed(block: FrameBlock, offset: int, *, lane: bool) -> FrameBlock:
    if not lane and not offset:
        return block
    rows = len(block)
    lanes = np.full(rows, BACKFILL, np.uint8) if lane else block.lane
    return block.with_frames(lane=lanes, src_part=block.src_part + np.int32(offset))
