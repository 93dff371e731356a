"""Which values can be trusted now: freshness by message, completeness by place, plausible range, stuck sensors.

Pure: the next state and a sample follow from the configuration, the state, the messages that came and the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from edge import stuck

OK, STALE, MISSING, IMPLAUSIBLE, STUCK, ABSENT = "ok", "stale", "missing", "implausible", "stuck", "absent"
MANY = ("cell_v", "temp_c")  # one value for each cell group or probe
VITAL = ("current_a", "pack_v")  # single values without which nothing is known of the pack
# Single values beside them: 1 is closed for contactors and interlock, 1 is a crash.
OTHERS = (
    "current2_a", "link_v", "isolation_ohm", "hvil", "crash", "speed_kmh", "drive_state", "charge_type", "soc",
    "plus_closed", "minus_closed", "precharge_closed",
)  # fmt: skip
ONE = (*VITAL, *OTHERS)
LOST_PERIODS = 5.0  # a message that did not come for more periods is lost
_NS = 10**9


class Source(NamedTuple):
    """One message of the bus, or one page of a multiplexed message: what always comes together.

    `fills`: (signal, place) of each of its values; places count from 0, and are 0 for single values.
    """

    name: str
    period_s: float
    fills: tuple[tuple[str, int], ...]


class Arrival(NamedTuple):
    """A message that came: values in the order of the source's `fills`, NaN where not available."""

    source: int
    t_ns: int
    values: tuple[float, ...]


class SignalRule(NamedTuple):
    """How a signal is declared: needed or absent, and which values it can have (inclusive)."""

    required: bool
    low: float
    high: float


