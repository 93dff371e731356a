"""Is this the pack that was here before? It is known by its cells: R0 and capacity of each against the median.

Two packs of one model agree in the pattern over their cells only by chance (|r| about 1/√C); one pack agrees with
itself for years, while the level of resistance and capacity moves with age and temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FingerprintConfig:
    """When two patterns are of one pack, and when of two."""

    same: float = 0.6  # correlation over the cells from which on they are
    other: float = 0.5  # below which they are not
    sure: float = 0.9  # from which on a pattern that has settled still learns: what creeps away is another pack
    settled: int = 8  # patterns, in which an estimator that knows nothing yet finds the cells
    margin: float = 0.2  # by which the best match must lead the second
    learned: int = 3  # patterns after which one is known
    strikes: int = 2  # patterns in a row that are another's
    weight: float = 0.2  # of the newest pattern
    level: float = 0.1  # by which capacity or R0 of a match may differ, relative
    cells: int = 8  # at least: fewer agree by chance

    def __post_init__(self) -> None:
        """Refuse thresholds out of order."""
        if not 0 < self.other < self.same < 1:
            msg = f"other and same must be in 0..1 and rise; got {self.other}, {self.same}"
            raise ValueError(msg)


def pattern(d_r0: NDArray[np.float32], d_q: NDArray[np.float32]) -> Floats | None:
    """Give one pack's pattern (2C,), R0 beside capacity, each without its mean and of length 1; None where unknown.

    A part that is flat is all 0: it neither speaks for nor against anything.
    """
    parts = []
    for values in (np.asarray(d_r0, np.float64), np.asarray(d_q, np.float64)):
        if values.size == 0 or np.isnan(values).any():
            return None
        centred = values - values.mean()
        length = float(np.sqrt((centred * centred).sum()))
        parts.append(centred / length if length > 1e-9 else np.zeros_like(centred))
    return np.concatenate(parts)


def agreement(known: NDArray[np.floating[Any]], seen: Floats) -> Floats:
    """Correlate patterns (K, 2C) with one (2C,): the better of resistance and capacity, (K,)."""
    cells = seen.size // 2
    scores = []
    for part in (slice(0, cells), slice(cells, 2 * cells)):
        a = known[:, part]
        length = np.sqrt((a * a).sum(axis=1))
        scores.append((a * seen[part]).sum(axis=1) / np.where(length > 0, length, 1.0))
    return np.asarray(np.maximum(*scores))
