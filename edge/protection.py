"""Which limits are broken, for long enough and by fresh values, and what that means for the contactors.

Pure: the next state and a verdict follow from the table, the state and one sample.  Standard library only: nothing
on the way from a bus to an open contactor waits for an import.

What opens, and when: while the vehicle moves only over-current and a crash open at once, since an open contactor takes
traction, regeneration and the low-voltage supply; whatever else asks for it alarms, takes the current to zero and asks
for a stop.  Below 5 km/h, and while plugged in, it opens.  An unknown speed is a speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.limits import ACTIONS, Limit, worst_detection_s

STANDSTILL_KMH = 5.0
_NS = 10**9
_FAST = frozenset({"current_a"})  # quantities whose open_now holds at speed
_INFORM, _DERATE, _ZERO, _STANDSTILL, _NOW = range(len(ACTIONS))
_SEVERITY = {action: rank for rank, action in enumerate(ACTIONS)}
# The signal whose message brings a quantity, its unit, and what its text calls the value.
SIGNAL_OF = {
    "cell_v": "cell_v",
    "cell_dev_v": "cell_v",
    "sum_mismatch_v": "cell_v",
    "temp_c": "temp_c",
    "temp_dev_c": "temp_c",
    "current_a": "current_a",
    "pack_v": "pack_v",
    "isolation_ohm_per_v": "isolation_ohm",
}
_UNITS = {
    "cell_v": ("V", 2, "cell {}"),
    "cell_dev_v": ("V from the median", 2, "cell {}"),
    "sum_mismatch_v": ("V between sum of cells and pack sensor", 1, "pack"),
    "temp_c": ("°C", 1, "probe {}"),
    "temp_dev_c": ("K from the mean", 1, "probe {}"),
    "current_a": ("A", 1, "{}"),
    "pack_v": ("V", 1, "pack"),
    "isolation_ohm_per_v": ("Ω/V isolation", 0, "pack"),
}
_DONE = {
    _INFORM: "noted",
    _DERATE: "current limited",
    _ZERO: "current to zero",
    _STANDSTILL: "stop requested, contactors open at standstill",
    _NOW: "contactors opened",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """A pack's limits and what their values need.

    `idle_a`: smaller currents flow in neither direction.  `sum_offset_v`: of the pack sensor over the sum of the
    cells.  `max_pack_v`: what isolation is divided by (UN R100: Ω per volt of the highest pack voltage).
    """

    limits: tuple[Limit, ...]
    idle_a: float
    sum_offset_v: float
    max_pack_v: float


class Sample(NamedTuple):
    """What is known at one tick; NaN = not available.

    `fresh` names the signals (values of SIGNAL_OF) that a new message brought since the tick before: a held value
    is never counted twice.  `unknown` names what sensing cannot vouch for, such as a stale signal.
    """

    t_ns: int  # monotonic
    fresh: frozenset[str]
    cell_v: tuple[float, ...] = ()
    temp_c: tuple[float, ...] = ()
    current_a: float = math.nan  # + charging
    pack_v: float = math.nan
    isolation_ohm: float = math.nan
    speed_kmh: float = math.nan
    plugged: bool = False
    crash: bool = False
    standby: bool = False  # somebody asks for standby: clears latches whose cause is gone
    unknown: tuple[str, ...] = ()


class RowState(NamedTuple):
    """Where one limit stands: since when and by how many samples in a row it is crossed, and whether it has fired."""

    since_ns: int = 0
    samples: int = 0
    active: bool = False
    clear: bool = True  # the newest value is inside the bound by its hysteresis


State = tuple[RowState, ...]


class Decision(NamedTuple):
    """A limit that fired or cleared."""

    row: int
    limit: Limit
    active: bool
    subject: int  # cell or probe from 1; 0 is the pack
    value: float
    held_s: float
    text: str


class Verdict(NamedTuple):
    """What the vehicle should do now; `open`: the contactors, as soon as they may break the current."""

    open: bool
    zero_current: bool
    derate: bool
    stop: bool
    close_allowed: bool
    decisions: tuple[Decision, ...]


def fresh_state(rules: Rules) -> State:
    """Give the state in which no limit is crossed."""
    return (RowState(),) * len(rules.limits)


def not_evaluated(rules: Rules, absent: Iterable[str]) -> list[Limit]:
    """Name the limits that need a signal which the vehicle does not send."""
    gone = set(absent)
    needs = {"sum_mismatch_v": {"cell_v", "pack_v"}}
    return [row for row in rules.limits if needs.get(row.quantity, {SIGNAL_OF[row.quantity]}) & gone]


def too_slow(rules: Rules, period_s: Mapping[str, float], delay_s: float) -> list[str]:
    """Say, one line a row, which limits cannot fire within their `max_detect_s` at their signals' periods."""
    return [
        f"{row.quantity} {row.tier} ({row.direction}, {'over' if row.over else 'under'} {row.bound:g}): "
        f"worst detection must be ≤ {row.max_detect_s:g} s; got {worst:g} s "
        f"({SIGNAL_OF[row.quantity]} every {period:g} s)"
        for row in rules.limits
        if (period := period_s.get(SIGNAL_OF[row.quantity])) is not None
        and (worst := worst_detection_s(row, period, delay_s)) > row.max_detect_s
    ]


