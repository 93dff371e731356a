"""Which limits are broken, for long enough and by fresh values, and what that means for current and contactors.

Pure: the next state and the decisions follow from the table, the state, the facts and the time.  Standard library
and schemas only: nothing on the way from a bus to an open contactor waits for an import.

What opens, and when: while the vehicle moves only over-current and a crash open at once, since an open contactor takes
traction, regeneration and the low-voltage supply; whatever else asks for it alarms, takes the current to zero and asks
for a stop.  Below 5 km/h, and while plugged in, it opens.  An unknown speed is a speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.limit_words import cleared_text, fired_text, subject_of
from schemas.limits import ACTIONS, DIRECTED, FAST, Limit

STANDSTILL_KMH = 5.0
UNSEEN, INSIDE, NEAR, BEYOND = range(4)  # where a value stands: NEAR is inside the bound, but not by the hysteresis
FREE, DERATE, ZERO = range(3)  # what is asked of a current
UNKNOWNS = frozenset({"silence", "cells_missing", "probes_missing", "invalid"})  # rows about what is not known
_INFORM, _DERATE, _ZERO, _STANDSTILL, _NOW = range(len(ACTIONS))
_RANK = {action: rank for rank, action in enumerate(ACTIONS)}
_ASKED = {_INFORM: FREE, _DERATE: DERATE, _ZERO: ZERO, _STANDSTILL: ZERO, _NOW: ZERO}
_MOVING = frozenset({"feedback_mismatch"})  # a contactor takes time to move: it is wrong once the row says so
_HIGH = frozenset({"cell_v", "pack_v"})  # too high forbids charging, too low discharging
_ONE_WAY = {"overcharge_share": "charge", "overdischarge_share": "discharge", "deep_discharge_v": "discharge"}
_DONE = {
    _INFORM: "noted",
    _DERATE: "current limited",
    _ZERO: "current to zero",
    _STANDSTILL: "stop requested, contactors open at standstill",
    _NOW: "contactors opened",
}
_NS = 10**9


class Measure(NamedTuple):
    """The lowest and the highest fresh value of a quantity in one group, the places that one message brings.

    `low_at`, `high_at`: cell, probe or message from 1, 0 for the pack.  In rows with a direction the charging side is
    `high` and the discharging side `-low`.
    """

    group: int
    low: float
    low_at: int
    high: float
    high_at: int


class Facts(NamedTuple):
    """What is newly known at one tick; NaN = not available.

    `measures` holds a quantity only where a new message brought it (or a tick, for rows about silence): a held
    value is never counted twice.
    """

    measures: Mapping[str, Sequence[Measure]]
    current_a: float = math.nan  # + charging
    speed_kmh: float = math.nan
    plugged: bool = False  # at a charger: stands, whatever the speed sensor does not say
    standby: bool = False  # somebody asks for standby: clears latches whose cause is gone
    service: bool = False  # somebody with a tool asks for it


class Count(NamedTuple):
    """How one group of values stands to a bound: by how many fresh samples in a row it is crossed, and since when."""

    samples: int = 0
    since_ns: int = 0
    place: int = UNSEEN


class RowState(NamedTuple):
    """Where one limit stands; `since_ns`, `at` and `value` are those with which it fired."""

    counts: tuple[Count, ...]
    active: bool = False
    since_ns: int = 0
    at: int = 0
    value: float = 0.0


State = tuple[RowState, ...]


class Decision(NamedTuple):
    """A limit that fired or cleared.

    `subject` is what it is about in plain words ("cell 23"), `value` what fired or cleared it (NaN where a request
    cleared it), `since_ns` the first sample beyond the bound, `action` what is done now.
    """

    key: str
    limit: Limit
    active: bool
    subject: str
    value: float
    since_ns: int
    action: str
    text: str


class Verdict(NamedTuple):
    """What the vehicle should do now.

    `open`: the contactors, as soon as they may break the current; `at_once`: even at speed.  `stop`: ask the driver
    for a stop.  `charge`, `discharge`: FREE, DERATE or ZERO.  `blind`: for want of knowledge alone.  `close_allowed`:
    nothing stands against closing, and every row that could open has seen values.  `causes`: keys of the rows that ask
    for more than a note, gravest first.
    """

    open: bool
    at_once: bool
    stop: bool
    charge: int
    discharge: int
    blind: bool
    close_allowed: bool
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows that can be evaluated, and what their values need.

    `groups`: in how many groups each row's values come.  `idle_a`: smaller currents charge nothing.
    `names`: of the places of a quantity that are neither cells nor probes.  `by_quantity`, `keys`, `for_ns`, `opening`
    (rows that may open the contactors) and `mirrored` (whose discharging side is `-low`) follow from the rows.
    """

    rows: tuple[Limit, ...]
    groups: tuple[int, ...]
    idle_a: float
    names: Mapping[str, tuple[str, ...]]
    by_quantity: Mapping[str, tuple[int, ...]]
    keys: tuple[str, ...]
    for_ns: tuple[int, ...]
    opening: tuple[bool, ...]
    mirrored: tuple[bool, ...]


