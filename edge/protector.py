"""One round of the protection process: frames and orders in, what is commanded and told out.

Pure: the next state and the result follow from the settings, the state, the round and its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from edge import guard
from edge.commands import fallen
from edge.decode import Frame, Wish
from edge.derating import NO_CAPS, Caps
from edge.guard import GuardConfig
from edge.link import Told
from edge.protection import Decision
from edge.sensing import Arrival
from edge.tighten import tightened
from schemas.limits import Limit

LOST_PERIODS = 5.0  # without the vehicle's wish: it wants nothing, so contactors open at the next stop
_NS = 10**9


class Round(NamedTuple):
    """What came since the round before: frames, and the supervisor's orders."""

    frames: Sequence[Frame]
    orders: Sequence[Told]
    now_ns: int


class Heard(NamedTuple):
    """A round, decoded."""

    arrivals: Sequence[Arrival]
    wishes: Sequence[Wish]
    orders: Sequence[Told]
    frames: int
    now_ns: int


@dataclass(frozen=True, slots=True)
class ProtectorConfig:
    """The guard's settings, the pack's own rows (which orders may tighten), and how long a wish lasts."""

    guard: GuardConfig
    rows: tuple[Limit, ...]
    wish_ns: int


class State(NamedTuple):
    """The guard's state, the vehicle's wishes, and what the cloud has tightened until when."""

    guard: guard.State
    config: GuardConfig
    close: bool = False
    wish_ns: int = -1
    standby: bool = True  # as last said; only a rise asks, so one that is stuck at yes asks nothing
    caps: Caps = NO_CAPS
    outside_ns: int = -1  # when caps and bounds expire; -1: there are none


class Judged(NamedTuple):
    """What a round has led to."""

    output: guard.Output
    phase: str
    trusted: bool
    frames: int
    now_ns: int


def config_of(cfg: GuardConfig, rows: Sequence[Limit], wish_period_s: float) -> ProtectorConfig:
    """Make the settings; `wish_period_s`: how often the vehicle says what it wants."""
    return ProtectorConfig(cfg, tuple(rows), round(LOST_PERIODS * wish_period_s * _NS))


class Before(NamedTuple):
    """What the run before left: its latches, None where they are lost, and what it allowed (edge.commands.fallen)."""

    latched: tuple[str, ...] | None = None
    lost: tuple[int, float, float] = (0, 0.0, 0.0)


def before(order: Told) -> Before:
    """Read what the supervisor says at a start; whatever is not as it should be is lost, or nothing."""
    latched, lost = order.get("latched"), order.get("lost")
    numbers = [_number(one) for one in lost] if isinstance(lost, list) else []
    known = len(numbers) == len(Before().lost) and all(0 <= one < math.inf for one in numbers)
    return Before(
        tuple(str(key) for key in latched) if isinstance(latched, list) else None,
        (int(numbers[0]), numbers[1], numbers[2]) if known else Before().lost,
    )


def fresh_state(cfg: ProtectorConfig, now_ns: int, left: Before) -> State:
    """Give the state at a start."""
    return State(guard.fresh_state(cfg.guard, now_ns, left.latched, fallen(left.lost, now_ns)), cfg.guard)


def step(cfg: ProtectorConfig, state: State, heard: Heard) -> tuple[State, Judged]:
    """Take one round."""
    now_ns, service = heard.now_ns, False
    for order in heard.orders:
        service = service or order.get("kind") == "service"
        if order.get("kind") == "limits":
            state = _limited(cfg, state, order, now_ns)
    if 0 <= state.outside_ns <= now_ns:
        state = state._replace(config=cfg.guard, caps=NO_CAPS, outside_ns=-1)
    state, standby = _wished(cfg, state, heard.wishes, now_ns)
    inputs = guard.Inputs(heard.arrivals, state.close, standby, service, state.caps)
    guarded, output = guard.step(state.config, state.guard, inputs, now_ns)
    judged = Judged(output, guarded.contactors.phase, guarded.trusted, heard.frames, now_ns)
    return state._replace(guard=guarded), judged


