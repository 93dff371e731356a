"""candump text (`candump -l`), read and written in columns.

A line is `(sec.frac) interface id#data`: three hex digits are an 11-bit id, more a 29-bit one;
`##` and a flag digit begin CAN FD data, `R` a remote frame; a trailing `R` or `T` is the direction.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.chunks import byte_chunks
from schemas.can import BRS, CLASSIC, ERROR, ESI, EXT_MAX, FD, FLEXIBLE, REMOTE, STD_MAX, TX, CanBlock, make_can_block

CHUNK = 1 << 22  # bytes of text per block: about 90 k classic frames
_LONGEST = 4096  # bytes of a line; longer ones are no candump and are cut in the dead letter
_LAYOUTS = 12  # layouts tried for lines of one length before each line is read by itself
_NEWLINE, _RETURN = 10, 13
_SEC_MAX = 9_000_000_000  # int64 ns end in 2262
_ERROR_BIT = 0x2000_0000
_STD_DIGITS = 3
_BUSES = 256
_LINE = re.compile(
    rb"\((?P<sec>\d{1,10})\.(?P<frac>\d{1,9})\) +(?P<bus>[^\s#]+) +(?P<id>[0-9A-Fa-f]{1,8})#"
    rb"(?:(?P<remote>[Rr])(?P<dlc>[0-9A-Fa-f]?)|#(?P<fd>[0-9A-Fa-f])(?P<fdata>[0-9A-Fa-f.]*)|(?P<data>[0-9A-Fa-f.]*))"
    rb"(?: +(?P<dir>[RrTt]))?[ \t\r]*"
)
_NIBBLE = np.full(256, 255, np.uint8)  # what a character means in hex; 255: nothing
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _NIBBLE[np.frombuffer(_digits, np.uint8)] = np.arange(16)


_HEX = np.frombuffer(b"0123456789ABCDEF", np.uint8)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no frame: its number (from 1), its first 4096 bytes and what is wrong."""

    line: int
    text: bytes
    reason: str


@dataclass(slots=True)
class _Rows:
    """Columns being filled, one place per line; `good` says which lines were frames."""

    t_ns: NDArray[np.int64]
    bus: NDArray[np.int16]
    can_id: NDArray[np.uint32]
    ext: NDArray[np.bool_]
    length: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    data: NDArray[np.uint8]
    good: NDArray[np.bool_]
    bad: list[tuple[int, str]] = field(default_factory=list)


def read_candump(path: str | Path, chunk: int = CHUNK) -> Iterator[CanBlock | BadLine]:
    """Read candump text, plain or .gz, block by block; each block is followed by its unreadable lines.

    Times are those of the text.  A truncated or damaged .gz gives what could be read, then a
    BadLine.  Raises OSError where the file cannot be opened.
    """
    buses: dict[bytes, int] = {}
    line, rest, skipping = 1, b"", False
    for part in byte_chunks(path, chunk):
        if isinstance(part, str):
            yield from _block(rest, line, buses)
            yield BadLine(line + bool(rest), b"", part)
            return
        text = rest + part
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if skipping:  # the end of a line that was too long
            if not end:
                rest = b""
                continue
            start = text.index(b"\n") + 1
            line, skipping = line + 1, False
        else:
            start = 0
        yield from _block(text[start:end], line, buses)
        line += text.count(b"\n", start, end)
        if len(rest) > chunk:
            yield BadLine(line, rest[:_LONGEST], f"line is longer than {chunk} bytes")
            rest, skipping = b"", True
    yield from _block(rest, line, buses)


def _block(text: bytes, line: int, buses: dict[bytes, int]) -> Iterator[CanBlock | BadLine]:
    """Read whole lines; `line` is the number of the first."""
    if not text:
        return
    block, bad = parse_candump(text, line, buses)
    if len(block):
        yield block
    yield from bad


def parse_candump(text: bytes, line: int = 1, buses: dict[bytes, int] | None = None) -> tuple[CanBlock, list[BadLine]]:
    """Parse candump text: the frames as columns, and the lines that are none.

    Lines of one length are read together: the first one's layout says where the digits are, and all
    lines that have it are turned into columns at once; `buses` keeps interface numbers between calls.
    """
    buses = {} if buses is None else buses
    chars = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(chars == _NEWLINE)
    if not ends.size or ends[-1] != chars.size - 1:
        ends = np.append(ends, chars.size)
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1] + 1])
    size = ends - starts
    n = starts.size
    wide = FLEXIBLE if b"##" in text else CLASSIC
    rows = _Rows(
        np.zeros(n, np.int64),
        np.zeros(n, np.int16),
        np.zeros(n, np.uint32),
        np.zeros(n, np.bool_),
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint8),
        np.zeros((n, wide), np.uint8),
        np.zeros(n, np.bool_),
    )
    order = np.argsort(np.minimum(size, _LONGEST + 1).astype(np.uint16), kind="stable")
    first = np.flatnonzero(np.diff(size[order], prepend=-1))
    for a, b in zip(first.tolist(), [*first[1:].tolist(), n], strict=True):
        _same_length(text, chars, starts, int(size[order[a]]), order[a:b], rows, buses)
    bad = [BadLine(line + i, text[starts[i] : ends[i]][:_LONGEST], why) for i, why in sorted(rows.bad)]
    good = slice(None) if rows.good.all() else np.flatnonzero(rows.good)
    names = [b.decode("ascii", "backslashreplace") for b in buses]
    columns = {k: getattr(rows, k)[good] for k in ("t_ns", "bus", "can_id", "ext", "length", "flags", "data")}
    return make_can_block(names, record=np.arange(line, line + n)[good], **columns), bad


