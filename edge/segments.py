"""How records lie in a file, so that damage costs only what it hits.

A record is a head with its own checksum, JSON about it, its bytes, and a digest keyed by the file's number: bytes that
were copied, moved or flipped are no record.  After damage the next whole record is found by its mark.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

MARK = b"\xa7IBR"
DIGEST_BYTES = 16
_HEAD = struct.Struct("<4sQII")  # mark, number, bytes of JSON, bytes of payload
_CRC = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _CRC.size


class Entry(NamedTuple):
    """One record: where it lies in its file, its number, what it is, its bytes."""

    offset: int
    length: int
    number: int
    about: dict[str, Any]
    payload: bytes


def dump(segment: int, number: int, about: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Write a record of the file numbered `segment`."""
    told = json.dumps(about, separators=(",", ":")).encode()
    head = _HEAD.pack(MARK, number, len(told), len(payload))
    body = head + _CRC.pack(zlib.crc32(head)) + told + payload
    return body + _digest(segment, body)


def read(segment: int, data: bytes | memoryview, offset: int = 0) -> Entry | None:
    """Read the record that begins at `offset`; None where no whole one does."""
    told_at = offset + HEAD_BYTES
    if told_at > len(data):
        return None
    mark, number, told, size = _HEAD.unpack_from(data, offset)
    if mark != MARK or _CRC.unpack_from(data, offset + _HEAD.size)[0] != zlib.crc32(data[offset : offset + _HEAD.size]):
        return None
    payload_at = told_at + told
    end = payload_at + size
    if end + DIGEST_BYTES > len(data) or _digest(segment, data[offset:end]) != bytes(data[end : end + DIGEST_BYTES]):
        return None
    about = json.loads(bytes(data[told_at:payload_at]))
    return Entry(offset, end + DIGEST_BYTES - offset, number, about, bytes(data[payload_at:end]))


def scan(segment: int, data: bytes) -> tuple[list[Entry], int]:
    """Find every whole record in a file's bytes; gives also how many bytes belong to none."""
    view, at, damaged = memoryview(data), 0, 0
    found: list[Entry] = []
    while at < len(data):
        one = read(segment, view, at)
        if one is None:
            following = data.find(MARK, at + 1)
            following = len(data) if following < 0 else following
            damaged += following - at
            at = following
        else:
            found.append(one)
            at += one.length
    return found, damaged


def _digest(segment: int, body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES, key=segment.to_bytes(8, "little")).digest()


def spans(numbers: Iterable[int]) -> list[list[int]]:
    """Write ascending numbers as spans [first, last]."""
    out: list[list[int]] = []
    for number in numbers:
        if out and number == out[-1][1] + 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return out
