"""Whether a cell is on its way into thermal runaway.

GB 38031-2025 C.5.3.7 asks for (voltage drop > 25 % or temperature at the maker's maximum) and a rise of 1 K/s for more
than 3 s.  That is a laboratory criterion; its form on a vehicle: the drop is a cell below 0.75 of the pack's median, or
a fall by 25 % within 60 s (a normal empty cell is 25 % under full); where probes come more seldom than once a second,
the rise is 3 K from one value to the next, or the temperature is at its maximum while a voltage collapses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import lt
from statistics import median
from typing import NamedTuple

DROP = 0.25  # of the pack's median, or of what the cell had within FALL_NS
RISE_K_PER_S = 1.0
RISE_NS = 3 * 10**9  # for longer
SELDOM_K = 3.0
FALL_NS = 60 * 10**9
_KEPT_NS = 10 * 10**9  # between two kept sets of voltages
_SECOND_NS = 10**9


class Probe(NamedTuple):
    """One probe's last reference, a second or a frame ago, and since when it has been rising (-1: it is not)."""

    temp_c: float = math.nan
    t_ns: int = 0
    rising_ns: int = -1
    seldom: bool = False  # comes more seldom than once a second
    leapt: bool = False  # rose by SELDOM_K from one seldom value to the next


class State(NamedTuple):
    """Voltages of the last minute, oldest first, what each cell may not fall below after them, and the probes."""

    kept: tuple[tuple[int, tuple[float, ...]], ...] = ()
    floors_v: tuple[float, ...] = ()
    probes: tuple[Probe, ...] = ()
    low_cell: int = 0  # from 1: whose voltage has collapsed, 0 = none


def rule(*, drop: bool, hot: bool, rise: bool) -> bool:
    """Join the three criteria as the standard does: (a or b) and c."""
    return (drop or hot) and rise


def see_cells(state: State, cell_v: Sequence[float], now_ns: int) -> State:
    """Take fresh cell voltages, NaN where unknown; remembers the first cell that has collapsed."""
    kept, floors_v = state.kept, state.floors_v
    if kept and now_ns - kept[0][0] > FALL_NS:
        kept = tuple(entry for entry in kept if now_ns - entry[0] <= FALL_NS)
    if not kept or now_ns - kept[-1][0] >= _KEPT_NS:
        kept = (*kept, (now_ns, tuple(cell_v)))
    if kept is not state.kept:
        floors_v = tuple((1 - DROP) * _highest(voltages) for voltages in zip(*(set_ for _, set_ in kept), strict=True))
    return state._replace(kept=kept, floors_v=floors_v, low_cell=_collapsed(cell_v, floors_v))


def _highest(voltages: Iterable[float]) -> float:
    return max((v for v in voltages if not math.isnan(v)), default=math.nan)


def _collapsed(cell_v: Sequence[float], floors_v: Sequence[float]) -> int:
    known = [v for v in cell_v if v == v]  # noqa: PLR0124 - not NaN, the cheap way
    if not known:
        return 0
    # the median is no more than the highest: of a sound pack it need not be known
    if min(known) >= (1 - DROP) * max(known) and not any(map(lt, cell_v, floors_v)):
        return 0
    least = (1 - DROP) * median(known)
    below = (c for c, (v, floor) in enumerate(zip(cell_v, floors_v, strict=True), 1) if v < least or v < floor)
    return next(below, 0)


def see_probes(state: State, temp_c: Sequence[float], places: Iterable[int], now_ns: int) -> State:
    """Take the fresh probes (places from 0) among `temp_c`."""
    probes = list(state.probes) or [Probe()] * len(temp_c)
    for place in places:
        value = temp_c[place]
        if not math.isnan(value):
            probes[place] = _rising(probes[place], value, now_ns)
    return state._replace(probes=tuple(probes))


def _rising(was: Probe, temp_c: float, now_ns: int) -> Probe:
    """Compare with the value a second ago: between two readings of 0.1 s the resolution alone is 10 K/s."""
    if math.isnan(was.temp_c):
        return Probe(temp_c, now_ns)
    passed_ns = now_ns - was.t_ns
    if passed_ns < _SECOND_NS:
        return was
    rise_k = temp_c - was.temp_c
    seldom = passed_ns >= 2 * _SECOND_NS
    if rise_k * _SECOND_NS >= RISE_K_PER_S * passed_ns:
        rising_ns = was.rising_ns if was.rising_ns >= 0 else was.t_ns
    else:
        rising_ns = -1
    return Probe(temp_c, now_ns, rising_ns, seldom, leapt=seldom and rise_k >= SELDOM_K)


def event(state: State, temp_c: Sequence[float], max_temp_c: float) -> tuple[bool, int]:
    """Say whether there is a thermal event, and at which cell (from 1; 0 where no cell has collapsed)."""
    drop = state.low_cell > 0
    hot = any(t >= max_temp_c for t in temp_c)
    rise = any(p.leapt or (p.rising_ns >= 0 and p.t_ns - p.rising_ns > RISE_NS) for p in state.probes)
    rise = rise or (drop and hot and any(p.seldom for p in state.probes))
    return rule(drop=drop, hot=hot, rise=rise), state.low_cell
