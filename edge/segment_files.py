"""How records get onto the disk and off it: append-only files in one folder, each begun once and never written again.

Whoever is cut off anywhere finds every record that was synced, and the old or the new form of a file that was being
written anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edge.segments import Entry, dump, read, scan
from schemas.durable import sync_folder

_SUFFIX = ".seg"


@dataclass(slots=True)
class Segment:
    """One file: its number is that of its first record, `level` says how often it was thinned."""

    number: int
    path: Path
    size: int = 0
    level: int = 0


class Place(NamedTuple):
    """Where a record lies."""

    segment: int
    offset: int
    length: int


class SegmentFiles:
    """The files of one folder; `first` gives what a new file says first, synced before anything older may go."""

    def __init__(self, folder: Path, segment_bytes: int, first: Callable[[], Mapping[str, Any]]) -> None:
        """Make the folder where there is none; raises OSError."""
        self.segments: dict[int, Segment] = {}
        self.next = 1  # number of the next record
        self.current: Segment | None = None
        self._folder, self._segment_bytes, self._first = folder, segment_bytes, first
        self._file = -1
        self._dirty = False
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(s.size for s in self.segments.values())

    def load(self) -> Iterator[tuple[Segment, list[Entry], int]]:
        """Read file by file, so that a full outbox is never in memory: records, and how many bytes are none.

        Raises OSError.  Nothing may be written before the last.
        """
        for left in self._folder.glob("*.new"):
            left.unlink()
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            number, data = int(path.stem, 16), path.read_bytes()
            found, damaged = scan(number, data)
            segment = self.segments[number] = Segment(number, path, len(data))
            self.next = max(self.next, number + 1, *(entry.number + 1 for entry in found))
            yield segment, found, damaged

    def write(self, about: Mapping[str, Any], payload: bytes = b"") -> tuple[int, Place]:
        """Append a record: its number and place; raises OSError, and then the next goes into a new file."""
        if self.current is None or self.current.size >= self._segment_bytes:
            self.begin()
        assert self.current is not None
        return self._put(self.current, about, payload)

    def begin(self) -> None:
        """Begin a new file; raises OSError, and then there is none."""
        self.leave()
        number = self.next
        segment = Segment(number, self._folder / f"{number:016x}{_SUFFIX}")
        self._file = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        try:
            self.next += 1
            self.segments[number] = self.current = segment
            self._put(segment, self._first(), b"")
            self.sync()
            sync_folder(self._folder)
        except OSError:
            self.remove(number)
            raise

    def leave(self) -> None:
        """Close the current file, synced; the next record goes into a new one."""
        if self._file >= 0:
            with suppress(OSError):
                self.sync()
        self._close()

    def sync(self) -> None:
        """Bring the current file onto the disk; raises OSError."""
        if self._dirty and self._file >= 0:
            try:
                os.fsync(self._file)
            except OSError:  # what is on the disk is unknown from here on: never write behind it
                self._close()
                raise
            self._dirty = False

    def rewrite(self, segment: Segment, keep: Iterable[Place]) -> dict[int, Place]:
        """Write a file anew with these of its records, or remove it; gives their new places; raises OSError."""
        if segment is self.current or self.current is None:
            with suppress(OSError):  # a full disk: what was delivered is then sent once more after a restart
                self.begin()
        places = list(keep)
        if not places:
            self.remove(segment.number)
            return {}
        data = bytearray(dump(segment.number, 0, {"level": segment.level}))
        old = segment.path.read_bytes()
        moved: dict[int, Place] = {}
        for place in places:
            moved[place.offset] = place._replace(offset=len(data))
            data += old[place.offset : place.offset + place.length]
        new = segment.path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(segment.path)
        sync_folder(self._folder)
        segment.size = len(data)
        return moved

    def remove(self, number: int) -> None:
        """Remove a file; raises OSError."""
        segment = self.segments[number]
        if segment is self.current:
            self._close()
        segment.path.unlink(missing_ok=True)
        del self.segments[number]

    def read(self, place: Place) -> Entry | None:
        """Read a record; None where it is damaged; raises OSError."""
        with self.segments[place.segment].path.open("rb") as file:
            return read(place.segment, os.pread(file.fileno(), place.length, place.offset))

    def _put(self, segment: Segment, about: Mapping[str, Any], payload: bytes) -> tuple[int, Place]:
        number = self.next
        data = dump(segment.number, number, about, payload)
        try:
            _write_all(self._file, data)
        except OSError:  # a torn record may lie there: the next goes into a new file
            with suppress(OSError):
                segment.size = segment.path.stat().st_size
            self.leave()
            raise
        self.next += 1
        self._dirty = True
        place = Place(segment.number, segment.size, len(data))
        segment.size += len(data)
        return number, place

    def _close(self) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
        self._file, self.current, self._dirty = -1, None, False


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
