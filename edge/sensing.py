"""Which values can be trusted now: freshness by message, completeness by place, plausible range, stuck sensors.

Pure: the next state and a sample follow from the configuration, the state, the messages that came and the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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
STUCK_SAMPLES = 5  # as many equal values in a row are stuck, where the correlated one moved
STUCK_NS = 2 * 10**9  # for as long, or within it
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
    stuck, with their positions.  `period_ns`: how often it comes.
    """

    fills: tuple[tuple[int, str, int, bool, float, float], ...]
    watched: tuple[tuple[str, tuple[int, ...]], ...]
    period_ns: float


@dataclass(frozen=True, slots=True)
class SensingConfig:
    """What comes from where.

    `stuck_a`: a voltage that stays bit for bit while the current has moved by more than this is stuck; `stuck_v`: so is
    a flowing current while the pack's voltage moves by more than this.  `idle_a`: smaller currents do not flow.
    `groups`: for cell_v and temp_c, the numbers of the sources that fill it; a group is a place in that list.
    """

    sources: tuple[Source, ...]
    rules: Mapping[str, SignalRule]
    cells: int
    probes: int
    idle_a: float
    stuck_a: float
    stuck_v: float
    groups: Mapping[str, tuple[int, ...]] = field(init=False)
    plans: tuple[Plan, ...] = field(init=False)

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
        object.__setattr__(self, "plans", tuple(_plan(source, self.rules) for source in self.sources))

    def periods(self) -> dict[str, float]:
        """Give the longest period of each required signal, s."""
        longest: dict[str, float] = {}
        for source in self.sources:
            for signal, _ in source.fills:
                if self.rules[signal].required:
                    longest[signal] = max(longest.get(signal, 0.0), source.period_s)
        return longest


