"""How the reading of recorded traces goes: how far it is, what was read, and what a person should know."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from replay.chunks import byte_chunks
from replay.tabular import PARQUET
from schemas.events import DeadLetter, Item
from schemas.frames import FrameBlock

_LINES = (".log", ".asc", ".csv", ".trc")  # a record is a line
_HEAD = 1 << 16  # bytes by which the lines of a text are counted


@dataclass(slots=True)
class Reading:
    """What is known of a reading while it goes on."""

    done: float = 0.0  # records (lines, messages, rows) read so far, of all traces
    total: float | None = None  # records there are, about; None where nobody can say
    frames: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)  # dead letters by reason
    examples: dict[str, str] = field(default_factory=dict)  # the first of each reason, in words
    mapped: dict[str, None] = field(default_factory=dict)  # traces whose relative times were laid onto the start

    @property
    def share(self) -> float | None:
        """Records read of all records, 0..1."""
        return min(self.done / self.total, 1.0) if self.total else None

    def take(self, item: Item) -> None:
        """Count an item."""
        if isinstance(item, FrameBlock):
            self.frames += len(item)
        elif isinstance(item, DeadLetter):
            self.unreadable[item.reason] += 1
            self.examples.setdefault(item.reason, item.detail)

    def refused(self) -> str:
        """Say what could not be read; "" where all could."""
        found = sorted(self.unreadable.items())
        return "; ".join(f"{n:,} {reason} (first: {self.examples[reason]})" for reason, n in found)


def records_of(path: Path) -> float | None:
    """Say how many records a trace has: a table exactly, a text about, from its first lines; None for the rest."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] and suffixes[-1] in PARQUET:
        return _rows(path)
    size = float(path.stat().st_size)
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
        with path.open("rb") as file:
            file.seek(max(0, int(size) - 4))
            size = float(int.from_bytes(file.read(4), "little"))  # RFC 1952: bytes before packing, mod 2^32
    if not suffixes or suffixes[-1] not in _LINES:
        return None
    head = next(byte_chunks(path, _HEAD), b"")
    lines = 0 if isinstance(head, str) else head.count(b"\n")
    return size * lines / len(head) if lines else None


def _rows(path: Path) -> float | None:
    try:
        return float(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):  # who reads it says what is wrong
        return None