def step(rules: Rules, state: State, sample: Sample) -> tuple[State, Verdict]:
    """Judge one sample."""
    standing = sample.plugged or sample.speed_kmh < STANDSTILL_KMH  # NaN is no standstill
    rows: list[RowState] = []
    decisions: list[Decision] = []
    extremes: dict[str, tuple[float, int, float, int]] = {}
    worst = _NOW if sample.crash else -1
    for number, (limit, was) in enumerate(zip(rules.limits, state, strict=True)):
        now, value, subject = was, math.nan, 0
        if SIGNAL_OF[limit.quantity] in sample.fresh:
            if limit.quantity not in extremes:
                extremes[limit.quantity] = _extremes(rules, limit.quantity, sample)
            value, subject = _value(extremes[limit.quantity], limit)
            if not math.isnan(value):
                now = _counted(rules, limit, was, value, sample)
        if now.active and limit.latch and sample.standby and limit.reset == "standby" and now.clear:
            now = RowState()
        if now.active != was.active:
            held_s = (sample.t_ns - (now if now.active else was).since_ns) / _NS
            decisions.append(_decision(number, limit, now, subject, value, held_s, standing=standing))
        if now.active:
            worst = max(worst, _effect(limit, standing=standing))
        rows.append(now)
    return tuple(rows), _verdict(rows, rules, worst, sample, tuple(decisions), standing=standing)


def serviced(rules: Rules, state: State) -> State:
    """Clear every latch whose cause is gone, as somebody with a tool may."""
    return tuple(
        RowState() if row.active and limit.latch and row.clear else row
        for limit, row in zip(rules.limits, state, strict=True)
    )


def _verdict(
    rows: list[RowState],
    rules: Rules,
    worst: int,
    sample: Sample,
    decisions: tuple[Decision, ...],
    *,
    standing: bool,
) -> Verdict:
    """Join what the limits ask for with what is not known: that alone never opens at speed."""
    blind = bool(sample.unknown)
    latched = any(row.active and limit.latch for limit, row in zip(rules.limits, rows, strict=True))
    return Verdict(
        open=worst == _NOW or (blind and standing),
        zero_current=worst >= _ZERO or blind,
        derate=worst >= _DERATE or blind,
        stop=worst == _STANDSTILL or (blind and not standing),
        close_allowed=not (blind or latched or sample.crash or worst >= _ZERO),
        decisions=decisions,
    )


def _effect(limit: Limit, *, standing: bool) -> int:
    """Give what an active limit does now, which is not always what its row says."""
    asked = _SEVERITY[limit.action]
    if asked < _STANDSTILL:
        return asked
    return _NOW if standing or (asked == _NOW and limit.quantity in _FAST) else _STANDSTILL


def _counted(rules: Rules, limit: Limit, was: RowState, value: float, sample: Sample) -> RowState:
    """Count one fresh value; a bound is crossed by reaching it."""
    beyond = value - limit.bound if limit.over else limit.bound - value
    clear = beyond <= -limit.hysteresis
    if beyond < 0 or not _flows(rules, limit.direction, sample.current_a):
        if was.active and (limit.latch or not clear):
            return was._replace(samples=0, clear=clear)
        return RowState(clear=clear)
    since = was.since_ns if was.samples else sample.t_ns
    samples = was.samples + 1
    fired = samples >= limit.min_samples and sample.t_ns - since >= round(limit.for_s * _NS)
    return RowState(since, samples, was.active or fired, clear=False)


def _flows(rules: Rules, direction: str, current_a: float) -> bool:
    """Say whether current may flow in a limit's direction; an unknown one may."""
    if direction == "any" or math.isnan(current_a):
        return True
    return current_a > rules.idle_a if direction == "charge" else current_a < -rules.idle_a


def _value(extremes: tuple[float, int, float, int], limit: Limit) -> tuple[float, int]:
    low, low_at, high, high_at = extremes
    if limit.quantity == "current_a":  # magnitude in the row's direction
        return (high, 0) if limit.direction == "charge" else (-low, 0)
    return (high, high_at) if limit.over else (low, low_at)


def _extremes(rules: Rules, quantity: str, sample: Sample) -> tuple[float, int, float, int]:
    """Give lowest and highest value of a quantity with cell or probe from 1; NaN where nothing is known."""
    values: Iterable[float]
    if quantity in {"cell_v", "cell_dev_v"}:
        values = sample.cell_v
    elif quantity in {"temp_c", "temp_dev_c"}:
        values = sample.temp_c
    else:
        one = {
            "current_a": sample.current_a,
            "pack_v": sample.pack_v,
            "isolation_ohm_per_v": sample.isolation_ohm / rules.max_pack_v,
            "sum_mismatch_v": abs(sample.pack_v - math.fsum(sample.cell_v) - rules.sum_offset_v),
        }[quantity]
        return one, 0, one, 0
    known = sorted((v, at) for at, v in enumerate(values, 1) if not math.isnan(v))
    if not known:
        return math.nan, 0, math.nan, 0
    (low, low_at), (high, high_at) = known[0], known[-1]
    if quantity in {"cell_v", "temp_c"}:
        return low, low_at, high, high_at
    middle = known[len(known) // 2][0] if quantity == "cell_dev_v" else math.fsum(v for v, _ in known) / len(known)
    off, at = max((middle - low, low_at), (high - middle, high_at))
    return off, at, off, at


def _decision(
    number: int, limit: Limit, now: RowState, subject: int, value: float, held_s: float, *, standing: bool
) -> Decision:
    unit, digits, name = _UNITS[limit.quantity]
    who = name.format(f"{limit.direction} current" if limit.quantity == "current_a" else subject)
    what = "limit" if now.active else "back inside the limit of"
    done = _DONE[_effect(limit, standing=standing)] if now.active else "cleared"
    at = f"{who} at {value:.{digits}f} {unit}" if not math.isnan(value) else who
    text = f"{at}, {what} {limit.bound:g} {unit.split()[0]} for {held_s:.1f} s: {done}"
    return Decision(number, limit, now.active, subject, value, held_s, text)
