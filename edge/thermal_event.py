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
    """Voltages of the last minute, oldest first, what each cell may not fall below after them, and the probes.

    `top_v`: the highest of the floors; `rises`: a probe does; `seldom`: one comes more seldom than once a second.
    """

    kept: tuple[tuple[int, tuple[float, ...]], ...] = ()
    floors_v: tuple[float, ...] = ()
    top_v: float = math.nan
    probes: tuple[Probe, ...] = ()
    rises: bool = False
    seldom: bool = False
    low_cell: int = 0  # from 1: whose voltage has collapsed, 0 = none


def rule(*, drop: bool, hot: bool, rise: bool) -> bool:
    """Join the three criteria as the standard does: (a or b) and c."""
    return (drop or hot) and rise


def see_cells(state: State, cell_v: Sequence[float], now_ns: int) -> State:
    """Take fresh cell voltages, NaN where unknown; remembers the first cell that has collapsed."""
    kept, floors_v, top_v = state.kept, state.floors_v, state.top_v
    if kept and now_ns - kept[0][0] > FALL_NS:
        kept = tuple(entry for entry in kept if now_ns - entry[0] <= FALL_NS)
    if not kept or now_ns - kept[-1][0] >= _KEPT_NS:
        kept = (*kept, (now_ns, tuple(cell_v)))
    if kept is not state.kept:
        floors_v = tuple((1 - DROP) * _highest(voltages) for voltages in zip(*(set_ for _, set_ in kept), strict=True))
        top_v = _highest(floors_v)
    low_cell = _collapsed(cell_v, floors_v, top_v)
    if kept is state.kept and low_cell == state.low_cell:  # as it nearly always is
        return state
    return state._replace(kept=kept, floors_v=floors_v, top_v=top_v, low_cell=low_cell)


def _highest(voltages: Iterable[float]) -> float:
    return max((v for v in voltages if not math.isnan(v)), default=math.nan)


def _collapsed(cell_v: Sequence[float], floors_v: Sequence[float], top_v: float) -> int:
    known = known_of(cell_v)
    if not known:
        return 0
    # the median is no more than the highest: of a sound pack it need not be known, nor each cell's floor
    low_v = min(known)
    if low_v >= (1 - DROP) * max(known) and (low_v >= top_v or not any(map(lt, cell_v, floors_v))):
        return 0
    least = (1 - DROP) * median(known)
    below = (c for c, (v, floor) in enumerate(zip(cell_v, floors_v, strict=True), 1) if v < least or v < floor)
    return next(below, 0)


def known_of(values: Sequence[float]) -> Sequence[float]:
    """Give the values that are no NaN; as they are where all are known, which costs least."""
    total = sum(values)
    return values if total == total else [v for v in values if v == v]  # noqa: PLR0124 - one NaN makes the sum one


def see_probes(state: State, temp_c: Sequence[float], places: Iterable[int], now_ns: int) -> State:
    """Take the fresh probes (places from 0) among `temp_c`."""
    kept = state.probes or (Probe(),) * len(temp_c)
    changed = {}
    for place in places:
        value = temp_c[place]
        if not math.isnan(value):
            now = _rising(kept[place], value, now_ns)
            if now is not kept[place]:
                changed[place] = now
    if not changed:  # as it nearly always is
        return state
    probes = [changed.get(place, probe) for place, probe in enumerate(kept)]
    return state._replace(
        probes=tuple(probes),
        rises=any(p.leapt or (p.rising_ns >= 0 and p.t_ns - p.rising_ns > RISE_NS) for p in probes),
        seldom=any(p.seldom for p in probes),
    )


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
    if not (drop or state.rises):
        return False, 0
    hot = any(t >= max_temp_c for t in temp_c)
    return rule(drop=drop, hot=hot, rise=state.rises or (drop and hot and state.seldom)), state.low_cell
