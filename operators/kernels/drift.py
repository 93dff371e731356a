"""Page-Hinkley test for a change of the mean, for many packs and features at once.

The statistic and its reset are those of river.drift.PageHinkley in mode "both" (E. S. Page, Biometrika 41, 1954),
held as arrays because one river object costs more memory and time than a pack can have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

FEATURES = 4  # window features that are watched per pack


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """When a change of the mean counts.  Features are expected in units of their own spread."""

    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 1 - 0.0001  # weight kept by older values, per value

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            msg = f"alpha must be in (0, 1]; got {self.alpha}"
            raise ValueError(msg)
        if self.threshold <= 0:
            msg = f"threshold must be > 0; got {self.threshold}"
            raise ValueError(msg)


@dataclass
class DriftState:
    """One slot per pack, FEATURES statistics each."""

    drift_n: NDArray[np.int32]  # values since the last change
    drift_mean: NDArray[np.float64]
    drift_up: NDArray[np.float64]  # cumulated deviation, less delta
    drift_up_min: NDArray[np.float64]
    drift_down: NDArray[np.float64]
    drift_down_max: NDArray[np.float64]

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> DriftState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        shape = (slots, FEATURES)
        return cls(
            np.zeros(shape, np.int32),
            np.zeros(shape),
            np.zeros(shape),
            np.full(shape, np.inf),
            np.zeros(shape),
            np.full(shape, -1.0),
        )


def step(
    cfg: DriftConfig, state: DriftState, slot: NDArray[np.int32], x: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Take one row of features (N, FEATURES) per window; NaN is no value.

    Returns the statistic over its threshold (N, FEATURES), NaN before `min_instances`, and where a change was
    detected; after a change the test starts anew.  Rows of one pack must be in time order.
    """
    share = np.empty(x.shape, np.float32)
    changed = np.zeros(x.shape, np.bool_)
    walk(
        slot, x, cfg.min_instances, cfg.delta, cfg.threshold, cfg.alpha,
        state.drift_n, state.drift_mean, state.drift_up, state.drift_up_min, state.drift_down, state.drift_down_max,
        share, changed,
    )  # fmt: skip
    return share, changed


@njit(cache=True)
def walk(slot, x, min_instances, delta, threshold, alpha, n, mean, up, up_min, down, down_max, share, changed):
    """Advance the statistics over rows as `step`, also inside another kernel; `changed` is set, never cleared."""
    for row in range(slot.size):
        s = slot[row]
        for f in range(x.shape[1]):
            v = x[row, f]
            share[row, f] = np.nan
            if v != v:
                continue
            n[s, f] += 1
            mean[s, f] += (1.0 / n[s, f]) * (v - mean[s, f])  # in this order, so that no bit differs from river's
            dev = v - mean[s, f]
            up[s, f] = alpha * up[s, f] + dev - delta
            down[s, f] = alpha * down[s, f] + dev + delta
            up_min[s, f] = min(up_min[s, f], up[s, f])
            down_max[s, f] = max(down_max[s, f], down[s, f])
            if n[s, f] < min_instances:
                continue
            test = max(up[s, f] - up_min[s, f], down_max[s, f] - down[s, f])
            share[row, f] = test / threshold
            if test > threshold:
                changed[row, f] = True
                n[s, f] = 0
                mean[s, f] = up[s, f] = down[s, f] = 0.0
                up_min[s, f] = np.inf
                down_max[s, f] = -1.0
