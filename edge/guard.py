"""What happens in one tick: from the messages that came to what is commanded.

Pure: joins sensing, quantities, protection, derating and contactors, in this order and with one clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edge import contactors, derating, protection, quantities, sensing
from edge.derating import NO_CAPS, Caps
from edge.sensing import ABSENT, OK, VITAL, Arrival, Sample


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """The parts' settings.  An `observer` judges and never commands."""

    sensing: sensing.SensingConfig
    quantities: quantities.QuantitiesConfig
    table: protection.Table
    derating: derating.DeratingConfig
    contactors: contactors.ContactorConfig
    observer: bool


class Inputs(NamedTuple):
    """What comes in at one tick.  `close`: the vehicle wants the pack connected.

    `standby` and `service`: somebody asks for it now; what they clear is for protection and contactors to say.
    """

    arrivals: Sequence[Arrival] = ()
    close: bool = False
    standby: bool = False
    service: bool = False
    caps: Caps = NO_CAPS


class State(NamedTuple):
    """The parts' states.

    `trusted`: the latches of the run before are known.  `now_ns` never runs back.  `verdict` and `latched` follow from
    `protection` and from whether the vehicle stood: they are worked out where one of these changes.
    """

    sensing: sensing.State
    quantities: quantities.State
    protection: protection.State
    derating: derating.State
    contactors: contactors.State
    own: quantities.Own
    trusted: bool
    now_ns: int
    offset_ns: int = 0
    verdict: protection.Verdict | None = None
    latched: tuple[str, ...] = ()
    stood: bool = False


class Output(NamedTuple):
    """What is known, judged and commanded; `latched` are the keys that must survive a restart."""

    sample: Sample
    decisions: tuple[protection.Decision, ...]
    verdict: protection.Verdict
    allowed: derating.Allowed
    commands: contactors.Commands
    latched: tuple[str, ...]
    standing: bool
    may_close: bool


def fresh_state(
    cfg: GuardConfig, now_ns: int, latched: Iterable[str] | None, allowed: tuple[float, float] = (0.0, 0.0)
) -> State:
    """Give the state at a start, with the latches of the run before; None where they are lost: nothing closes.

    `allowed`: the currents for charging and discharging that are left of what that run allowed, A.
    """
    return State(
        sensing=sensing.fresh_state(cfg.sensing, now_ns),
        quantities=quantities.State(),
        protection=protection.fresh_state(cfg.table, latched or ()),
        derating=derating.fresh_state(*allowed),
        contactors=contactors.State(now_ns),
        own=quantities.Own(),
        trusted=latched is not None,
        now_ns=now_ns,
    )


def with_limits(cfg: GuardConfig, table: protection.Table) -> GuardConfig:
    """Give the settings with other bounds: the same rows in the same order, so that the state stays good."""
    assert table.keys == cfg.table.keys
    return replace(cfg, table=table)


def step(cfg: GuardConfig, state: State, inputs: Inputs, now_ns: int) -> tuple[State, Output]:
    """Take one tick.  Messages of one source that came since the tick before are judged one after the other."""
    offset_ns = max(state.offset_ns, state.now_ns - now_ns)  # a clock that was set back goes on from where it was
    end_ns = now_ns + offset_ns
    rounds = _rounds(inputs.arrivals, offset_ns, state.now_ns, end_ns)
    if offset_ns != state.offset_ns:
        state = state._replace(offset_ns=offset_ns)
    if len(rounds) == 1:  # as it nearly always is
        return _tick(cfg, state, inputs, rounds[0][1], end_ns)
    decisions: tuple[protection.Decision, ...] = ()
    alerts: tuple[str, ...] = ()
    for k, (t_ns, arrivals) in enumerate(rounds, 1):
        asked = inputs if k == len(rounds) else inputs._replace(standby=False, service=False)
        state, output = _tick(cfg, state, asked, arrivals, t_ns)
        decisions += output.decisions
        alerts += output.commands.alerts
    commands = output.commands._replace(alerts=alerts)
    return state, output._replace(decisions=decisions, commands=commands)


