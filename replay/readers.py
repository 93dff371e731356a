"""CAN traces in every common format, as columns: candump text by our own reader, the rest through python-can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from replay.candump import CHUNK, BadLine, read_candump
from replay.chunks import byte_chunks
from schemas.can import (
    BRS,
    CLASSIC,
    ERROR,
    ESI,
    EXT_MAX,
    FD,
    FLEXIBLE,
    REMOTE,
    STD_MAX,
    TX,
    CanBlock,
    make_can_block,
)
from schemas.checked import ConfigError, shown
from schemas.events import DeadLetter
from schemas.ids import dead_letter_id

if TYPE_CHECKING:
    import can
    from can.io.generic import MessageReader

START_NS = 1_577_836_800 * 10**9  # 2020-01-01T00:00Z, where relative times are laid
FORMATS = (".log", ".asc", ".blf", ".csv", ".mf4", ".trc")
_TEXT = {".asc": "ASCReader", ".csv": "CSVReader", ".trc": "TRCReader"}  # of python-can, which takes a second to import
_RELATIVE_NS = 10**18  # times before September 2001 count from the start of the recording
_ROWS = 65_536  # messages of a block
_CSV_HEAD = b"timestamp,arbitration_id,"
_LATEST_S = 9_000_000_000  # int64 ns end in 2262


def read_can(path: str | Path, start_ns: int = START_NS, chunk: int = CHUNK) -> Iterator[CanBlock | DeadLetter]:
    """Read a trace of any known format, plain or .gz: blocks of CAN frames, and what could not be read.

    A trace whose first time lies before September 2001 has relative times: they are laid onto
    `start_ns`, and its blocks say `mapped`.  Raises ConfigError at the call where the file cannot
    be opened or its format is not known; damage inside a file is a DeadLetter.
    """
    path = Path(path)
    suffix = trace_format(path)
    try:
        head = next(byte_chunks(path, len(_CSV_HEAD)), b"")
    except OSError as bad:
        msg = f"trace must be a readable file; got {bad.strerror or bad} ({path})"
        raise ConfigError(msg) from None
    if suffix == ".csv" and isinstance(head, bytes) and head[: len(_CSV_HEAD)] != _CSV_HEAD:
        msg = f"trace must begin with {_CSV_HEAD.decode()}… where it is .csv; got {shown(head[:40])} ({path})"
        raise ConfigError(msg)
    if suffix == ".mf4" and find_spec("asammdf") is None:
        msg = f"trace must not be .mf4 unless ibms[mf4] is installed; got {path.name}"
        raise ConfigError(msg)
    items: Iterator[CanBlock | BadLine]
    if suffix == ".log":
        items = read_candump(path, chunk)
    elif suffix in _TEXT:
        items = _read_text(path, getattr(_python_can(), _TEXT[suffix]), chunk)
    else:
        items = _read_binary(path)
    return _placed(items, str(path), start_ns)


def trace_format(path: Path) -> str:
    """Name a trace's format by its suffix, without .gz; raises ConfigError."""
    suffixes = [s.lower() for s in path.suffixes]
    suffix = (suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]) or [""]
    if suffix[0] not in FORMATS:
        msg = f"trace must end in {', '.join(FORMATS)}, or one of these and .gz; got {path.name}"
        raise ConfigError(msg)
    return suffix[0]


def _placed(items: Iterable[CanBlock | BadLine], source: str, start_ns: int) -> Iterator[CanBlock | DeadLetter]:
    """Lay relative times onto the start, and make dead letters of what could not be read."""
    shift: int | None = None
    for item in items:
        if isinstance(item, BadLine):
            yield DeadLetter(
                dead_letter_id(source, 0, item.line, 0),
                source,
                0,
                item.line,
                0,
                "undecodable",
                f"line {item.line}: {item.reason}" if item.text else item.reason,
                "",
                0,
                0,
                "text/plain",
                item.text,
            )
            continue
        if shift is None:
            shift = start_ns if int(item.t_ns[0]) < _RELATIVE_NS else 0
        yield replace(item, t_ns=item.t_ns + shift, mapped=True) if shift else item


class _Lines:
    """Lines of a text as python-can reads them from a file; `number` counts them, `seen` keeps those of the head."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines, self.number = lines, number
        self.last = ""
        self.seen: list[str] | None = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.last = next(self._lines)
        self.number += 1
        if self.seen is not None:
            self.seen.append(self.last)
        return self.last

    def read(self) -> str:
        """Mark this as a file to python-can, which reads lines only."""
        raise NotImplementedError

    def write(self, _: str) -> int:
        """Mark this as a file to python-can."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: the file belongs to who opened it."""