def _same_length(
    text: bytes,
    chars: NDArray[np.uint8],
    starts: NDArray[np.int64],
    size: int,
    lines: NDArray[np.int64],
    rows: _Rows,
    buses: dict[bytes, int],
) -> None:
    """Read lines of one length, layout by layout; what no layout fits is read line by line."""
    for _ in range(_LAYOUTS if size <= _LONGEST else 0):
        if not lines.size:
            return
        head = int(starts[lines[0]])
        match = _LINE.fullmatch(text[head : head + size])
        if match is None or _one_line(match, int(lines[0]), rows, buses) is not None or b"." in (match["data"] or b""):
            _by_hand(text[head : head + size], int(lines[0]), rows, buses)
            lines = lines[1:]
            continue
        fits = _same_layout(match, size, chars, starts[lines], lines, rows)
        fits[0] = True
        lines = lines[~fits]
    for i in lines.tolist():
        _by_hand(text[starts[i] : starts[i] + size], i, rows, buses)


def _same_layout(
    match: re.Match[bytes],
    size: int,
    chars: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lines: NDArray[np.int64],
    rows: _Rows,
) -> NDArray[np.bool_]:
    """Fill the rows of all lines that look like the matched one; says which do.

    Interface, remote and FD marks and direction are compared as they stand; digits may differ.
    """
    if chars.size < size:
        return np.zeros(lines.size, np.bool_)
    text = np.lib.stride_tricks.sliding_window_view(chars, size)[starts].T.copy()  # (size, N): a column per place
    pattern = text[:, 0].copy()
    payload = "fdata" if match["fd"] else "data"
    span = {k: slice(*match.span(k)) for k in ("sec", "frac", "id", payload)}
    fixed = np.ones(size, np.bool_)
    for place in span.values():
        fixed[place] = False
    fits: NDArray[np.bool_] = (text[fixed] == pattern[fixed, None]).all(axis=0)
    sec, fine = _decimal(text[span["sec"]], fits), _decimal(text[span["frac"]], fits)
    digits = _NIBBLE[text[span["id"]]]
    fits &= (digits != 255).all(axis=0)  # noqa: PLR2004 - no hex digit
    can_id = np.zeros(lines.size, np.uint32)
    for digit in digits:
        can_id = (can_id << np.uint32(4)) | digit
    nibbles = _NIBBLE[text[span[payload]]]
    if nibbles.size:
        fits &= nibbles.max(axis=0) < 16  # noqa: PLR2004 - hex digits
    ext = match.end("id") - match.start("id") > _STD_DIGITS
    fits &= (can_id <= (EXT_MAX if ext else STD_MAX)) & (sec <= _SEC_MAX)
    row, i = lines[fits], int(lines[0])
    rows.t_ns[row] = (sec * 10**9 + fine * 10 ** (9 - len(match["frac"])))[fits]
    rows.can_id[row] = can_id[fits]
    rows.data[row, : nibbles.shape[0] // 2] = ((nibbles[0::2] << 4) | nibbles[1::2]).T[fits]
    for column in (rows.bus, rows.ext, rows.length, rows.flags):
        column[row] = column[i]  # the same text, so the same value
    rows.good[row] = True
    return fits


def _decimal(text: NDArray[np.uint8], fits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Read decimal digits (places, N); clears `fits` where there is something else."""
    digits = text - np.uint8(48)
    fits &= (digits <= 9).all(axis=0)  # noqa: PLR2004 - decimal digits
    value = np.zeros(text.shape[1], np.int64)
    for digit in digits:
        value = value * 10 + digit
    return value


def _by_hand(text: bytes, row: int, rows: _Rows, buses: dict[bytes, int]) -> None:
    """Read one line by itself, or note what is wrong with it; an empty line is nothing."""
    if not text.strip():
        return
    match = _LINE.fullmatch(text) if len(text) <= _LONGEST else None
    why = "not a candump line: (seconds.fraction) interface id#data" if match is None else None
    if match is not None:
        why = _one_line(match, row, rows, buses)
    if why is not None:
        rows.bad.append((row, why))


def _one_line(match: re.Match[bytes], row: int, rows: _Rows, buses: dict[bytes, int]) -> str | None:
    """Fill one row from a matched line; gives what is wrong with it, or None."""
    can_id, ext = int(match["id"], 16), len(match["id"]) > _STD_DIGITS
    payload = (match["fdata"] if match["fd"] else match["data"] or b"").replace(b".", b"")
    room = FLEXIBLE if match["fd"] else CLASSIC
    if len(buses) >= _BUSES and match["bus"] not in buses:
        return f"more than {_BUSES} interfaces"
    if int(match["sec"]) > _SEC_MAX:
        return f"time {match['sec'].decode()} s is beyond {_SEC_MAX} s"
    flags = TX if match["dir"] in {b"T", b"t"} else 0
    if ext and can_id & _ERROR_BIT:
        flags, can_id = flags | ERROR, can_id & EXT_MAX
    if can_id > (EXT_MAX if ext else STD_MAX):
        return f"id 0x{can_id:X} is beyond {29 if ext else 11} bits"
    if len(payload) % 2:
        return f"{len(payload)} hex digits are no whole bytes"
    if len(payload) > 2 * room:
        return f"{len(payload) // 2} bytes of data; at most {room}"
    if match["fd"]:
        mark = int(match["fd"], 16)
        flags |= FD | (BRS if mark & 1 else 0) | (ESI if mark & 2 else 0)
    if match["remote"]:
        flags |= REMOTE
    rows.t_ns[row] = int(match["sec"]) * 10**9 + int(match["frac"].ljust(9, b"0"))
    rows.bus[row] = buses.setdefault(match["bus"], len(buses))
    rows.can_id[row], rows.ext[row], rows.flags[row] = can_id, ext, flags
    rows.length[row] = min(int(match["dlc"] or b"0", 16), CLASSIC) if match["remote"] else len(payload) // 2
    rows.data[row, : len(payload) // 2] = np.frombuffer(bytes.fromhex(payload.decode()), np.uint8)
    rows.good[row] = True
    return None


def write_candump(path: str | Path, blocks: CanBlock | Iterable[CanBlock]) -> int:
    """Write frames as candump text (gzip where the name ends in .gz); gives how many.

    Microseconds as candump has them; nine digits where a time needs them.  Error frames have no
    meaning without their class bits and are left out.
    """
    path, written = Path(path), 0
    with path.open("wb") as raw:
        # no name and no time inside: the same frames give the same bytes
        zipped = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix.lower() == ".gz" else None
        file: io.BufferedWriter | gzip.GzipFile = zipped or raw
        for block in [blocks] if isinstance(blocks, CanBlock) else blocks:
            kept = block if not (block.flags & ERROR).any() else block.take(np.flatnonzero((block.flags & ERROR) == 0))
            file.write(format_candump(kept))
            written += len(kept)
        if zipped is not None:
            zipped.close()
    return written


def format_candump(block: CanBlock) -> bytes:
    """Write frames as candump lines, all of one layout at once."""
    n = len(block)
    fine = block.t_ns % 1000 != 0
    kind = np.zeros(n, np.int64)
    for part in (block.bus, block.ext, block.flags, block.length, fine):
        kind = kind << 8 | part  # interfaces may be more than 256: they come first
    layouts, which = np.unique(kind, return_inverse=True)
    lines = [_lines(block.take(np.flatnonzero(which == k)), int(layout)) for k, layout in enumerate(layouts)]
    size = np.array([text.shape[1] for text in lines], np.int64)[which] if n else np.zeros(0, np.int64)
    ends = np.cumsum(size)
    out = np.empty(int(ends[-1]) if n else 0, np.uint8)
    for k, text in enumerate(lines):
        begin = (ends - size)[which == k]
        out[begin[:, None] + np.arange(text.shape[1])] = text
    return out.tobytes()


def _lines(block: CanBlock, layout: int) -> NDArray[np.uint8]:
    """Write frames of one layout: (N, characters)."""
    bus, ext, flags, length, fine = layout >> 32, *layout.to_bytes(8, "big")[-4:]
    n = len(block)

    def word(text: str) -> NDArray[np.uint8]:
        return np.broadcast_to(np.frombuffer(text.encode(), np.uint8), (n, len(text)))

    def digits(value: NDArray[np.integer[Any]], count: int, base: int) -> NDArray[np.uint8]:
        places = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
        chosen: NDArray[np.uint8] = _HEX[value.astype(np.int64)[:, None] // places % base]
        return chosen

    sec = block.t_ns // 10**9
    width = len(str(int(sec.max()))) if n else 1
    parts = [
        word("("),
        digits(sec, max(width, 10), 10),
        word("."),
        digits(block.t_ns % 10**9 // (1 if fine else 1000), 9 if fine else 6, 10),
        word(f") {block.buses[bus]} "),
        digits(block.can_id, 8 if ext else 3, 16),
        word("#"),
    ]
    if flags & REMOTE:
        parts.append(word(f"R{length}" if length else "R"))
    else:
        if flags & FD:
            parts.append(word(f"#{(1 if flags & BRS else 0) | (2 if flags & ESI else 0)}"))
        data = block.data[:, :length]
        parts.append(_HEX[np.stack([data >> 4, data & 15], axis=2).reshape(n, 2 * length)])
    parts.append(word(" T\n" if flags & TX else "\n"))
    return np.concatenate(parts, axis=1)