def _wished(cfg: ProtectorConfig, state: State, wishes: Sequence[Wish], now_ns: int) -> tuple[State, bool]:
    """Take the vehicle's wishes; gives whether standby is asked for now."""
    asked = False
    for wish in wishes:
        if wish.standby is not None:
            asked = asked or (wish.standby and not state.standby)
            state = state._replace(standby=wish.standby)
        if wish.close is not None:
            state = state._replace(close=wish.close, wish_ns=now_ns)
    if state.close and now_ns - state.wish_ns > cfg.wish_ns:
        state = state._replace(close=False)
    return state, asked


def _limited(cfg: ProtectorConfig, state: State, order: Told, now_ns: int) -> State:
    """Take limits from outside, which the supervisor has found good; here too they can only tighten."""
    bounds, for_s = order.get("bounds"), _number(order.get("for_s"))
    if not isinstance(bounds, Mapping) or not for_s > 0:
        return state
    numbers = {str(key): _number(bound) for key, bound in bounds.items()}
    bound_of = dict(zip(cfg.rows, tightened(cfg.rows, numbers), strict=True))
    table = replace(cfg.guard.table, rows=tuple(bound_of[row] for row in cfg.guard.table.rows))
    return state._replace(
        config=guard.with_limits(cfg.guard, table),
        caps=Caps(_number(order.get("charge_a")), _number(order.get("discharge_a"))),
        outside_ns=now_ns + round(min(for_s, 1e9) * _NS),
    )


def _number(value: Any) -> float:  # noqa: ANN401 - JSON holds anything
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def told(decision: Decision) -> Told:
    """Give a decision as the other processes get it."""
    return {
        "key": decision.key,
        "active": decision.active,
        "tier": decision.limit.tier,
        "quantity": decision.limit.quantity,
        "subject": decision.subject,
        "value": decision.value,
        "bound": decision.limit.bound,
        "since_ns": decision.since_ns,
        "action": decision.action,
        "opens": decision.limit.action in {"open_at_standstill", "open_now"},
        "text": decision.text,
    }


def beat(judged: Judged) -> Told:
    """Give what stands now, for the supervisor, its metrics and a person."""
    out, one = judged.output, judged.output.sample.one
    verdict, allowed, commands = out.verdict, out.allowed, out.commands
    cells, probes = out.sample.cell_v, out.sample.temp_c
    return {
        "kind": "beat",
        "now_ns": judged.now_ns,
        "phase": judged.phase,
        "asked": None if commands.hold else [commands.plus, commands.minus, commands.precharge],
        "charge_a": allowed.charge_a,
        "discharge_a": allowed.discharge_a,
        "charge": [limited._asdict() for limited in allowed.charge],
        "discharge": [limited._asdict() for limited in allowed.discharge],
        "open": verdict.open,
        "stop": verdict.stop,
        "blind": verdict.blind,
        "causes": list(verdict.causes),
        "latched": list(out.latched),
        "trusted": judged.trusted,
        "may_close": out.may_close,
        "standing": out.standing,
        "values": {name: scalar.value for name, scalar in one.items() if scalar.state != "absent"},
        "states": {name: scalar.state for name, scalar in one.items()}
        | {"cell_v": cells.state, "temp_c": probes.state},
        "cell_v": _extremes(cells.values),
        "temp_c": _extremes(probes.values),
        "silent": [k for k, (age, heard) in enumerate(zip(out.sample.ages, out.sample.heard, strict=True))
                   if not heard or age > LOST_PERIODS],
    }  # fmt: skip


def _extremes(values: Sequence[float]) -> list[float]:
    """Give the lowest value and its place from 1, and the highest and its place; [] where none is known."""
    known = [(v, k) for k, v in enumerate(values, 1) if not math.isnan(v)]
    return [*min(known), *max(known)] if known else []
