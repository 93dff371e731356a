"""What happened around a trip, at full rate: the minute before it, and half a minute after.

Pure.  The minute before comes out at the trip itself, so that it is on the disk before anything else can fail; what
follows comes out piece by piece.  A trip while one is recorded makes it longer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from schemas.frames import FrameBlock, concat

PIECE_BYTES = 256 << 10  # of frames before they are packed: a piece is one message
_ROW_BYTES = 64
_S = 10**9
_LATE_NS = 2 * _S  # by which a frame may come after its time


@dataclass(frozen=True, slots=True)
class BlackboxSettings:
    """How long before and after a trip, how often a piece comes out then, and how long trips can make a recording."""

    before_s: float = 60.0
    after_s: float = 30.0
    piece_s: float = 2.0
    longest_s: float = 600.0


class Piece(NamedTuple):
    """Frames of the recording of the trip at `trip_ns`, the `number`th piece from 0; `last` where none follows."""

    trip_ns: int
    number: int
    frames: FrameBlock
    last: bool


class Mark(NamedTuple):
    """How far a recording has come: the time of its trip, its end, and the number of its next piece."""

    trip_ns: int
    end_ns: int
    number: int


@dataclass(slots=True)
class Blackbox:
    """Keeps the last minute in memory, and records where there was a trip.  Times are those of the frames."""

    settings: BlackboxSettings = field(default_factory=BlackboxSettings)
    _ring: deque[FrameBlock] = field(default_factory=deque)
    _after: list[FrameBlock] = field(default_factory=list)
    _trip_ns: int = -1  # -1: nothing is recorded
    _end_ns: int = 0
    _out_ns: int = 0  # when the last piece came out
    _number: int = 0

    @property
    def recording(self) -> bool:
        """Say whether a recording goes on."""
        return self._trip_ns >= 0

    @property
    def mark(self) -> Mark | None:
        """Say how far the recording has come, for whoever goes on with it after a restart; None where there is none."""
        return Mark(self._trip_ns, self._end_ns, self._number) if self.recording else None

    def resume(self, mark: Mark, now_ns: int) -> None:
        """Go on with a recording whose pieces are on the disk; one whose time is over has ended."""
        if not self.recording and mark.trip_ns <= now_ns < mark.end_ns:
            self._trip_ns, self._end_ns, self._number = mark
            self._after, self._out_ns = [*self._ring], now_ns

    def push(self, block: FrameBlock | None, trip_ns: int | None, now_ns: int) -> list[Piece]:
        """Take frames in their order, and the time of a trip; gives pieces that must be kept now."""
        if block is not None and len(block):
            self._ring.append(block)
            if self.recording:
                self._after.append(block)
        self._forget(now_ns)
        frames: list[FrameBlock] = []
        if trip_ns is not None:
            if not self.recording:
                self._trip_ns, self._number = trip_ns, 0
                frames = self._before(trip_ns)
                self._after = []
            longest_ns = self._trip_ns + round(self.settings.longest_s * _S)
            self._end_ns = min(trip_ns + round(self.settings.after_s * _S), longest_ns)
            self._out_ns = now_ns
        if not self.recording:
            return []
        seen_ns = int(self._ring[-1].t_ns[-1]) if self._ring else 0
        ended = seen_ns > self._end_ns or now_ns >= self._end_ns + _LATE_NS
        due = not 0 <= now_ns - self._out_ns < self.settings.piece_s * _S and seen_ns < self._end_ns
        if frames or ended or due:
            frames += [kept for b in self._after if (kept := _until(b, self._end_ns)) is not None]
            self._after, self._out_ns = [], now_ns
        return self._pieces(frames, ended=ended)

    def flush(self, now_ns: int) -> list[Piece]:
        """Give what the recording has gathered since its last piece."""
        if not self.recording:
            return []
        frames = [kept for b in self._after if (kept := _until(b, self._end_ns)) is not None]
        self._after, self._out_ns = [], now_ns
        return self._pieces(frames, ended=False)

    def _before(self, trip_ns: int) -> list[FrameBlock]:
        from_ns = trip_ns - round(self.settings.before_s * _S)
        kept = [block.take(np.flatnonzero(block.t_ns >= from_ns)) for block in self._ring]
        return [block for block in kept if len(block)]

    def _forget(self, now_ns: int) -> None:
        """Drop what is older than the minute; a clock that was set does not keep frames for ever."""
        from_ns = now_ns - round(self.settings.before_s * _S)
        while self._ring and not from_ns <= self._ring[0].t_ns[-1] <= now_ns + _S:
            self._ring.popleft()

    def _pieces(self, frames: list[FrameBlock], *, ended: bool) -> list[Piece]:
        out: list[Piece] = []
        if frames:
            whole = concat(frames)
            most = max(1, PIECE_BYTES // (4 * (whole.cells + whole.probes) + _ROW_BYTES))
            for at in range(0, len(whole), most):
                out.append(Piece(self._trip_ns, self._number, whole.take(slice(at, at + most)), last=False))
                self._number += 1
        if ended:
            self._trip_ns = -1
            if out:
                out[-1] = out[-1]._replace(last=True)
        return out


def _until(block: FrameBlock, end_ns: int) -> FrameBlock | None:
    rows = np.flatnonzero(block.t_ns <= end_ns)
    return block.take(rows) if rows.size else None
