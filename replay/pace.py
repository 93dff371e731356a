"""How fast a replay runs: event time against a clock that is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from schemas.events import Item
from schemas.frames import FrameBlock

NS = 10**9
LONGEST_S = 60  # as long as the clock guard takes a jump of time for a gap
LONGEST_NS = LONGEST_S * NS


@dataclass(slots=True)
class Pace:
    """Play event time at `speed` times the pace of `now` (which gives ns); the first frame sets the zero.

    A silence takes at most LONGEST_S of event time, and so does a frame whose clock was wrong: the zero moves.
    """

    speed: float
    now: Callable[[], int]
    _zero: tuple[int, int] | None = field(default=None, init=False)  # event time, and the clock that goes with it
    _last_ns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Refuse a speed that stands still."""
        if not self.speed > 0 or self.speed == float("inf"):
            msg = f"speed must be > 0 or max; got {self.speed}"
            raise ValueError(msg)

    def due(self, t_ns: int) -> datetime | None:
        """Say when a frame of event time `t_ns` is due; None where it already is."""
        now = self.now()
        if self._zero is None:
            self._zero = (t_ns, now)
        elif t_ns > self._last_ns + LONGEST_NS:
            self._zero = (t_ns - LONGEST_NS, self._clock(self._last_ns))
        elif t_ns < self._last_ns - LONGEST_NS:
            self._zero = (t_ns, now)
        self._last_ns = t_ns
        at = self._clock(t_ns)
        return None if at <= now else datetime.fromtimestamp(at / NS, UTC)

    def _clock(self, t_ns: int) -> int:
        assert self._zero is not None
        return self._zero[1] + int((t_ns - self._zero[0]) / self.speed)


def slices(items: Iterable[Item], step_ns: int) -> Iterator[Item]:
    """Cut blocks wherever the grid of `step_ns` event time changes, so that a pace has something to hold."""
    for item in items:
        if not isinstance(item, FrameBlock) or not len(item):
            yield item
            continue
        cuts = np.flatnonzero(np.diff(item.t_ns // step_ns)) + 1
        for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), len(item)], strict=True):
            yield item.take(slice(a, b))
