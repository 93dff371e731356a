"""When contactors close, and when they may open: precharge, welds and the current that they can break.

Pure: commands follow from the settings, the state, the request, what is sensed and the time.  Whether a contactor is
where it was told to be, and whether current flows through open ones, are rows of the protection table.

A restart never moves a contactor by itself: until it is known where they are, nothing is commanded (HOLD), for an
opening at speed is a hazard and a closing without precharge another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

HOLD, OPEN, CHECK, PRECHARGE, CLOSED = "hold", "open", "check", "precharge", "closed"
PLUS, MINUS, PRE = 1, 2, 3  # which contactor is welded; 0 is none
_NS = 10**9


@dataclass(frozen=True, slots=True)
class ContactorConfig:
    """What the contactors of a pack can bear; `break_current_a` has no default: opening above it welds or burns them.

    After foxBMS 2: precharge is done when the voltages differ by less than 1 V and less than 50 mA flows, within 2 s,
    in 3 tries, 10 s apart; an opening waits up to 3 s for the current to fall or the fuse to trip.
    """

    break_current_a: float
    precharge_v: float = 1.0
    precharge_a: float = 0.05
    precharge_s: float = 2.0
    tries: int = 3
    pause_s: float = 10.0
    fuse_s: float = 3.0
    start_s: float = 1.0  # that feedback has to come after a start
    check_s: float = 0.2  # with the minus contactor alone: a link that charges shows a welded plus
    check_share: float = 0.2  # of the pack's voltage, by which it charges then
    overlap_s: float = 0.1  # that precharge stays closed beside the plus contactor
    weld_s: float = 0.5  # that feedback may take to say open
    discharge_s: float = 120.0  # within which an open link falls below full_share of the pack's voltage
    full_share: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; raises ValueError with the field, its value and what is accepted."""
        for name in self.__slots__:
            if not 0 < getattr(self, name) < math.inf:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)


class Request(NamedTuple):
    """What is wanted.

    `must_open` and `may_close` are protection's.  `standing`: an opening that no fault asks for waits for it.
    `standby`: somebody asks for it, so tries count anew and what opened for a fault may close again.
    """

    close: bool
    must_open: bool
    may_close: bool
    standing: bool
    standby: bool = False


class Feedback(NamedTuple):
    """What is sensed; NaN and None = not known.  True where a contactor is closed."""

    current_a: float = math.nan
    pack_v: float = math.nan
    link_v: float = math.nan
    plus: bool | None = None
    minus: bool | None = None
    precharge: bool | None = None


class Commands(NamedTuple):
    """Which coils have current; with `hold` nothing is commanded.  `alerts` are for a person, in plain words."""

    plus: bool = False
    minus: bool = False
    precharge: bool = False
    hold: bool = False
    alerts: tuple[str, ...] = ()


class State(NamedTuple):
    """Where the contactors are in their sequence; times in ns, -1 = not."""

    since_ns: int
    phase: str = HOLD
    failures: int = 0  # of precharge in a row
    opened_ns: int = -1  # the last opening or given-up precharge, which the next closing keeps away from
    must_ns: int = -1  # since when they must open and cannot
    weld_ns: int = -1  # since when something conducts that must not
    weld: int = 0  # PLUS, MINUS, PRE: taken for welded until a service
    link_v: float = math.nan  # when the check began
    locked: bool = False  # opened for a fault: closes again only after standby was asked for


def step(
    cfg: ContactorConfig, state: State, request: Request, feedback: Feedback, now_ns: int
) -> tuple[State, Commands]:
    """Take one tick; gives the next state and the commands."""
    alerts: list[str] = []
    after = rested(state) if request.standby else state
    if after.phase == OPEN and request.standby and not request.must_open:
        after = after._replace(locked=False)
    if after.phase in {HOLD, CLOSED}:
        after = _closed(cfg, after, request, feedback, now_ns, alerts)
    elif after.phase in {CHECK, PRECHARGE}:
        after = _closing(cfg, after, request, feedback, now_ns, alerts)
    else:
        after = _open(cfg, after, request, feedback, now_ns, alerts)
    overlaps = after.phase == CLOSED and now_ns - after.since_ns < cfg.overlap_s * _NS
    return after, Commands(
        plus=after.phase == CLOSED,
        minus=after.phase in {CHECK, PRECHARGE, CLOSED},
        precharge=after.phase == PRECHARGE or overlaps,
        hold=after.phase == HOLD,
        alerts=tuple(alerts),
    )


def rested(state: State) -> State:
    """Count tries anew, as a request for standby does; only while nothing is closed."""
    return state._replace(failures=0) if state.phase == OPEN else state