def _read_text(path: Path, reader: Callable[..., MessageReader], chunk: int) -> Iterator[CanBlock | BadLine]:
    """Read a text format; a line that python-can fails on is given back, and reading goes on after it.

    python-can's readers end at an error, so a new one gets the lines of the head again and then the rest.
    """
    broken: list[str] = []  # what is wrong with the file itself
    lines = _text_lines(path, chunk, broken)
    gathered = _Gathered()
    head: list[str] = []
    feed = _Lines(lines, 0)
    source = iter(reader(feed))
    failed = 0  # where the last reader ended
    while True:
        try:
            message = next(source)
        except StopIteration:
            break
        except Exception as bad:  # noqa: BLE001 - a foreign parser fails in ways of its own
            yield from gathered.block()
            if feed.number == failed:
                break  # the head alone is what it fails on, and nothing more comes
            yield BadLine(feed.number, feed.last.encode()[:4096], f"{type(bad).__name__}: {bad}")
            failed = feed.number
            head = head if feed.seen is None else feed.seen[:-1]
            again = _Lines(chain(head, lines), feed.number - len(head))
            again.seen = None if feed.seen is None else []
            feed, source = again, iter(reader(again))
            continue
        if feed.seen is not None:
            head, feed.seen = feed.seen[:-1], None
        wrong = gathered.add(message, feed.number)
        if wrong is not None:
            yield BadLine(feed.number, feed.last.encode()[:4096], wrong)
        if gathered.full:
            yield from gathered.block()
    yield from gathered.block()
    yield from (BadLine(feed.number, b"", reason) for reason in broken)


def _text_lines(path: Path, chunk: int, broken: list[str]) -> Iterator[str]:
    """Give a text's lines; notes in `broken` where the file ends too early."""
    rest = b""
    for part in byte_chunks(path, chunk):
        if isinstance(part, str):
            broken.append(part)
            break
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace") + "\n"
    if rest:
        yield rest.decode("utf-8", "replace")


def _python_can() -> Any:  # noqa: ANN401 - a module
    return import_module("can")


def _read_binary(path: Path) -> Iterator[CanBlock | BadLine]:
    """Read .blf or .mf4; damage ends the file, since nothing tells where the next message begins."""
    gathered = _Gathered()
    count = 0
    try:
        for message in _python_can().LogReader(path):
            count += 1
            wrong = gathered.add(message, count)
            if wrong is not None:
                yield BadLine(count, b"", f"message {count}: {wrong}")
            if gathered.full:
                yield from gathered.block()
    except Exception as bad:  # noqa: BLE001 - a foreign parser fails in ways of its own
        yield from gathered.block()
        yield BadLine(count + 1, b"", f"unreadable after {count} messages: {type(bad).__name__}: {bad}")
        return
    yield from gathered.block()


class _Gathered:
    """Messages on their way to a block."""

    def __init__(self) -> None:
        self._messages: list[can.Message] = []
        self._records: list[int] = []
        self._names: dict[str, int] = {}

    @property
    def full(self) -> bool:
        return len(self._messages) >= _ROWS

    def add(self, message: can.Message, record: int) -> str | None:
        """Take a message that columns can hold; gives what is wrong with another."""
        if not abs(message.timestamp) < _LATEST_S:
            return f"time {message.timestamp} s is beyond {_LATEST_S} s"
        if not 0 <= message.arbitration_id <= (EXT_MAX if message.is_extended_id else STD_MAX):
            return f"id 0x{message.arbitration_id:X} is beyond {29 if message.is_extended_id else 11} bits"
        if len(message.data) > (FLEXIBLE if message.is_fd else CLASSIC):
            return f"{len(message.data)} bytes of data"
        self._messages.append(message)
        self._records.append(record)
        return None

    def block(self) -> Iterator[CanBlock]:
        """Give what was taken, if anything, and forget it."""
        if self._messages:
            yield from_messages(self._messages, self._records, self._names)
            self._messages, self._records = [], []


def from_messages(messages: list[can.Message], records: list[int], names: dict[str, int] | None = None) -> CanBlock:
    """Turn python-can messages into columns; `names` keeps bus numbers between calls."""
    names = {} if names is None else names
    room = FLEXIBLE if any(len(m.data) > CLASSIC for m in messages) else CLASSIC
    data = np.frombuffer(b"".join(bytes(m.data[:room]).ljust(room, b"\0") for m in messages), np.uint8)
    buses = [names.setdefault(_bus(m.channel), len(names)) for m in messages]
    return make_can_block(
        list(names),
        t_ns=np.fromiter((round(m.timestamp * 1e6) * 1000 for m in messages), np.int64, len(messages)),
        bus=buses,
        can_id=[m.arbitration_id for m in messages],
        ext=[m.is_extended_id for m in messages],
        length=[min(m.dlc, CLASSIC) if m.is_remote_frame else min(len(m.data), room) for m in messages],
        flags=[_flags(m) for m in messages],
        record=records,
        data=data.reshape(-1, room),
    )


def _bus(channel: object) -> str:
    return "can0" if channel is None else f"can{channel}" if isinstance(channel, int) else str(channel)


def _flags(message: can.Message) -> int:
    return (
        (FD if message.is_fd else 0)
        | (BRS if message.bitrate_switch else 0)
        | (ESI if message.error_state_indicator else 0)
        | (REMOTE if message.is_remote_frame else 0)
        | (ERROR if message.is_error_frame else 0)
        | (0 if message.is_rx else TX)
    )
