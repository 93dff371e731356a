"""Which frames are sent, and together with which: one in each period, a message every few seconds.

Pure.  Sent frames are numbered anew from 0 at each start, without holes, so that the fleet knows what it misses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from schemas.frames import FrameBlock, concat

_ROW_BYTES = 64  # of a frame beside its cells and probes, before it is packed


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`period_s` between frames that are sent; a batch ends after `batch_s` or `batch_bytes`, not packed yet."""

    period_s: float = 1.0
    batch_s: float = 10.0
    batch_bytes: int = 64 << 10


@dataclass(slots=True)
class Batches:
    """Gathers frames of one pack."""

    settings: BatchSettings = field(default_factory=BatchSettings)
    _parts: list[FrameBlock] = field(default_factory=list)
    _rows: int = 0
    _seq: int = 0
    _period: int = -1  # that the last frame fell into
    _since_ns: int = 0  # when the first frame that waits came

    def push(self, block: FrameBlock | None, now_ns: int) -> list[FrameBlock]:
        """Take frames in their order; gives the batches that are complete at `now_ns`."""
        out: list[FrameBlock] = []
        chosen = None if block is None else self._chosen(block)
        at = 0
        while chosen is not None and at < len(chosen):
            most = max(1, self.settings.batch_bytes // (4 * (chosen.cells + chosen.probes) + _ROW_BYTES))
            fitting = self._fitting(chosen.t_ns[at:])
            part = chosen.take(slice(at, at + min(fitting, most - self._rows)))
            if len(part):
                self._since_ns = self._since_ns if self._rows else now_ns
                self._parts.append(part)
                self._rows += len(part)
                at += len(part)
            if self._rows >= most or at < len(chosen):
                out.append(self._ended())
        waited_ns = now_ns - self._since_ns
        if self._rows and not 0 <= waited_ns < self.settings.batch_s * 1e9:  # also where the clock was set back
            out.append(self._ended())
        return out

    def flush(self) -> list[FrameBlock]:
        """End what has begun."""
        return [self._ended()] if self._rows else []

    def _chosen(self, block: FrameBlock) -> FrameBlock | None:
        """Choose the first frame of each period."""
        period = block.t_ns // max(1, round(self.settings.period_s * 1e9))
        first = np.flatnonzero(np.diff(period, prepend=self._period) != 0)
        if not first.size:
            return None
        self._period = int(period[-1])
        numbers = np.arange(self._seq, self._seq + first.size, dtype=np.int64)
        self._seq += first.size
        return replace(block.take(first), seq=numbers)

    def _fitting(self, t_ns: NDArray[np.int64]) -> int:
        """Count the first frames that are less than `batch_s` after the batch's first."""
        since_ns = t_ns - (self._parts[0].t_ns[0] if self._parts else t_ns[0])
        beyond = (since_ns < 0) | (since_ns >= self.settings.batch_s * 1e9)  # also where the clock was set back
        return int(beyond.argmax()) if beyond.any() else t_ns.size

    def _ended(self) -> FrameBlock:
        made = concat(self._parts)
        self._parts, self._rows = [], 0
        return made
