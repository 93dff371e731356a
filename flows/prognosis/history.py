"""What the health of a pack so far says of the life that is left: numbers that hold for any length of life."""

from __future__ import annotations

import numpy as np

from flows.prognosis.charges import Floats

_SHARES = (0.9, 0.75, 0.5, 0.25)  # of the cycles so far, since when slopes are taken
_WINDOWS = (20.0, 50.0, 100.0, 200.0, 400.0)  # cycles
_POWERS = (0.7, 1.0, 1.5, 2.5)  # of cycles, with which a loss may grow
_LEAST_LOSS, _LEAST_LEFT, _LEAST_SLOPE = 1e-4, 1e-3, 1e-7  # SOH, SOH, SOH a cycle
_MEDIAN = 7  # charges
NAMES = (
    "log_cycles", "soh", "first_soh", "highest_soh", "log_loss", "log_left", "log_left_over_loss",
    *(f"log_left_over_slope_since_{s:g}" for s in _SHARES),
    *(f"log_loss_at_{s:g}_over_loss" for s in _SHARES),
    *(f"log_slope_{w:g}" for w in _WINDOWS),
    *(f"log_life_by_power_{p:g}" for p in _POWERS),
)  # fmt: skip


def steady(soh: Floats) -> Floats:
    """Give the median (N,) of each value and the six before it: one odd test does not bend a history."""
    padded = np.concatenate([np.full(_MEDIAN - 1, np.nan), soh])
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN), axis=1))


def of_history(cycle: Floats, soh: Floats, eol_soh: float) -> Floats:
    """Give what a history (N,) of steady SOH over cycles says (len(NAMES),); its last value is now."""
    now, highest = float(soh[-1]), float(soh.max())
    loss, left = max(highest - now, _LEAST_LOSS), max(now - eol_soh, _LEAST_LEFT)
    shares = np.searchsorted(cycle, cycle[-1] * np.array(_SHARES))
    windows = np.searchsorted(cycle, cycle[-1] - np.array(_WINDOWS))
    since = np.minimum(np.concatenate([shares, windows]), max(len(cycle) - 2, 0))
    slope = np.maximum((soh[since] - now) / np.maximum(cycle[-1] - cycle[since], 1.0), _LEAST_SLOPE)
    ended = max(highest - eol_soh, _LEAST_LEFT)
    return np.concatenate(
        [
            [np.log(cycle[-1]), now, np.median(soh[:11]), highest, np.log(loss), np.log(left), np.log(left / loss)],
            np.log(left / slope[: len(_SHARES)]),
            np.log(np.maximum(highest - soh[shares], _LEAST_LOSS) / loss),
            np.log(slope[len(_SHARES) :]),
            np.log(cycle[-1]) + np.log(ended / loss) / np.array(_POWERS),
        ]
    )