class Plan(NamedTuple):
    """What a message brings of what is needed, prepared.

    `fills`: (position in its values, signal, place, one of many, lowest, highest).  `watched`: signals that could be
    stuck, with their positions and places.  `groups`: the groups of cell_v and temp_c that it is.
    """

    fills: tuple[tuple[int, str, int, bool, float, float], ...]
    watched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    groups: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SensingConfig:
    """What comes from where.

    `idle_a`: smaller currents do not flow.  `stuck`: what must move for a value that stays to be called stuck.
    `groups`: for cell_v and temp_c, the numbers of the sources that fill it; a group is a place in that list.
    `period_ns`: of each source.
    """

    sources: tuple[Source, ...]
    rules: Mapping[str, SignalRule]
    cells: int
    probes: int
    idle_a: float
    stuck: stuck.StuckConfig
    groups: Mapping[str, tuple[int, ...]] = field(init=False)
    plans: tuple[Plan, ...] = field(init=False)
    period_ns: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated; raises ValueError with what is wrong and what is accepted."""
        filled = [fill for source in self.sources for fill in source.fills]
        for signal, place in filled:
            places = {"cell_v": self.cells, "temp_c": self.probes}.get(signal, 1)
            _check(signal in self.rules, f"a source may fill {', '.join(self.rules)}; got {signal}")
            _check(0 <= place < places, f"{signal} has the places 0..{places - 1}; got {place}")
            _check(filled.count((signal, place)) == 1, f"{signal}[{place}] must come from one source; got several")
        for source in self.sources:
            _check(0 < source.period_s < math.inf, f"{source.name}: period_s must be > 0; got {source.period_s}")
        for signal in (*MANY, *ONE):
            _check(signal in self.rules, f"every signal must be declared required or absent; {signal} is not")
            places = {"cell_v": self.cells, "temp_c": self.probes}.get(signal, 1)
            lacking = [p for p in range(places) if self.rules[signal].required and (signal, p) not in filled]
            _check(not lacking, f"{signal} is required; no source fills place {lacking[:1]}")
        _check(self.rules["current_a"].required, "current_a must be required; got absent")
        groups = {
            signal: tuple(k for k, s in enumerate(self.sources) if any(name == signal for name, _ in s.fills))
            for signal in MANY
            if self.rules[signal].required
        }
        object.__setattr__(self, "groups", groups)
        plans = tuple(_plan(k, source, self.rules, groups) for k, source in enumerate(self.sources))
        object.__setattr__(self, "plans", plans)
        object.__setattr__(self, "period_ns", tuple(source.period_s * _NS for source in self.sources))

    def periods(self) -> dict[str, float]:
        """Give the longest period of each required signal, s."""
        longest: dict[str, float] = {}
        for source in self.sources:
            for signal, _ in source.fills:
                if self.rules[signal].required:
                    longest[signal] = max(longest.get(signal, 0.0), source.period_s)
        return longest


def _plan(number: int, source: Source, rules: Mapping[str, SignalRule], groups: Mapping[str, tuple[int, ...]]) -> Plan:
    needed = [(k, name, place) for k, (name, place) in enumerate(source.fills) if rules[name].required]
    names = dict.fromkeys(name for _, name, _ in needed if name in {"cell_v", *VITAL})
    return Plan(
        fills=tuple((k, name, place, name in MANY, rules[name].low, rules[name].high) for k, name, place in needed),
        watched=tuple(
            (name, tuple(k for k, n, _ in needed if n == name), tuple(p for _, n, p in needed if n == name))
            for name in names
        ),
        groups=tuple((name, filled.index(number)) for name, filled in groups.items() if number in filled),
    )


def _check(good: bool, message: str) -> None:  # noqa: FBT001 - the condition is the point
    if not good:
        raise ValueError(message)


class Scalar(NamedTuple):
    """A single value: NaN unless `state` is ok.  `fresh`: a message brought it since the tick before."""

    value: float = math.nan
    t_ns: int = 0
    fresh: bool = False
    state: str = MISSING


class Many(NamedTuple):
    """A value for each place, NaN where it is not usable; `why` says so for each place.

    `fresh`: the groups (places in SensingConfig.groups) that a message brought since the tick before.
    """

    values: tuple[float, ...]
    why: tuple[str, ...]
    fresh: tuple[int, ...] = ()

    @property
    def state(self) -> str:
        """Say ok, absent, or what is wrong with the first bad place."""
        if not self.why:
            return ABSENT
        return OK if self.why.count(OK) == len(self.why) else next(why for why in self.why if why != OK)


class Sample(NamedTuple):
    """What is known at one tick.

    `ages`: of each source in its periods; `heard`: whether it ever came.  `frozen_s`: since a voltage or current
    changed, while current flows.  `came`: the single values that are fresh.
    """

    t_ns: int
    cell_v: Many
    temp_c: Many
    one: Mapping[str, Scalar]
    ages: tuple[float, ...]
    heard: tuple[bool, ...]
    frozen_s: float
    came: frozenset[str]


class State(NamedTuple):
    """What was last heard: `seen` is the start where a source never came, `fresh` names the single values that came."""

    seen: tuple[int, ...]
    many: Mapping[str, tuple[tuple[float, ...], tuple[str, ...]]]
    one: Mapping[str, Scalar]
    fresh: tuple[str, ...]
    heard: tuple[bool, ...]
    stuck: stuck.State


def fresh_state(cfg: SensingConfig, now_ns: int) -> State:
    """Give the state in which nothing was heard yet: never a value before its first real reading."""
    places = {"cell_v": cfg.cells, "temp_c": cfg.probes}
    return State(
        seen=(now_ns,) * len(cfg.sources),
        many={
            name: ((math.nan,) * n, (MISSING,) * n) if cfg.rules[name].required else ((), ())
            for name, n in places.items()
        },
        one={name: Scalar(state=MISSING if cfg.rules[name].required else ABSENT) for name in ONE},
        fresh=(),
        heard=(False,) * len(cfg.sources),
        stuck=stuck.State(),
    )


def step(cfg: SensingConfig, state: State, arrivals: Iterable[Arrival], now_ns: int) -> tuple[State, Sample]:
    """Take the messages since the tick before, each source at most once, and say what is known now."""
    seen = list(state.seen)
    many: dict[str, tuple[list[float], list[str]]] = {}
    one = dict(state.one)
    for name in state.fresh:
        held = one[name]
        one[name] = Scalar(held.value, held.t_ns, state=held.state)
    came: list[Arrival] = []
    fresh: list[str] = []
    for arrival in arrivals:
        came.append(arrival)
        seen[arrival.source] = arrival.t_ns
        raws = arrival.values
        for k, name, place, is_many, low, high in cfg.plans[arrival.source].fills:
            raw = raws[k]
            value, why = (raw, OK) if low <= raw <= high else (math.nan, MISSING if math.isnan(raw) else IMPLAUSIBLE)
            if is_many:
                if name not in many:
                    values, whys = state.many[name]
                    many[name] = list(values), list(whys)
                many[name][0][place], many[name][1][place] = value, why
            else:
                one[name] = Scalar(value, arrival.t_ns, fresh=True, state=why)
                fresh.append(name)
    held_many = {n: (tuple(v), tuple(w)) for n, (v, w) in many.items()}  # what did not come stays the same object
    stays, heard = state.stuck, state.heard
    if came:
        stays = _stuck(cfg, stays, came, one, now_ns)
        if False in heard:
            now_heard = {arrival.source for arrival in came}
            heard = tuple([was or k in now_heard for k, was in enumerate(heard)])
    after = State(tuple(seen), {**state.many, **held_many}, one, tuple(fresh), heard, stays)
    return after, _sample(cfg, after, came, now_ns)


def _stuck(
    cfg: SensingConfig, state: stuck.State, came: list[Arrival], one: Mapping[str, Scalar], now_ns: int
) -> stuck.State:
    """Find what stays bit for bit while what it depends on moves."""
    current_a, pack_v, moves = one["current_a"].value, one["pack_v"].value, cfg.stuck
    still, apart, places = dict(state.still), dict(state.apart), dict(state.places)
    swing = stuck.swung(state.swing, current_a, moves.stuck_a, now_ns)
    for source, _, raws in came:
        for name, at, all_places in cfg.plans[source].watched:
            key, values = (source, name), tuple([raws[k] for k in at])
            if name == "current_a":
                now = stuck.current(moves, still.get(key), values, pack_v, now_ns)
            else:
                now = stuck.voltage(moves, still.get(key), values, current_a, now_ns)
            still[key], found = now, all_places if now.stuck else ()
            if name == "cell_v":
                alone = apart[source] = stuck.apart(moves, apart.get(source), values, swing.legs)
                found = found or tuple([all_places[k] for k in alone.stuck])
            places[key] = found
    return stuck.State(still, apart, swing, places)


def _sample(cfg: SensingConfig, state: State, came: list[Arrival], now_ns: int) -> Sample:
    ages = tuple([(now_ns - seen) / period for seen, period in zip(state.seen, cfg.period_ns, strict=True)])
    fresh: dict[str, list[int]] = {name: [] for name in MANY}
    for arrival in came:
        for name, group in cfg.plans[arrival.source].groups:
            fresh[name].append(group)
    many = {name: Many(*state.many[name], tuple(sorted(fresh[name]))) for name in MANY}
    one = state.one
    if any(state.stuck.places.values()) or max(ages) > LOST_PERIODS:
        one = _spoil(cfg, state, ages, many)
    flows = abs(one["current_a"].value) > cfg.idle_a  # so one was heard, and `still` knows when it changed
    changed_ns = max([now.since_ns for now in state.stuck.still.values()]) if flows else now_ns
    return Sample(
        t_ns=now_ns,
        cell_v=many["cell_v"],
        temp_c=many["temp_c"],
        one=one,
        ages=ages,
        heard=state.heard,
        frozen_s=(now_ns - changed_ns) / _NS,
        came=frozenset(state.fresh),
    )


def _spoil(cfg: SensingConfig, state: State, ages: tuple[float, ...], many: dict[str, Many]) -> dict[str, Scalar]:
    """Take away what is stuck or lost, of many in place; gives the single values."""
    bad = [(name, places, STUCK) for (_, name), places in state.stuck.places.items() if places]
    for k, age in enumerate(ages):
        if age > LOST_PERIODS and state.heard[k]:
            fills = [fill for fill in cfg.sources[k].fills if cfg.rules[fill[0]].required]
            bad += [
                (name, tuple(p for n, p in fills if n == name), STALE) for name in dict.fromkeys(n for n, _ in fills)
            ]
    one = dict(state.one)
    for name, places, why in bad:
        if name in MANY:
            many[name] = _spoiled(many[name], places, why)
        else:
            one[name] = one[name]._replace(value=math.nan, state=why)
    return one


def _spoiled(many: Many, places: tuple[int, ...], why: str) -> Many:
    return many._replace(
        values=tuple(math.nan if p in places else v for p, v in enumerate(many.values)),
        why=tuple(why if p in places else w for p, w in enumerate(many.why)),
    )
