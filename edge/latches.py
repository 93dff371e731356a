"""What must survive a restart: a two-slot file with checksums.

Both slots hold the same record, written and synced one after the other: while one is being written the other is
whole, so a power loss at any byte leaves the record before or the record after, and a damaged slot costs nothing.
No whole slot, or no file, means that a latch may have been lost: nothing closes until a person made the file anew.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from schemas.durable import sync_folder

SLOT_BYTES = 65_536
_MAGIC = b"IBMSLAT1"
_HEAD = struct.Struct("<8sQI")  # magic, sequence, length of the payload
_SUM_BYTES = 16


class Record(NamedTuple):
    """What is kept: a number that grows with each writing, keys of latched rows, and values of other parts (JSON)."""

    sequence: int
    latched: tuple[str, ...]
    kept: Mapping[str, Any]


class LatchError(Exception):
    """A latch file that cannot be trusted, or a record that cannot be kept."""


def dump(record: Record) -> bytes:
    """Give the bytes of one slot; raises LatchError where the record is too large or no JSON."""
    try:
        text = json.dumps({"latched": list(record.latched), "kept": dict(record.kept)}, allow_nan=False)
    except (TypeError, ValueError) as bad:
        msg = f"a latch record must be JSON; got {bad}"
        raise LatchError(msg) from None
    payload = text.encode()
    body = _HEAD.pack(_MAGIC, record.sequence, len(payload)) + payload
    if len(body) > SLOT_BYTES - _SUM_BYTES:
        msg = f"a latch record must have at most {SLOT_BYTES - _SUM_BYTES} bytes; got {len(body)}"
        raise LatchError(msg)
    body = body.ljust(SLOT_BYTES - _SUM_BYTES, b"\0")
    return body + blake2b(body, digest_size=_SUM_BYTES).digest()


def load(data: bytes) -> Record:
    """Read the newest whole slot of a file's bytes; raises LatchError where there is none."""
    slots = [_slot(data[start : start + SLOT_BYTES]) for start in (0, SLOT_BYTES)]
    whole = [slot for slot in slots if slot is not None]
    if not whole:
        msg = f"a latch file must have a whole slot; got {len(data)} bytes without one"
        raise LatchError(msg)
    return max(whole, key=lambda slot: slot.sequence)


def _slot(data: bytes) -> Record | None:
    body, digest = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
    if len(data) != SLOT_BYTES or blake2b(body, digest_size=_SUM_BYTES).digest() != digest:
        return None
    magic, sequence, length = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        return None
    content = json.loads(body[_HEAD.size : _HEAD.size + length])
    return Record(sequence, tuple(content["latched"]), content["kept"])


def create(path: Path, record: Record | None = None) -> Record:
    """Make the file, as somebody does who has looked at the pack; replaces a damaged one."""
    record = record or Record(0, (), {})
    slot = dump(record)
    temporary = path.with_suffix(path.suffix + ".new")
    with temporary.open("wb") as file:
        file.write(slot + slot)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
    return record


def read(path: Path) -> Record:
    """Read the file; raises LatchError where it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError as bad:
        msg = f"the latch file must be readable; got {bad.strerror} ({path})"
        raise LatchError(msg) from None
    try:
        return load(data)
    except LatchError as bad:
        msg = f"{bad} ({path})"
        raise LatchError(msg) from None


def write(path: Path, record: Record) -> None:
    """Write both slots of an existing file, synced one after the other; raises OSError."""
    slot = dump(record)
    with path.open("r+b") as file:
        for start in (0, SLOT_BYTES):
            file.seek(start)
            file.write(slot)
            file.flush()
            os.fsync(file.fileno())
