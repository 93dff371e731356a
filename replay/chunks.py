"""Bytes of a file, plain or gzip, chunk by chunk, as far as they can be read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

_COMPRESSED = 1 << 18  # bytes of .gz read at once
_GZIP = 16 + zlib.MAX_WBITS


def byte_chunks(path: str | Path, size: int) -> Iterator[bytes | str]:
    """Give a file's bytes in chunks of about `size`; a file ending in .gz is unpacked.

    What a truncated or damaged .gz still holds is given; then comes one text that says what is wrong.
    Raises OSError where the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        if Path(path).suffix.lower() != ".gz":
            while chunk := file.read(size):
                yield chunk
            return
        unpack = zlib.decompressobj(_GZIP)
        packed = b""
        begun = False
        while True:
            packed = packed or file.read(_COMPRESSED)
            if not packed:
                break
            if unpack.eof:  # a further member, or padding
                packed = packed.lstrip(b"\0")
                unpack, begun = zlib.decompressobj(_GZIP), False
                continue
            try:
                chunk = unpack.decompress(packed, size)
            except zlib.error as e:
                yield f"gzip data is damaged: {e}"
                return
            begun = True
            packed = unpack.unconsumed_tail or unpack.unused_data
            if chunk:
                yield chunk
        if begun and not unpack.eof:
            yield "gzip data ends early"
