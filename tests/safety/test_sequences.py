"""Any sequence of messages, silences, clock jumps, speeds, requests and restarts keeps what protection promises."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from edge import guard
from edge.contactors import HOLD, Commands
from edge.derating import Caps
from edge.protection import DERATE, FREE, ZERO, key_of
from edge.sensing import OK
from schemas.limits import FAST, Limit, worst_detection_s
from tests.support.vehicle import (
    CAR,
    CELLS,
    LOOPS,
    PAGE_1,
    PAGE_2,
    SOURCES,
    TICK_NS,
    Run,
    Vehicle,
    closed_run,
    small_guard,
)

TICK_S = TICK_NS / 1e9
STANDSTILL_KMH = 5.0
FUSE_S, RAMP_S = 3.0, 5.0  # foxBMS 2's wait for the fuse; the ramp that unknown values ask for
BREAK_A = 3.5
SETUP = small_guard()
ROWS = {key_of(row): row for row in SETUP.config.table.rows}
FAST_KEYS = {key for key, row in ROWS.items() if row.quantity in FAST and row.action == "open_now"}
OPENING_KEYS = {key for key, row in ROWS.items() if row.action.startswith("open")}
# What the vehicle can show, and the row that must then fire within its time.
CROSSED: dict[str, tuple[str, float, str]] = {
    "cell_v/MSL/over/any": ("cell_v", 4.26, "cell_v"),
    "cell_v/MSL/under/any": ("cell_v", 2.65, "cell_v"),
    "interlock_open/MSL/over/any": ("hvil", 0.0, "hvil"),
    "crash/MSL/over/any": ("crash", 1.0, "crash"),
    "isolation_ohm_per_v/MSL/under/any": ("isolation_ohm", 1000.0, "isolation_ohm"),
    "short_a/MSL/over/any": ("current_a", -900.0, "current_a"),
}
BROKEN: list[tuple[str, object]] = [
    ("hvil", 0.0), ("crash", 1.0), ("isolation_ohm", 1000.0), ("shorted", True), ("temp_c", [70.0, 71.0]),
    ("welded", frozenset({0})), ("dead", frozenset({1})),
]  # fmt: skip
THEN_S = st.sampled_from([0.0, 0.0, 0.3, 1.5, 5.0, 14.0])  # how long things stay as they became
PERIODS = SETUP.config.sensing.periods()


def deadline_s(row: Limit, signal: str) -> float:
    """Give the latest time of a decision after the vehicle shows the value: the row's worst detection and a tick."""
    return worst_detection_s(row, PERIODS[signal], TICK_S)