def _plan(source: Source, rules: Mapping[str, SignalRule]) -> Plan:
    needed = [(k, name, place) for k, (name, place) in enumerate(source.fills) if rules[name].required]
    names = dict.fromkeys(name for _, name, _ in needed if name in {"cell_v", *VITAL})
    return Plan(
        fills=tuple((k, name, place, name in MANY, rules[name].low, rules[name].high) for k, name, place in needed),
        watched=tuple((name, tuple(k for k, n, _ in needed if n == name)) for name in names),
        period_ns=source.period_s * _NS,
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
        return next((why for why in self.why if why != OK), OK) if self.why else ABSENT


class Sample(NamedTuple):
    """What is known at one tick.

    `ages`: of each source in its periods; `heard`: whether it ever came.  `frozen_s`: since a voltage or current
    changed, while current flows.
    """

    t_ns: int
    cell_v: Many
    temp_c: Many
    one: Mapping[str, Scalar]
    ages: tuple[float, ...]
    heard: tuple[bool, ...]
    frozen_s: float


class Still(NamedTuple):
    """How long the values of one signal from one source have not changed, and how far the correlated one went.

    `ref`: the correlated value when the values last changed; `moved_ns`: since when it is far from it (-1: it is not).
    """

    values: tuple[float, ...] = ()
    since_ns: int = 0
    samples: int = 0
    ref: float = math.nan
    ref_ns: int = 0
    moved_ns: int = -1
    stuck: bool = False


class State(NamedTuple):
    """What was last heard: `seen` is -1 for a source that never came; `still` is by source and signal."""

    start_ns: int
    seen: tuple[int, ...]
    many: Mapping[str, tuple[tuple[float, ...], tuple[str, ...]]]
    one: Mapping[str, Scalar]
    still: Mapping[tuple[int, str], Still]


def fresh_state(cfg: SensingConfig, now_ns: int) -> State:
    """Give the state in which nothing was heard yet: never a value before its first real reading."""
    places = {"cell_v": cfg.cells, "temp_c": cfg.probes}
    return State(
        start_ns=now_ns,
        seen=(-1,) * len(cfg.sources),
        many={
            name: ((math.nan,) * n, (MISSING,) * n) if cfg.rules[name].required else ((), ())
            for name, n in places.items()
        },
        one={name: Scalar(state=MISSING if cfg.rules[name].required else ABSENT) for name in ONE},
        still={},
    )


def step(cfg: SensingConfig, state: State, arrivals: Iterable[Arrival], now_ns: int) -> tuple[State, Sample]:
    """Take the messages since the tick before, each source at most once, and say what is known now."""
    seen = list(state.seen)
    many: dict[str, tuple[list[float], list[str]]] = {}
    one = {name: held._replace(fresh=False) if held.fresh else held for name, held in state.one.items()}
    still = dict(state.still)
    came: list[int] = []
    for arrival in arrivals:
        came.append(arrival.source)
        seen[arrival.source] = arrival.t_ns
        plan, raws = cfg.plans[arrival.source], arrival.values
        for k, name, place, is_many, low, high in plan.fills:
            raw = raws[k]
            value, why = (raw, OK) if low <= raw <= high else (math.nan, MISSING if math.isnan(raw) else IMPLAUSIBLE)
            if is_many:
                if name not in many:
                    values, whys = state.many[name]
                    many[name] = list(values), list(whys)
                many[name][0][place], many[name][1][place] = value, why
            else:
                one[name] = Scalar(value, arrival.t_ns, fresh=True, state=why)
        for name, at in plan.watched:
            key = arrival.source, name
            still[key] = _stilled(still.get(key), tuple([raws[k] for k in at]))
    still = _watched(cfg, still, came, one, now_ns)
    held = {n: (tuple(v), tuple(w)) for n, (v, w) in many.items()}  # what did not come stays the same object
    after = State(state.start_ns, tuple(seen), {**state.many, **held}, one, still)
    return after, _sample(cfg, after, came, now_ns)


def _stilled(was: Still | None, values: tuple[float, ...]) -> Still:
    """Count equal values; a NaN is equal to nothing."""
    if was is None or values != was.values or any(math.isnan(v) for v in values):
        return Still(values)
    return was._replace(samples=was.samples + 1)


def _watched(
    cfg: SensingConfig, still: dict[tuple[int, str], Still], came: list[int], one: Mapping[str, Scalar], now_ns: int
) -> dict[tuple[int, str], Still]:
    """Find what stays bit for bit while what it depends on moves."""
    current_a, pack_v = one["current_a"].value, one["pack_v"].value
    for key, now in still.items():
        if key[0] not in came:
            continue
        beside, far = (pack_v, cfg.stuck_v) if key[1] == "current_a" else (current_a, cfg.stuck_a)
        if now.samples == 0:
            still[key] = now._replace(samples=1, since_ns=now_ns, ref=beside, ref_ns=now_ns)
        elif key[1] == "current_a":
            still[key] = _still_current(cfg, now, beside, current_a, now_ns)
        else:
            ref = beside if math.isnan(now.ref) else now.ref
            away = abs(beside - ref) > far
            moved_ns = -1 if not away else now.moved_ns if now.moved_ns >= 0 else now_ns
            long = moved_ns >= 0 and now_ns - moved_ns >= STUCK_NS
            stuck = now.stuck or (long and now.samples >= STUCK_SAMPLES)
            still[key] = now._replace(ref=ref, moved_ns=moved_ns, stuck=stuck)
    return still


def _still_current(cfg: SensingConfig, now: Still, pack_v: float, current_a: float, now_ns: int) -> Still:
    """Judge a current that stays: a voltage relaxes for minutes after a load, so only a quick move counts."""
    quick = abs(pack_v - now.ref) > cfg.stuck_v and abs(current_a) > cfg.idle_a
    if quick and now.samples >= STUCK_SAMPLES:
        return now._replace(stuck=True)
    if now_ns - now.ref_ns >= STUCK_NS or math.isnan(now.ref):
        return now._replace(ref=pack_v, ref_ns=now_ns)
    return now


def _sample(cfg: SensingConfig, state: State, came: list[int], now_ns: int) -> Sample:
    start_ns = state.start_ns
    ages = tuple([
        (now_ns - (seen if seen >= 0 else start_ns)) / plan.period_ns
        for plan, seen in zip(cfg.plans, state.seen, strict=True)
    ])  # fmt: skip
    lost = [k for k, age in enumerate(ages) if age > LOST_PERIODS and state.seen[k] >= 0]
    stuck = [key for key, now in state.still.items() if now.stuck]
    one = dict(state.one)
    fresh = {name: tuple(g for g, k in enumerate(cfg.groups.get(name, ())) if k in came) for name in MANY}
    many = {name: Many(*state.many[name], fresh[name]) for name in MANY}
    bad = dict.fromkeys(stuck, STUCK)
    bad |= {(k, name): STALE for k in lost for name, _ in cfg.sources[k].fills if cfg.rules[name].required}
    for (k, name), why in bad.items():
        if name in MANY:
            places = {place for n, place in cfg.sources[k].fills if n == name}
            many[name] = _spoiled(many[name], places, why)
        else:
            one[name] = one[name]._replace(value=math.nan, state=why)
    flows = abs(one["current_a"].value) > cfg.idle_a  # so one was heard, and `still` knows when it changed
    changed_ns = max([now.since_ns for now in state.still.values()]) if flows else now_ns
    return Sample(
        t_ns=now_ns,
        cell_v=many["cell_v"],
        temp_c=many["temp_c"],
        one=one,
        ages=ages,
        heard=tuple([seen >= 0 for seen in state.seen]),
        frozen_s=(now_ns - changed_ns) / _NS,
    )


def _spoiled(many: Many, places: set[int], why: str) -> Many:
    return many._replace(
        values=tuple(math.nan if p in places else v for p, v in enumerate(many.values)),
        why=tuple(why if p in places else w for p, w in enumerate(many.why)),
    )
