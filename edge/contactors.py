"""When contactors close, and when they may open: precharge, feedback, welds and the current that they can break.

Pure: commands follow from the settings, the state and one reading.  Both main contactors and the precharge relay
start open, and open is where every fault ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

_NS = 10**9
OPEN, PRECHARGE, CLOSED, OPENING = "open", "precharge", "closed", "opening"


@dataclass(frozen=True, slots=True)
class ContactorConfig:
    """What the contactors of a pack can bear; `break_current_a` has no default: opening above it welds or burns them.

    Times after foxBMS 2: precharge is done when voltages differ by less than 1 V and less than 50 mA flows, within 2 s,
    in 3 tries; a pause of 10 s between closings.
    """

    break_current_a: float
    precharge_v: float = 1.0
    precharge_a: float = 0.05
    precharge_s: float = 2.0
    tries: int = 3
    pause_s: float = 10.0
    feedback_s: float = 0.3  # within which a contactor is where it was told to be
    fuse_s: float = 3.0  # that an over-current has to blow the fuse before the contactors open under load
    leak_a: float = 0.5  # above which current flows that cannot, with all contactors open
    leak_s: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; raises ValueError with the field, its value and what is accepted."""
        for name in self.__slots__:
            if not 0 < getattr(self, name) < math.inf:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)


class Reading(NamedTuple):
    """What is known at one tick; NaN and None = not known.  Feedback is True where a contactor is closed."""

    t_ns: int  # monotonic
    close: bool  # somebody wants the pack connected
    must_open: bool  # protection wants it open
    may_close: bool  # protection has seen every check pass
    current_a: float
    pack_v: float
    link_v: float
    plus: bool | None = None
    minus: bool | None = None


class Commands(NamedTuple):
    """Which coils have current."""

    plus: bool = False
    minus: bool = False
    precharge: bool = False


class State(NamedTuple):
    """Where the contactors are in their sequence; `locked` holds the faults that only a service clears."""

    phase: str = OPEN
    since_ns: int = 0
    tries: int = 0
    opened_ns: int | None = None  # of the last opening or given-up precharge
    told_ns: int = 0  # of the last change of commands
    leak_ns: int | None = None  # since when current flows that cannot
    locked: frozenset[str] = frozenset()


_COMMANDS = {
    OPEN: Commands(),
    PRECHARGE: Commands(minus=True, precharge=True),
    CLOSED: Commands(plus=True, minus=True),
    OPENING: Commands(plus=True, minus=True),
}
# Faults, and whether they lock.
WELD, FEEDBACK, TIMEOUT, FUSE, LEAK = "weld", "feedback", "precharge timeout", "fuse did not trip", "current while open"


def step(cfg: ContactorConfig, state: State, reading: Reading) -> tuple[State, Commands, tuple[str, ...]]:
    """Take one reading; gives the next state, the commands, and the faults that appeared."""
    faults: list[str] = []
    after = _FROM[state.phase](cfg, _watched(cfg, state, reading, faults), reading, faults)
    if _COMMANDS[after.phase] != _COMMANDS[state.phase]:
        after = after._replace(told_ns=reading.t_ns)
    after = after._replace(locked=after.locked | set(faults))
    return after, _COMMANDS[after.phase], tuple(f for f in faults if f not in state.locked)


def serviced(state: State) -> State:
    """Unlock, as somebody with a tool may; only from open contactors."""
    return state._replace(locked=frozenset(), tries=0) if state.phase == OPEN else state


def _watched(cfg: ContactorConfig, state: State, now: Reading, faults: list[str]) -> State:
    """Compare what the contactors do with what they were told."""
    told = _COMMANDS[state.phase]
    if now.t_ns - state.told_ns >= cfg.feedback_s * _NS:
        for is_closed, wanted in ((now.plus, told.plus), (now.minus, told.minus)):
            if is_closed is not None and is_closed != wanted:
                faults.append(WELD if is_closed else FEEDBACK)
    flows = state.phase == OPEN and abs(now.current_a) > cfg.leak_a
    since = (state.leak_ns if state.leak_ns is not None else now.t_ns) if flows else None
    if since is not None and now.t_ns - since >= cfg.leak_s * _NS:
        faults.append(LEAK)
    return state._replace(leak_ns=since)


def _from_open(cfg: ContactorConfig, state: State, now: Reading, faults: list[str]) -> State:
    rested = state.opened_ns is None or now.t_ns - state.opened_ns >= cfg.pause_s * _NS
    sound = now.may_close and not now.must_open and not state.locked and not faults
    if now.close and sound and rested:
        return state._replace(phase=PRECHARGE, since_ns=now.t_ns)
    return state if now.close else state._replace(tries=0)


def _from_precharge(cfg: ContactorConfig, state: State, now: Reading, faults: list[str]) -> State:
    if now.must_open or not now.close or faults:
        return _opened(state, now)
    if abs(now.pack_v - now.link_v) < cfg.precharge_v and abs(now.current_a) < cfg.precharge_a:
        return state._replace(phase=CLOSED, since_ns=now.t_ns, tries=0)
    if now.t_ns - state.since_ns < cfg.precharge_s * _NS:
        return state
    if state.tries + 1 >= cfg.tries:
        faults.append(TIMEOUT)
    return _opened(state, now)._replace(tries=state.tries + 1)


def _from_closed(cfg: ContactorConfig, state: State, now: Reading, faults: list[str]) -> State:  # noqa: ARG001 - alike
    if now.close and not now.must_open:
        return state
    return _opened(state, now) if _breakable(cfg, now) else state._replace(phase=OPENING, since_ns=now.t_ns)


def _from_opening(cfg: ContactorConfig, state: State, now: Reading, faults: list[str]) -> State:
    if _breakable(cfg, now):
        return _opened(state, now)
    if not now.must_open:  # nobody but the driver wants it: wait for the current to fall
        return state._replace(phase=CLOSED) if now.close else state._replace(since_ns=now.t_ns)
    if now.t_ns - state.since_ns < cfg.fuse_s * _NS:
        return state
    faults.append(FUSE)
    return _opened(state, now)


_FROM = {OPEN: _from_open, PRECHARGE: _from_precharge, CLOSED: _from_closed, OPENING: _from_opening}


def _breakable(cfg: ContactorConfig, now: Reading) -> bool:
    """Say whether the contactors may break what flows; an unknown current they may not."""
    return abs(now.current_a) <= cfg.break_current_a


def _opened(state: State, now: Reading) -> State:
    return state._replace(phase=OPEN, since_ns=now.t_ns, opened_ns=now.t_ns)
