"""Which cell groups bleed? Those fuller than the emptiest, until it no longer holds the others back.

Pure.  Either by voltage (a steep open-circuit voltage: NMC) or by difference of charge (a flat one: LFP).  Only at rest
or while charging, where the temperature allows, every cell is seen, and protection speaks and breaks no hard limit.
By voltage, bleeds are off while voltages are measured, for a bleed pulls its own cell's voltage down.  A cell starts at
one difference and stops at a smaller one; those with the largest go first, as far as the heat budget reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.local_soc import Soc
from edge.words import CHARGE, PARK, Words, usage
from schemas.frames import FrameBlock
from schemas.pack import PackModel

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
BY = ("voltage", "charge")
_NS = 10**9
_START_V = {"nmc": 0.010, "lfp": 0.030}
_SILENT = "protection does not speak"
_MEASURES = "measuring"
_ALIKE, _HEAT, _EMPTY = "balanced", "heat budget", "too empty"
_FAR = "a cell is too far from the others to be bled for"
_FOUND = {"", _ALIKE, _HEAT, _EMPTY, _FAR}  # what a measurement says, until the next one
_LATE_S = 2.0  # by which frames may come late
_FLOOR_V = 0.3  # above the operating limit: what is emptier is not bled


@dataclass(frozen=True, slots=True)
class BalancingConfig:
    """When and how much is bled.

    `start`, `stop`: the difference to the lowest cell, V by voltage and Ah by charge.  `settle_s` of rest come first.
    While charging by voltage, `charge_a` is the most current at which differences are not those of resistance.  Bleeds
    stop at `hot_c`, and resume 5 K below; from `warm_c` on the heat that they may make, `budget_w`, falls to none.
    None is asked for where the emptiest is below `floor_v`, or cells are more than `most_v` apart: that is a fault.
    """

    by: str
    series: int
    capacity_ah: float
    start: float
    stop: float
    floor_v: float
    bleed_a: float
    budget_w: float
    charge_a: float
    settle_s: float
    measure_s: float = 10.0
    bleed_s: float = 50.0
    cold_c: float = -10.0
    warm_c: float = 45.0
    hot_c: float = 55.0
    cooler_c: float = 5.0
    most_v: float = 0.3


def balancing_config(
    pack: PackModel, *, by: str | None = None, bleed_a: float = 0.1, budget_w: float | None = None
) -> BalancingConfig:
    """Give a pack's settings; `by` None goes by chemistry, `budget_w` None: a quarter of full cells."""
    mode = by or ("charge" if pack.chemistry == "lfp" else "voltage")
    start = _START_V[pack.chemistry] if mode == "voltage" else 0.01 * pack.usable_ah
    lows = [r.bound for r in pack.limits if r.quantity == "cell_v" and not r.over]
    tops = [r.bound for r in pack.limits if r.quantity == "cell_v" and r.over]
    bleed_w = max(tops, default=float(pack.ocv.v.max())) * bleed_a  # of a full cell: one bleed always fits
    return BalancingConfig(
        by=mode,
        series=pack.series,
        capacity_ah=pack.usable_ah,
        start=start,
        stop=0.4 * start,
        floor_v=max(lows, default=float(pack.ocv.v.min())) + _FLOOR_V,
        bleed_a=bleed_a,
        budget_w=-(-pack.series // 4) * bleed_w if budget_w is None else budget_w,
        charge_a=0.1 * pack.usable_ah,
        # by charge, the anchor at rest (edge.local_soc) comes before the first bleed
        settle_s=300.0 if mode == "voltage" else 2100.0,
        measure_s=10.0 if mode == "voltage" else 0.0,
    )


class State(NamedTuple):
    """Which bleeds are on, since when this part of the cycle runs (−1: never), and what it has measured.

    `tops` (C,): cells that have started and not stopped yet.  `too_hot` until it is cooler.
    """

    tops: Mask
    on: Mask
    heat_w: float = 0.0
    why: str = "no frames"
    since_ns: int = -1
    sum_v: Floats | None = None  # while it measures
    rows: int = 0
    too_hot: bool = False


class Balance(NamedTuple):
    """What is asked for: which cell groups bleed (C,), the heat that this makes, and what keeps others from it."""

    mask: Mask
    heat_w: float
    why: str


def fresh_state(cfg: BalancingConfig) -> State:
    """Begin without a bleed."""
    none = np.zeros(cfg.series, np.bool_)
    return State(none, none)


def step(
    cfg: BalancingConfig, state: State, block: FrameBlock | None, told: tuple[Soc, Words], now_ns: int
) -> tuple[State, Balance]:
    """Take frames in their order, what is known of the charge (edge.local_soc), and protection's words."""
    for row in range(0 if block is None else len(block)):
        assert block is not None
        state = _row(cfg, state, block, row, *told)
    if now_ns - state.since_ns > (cfg.bleed_s + cfg.measure_s + _LATE_S) * _NS or not told[1].fresh(now_ns):
        state = _stopped(state, now_ns, "no frames" if told[1].fresh(now_ns) else _SILENT)
    return state, Balance(state.on.copy(), state.heat_w, state.why)


def _row(cfg: BalancingConfig, state: State, block: FrameBlock, row: int, soc: Soc, words: Words) -> State:
    t_ns, cell_v = int(block.t_ns[row]), block.cell_v[row].astype(np.float64)
    hot_c = _hottest(block.temp_c[row])
    state = state._replace(too_hot=hot_c > cfg.hot_c - (cfg.cooler_c if state.too_hot else 0.0))
    rest_s = soc.rest_s - (soc.t_ns - t_ns) / _NS
    why = _forbidden(cfg, state, block, row, rest_s) or _unknown(cfg, soc) or _protection(words, t_ns)
    if why or state.since_ns < 0 or t_ns < state.since_ns:
        return _stopped(state, t_ns, why or _MEASURES)
    passed_s = (t_ns - state.since_ns) / _NS
    if state.on.any():
        if passed_s < cfg.bleed_s:
            return state
        state = _stopped(state, t_ns, _MEASURES)
        passed_s = 0.0
    sum_v = cell_v if state.sum_v is None else state.sum_v + cell_v
    state = state._replace(sum_v=sum_v, rows=state.rows + 1, why=state.why if state.why in _FOUND else _MEASURES)
    return state if passed_s < cfg.measure_s else _decided(cfg, state, soc, hot_c, t_ns)


def _decided(cfg: BalancingConfig, state: State, soc: Soc, hot_c: float, t_ns: int) -> State:
    assert state.sum_v is not None
    mean_v = state.sum_v / state.rows
    over = mean_v - mean_v.min() if cfg.by == "voltage" else (soc.cell_soc - soc.cell_soc.min()) * cfg.capacity_ah
    tops = (over >= cfg.start) | (state.tops & (over > cfg.stop))
    share = min(max((cfg.hot_c - hot_c) / (cfg.hot_c - cfg.warm_c), 0.0), 1.0)
    order = np.argsort(-np.where(tops, over, -1.0), kind="stable")
    heat_w = np.cumsum(np.where(tops, mean_v * cfg.bleed_a, 0.0)[order])
    on = np.zeros_like(tops)
    on[order[heat_w <= cfg.budget_w * share]] = True
    on &= tops
    why = _ALIKE if not tops.any() else _HEAT if on.sum() < tops.sum() else ""
    if mean_v.min() < cfg.floor_v or np.ptp(mean_v) > cfg.most_v:
        on[:] = False
        why = _EMPTY if mean_v.min() < cfg.floor_v else _FAR
    state = _stopped(state, t_ns, why)
    return state._replace(tops=tops, on=on, heat_w=float(mean_v[on].sum() * cfg.bleed_a))


def _stopped(state: State, t_ns: int, why: str) -> State:
    return state._replace(on=np.zeros_like(state.on), heat_w=0.0, why=why, since_ns=t_ns, sum_v=None, rows=0)


def _hottest(temp_c: NDArray[np.float32]) -> float:
    known = temp_c[np.isfinite(temp_c)]
    return float(known.max()) if known.size else math.inf


def _forbidden(cfg: BalancingConfig, state: State, block: FrameBlock, row: int, rest_s: float) -> str:
    """Say what the frame has against it."""
    temp_c, current_a = block.temp_c[row], float(block.current_a[row])
    if not np.isfinite(block.cell_v[row]).all():
        return "not every cell is seen"
    if not np.isfinite(temp_c).any():
        return "temperature unknown"
    if state.too_hot:
        return "too hot"
    if float(np.nanmin(temp_c)) < cfg.cold_c:
        return "too cold"
    mode = usage(block, row, cfg.capacity_ah)
    if mode == CHARGE:
        small = cfg.by == "charge" or abs(current_a) <= cfg.charge_a
        return "" if small else "charging current too large to compare voltages"
    return "" if mode == PARK and rest_s >= cfg.settle_s else "neither at rest nor charging"


def _unknown(cfg: BalancingConfig, soc: Soc) -> str:
    if cfg.by == "charge" and not 3.0 * soc.spread_std * cfg.capacity_ah <= cfg.start:
        return "differences of charge not known well enough"
    return ""


def _protection(words: Words, t_ns: int) -> str:
    if not words.fresh(t_ns):
        return _SILENT
    broken = words.broken(tier="MSL")
    return f"{broken[0]} is broken" if broken else ""
