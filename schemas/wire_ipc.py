"""What the parts of an Arrow stream say of themselves, before Arrow reads them (Apache Arrow, format/Message.fbs)."""

from __future__ import annotations

import struct

_CONTINUES = 0xFFFFFFFF
_RECORD_BATCH = 3  # kind of an IPC message


def check_stream(data: bytes) -> None:
    """Refuse what would unpack inside Arrow, where no limit holds: a few bytes may ask for gigabytes.

    Reads of the IPC format's flatbuffers (Message.fbs) just the kind of the second message and whether its
    RecordBatch has a compression.
    """
    begin = 0
    for _ in range(2):
        mark, length = struct.unpack_from("<Ii", data, begin)
        if mark != _CONTINUES or length <= 0:
            msg = "a message must begin with a schema and a record batch"
            raise ValueError(msg)
        meta, begin = begin + 8, begin + 8 + length
    root = meta + struct.unpack_from("<I", data, meta)[0]
    kind = _slot(data, root, 1)
    header = _slot(data, root, 2)
    if not kind or data[kind] != _RECORD_BATCH or not header:
        msg = "the second part must be a record batch"
        raise ValueError(msg)
    if _slot(data, header + struct.unpack_from("<I", data, header)[0], 3):
        msg = "a message must be packed as a whole, not inside Arrow"
        raise ValueError(msg)


def body_bytes(data: bytes) -> int:
    """Say how long the body of a message's record batch is."""
    begin = 8 + struct.unpack_from("<I", data, 4)[0]
    root = begin + 8 + struct.unpack_from("<I", data, begin + 8)[0]
    at = _slot(data, root, 3)
    return int(struct.unpack_from("<q", data, at)[0]) if at else 0


def _slot(data: bytes, table: int, field: int) -> int:
    """Say where a field of a flatbuffer table lies, 0 where it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        msg = "damaged metadata"
        raise ValueError(msg)
    size = struct.unpack_from("<H", data, vtable)[0]
    if 4 + 2 * field + 2 > size:
        return 0
    at: int = struct.unpack_from("<H", data, vtable + 4 + 2 * field)[0]
    return table + at if at and table + at < len(data) else 0