def serviced(state: State) -> State:
    """Forget welds, tries and faults, as somebody with a tool may; only while nothing is closed."""
    return state._replace(weld=0, weld_ns=-1, failures=0, locked=False) if state.phase == OPEN else state


def _closed(
    cfg: ContactorConfig, state: State, request: Request, feedback: Feedback, now_ns: int, alerts: list[str]
) -> State:
    """Open when it must be, as soon as the current can be broken; when nobody wants it closed, at standstill."""
    may_break = abs(feedback.current_a) <= cfg.break_current_a  # an unknown current they may not break
    if request.must_open:
        must_ns = state.must_ns if state.must_ns >= 0 else now_ns
        if may_break:
            return _opened(state, now_ns, locked=True)
        if now_ns - must_ns < cfg.fuse_s * _NS:
            return state._replace(must_ns=must_ns)
        alerts.append(f"contactors opened under {_amperes(feedback)} after {cfg.fuse_s:g} s: no fuse tripped")
        return _opened(state, now_ns, locked=True)
    state = state._replace(must_ns=-1)
    if state.phase == HOLD:
        if feedback.plus is False or feedback.minus is False:
            return state._replace(phase=OPEN, since_ns=now_ns)
        known = feedback.plus is not None and feedback.minus is not None
        if not known and now_ns - state.since_ns < cfg.start_s * _NS:
            return state
        wanted = request.close and known  # where they are is not known, and nobody is harmed by an opening
    else:
        wanted = request.close
    return _opened(state, now_ns) if request.standing and may_break and not wanted else state


def _closing(
    cfg: ContactorConfig, state: State, request: Request, feedback: Feedback, now_ns: int, alerts: list[str]
) -> State:
    """Look for a welded plus contactor with the minus alone, then precharge."""
    passed_ns = now_ns - state.since_ns
    if request.must_open or not request.may_close or not request.close:
        return _opened(state, now_ns, locked=request.must_open or not request.may_close)
    if state.phase == CHECK:
        if feedback.link_v - state.link_v > cfg.check_share * feedback.pack_v:
            alerts.append(f"link at {feedback.link_v:.0f} V before precharge: the plus contactor is welded")
            return _opened(state, now_ns, locked=True)._replace(weld=PLUS)
        return state._replace(phase=PRECHARGE, since_ns=now_ns) if passed_ns >= cfg.check_s * _NS else state
    even = abs(feedback.pack_v - feedback.link_v) < cfg.precharge_v
    if even and abs(feedback.current_a) < cfg.precharge_a:
        return state._replace(phase=CLOSED, since_ns=now_ns, failures=0)
    if passed_ns < cfg.precharge_s * _NS:
        return state
    failures = state.failures + 1
    alerts.append(
        f"precharge failed, try {failures} of {cfg.tries}: link at {feedback.link_v:.1f} V, pack at "
        f"{feedback.pack_v:.1f} V, {_amperes(feedback)} after {cfg.precharge_s:g} s"
    )
    return _opened(state, now_ns, locked=failures >= cfg.tries)._replace(failures=failures)


def _open(
    cfg: ContactorConfig, state: State, request: Request, feedback: Feedback, now_ns: int, alerts: list[str]
) -> State:
    """Watch for what conducts though it is open, and close when asked, allowed, sound and rested."""
    told = ((PLUS, feedback.plus), (MINUS, feedback.minus), (PRE, feedback.precharge))
    stuck = [which for which, closed in told if closed]
    full = feedback.link_v > cfg.full_share * feedback.pack_v
    suspect, wait_s = (stuck[0], cfg.weld_s) if stuck else (PLUS if full else 0, cfg.discharge_s)
    weld_ns = -1 if not suspect else state.weld_ns if state.weld_ns >= 0 else now_ns
    weld = state.weld
    if suspect and not weld and now_ns - weld_ns >= wait_s * _NS:
        weld = suspect
        alerts.append(f"the {('plus', 'minus', 'precharge')[weld - 1]} contactor conducts {wait_s:g} s after opening")
    state = state._replace(weld_ns=weld_ns, weld=weld)
    rested = state.opened_ns < 0 or now_ns - state.opened_ns >= cfg.pause_s * _NS
    sound = not (request.must_open or state.locked or weld or stuck)
    if request.close and request.may_close and sound and rested:
        return state._replace(phase=CHECK, since_ns=now_ns, link_v=feedback.link_v)
    return state


def _opened(state: State, now_ns: int, *, locked: bool = False) -> State:
    return state._replace(
        phase=OPEN, since_ns=now_ns, opened_ns=now_ns, must_ns=-1, weld_ns=-1, locked=state.locked or locked
    )


def _amperes(feedback: Feedback) -> str:
    return "an unknown current" if math.isnan(feedback.current_a) else f"{abs(feedback.current_a):.1f} A"