def table_of(
    rows: Iterable[Limit],
    idle_a: float,
    groups: Mapping[str, int] | None = None,
    names: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """Make a table; `groups` counts the groups of a quantity where there is more than one."""
    rows = tuple(rows)
    counted = groups or {}
    by_quantity: dict[str, tuple[int, ...]] = {}
    for k, row in enumerate(rows):
        by_quantity[row.quantity] = (*by_quantity.get(row.quantity, ()), k)
    return Table(
        rows=rows,
        groups=tuple(counted.get(row.quantity, 1) for row in rows),
        idle_a=idle_a,
        names=dict(names or {}),
        by_quantity=by_quantity,
        keys=tuple(key_of(row) for row in rows),
        for_ns=tuple(round(row.for_s * _NS) for row in rows),
        opening=tuple(_RANK[row.action] >= _STANDSTILL for row in rows),
        mirrored=tuple(row.quantity in DIRECTED and row.direction == "discharge" for row in rows),
    )


def key_of(row: Limit) -> str:
    """Name a row as latches and journals do: quantity, tier, side and direction."""
    return f"{row.quantity}/{row.tier}/{'over' if row.over else 'under'}/{row.direction}"


def fresh_state(table: Table, latched: Iterable[str] = ()) -> State:
    """Give the state in which nothing was seen yet, with the latches (keys) that an earlier run left."""
    kept = frozenset(latched)
    return tuple(
        RowState((Count(),) * groups, active=key in kept and row.latch)
        for row, key, groups in zip(table.rows, table.keys, table.groups, strict=True)
    )


def latched(table: Table, state: State) -> tuple[str, ...]:
    """Name the latches that must survive a restart."""
    return tuple(key for row, key, now in zip(table.rows, table.keys, state, strict=True) if now.active and row.latch)


def standing(facts: Facts) -> bool:
    """Say whether the vehicle stands: below 5 km/h, or plugged in with an unknown speed."""
    if math.isnan(facts.speed_kmh):
        return facts.plugged
    return facts.speed_kmh < STANDSTILL_KMH


def step(table: Table, state: State, facts: Facts, now_ns: int) -> tuple[State, tuple[Decision, ...]]:
    """Judge what is new; decisions come in the order of the rows."""
    changed: dict[int, RowState] = {}
    values: dict[int, tuple[float, int]] = {}
    for quantity, measures in facts.measures.items():
        for k in table.by_quantity.get(quantity, ()):
            now, value = _judged(table, k, state[k], measures, facts, now_ns)
            if now is not state[k]:
                changed[k], values[k] = now, value
    if facts.standby or facts.service:
        for k, row in enumerate(table.rows):
            now = changed.get(k, state[k])
            if now.active and row.latch and (facts.service or row.reset == "standby") and _inside(now.counts):
                changed[k] = now._replace(active=False)
    if not changed:
        return state, ()
    rows = list(state)
    decisions = []
    for k in sorted(changed):
        was, rows[k] = state[k], changed[k]
        if rows[k].active != was.active:
            decisions.append(_decision(table, k, was, rows[k], values.get(k, (math.nan, was.at)), facts, now_ns))
    return tuple(rows), tuple(decisions)


def verdict(table: Table, state: State, facts: Facts) -> Verdict:
    """Join what the broken limits ask for."""
    stands = standing(facts)
    asked = {"charge": FREE, "discharge": FREE}
    causes: list[tuple[int, str]] = []
    opens = at_once = stop = known = blind = unsafe = False
    for k, now in enumerate(state):
        if not now.active:
            unsafe = unsafe or (table.opening[k] and _against(table.rows[k], now.counts))
            continue
        row, key = table.rows[k], table.keys[k]
        rank = _RANK[row.action]
        if rank == _INFORM:
            continue
        causes.append((-rank, key))
        for way in _ways(row):
            asked[way] = max(asked[way], _ASKED[rank])
        if rank >= _ZERO:
            unknown = row.quantity in UNKNOWNS
            known, blind = known or not unknown, blind or unknown
            stop = stop or (unknown and not stands)  # what is not known asks for the stop before it opens
        if rank >= _STANDSTILL:
            fast = rank == _NOW and row.quantity in FAST
            opens, at_once, unsafe = opens or fast or stands, at_once or fast, True
            stop = stop or not (fast or stands)
            # what opens now is to find no current; until the stop, half of the other direction's is for the way there
            least = ZERO if fast or stands else DERATE
            asked = {way: max(level, least) for way, level in asked.items()}
    return Verdict(
        open=opens,
        at_once=at_once,
        stop=stop,
        charge=asked["charge"],
        discharge=asked["discharge"],
        blind=blind and not known,
        close_allowed=not unsafe,
        causes=tuple(key for _, key in sorted(causes)),
    )


def _against(row: Limit, counts: Sequence[Count]) -> bool:
    """Say whether a row that has not fired stands against closing: a value is not known yet, or beyond the bound."""
    for count in counts:  # noqa: SIM110 - at every tick, for every row: any() costs three times as much
        if count.place == UNSEEN or (count.place == BEYOND and row.quantity not in _MOVING):
            return True
    return False


def _ways(row: Limit) -> tuple[str, ...]:
    """Name the directions whose current a broken row takes back."""
    if row.direction != "any":
        return (row.direction,)
    if row.quantity in _HIGH:
        return ("charge",) if row.over else ("discharge",)
    way = _ONE_WAY.get(row.quantity)
    return (way,) if way else ("charge", "discharge")


def _judged(
    table: Table, k: int, was: RowState, measures: Sequence[Measure], facts: Facts, now_ns: int
) -> tuple[RowState, tuple[float, int]]:
    """Give where a row stands after fresh values, and the value and place that moved it; `was` if nothing changed."""
    row, mirrored = table.rows[k], table.mirrored[k]
    counts: list[Count] | None = None
    fired: Count | None = None
    moved = (math.nan, was.at)
    for group, low, low_at, high, high_at in measures:
        value, at = (-low, low_at) if mirrored else (high, high_at) if row.over else (low, low_at)
        if math.isnan(value):
            continue
        count, beyond = was.counts[group], value - row.bound if row.over else row.bound - value
        place = BEYOND if beyond >= 0 else INSIDE if beyond <= -row.hysteresis else NEAR  # it is crossed by reaching it
        if place == BEYOND and _flows(table, row, facts.current_a):
            now = Count(count.samples + 1, count.since_ns if count.samples else now_ns, BEYOND)
        elif place == count.place and not count.samples:
            continue
        else:
            now = Count(place=place)
        counts = list(was.counts) if counts is None else counts
        counts[group] = now
        over = now.samples >= row.min_samples and now_ns - now.since_ns >= table.for_ns[k]
        if fired is None:
            fired, moved = now if over else None, (value, at)
    if counts is None:
        return was, moved
    if fired is not None and not was.active:
        return RowState(tuple(counts), active=True, since_ns=fired.since_ns, at=moved[1], value=moved[0]), moved
    stays = was.active and (row.latch or not _inside(counts))
    return was._replace(counts=tuple(counts), active=stays), moved


def _flows(table: Table, row: Limit, current_a: float) -> bool:
    """Say whether current may flow in a row's direction; an unknown one may, and at rest the next one may discharge."""
    if row.direction == "any" or row.quantity in DIRECTED or math.isnan(current_a):
        return True
    return (current_a > table.idle_a) == (row.direction == "charge")


def _inside(counts: Iterable[Count]) -> bool:
    """Say whether every group was seen inside the bound by the hysteresis."""
    return all(count.place == INSIDE for count in counts)


def _decision(
    table: Table, k: int, was: RowState, now: RowState, moved: tuple[float, int], facts: Facts, now_ns: int
) -> Decision:
    row = table.rows[k]
    value, at = moved[0], moved[1] or was.at  # what is whole again has no bad place: the one that was
    subject = subject_of(row, at, table.names.get(row.quantity, ()))
    rank = _RANK[row.action]
    if rank >= _STANDSTILL:
        rank = _NOW if standing(facts) or (rank == _NOW and row.quantity in FAST) else _STANDSTILL
    done = _DONE[rank] if now.active else "cleared"
    since_ns = now.since_ns  # what clears keeps when it fired
    held_s = (now_ns - since_ns) / _NS
    words = fired_text(row, subject, value, held_s, done) if now.active else cleared_text(row, subject, value, held_s)
    return Decision(table.keys[k], row, now.active, subject, value, since_ns, done, words)
