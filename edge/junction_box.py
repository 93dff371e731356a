"""A simulated junction box: what the receiver of the commands does, with and without a heartbeat.

For tests, the bench and integrators without hardware.  Pure: `step` follows the commands that came; contactors move
at once, and the link follows them with the time constant of precharge.

Without a heartbeat of the protection process, or when the supervisor asks for a safe stop, it holds what is closed,
lets the allowed currents fall to 0 within 5 s, opens below 5 km/h and below the break current, and closes nothing
until a heartbeat asks for open contactors again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edge.commands import ASK_CLOSE, ASK_HOLD, CONTACTORS, CURRENTS, SAFE_STOP, SUPERVISOR
from edge.protection import STANDSTILL_KMH

FOLLOWS, HOLDS, OPENED, INHIBITED = range(4)
_NS = 10**9


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """`lost_s` without a whole new heartbeat is lost; `ramp_s` lets currents fall; `tau_s` is the link's charging."""

    break_current_a: float
    lost_s: float = 0.1
    ramp_s: float = 5.0
    tau_s: float = 0.1
    move_s: float = 0.02  # that a contactor takes


class Seen(NamedTuple):
    """What the box measures itself."""

    pack_v: float
    current_a: float
    speed_kmh: float


class State(NamedTuple):
    """Where the contactors are, what they are asked for, and since when nobody asks."""

    closed: tuple[bool, bool, bool] = (False, False, False)
    asked: tuple[bool, bool, bool] = (False, False, False)
    asked_ns: tuple[int, int, int] = (0, 0, 0)
    link_v: float = 0.0
    beat_ns: int = -1
    mode: int = FOLLOWS
    lost_ns: int = -1
    charge_a: float = 0.0
    discharge_a: float = 0.0
    fallen_a: tuple[float, float] = (0.0, 0.0)  # the limits when the heartbeat was lost
    now_ns: int = -1


def hear(state: State, name: str, values: Mapping[str, float], now_ns: int) -> State:
    """Take a message that was whole and new; `values` are its signals."""
    if name == SUPERVISOR and values["Request"] == SAFE_STOP:
        return _lost(state, now_ns)
    if name == CURRENTS:
        return state._replace(charge_a=values["ChargeCurrentMax"], discharge_a=values["DischargeCurrentMax"])
    if name != CONTACTORS:
        return state
    state = state._replace(beat_ns=now_ns, lost_ns=-1)
    wanted = [values[which] for which in ("Plus", "Minus", "Precharge")]
    if ASK_HOLD in wanted:
        return state._replace(mode=FOLLOWS if state.mode == HOLDS else state.mode)
    closes = tuple(w == ASK_CLOSE for w in wanted)
    if state.mode in {OPENED, INHIBITED}:
        if any(closes):
            return state._replace(mode=INHIBITED)
        state = state._replace(mode=FOLLOWS)
    elif state.mode == HOLDS:
        state = state._replace(mode=FOLLOWS)
    asked_ns = tuple(
        t if was == is_ else now_ns for was, is_, t in zip(state.asked, closes, state.asked_ns, strict=True)
    )
    return state._replace(asked=closes, asked_ns=asked_ns)  # type: ignore[arg-type]


def step(cfg: BoxConfig, state: State, seen: Seen, now_ns: int) -> State:
    """Let time pass."""
    passed_s = (now_ns - state.now_ns) / _NS if state.now_ns >= 0 else 0.0
    if state.beat_ns >= 0 and now_ns - state.beat_ns > cfg.lost_s * _NS:
        state = _lost(state, now_ns)
    if state.lost_ns >= 0:
        left = max(0.0, 1.0 - (now_ns - state.lost_ns) / (cfg.ramp_s * _NS))
        state = state._replace(charge_a=state.fallen_a[0] * left, discharge_a=state.fallen_a[1] * left)
        stands = seen.speed_kmh < STANDSTILL_KMH  # an unknown speed, NaN, is a speed
        breaks = abs(seen.current_a) <= cfg.break_current_a
        if any(state.asked) and stands and breaks:
            state = state._replace(asked=(False,) * 3, asked_ns=(now_ns,) * 3, mode=OPENED)
    moved = tuple(
        asked if now_ns - since >= cfg.move_s * _NS else was
        for was, asked, since in zip(state.closed, state.asked, state.asked_ns, strict=True)
    )
    plus, minus, precharge = moved
    target_v = seen.pack_v if minus and (plus or precharge) else 0.0
    tau_s = cfg.tau_s if target_v else 5.0
    share = 1.0 if plus and minus else 1.0 - math.exp(-passed_s / tau_s)
    link_v = state.link_v + (target_v - state.link_v) * share
    return state._replace(closed=(plus, minus, precharge), link_v=link_v, now_ns=now_ns)


def _lost(state: State, now_ns: int) -> State:
    if state.lost_ns >= 0:
        return state
    mode = HOLDS if state.mode == FOLLOWS else state.mode
    return state._replace(lost_ns=now_ns, mode=mode, fallen_a=(state.charge_a, state.discharge_a))


def status(state: State) -> dict[str, float]:
    """Give the signals of JunctionStatus."""
    plus, minus, precharge = (float(c) for c in state.closed)
    return {
        "PlusClosed": plus,
        "MinusClosed": minus,
        "PrechargeClosed": precharge,
        "LinkVoltage": state.link_v,
        "State": state.mode,
    }
