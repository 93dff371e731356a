"""Which values repeat though they cannot: a voltage while the current moves, a current while voltages do.

Pure.  A value that rests is not stuck yet: what it depends on must have moved so far that a healthy sensor would have
shown it, by several steps of its resolution, and more than once where cells may be read in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

STUCK_SAMPLES = 5  # as many equal values in a row are stuck, where the correlated one moved
STUCK_NS = 2 * 10**9  # for as long, or within it
LEGS = 4  # of the pack's voltage, up and down, that a current which stays cannot explain
LEG_NS = 600 * 10**9  # from one to the next at most: noise adds up over days
# Legs of the current, and moves of the median of its message, while one cell stays.  A car that reads its 96 cells in
# turn, five a second, shows up to 8.
ALONE = 16


class StuckConfig(NamedTuple):
    """What must move.

    `stuck_a`: a voltage that stays bit for bit while the current has moved by more than this is stuck; one cell that
    stays alone is, where the current has gone up and down by this and the message's median by `moved_v`, ALONE times.
    A current that stays is stuck where it flows (more than `idle_a`) and the pack's voltage moves by more than
    `stuck_v` within 2 s, or where that goes up and down by more than `swing_v`, LEGS times.
    """

    idle_a: float
    stuck_a: float
    stuck_v: float
    moved_v: float
    swing_v: float


class Swing(NamedTuple):
    """How a value goes up and down: which way (1, -1, 0: not known yet), how far it has come, and its legs so far."""

    way: int = 0
    far: float = math.nan
    legs: int = 0
    leg_ns: int = 0  # when the newest began


class Still(NamedTuple):
    """How long the values of one signal from one source have not changed, and how far the correlated one went.

    `ref`: the correlated value when the values last changed; `moved_ns`: since when it is far from it (-1: it is not).
    `swing`: the pack's voltage, beside a current.
    """

    values: tuple[float, ...] = ()
    since_ns: int = 0
    samples: int = 0
    ref: float = math.nan
    ref_ns: int = 0
    moved_ns: int = -1
    stuck: bool = False
    swing: Swing = Swing()


class Apart(NamedTuple):
    """How the cells of one message move: its median (`moves` by moved_v, at last to `far_v`), and each of them.

    `since`: the current's legs and the median's moves when each cell last changed; `stuck`: positions that stay alone.
    """

    values: tuple[float, ...]
    far_v: float
    moves: int
    since: tuple[tuple[int, int], ...]
    stuck: tuple[int, ...] = ()


class State(NamedTuple):
    """What stays: `still` by source and signal, `apart` by source of cells, and how the current goes up and down.

    `places`: of each source and signal, those that are stuck.
    """

    still: Mapping[tuple[int, str], Still] = {}  # none is changed in place
    apart: Mapping[int, Apart] = {}
    swing: Swing = Swing()
    places: Mapping[tuple[int, str], tuple[int, ...]] = {}


def swung(was: Swing, value: float, by: float, now_ns: int) -> Swing:
    """Follow a value: a leg begins where it has come back by more than `by`."""
    went = value - was.far
    if was.way * went > 0 or math.isnan(was.far):
        return was._replace(far=value)
    if not abs(went) > by:  # as where it is not known
        return was
    return Swing(1 if went > 0 else -1, value, was.legs + 1, now_ns)


def _stays(was: Still | None, values: tuple[float, ...]) -> bool:
    """Say whether values are those of before; a NaN is equal to nothing."""
    return was is not None and was.values == values and not any(map(math.isnan, values))


def voltage(cfg: StuckConfig, was: Still | None, values: tuple[float, ...], current_a: float, now_ns: int) -> Still:
    """Judge voltages of one message: they may not stay where the current has moved for long."""
    if was is None or not _stays(was, values):
        return Still(values, now_ns, 1, current_a, now_ns)
    ref = current_a if math.isnan(was.ref) else was.ref
    away = abs(current_a - ref) > cfg.stuck_a
    moved_ns = -1 if not away else was.moved_ns if was.moved_ns >= 0 else now_ns
    long = away and now_ns - moved_ns >= STUCK_NS
    samples = was.samples + 1
    stuck = was.stuck or (long and samples >= STUCK_SAMPLES)
    return Still(values, was.since_ns, samples, ref, was.ref_ns, moved_ns, stuck)


def current(cfg: StuckConfig, was: Still | None, values: tuple[float, ...], pack_v: float, now_ns: int) -> Still:
    """Judge a current: a voltage relaxes for minutes after a load, so where it moves it must be quick, or turn back."""
    if was is None or not _stays(was, values):
        return Still(values, now_ns, 1, pack_v, now_ns, swing=Swing(far=pack_v))
    swing = swung(was.swing, pack_v, cfg.swing_v, now_ns)
    if swing.legs > was.swing.legs and now_ns - was.swing.leg_ns > LEG_NS:
        swing = swing._replace(legs=1)
    now = was._replace(samples=was.samples + 1, swing=swing)
    quick = abs(pack_v - now.ref) > cfg.stuck_v and abs(values[0]) > cfg.idle_a
    if swing.legs >= LEGS or (quick and now.samples >= STUCK_SAMPLES):
        return now._replace(stuck=True)
    if now_ns - now.ref_ns >= STUCK_NS or math.isnan(now.ref):
        return now._replace(ref=pack_v, ref_ns=now_ns)
    return now


def apart(cfg: StuckConfig, was: Apart | None, values: tuple[float, ...], legs: int) -> Apart:
    """Look for cells of a message that stay while the current, after so many `legs`, and most others move."""
    known = [v for v in values if v == v]  # noqa: PLR0124 - not NaN, the cheap way
    middle_v = median(known) if known else math.nan
    if was is None:
        return Apart(values, middle_v, 0, ((legs, 0),) * len(values))
    moved = abs(middle_v - was.far_v) >= cfg.moved_v or math.isnan(was.far_v)
    far_v, moves = (middle_v, was.moves + 1) if moved else (was.far_v, was.moves)
    now = legs, moves
    since = tuple([held if values[k] == was.values[k] else now for k, held in enumerate(was.since)])
    alone = [k for k, (leg, move) in enumerate(since) if legs - leg >= ALONE and moves - move >= ALONE]
    return Apart(values, far_v, moves, since, tuple(alone))