class Drive(RuleBasedStateMachine):
    """A vehicle that goes through anything, with an eye on every tick."""

    @initialize(
        start=st.sampled_from(["closed", "closed", "found closed", "open"]),
        latched=st.sampled_from([(), None, ("cell_v/MSL/over/any",)]),
    )
    def begin(self, start: str, latched: tuple[str, ...] | None) -> None:
        if start == "closed":
            self.take(closed_run())
        else:
            found = start == "found closed"
            vehicle = Vehicle(closed=[found, found, False], link_v=22.2 if found else 0.0)
            self.take(Run(vehicle, SETUP, latched))

    def take(self, run: Run) -> None:
        """Go on with a run, of which nothing is remembered yet."""
        self.run, self.caps, self.jump_ns = run, Caps(), 0
        self.must_since = self.may_since = self.zero_since = -1.0
        self.told: tuple[float, float] | None = None
        self.told_s = 0.0
        self.crossed: dict[str, float] = {}
        self.before: guard.Output | None = None
        self.once()

    # -- what may happen

    def go(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.once()

    @rule(close=st.booleans(), then_s=THEN_S)
    def want(self, close: bool, then_s: float) -> None:
        self.run.close = close
        self.go(then_s)

    @rule(name=st.sampled_from(["standby", "service"]), then_s=THEN_S)
    def ask(self, name: str, then_s: float) -> None:
        self.once(**{name: True})
        self.go(then_s)

    @rule(speed_kmh=st.sampled_from([0.0, 4.99, 5.0, 120.0, math.nan]), charge_type=st.sampled_from([0.0, 2.0]))
    def move(self, speed_kmh: float, charge_type: float) -> None:
        self.run.vehicle.speed_kmh, self.run.vehicle.charge_type = speed_kmh, charge_type

    @rule()
    def anew(self) -> None:
        """Begin again with closed contactors: after most faults they stay open for good."""
        self.take(closed_run())

    @rule(current_a=st.sampled_from([0.0, 3.0, -60.0, 100.0, -900.0, -900.0]), then_s=st.sampled_from([0.0, 0.3, 5.0]))
    def load(self, current_a: float, then_s: float) -> None:
        self.run.vehicle.current_a = current_a
        self.go(then_s)

    @rule(charge_a=st.sampled_from([math.nan, -5.0, 20.0]), discharge_a=st.sampled_from([math.nan, 0.0, 1e6]))
    def cap(self, charge_a: float, discharge_a: float) -> None:
        self.caps = Caps(charge_a, discharge_a)

    @rule(
        cell=st.integers(0, CELLS - 1),
        cell_v=st.sampled_from([3.7, 3.7, 4.22, 4.26, 2.65, 66.5, math.nan]),
        then_s=THEN_S,
    )
    def cell(self, cell: int, cell_v: float, then_s: float) -> None:
        self.run.vehicle.cell_v[cell] = cell_v
        self.go(then_s)

    @rule(source=st.integers(0, len(SOURCES) - 1), then_s=THEN_S)
    def silence(self, source: int, then_s: float) -> None:
        """Silence a message, or let it speak again."""
        self.run.vehicle.silent ^= {source}
        self.go(then_s)

    @precondition(lambda self: self.run.vehicle.silent)
    @rule()
    def flicker(self) -> None:
        """Let what is silent speak once."""
        silent, self.run.vehicle.silent = self.run.vehicle.silent, set()
        self.once()
        self.run.vehicle.silent = silent

    @rule(then_s=THEN_S)
    def heal(self, then_s: float) -> None:
        """Let everything speak and be as it should be."""
        was = self.run.vehicle
        self.run.vehicle = Vehicle(closed=was.closed, link_v=was.link_v, speed_kmh=was.speed_kmh)
        self.go(then_s)

    @rule(broken=st.sampled_from(BROKEN), then_s=THEN_S)
    def fault(self, broken: tuple[str, object], then_s: float) -> None:
        setattr(self.run.vehicle, *broken)
        self.go(then_s)

    @rule(seconds=st.sampled_from([-3600.0, -0.5, 0.5, 3600.0]), then_s=THEN_S)
    def jump(self, seconds: float, then_s: float) -> None:
        """Set the clock back or ahead; nothing is timed across it."""
        self.jump_ns += round(seconds * 1e9)
        self.crossed.clear()
        self.must_since = self.zero_since = -1.0
        self.told = None
        self.go(then_s)

    @rule(lost=st.booleans(), then_s=THEN_S)
    def restart(self, lost: bool, then_s: float) -> None:
        """Start the process anew, with its latches or with a file that is lost."""
        latched = None if lost or not self.run.state.trusted else self.run.out.latched
        self.take(Run(self.run.vehicle, SETUP, latched, self.run.close))
        self.go(then_s)

    # -- one tick, and what must hold in it

    def once(self, **asked: bool) -> None:
        """Take a tick and hold it against the tick before."""
        run = self.run
        t_s, t_ns = run.tick * TICK_S, run.tick * TICK_NS + self.jump_ns
        was = list(run.vehicle.closed)
        inputs = guard.Inputs(run.vehicle.arrivals(run.tick, t_ns), run.close, **asked, caps=self.caps)
        run.state, out = guard.step(SETUP.config, run.state, inputs, t_ns)
        run.output = out
        run.tick += 1
        self.knows_whether_it_stands(out, t_s)
        self.closes_soundly(out, was)
        self.opens_with_cause(out, was, t_s)
        self.takes_current_back(out, t_s)
        self.decides_in_time(t_s, timed=not asked and not run.vehicle.silent)
        self.agrees_with_itself(out, asked=bool(asked))
        run.vehicle.obey(out)
        self.before = out

    def active(self) -> set[str]:
        rows = zip(SETUP.config.table.keys, self.run.state.protection, strict=True)
        return {key for key, row in rows if row.active}

    def knows_whether_it_stands(self, out: guard.Output, t_s: float) -> None:
        """What the vehicle has said of its speed for two messages is what counts: below 5 km/h, or plugged in."""
        vehicle = self.run.vehicle
        told = None if CAR in vehicle.silent else (vehicle.speed_kmh, vehicle.charge_type)
        if told is None or self.told is None or str(told) != str(self.told):  # NaN is not equal to itself
            self.told, self.told_s = told, t_s
        if told is not None and t_s - self.told_s >= 2 * PERIODS["speed_kmh"] + TICK_S:
            speed_kmh, charge_type = told
            assert out.standing == (charge_type > 0 if math.isnan(speed_kmh) else speed_kmh < STANDSTILL_KMH)

    def closes_soundly(self, out: guard.Output, was: list[bool]) -> None:
        """Nothing closes with an incomplete, stale or corrupt state, or past a latch, or without precharge."""
        told = out.commands
        if not told.hold and ((told.plus and not was[0]) or (told.minus and not was[1])) and self.newly(out):
            assert out.may_close
            assert self.run.state.trusted
            assert out.sample.cell_v.state == OK
            assert out.sample.one["current_a"].state == OK
            assert out.sample.one["pack_v"].state == OK
            assert max(out.sample.ages[k] for k in (0, PAGE_1, PAGE_2)) <= 5
            assert out.latched == ()
        if told.plus and self.before is not None and not self.before.commands.plus:
            assert self.before.commands.precharge
            assert abs(out.sample.one["pack_v"].value - out.sample.one["link_v"].value) < 1.0
            assert abs(out.sample.one["current_a"].value) < 0.05

    def newly(self, out: guard.Output) -> bool:
        """Say whether a contactor is told to close that was not told so before; a dead one is told at every tick."""
        told = self.before.commands if self.before is not None else Commands()
        return (out.commands.plus, out.commands.minus) > (told.plus, told.minus)

    def opens_with_cause(self, out: guard.Output, was: list[bool], t_s: float) -> None:
        """Only the listed causes open at speed, and what must open does within its wait."""
        told = out.commands
        current_a = abs(out.sample.one["current_a"].value)
        closed = was[0] and was[1]
        opened = closed and not told.hold and not (told.plus and told.minus) and not self.sagging(told)
        if opened and not out.standing:
            assert set(out.verdict.causes) & FAST_KEYS, (out.verdict, told)
        if opened and out.standing and not out.verdict.open:
            assert not self.run.close or out.sample.one["plus_closed"].state != OK
            assert current_a <= BREAK_A
        must = out.verdict.open and closed
        self.must_since = (self.must_since if self.must_since >= 0 else t_s) if must else -1.0
        self.may_since = (self.may_since if self.may_since >= 0 else t_s) if must else -1.0  # a jump ends no wait
        if must and not opened and not self.sagging(told):
            assert t_s - self.must_since < FUSE_S
            assert not current_a <= BREAK_A
        if opened and out.verdict.open and t_s - self.may_since < FUSE_S - TICK_S:
            assert current_a <= BREAK_A

    def sagging(self, told: Commands) -> bool:
        """Say whether what is closed was already told to open: a weld."""
        return self.before is not None and not told.plus and not self.before.commands.plus

    def takes_current_back(self, out: guard.Output, t_s: float) -> None:
        """What is asked to be zero is zero within the ramp; a cap from outside only tightens."""
        cfg, allowed = SETUP.config.derating, out.allowed
        for amperes, largest, cap in (
            (allowed.charge_a, cfg.charge_max_a, self.caps.charge_a),
            (allowed.discharge_a, cfg.discharge_max_a, self.caps.discharge_a),
        ):
            assert 0 <= amperes <= largest
            assert math.isnan(cap) or amperes <= max(cap, 0.0)
        zero = out.verdict.charge == ZERO and out.verdict.discharge == ZERO
        self.zero_since = (self.zero_since if self.zero_since >= 0 else t_s) if zero else -1.0
        if zero and t_s - self.zero_since >= RAMP_S:
            assert (allowed.charge_a, allowed.discharge_a) == (0.0, 0.0)

    def shows(self, name: str, bad: float) -> bool:
        vehicle = self.run.vehicle
        if name == "cell_v":
            return not any(math.isnan(v) for v in vehicle.cell_v) and bad in vehicle.cell_v
        if name == "current_a":
            return vehicle.current_a == bad and vehicle.closed[0] and vehicle.closed[1]
        return bool(getattr(vehicle, name) == bad)

    def decides_in_time(self, t_s: float, *, timed: bool) -> None:
        """A value that the vehicle shows beyond a bound fires its row within the row's worst detection."""
        active = self.active()
        for key, (name, bad, signal) in CROSSED.items():
            if not timed or not self.shows(name, bad):
                self.crossed.pop(key, None)
                continue
            self.crossed.setdefault(key, t_s)
            assert key in active or t_s - self.crossed[key] <= deadline_s(ROWS[key], signal), key

    def agrees_with_itself(self, out: guard.Output, *, asked: bool) -> None:
        """What is broken is acted on in the same tick, and a latch clears only where somebody asked."""
        active, verdict = self.active(), out.verdict
        assert verdict.open == bool(active & (OPENING_KEYS if out.standing else FAST_KEYS))
        assert verdict.stop or verdict.open or not active & OPENING_KEYS
        assert not (active & OPENING_KEYS and out.may_close)
        assert {verdict.charge, verdict.discharge} <= {FREE, DERATE, ZERO}
        assert out.commands.hold == (self.run.state.contactors.phase == HOLD)
        assert self.run.state.trusted or not out.may_close
        assert set(out.latched) == {key for key in active if ROWS[key].latch}
        if self.before is not None and not asked:
            assert set(self.before.latched) <= set(out.latched)


def test_any_sequence_keeps_what_protection_promises(thorough: bool) -> None:
    run_state_machine_as_test(
        Drive,
        settings=settings(
            max_examples=120 if thorough else 10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_vehicle_of_these_sequences_sends_feedback() -> None:
    assert {"plus_closed", "minus_closed"} <= {name for name, _ in SOURCES[LOOPS].fills}
    assert SETUP.not_evaluated == ()
