"""One round of the protection process: wishes and orders beside the messages."""

from __future__ import annotations

import math

import pytest

from edge import protector
from edge.contactors import CLOSED, OPEN
from edge.decode import Wish
from edge.link import Told
from edge.protector import Before, Heard, Judged
from tests.support.vehicle import TICK_NS, Vehicle, small_guard

SETUP = small_guard()
CFG = protector.config_of(SETUP.config, SETUP.config.table.rows, 0.05)
CELL_HIGH = "cell_v/MSL/over/any"


class Process:
    """The rounds of a process on the small vehicle, which says its wish every 50 ms."""

    def __init__(self, latched: tuple[str, ...] | None = ()) -> None:
        self.vehicle, self.tick = Vehicle(), 0
        self.state = protector.fresh_state(CFG, 0, Before(latched))
        self.wish: Wish | None = Wish(close=True, standby=False)
        self.judged: Judged | None = None

    @property
    def last(self) -> Judged:
        assert self.judged is not None
        return self.judged

    def go(self, seconds: float, *orders: Told) -> Process:
        for k in range(round(seconds * 100)):
            now_ns = self.tick * TICK_NS
            wishes = [self.wish] if self.wish is not None and self.tick % 5 == 0 else []
            came = self.vehicle.arrivals(self.tick, now_ns)
            heard = Heard(came, wishes, orders if k == 0 else (), len(came), now_ns)
            self.state, self.judged = protector.step(CFG, self.state, heard)
            self.vehicle.obey(self.judged.output)
            self.tick += 1
        return self


def closed() -> Process:
    process = Process().go(14.0)
    assert process.last.phase == CLOSED
    return process


def test_a_wish_closes_and_its_silence_for_five_periods_opens_at_the_next_stop() -> None:
    process = closed()
    process.vehicle.speed_kmh, process.wish = 60.0, None
    process.go(2.0)
    assert process.last.phase == CLOSED, "not at speed"
    process.vehicle.speed_kmh = 0.0
    assert process.go(0.3).last.phase == OPEN


def test_a_wish_that_says_nothing_is_no_wish_to_open() -> None:
    process = closed()
    process.wish = Wish(close=None, standby=None)
    process.go(0.2)
    assert process.last.phase == CLOSED


def test_standby_asks_where_it_rises_and_not_while_it_stays() -> None:
    process = Process(latched=(CELL_HIGH,)).go(2.0)
    assert process.last.output.latched == (CELL_HIGH,)
    process.wish = Wish(close=False, standby=True)
    assert process.go(0.1).last.output.latched == ()
    stuck = Process(latched=(CELL_HIGH,))
    stuck.wish = Wish(close=False, standby=True)
    assert stuck.go(2.0).last.output.latched == (CELL_HIGH,), "it said so since the start"


def test_lost_latches_keep_open_until_a_service_is_ordered() -> None:
    process = Process(latched=None).go(3.0)
    assert (process.last.phase, process.last.trusted) == (OPEN, False)
    assert process.go(3.0, {"kind": "service"}).last.phase == CLOSED


def test_limits_from_outside_tighten_until_they_expire() -> None:
    process = closed()
    order = {
        "kind": "limits",
        "for_s": 5.0,
        "charge_a": 40.0,
        "bounds": {CELL_HIGH: 4.0, "current_a/MSL/over/charge": 1.0},
    }
    process.go(1.0, order)
    assert process.last.output.allowed.charge_a == 40.0
    assert process.last.output.allowed.charge[1].limit == "cap from outside"
    bounds = {key: row.bound for key, row in zip(SETUP.config.table.keys, process.state.config.table.rows, strict=True)}
    local = {key: row.bound for key, row in zip(SETUP.config.table.keys, SETUP.config.table.rows, strict=True)}
    assert {key for key in bounds if bounds[key] != local[key]} == {CELL_HIGH}
    process.go(4.1)
    assert process.state.config is CFG.guard
    process.go(9.0)
    assert process.last.output.allowed.charge_a > 150.0


@pytest.mark.parametrize(
    "order",
    [
        {"for_s": 0.0, "charge_a": 1.0, "bounds": {}},
        {"for_s": -5.0, "charge_a": 1.0, "bounds": {}},
        {"for_s": "long", "charge_a": 1.0, "bounds": {}},
        {"charge_a": 1.0, "bounds": {}},
        {"for_s": 5.0, "charge_a": 1.0},
        {"for_s": 5.0, "charge_a": True, "bounds": {CELL_HIGH: "4.0"}},
        {"for_s": math.nan, "charge_a": 1.0, "bounds": {}},
    ],
)
def test_an_order_that_is_not_whole_changes_nothing(order: Told) -> None:
    process = closed()
    before = process.last.output.allowed.charge_a
    process.go(0.5, {"kind": "limits", **order})
    assert process.last.output.allowed.charge_a == pytest.approx(before)
    assert process.state.config.table == CFG.guard.table


def test_what_is_told_can_be_said_in_json_and_names_what_opens() -> None:
    process = closed()
    process.vehicle.cell_v[2] = 4.3
    said = []
    for _ in range(100):
        process.go(0.01)
        said += [protector.told(d) for d in process.last.output.decisions]
    high = next(d for d in said if d["key"] == CELL_HIGH)
    assert (high["opens"], high["tier"], high["subject"], high["value"]) == (
        True,
        "MSL",
        "cell 3",
        pytest.approx(4.3, abs=1e-3),
    )
    beat = protector.beat(process.last)
    assert beat["latched"] == [CELL_HIGH]
    assert beat["causes"][0] == CELL_HIGH
    assert beat["asked"] == [False, False, False]
    assert beat["cell_v"][2:] == [pytest.approx(4.3, abs=1e-3), 3]
    assert (beat["standing"], beat["trusted"], beat["silent"]) == (True, True, [])
    assert protector.beat(Process().go(0.01).last)["cell_v"] == []
