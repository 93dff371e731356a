"""How fast a replay runs: event time against a clock that is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from schemas.events import Item
from schemas.frames import FrameBlock

NS = 10**9


@dataclass(slots=True)
class Pace:
    """Play event time at `speed` times the pace of `now` (which gives ns); the first frame sets the zero."""

    speed: float
    now: Callable[[], int]
    _zero: tuple[int, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Refuse a speed that stands still."""
        if not self.speed > 0:
            msg = f"speed must be > 0 or max; got {self.speed}"
            raise ValueError(msg)

    def due(self, t_ns: int) -> datetime | None:
        """Say when a frame of event time `t_ns` is due; None where it already is."""
        now = self.now()
        if self._zero is None:
            self._zero = (t_ns, now)
        at = self._zero[1] + int((t_ns - self._zero[0]) / self.speed)
        return None if at <= now else datetime.fromtimestamp(at / NS, UTC)


def slices(items: Iterable[Item], step_ns: int) -> Iterator[Item]:
    """Cut blocks wherever the grid of `step_ns` event time changes, so that a pace has something to hold."""
    for item in items:
        if not isinstance(item, FrameBlock) or not len(item):
            yield item
            continue
        cuts = np.flatnonzero(np.diff(item.t_ns // step_ns)) + 1
        for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), len(item)], strict=True):
            yield item.take(slice(a, b))
