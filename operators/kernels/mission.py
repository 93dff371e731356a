"""State of function: whether a pack can do a mission, a power and an energy within a time, and how sure that is.

The pack's twin runs the mission: its mean power for the whole time, and its largest for 10 s at the beginning, where
the pack is coldest, and at the end, where it is emptiest.  One standard normal number k says how much worse the pack
is than estimated, in SOC, capacity and resistance alike (fully correlated: the cautious case).  The mission succeeds
up to some k, found by halving; the probability is the normal distribution's there (first-order reliability: Hasofer
and Lind, J. Eng. Mech. Div. 100 (1974) 111).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from operators.kernels.parameters import parameters
from operators.kernels.power import derating
from operators.kernels.twin import Load, Twin, run

ENERGY, POWER = "energy", "power"  # what is lacking
PEAK_S = 10.0  # for which the largest power is held
_STEP_S, _STEPS = 10.0, 2000  # between the peaks: the finest, and the most of them
_FAR, _HALVINGS = 4.0, 20  # standard deviations that are looked at, and how closely
_LEAST_R = 0.2  # of the resistances, at their best
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Mission:
    """What is asked: the largest power in W, the energy in Wh, and the time in s in which it is drawn."""

    power_w: float
    energy_wh: float
    duration_s: float

    def __post_init__(self) -> None:
        """Check every value; raises ValueError naming it and what is accepted."""
        for name in self.__slots__:
            if not 0 < getattr(self, name) < math.inf:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)
        if self.power_w < self.mean_w * (1 - 1e-9):
            msg = f"power_w must be at least the mean of energy over time, {self.mean_w:.6g}; got {self.power_w:.6g}"
            raise ValueError(msg)

    @property
    def mean_w(self) -> float:
        """The mean power."""
        return self.energy_wh * 3600.0 / self.duration_s


@dataclass(frozen=True, slots=True)
class Doubt:
    """Standard deviations of what a twin takes for known: SOC, and capacity and resistance in proportion."""

    soc: float
    capacity: float
    resistance: float

    def __post_init__(self) -> None:
        """Check every value; raises ValueError naming it and what is accepted."""
        for name in self.__slots__:
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"{name} must be ≥ 0; got {getattr(self, name)}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Failure:
    """What ends a mission first."""

    lacks: str  # ENERGY or POWER
    limit: str  # what is reached: "charge", "cell voltage", "current", the same "derated" by temperature, "temperature"
    at_s: float
    given_wh: float  # until then
    cell: int  # the group that is lowest then, from 0
    value: float  # V, SOC, A or °C
    bound: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a mission can be done: the probability, and what would end it at the confidence that is asked for."""

    can: bool
    probability: float
    failure: Failure | None  # None where it can


def judge(twin: Twin, doubt: Doubt, mission: Mission, ambient_c: float, confidence: float = 0.95) -> Verdict:
    """Say whether the pack can do the mission with at least that probability (0.5 … 0.9999)."""
    if not 0.5 <= confidence <= 0.9999:
        msg = f"confidence must be 0.5 … 0.9999; got {confidence}"
        raise ValueError(msg)
    load, peak = _load(mission, ambient_c)
    low, high = -_FAR, _FAR
    if _failure(twin, doubt, load, peak, high) is None:
        low = high
    elif _failure(twin, doubt, load, peak, low) is not None:
        high = low
    else:
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            done = _failure(twin, doubt, load, peak, middle) is None
            low, high = (middle, high) if done else (low, middle)
    probability = _NORMAL.cdf(low)
    can = probability >= confidence
    failure = None if can else _failure(twin, doubt, load, peak, max(_NORMAL.inv_cdf(confidence), high))
    return Verdict(can, probability, failure)


def _load(mission: Mission, ambient_c: float) -> tuple[Load, NDArray[np.bool_]]:
    """Give the mission as a load, and which of its rows are peaks."""
    peak_s = min(PEAK_S, 0.5 * mission.duration_s)
    between_s = mission.duration_s - 2.0 * peak_s
    peaks, steps = round(PEAK_S), min(max(math.ceil(between_s / _STEP_S), 1), _STEPS)
    left_wh = max(mission.energy_wh - 2.0 * mission.power_w * peak_s / 3600.0, 0.0)
    if between_s <= 0.0:
        t_s = np.linspace(0.0, mission.duration_s, 2 * peaks + 1)
        watts, peak = np.full(t_s.size, mission.power_w), np.ones(t_s.size, np.bool_)
    else:
        begin = np.linspace(0.0, peak_s, peaks, endpoint=False)
        middle = np.linspace(peak_s, mission.duration_s - peak_s, steps, endpoint=False)
        end = np.linspace(mission.duration_s - peak_s, mission.duration_s, peaks + 1)
        t_s = np.concatenate([begin, middle, end])
        peak = np.ones(t_s.size, np.bool_)
        peak[begin.size : begin.size + middle.size] = False
        watts = np.where(peak, mission.power_w, left_wh * 3600.0 / between_s)
    return Load(t_s, np.full(t_s.size, np.nan), -watts, np.full(t_s.size, ambient_c)), peak


def _failure(twin: Twin, doubt: Doubt, load: Load, peak: NDArray[np.bool_], k: float) -> Failure | None:
    """Run the mission on a pack that is worse than estimated by `k` standard deviations; None: nothing ends it."""
    worse = replace(
        twin,
        soc=np.clip(twin.soc - k * doubt.soc, 0.0, 1.0),
        capacity_ah=twin.capacity_ah * math.exp(-k * doubt.capacity),
        r_scale=twin.r_scale * max(1.0 + k * doubt.resistance, _LEAST_R),
    )
    future = run(worse, load)
    own = parameters(twin.pack)
    share = np.array([derating(own.discharge_share, c) for c in future.temp_c])
    hottest = min((r.bound for r in twin.pack.limits if r.quantity == "temp_c" and r.over), default=math.inf)
    most_a = own.cell.discharge_max_a * share
    reached = (
        ("charge", future.soc_min, np.zeros(peak.size), future.soc_min <= 0.0),
        ("cell voltage", future.cell_v_min, np.full(peak.size, own.cell.v_min), future.cell_v_min < own.cell.v_min),
        ("current", -future.current_a, most_a, -future.current_a > most_a),
        ("temperature", future.temp_c, np.full(peak.size, hottest), future.temp_c > hottest),
    )
    ended = [(int(np.argmax(where)), name, x, bound) for name, x, bound, where in reached if where.any()]
    if not ended:
        return None
    n, limit, x, bound = min(ended, key=lambda e: e[0])  # of several at once the first of these
    limit = "derated" if limit == "current" and share[n] < 1.0 else limit
    return Failure(
        lacks=POWER if peak[n] and limit != "charge" else ENERGY,
        limit=limit,
        at_s=float(load.t_s[n]),
        given_wh=1e3 * float(future.energy_out_kwh[n]),
        cell=int(future.cell_min[n]),
        value=float(x[n]),
        bound=float(bound[n]),
    )