def _rounds(arrivals: Sequence[Arrival], offset_ns: int, from_ns: int, end_ns: int) -> list[tuple[int, list[Arrival]]]:
    """Split messages so that no source comes twice in a round; the last round is now, the others when they came."""
    rounds: list[tuple[int, list[Arrival]]] = [(from_ns, [])]
    sources: set[int] = set()
    for arrival in arrivals:
        t_ns = min(max(arrival.t_ns + offset_ns, rounds[-1][0]), end_ns)
        if arrival.source in sources:
            rounds.append((t_ns, []))
            sources.clear()
        sources.add(arrival.source)
        rounds[-1][1].append(arrival if t_ns == arrival.t_ns else arrival._replace(t_ns=t_ns))
        rounds[-1] = (t_ns, rounds[-1][1])
    rounds[-1] = (end_ns, rounds[-1][1])
    return rounds


def _tick(
    cfg: GuardConfig, state: State, inputs: Inputs, arrivals: Sequence[Arrival], now_ns: int
) -> tuple[State, Output]:
    before = contactors.rested(state.contactors) if inputs.standby else state.contactors
    before = contactors.serviced(before) if inputs.service else before
    own = state.own
    if (own.weld, own.precharge_failures) != (before.weld, before.failures):
        own = own._replace(weld=before.weld, precharge_failures=before.failures)
    sensed, sample = sensing.step(cfg.sensing, state.sensing, arrivals, now_ns)
    measured, facts = quantities.step(
        cfg.quantities, state.quantities, sample, own, standby=inputs.standby, service=inputs.service
    )
    judged, decisions = protection.step(cfg.table, state.protection, facts, now_ns)
    stands = protection.standing(facts)
    verdict, latched = state.verdict, state.latched
    if verdict is None or judged is not state.protection or stands != state.stood:
        verdict, latched = protection.verdict(cfg.table, judged, facts), protection.latched(cfg.table, judged)
    load = derating.Load(measured.charge_a2, measured.discharge_a2)
    derated, allowed = derating.limits(cfg.derating, state.derating, sample, load, verdict, inputs.caps)
    trusted = state.trusted or inputs.service
    may_close = verdict.close_allowed and trusted and _complete(sample) and not cfg.observer
    request = contactors.Request(inputs.close, verdict.open, may_close, stands, inputs.standby)
    moved, commands = contactors.step(cfg.contactors, before, request, _feedback(sample), now_ns)
    if cfg.observer:
        moved, commands = state.contactors, contactors.Commands(hold=True)
    after = State(
        sensing=sensed,
        quantities=measured,
        protection=judged,
        derating=derated,
        contactors=moved,
        own=quantities.Own(
            commanded=None if commands.hold else (commands.plus, commands.minus, commands.precharge),
            weld=moved.weld,
            precharge_failures=moved.failures,
            # what nobody was told nobody disobeys
            allowed_charge_a=math.nan if cfg.observer else allowed.charge_a,
            allowed_discharge_a=math.nan if cfg.observer else allowed.discharge_a,
        ),
        trusted=trusted,
        now_ns=now_ns,
        offset_ns=state.offset_ns,
        verdict=verdict,
        latched=latched,
        stood=stands,
    )
    return after, Output(sample, decisions, verdict, allowed, commands, latched, stands, may_close)


def _complete(sample: Sample) -> bool:
    """Say whether every cell, current and pack voltage is known, whatever the table's rows say about it."""
    vital = all(sample.one[name].state in {OK, ABSENT} for name in VITAL)
    return vital and sample.cell_v.state == OK


def _feedback(sample: Sample) -> contactors.Feedback:
    one = sample.one
    told = [one[name].value for name in quantities.FEEDBACK]
    plus, minus, precharge = (None if math.isnan(value) else value >= 0.5 for value in told)  # noqa: PLR2004 - 0 or 1
    return contactors.Feedback(one["current_a"].value, one["pack_v"].value, one["link_v"].value, plus, minus, precharge)
