"""A poll becomes blocks and dead letters, each with its place; an empty one becomes nothing."""

from __future__ import annotations

from typing import Any

from flows.kafka_decode import decode_poll
from schemas.events import DeadLetter
from schemas.frames import NO_RECV, FrameBlock
from schemas.wire import Decoder
from schemas.wire_json import JSON, encode_json
from tests.support.frames import frames


class Polled:
    """What a consumer gives, as far as decoding asks."""

    def __init__(self, data: bytes | None, offset: int, headers: Any) -> None:
        self._data, self._offset, self._headers = data, offset, headers

    def value(self) -> bytes | None:
        return self._data

    def headers(self) -> Any:
        return self._headers

    def topic(self) -> str:
        return "frames"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"V1"

    def timestamp(self) -> tuple[int, int]:
        return 0, -1


def test_an_empty_poll_gives_nothing() -> None:
    assert decode_poll([], Decoder()) == []


def test_messages_without_type_or_value_are_dead_letters_between_frames() -> None:
    good = encode_json(frames([0], seq=[0]))[0][1]
    polled: Any = [
        Polled(good, 0, [("content-type", JSON.encode())]),
        Polled(good, 1, None),
        Polled(None, 2, [("content-type", JSON.encode())]),
    ]
    block, *letters = decode_poll(polled, Decoder())
    assert isinstance(block, FrameBlock)
    assert (block.src_part.tolist(), block.src_offset.tolist(), block.recv_ns.tolist()) == ([2], [0], [NO_RECV])
    found = {(i.offset, i.reason) for i in letters if isinstance(i, DeadLetter)}
    assert found == {(1, "unknown_content_type"), (2, "undecodable")}
    assert len(letters) == len(found)
