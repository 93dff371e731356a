"""The protection process's flow, with a vehicle whose time only waiting moves: it closes, opens, tells, never waits."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from bytewax.testing import run_main

from edge import plant
from edge.commands import Sent
from edge.decode import Frame
from edge.link import Link, Told, pair
from edge.protect_flow import BEAT_NS, build, left_before, parts_of
from edge.protector import Before
from edge.settings import Prepared, parse_settings, prepare
from schemas.pack import load_pack
from tests.edge.test_settings import GOOD

MS, S = 10**6, 10**9
CELL_HIGH = "cell_v/MSL/over/any"
SETTINGS = GOOD.replace('absent = ["current2_a"], ', "")


class Bus:
    """A vehicle that obeys; each wait lasts 2 ms, and `plan` says what happens when."""

    def __init__(self, seconds: float, plan: dict[float, Any] | None = None) -> None:
        self.vehicle = plant.plant(load_pack("generic-nmc@6c2t60ah"), 0.05)
        self.now_ns, self.end_ns = S, S + round(seconds * S)
        self.plan = {S + round(at_s * S): act for at_s, act in (plan or {}).items()}
        self.errors = self.unsent = 0
        self.sent: list[Sent] = []
        self.closed_ns = self.opened_ns = -1

    def take(self) -> list[Frame]:
        if self.now_ns >= self.end_ns:
            raise StopIteration
        self.now_ns += 2 * MS
        for at_ns in [at_ns for at_ns in self.plan if at_ns <= self.now_ns]:
            self.plan.pop(at_ns)(self.vehicle.pack)
        frames = [Frame(*one, self.now_ns) for one in self.vehicle.step(self.now_ns)]
        if self.vehicle.closed and self.closed_ns < 0:
            self.closed_ns = self.now_ns
        if self.closed_ns >= 0 and self.opened_ns < 0 and not any(self.vehicle.box.closed):
            self.opened_ns = self.now_ns
        return frames

    def send(self, sent: list[Sent]) -> None:
        self.sent += sent
        for one in sent:
            self.vehicle.hear(Frame(*one, self.now_ns), self.now_ns)

    def now(self) -> int:
        return self.now_ns


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(parse_settings(SETTINGS.encode(), "gateway.toml", Path("/etc/ibms")))


def _run(prepared: Prepared, bus: Bus, latched: tuple[str, ...] | None = (), *told: Told) -> list[Told]:
    """Run the flow; gives what the supervisor has heard."""
    ours, theirs = pair()
    supervisor = Link(theirs)
    for message in told:
        supervisor.tell(message)
    run_main(build(parts_of(prepared, bus, ours, Before(latched), bus.now)))  # type: ignore[arg-type]
    return list(supervisor.hear())


def _beats(said: list[Told]) -> list[Told]:
    return [message for message in said if message["kind"] == "beat"]


def test_it_closes_tells_in_beats_and_opens_by_its_table(prepared: Prepared) -> None:
    def high(pack: plant.Pack) -> None:
        pack.cell_v[2] = 4.3

    bus = Bus(5.0, {4.0: high})
    said = _run(prepared, bus)
    assert 0 < bus.closed_ns < 3 * S
    assert 4.5 * S < bus.opened_ns - S < 4.9 * S
    assert len(_beats(said)) == pytest.approx(5 * S / BEAT_NS, abs=4)
    opened = [message for message in said if message["kind"] == "decision" and message["opens"]]
    assert [(one["key"], one["active"], one["subject"]) for one in opened] == [(CELL_HIGH, True, "cell 3")]
    assert _beats(said)[-1]["latched"] == [CELL_HIGH]
    assert _beats(said)[-1]["phase"] == "open"
    assert sum(_beats(said)[-1]["step_counts"]) > 2000
    assert _beats(said)[-1]["frames"] > 500


@pytest.mark.parametrize("latched", [None, (CELL_HIGH,)])
def test_nothing_closes_with_latches_that_stand_or_are_lost(
    prepared: Prepared, latched: tuple[str, ...] | None
) -> None:
    bus = Bus(3.0)
    assert _beats(_run(prepared, bus, latched))[-1]["may_close"] is False
    assert bus.closed_ns == -1


def test_limits_and_service_come_as_orders(prepared: Prepared) -> None:
    limits = {"kind": "limits", "bounds": {}, "charge_a": 7.0, "for_s": 60.0}
    bus = Bus(4.0)
    said = _run(prepared, bus, None, limits, {"kind": "service"})
    assert bus.closed_ns > 0, "somebody has looked at the pack"
    assert _beats(said)[-1]["charge_a"] == 7.0


def test_an_observer_sends_nothing() -> None:
    text = SETTINGS.replace("signals = { ", 'signals = { absent = ["cell_v"], ')
    bus = Bus(1.0)
    said = _run(prepare(parse_settings(text.encode(), "gateway.toml", Path("/etc/ibms"))), bus)
    assert _beats(said)
    assert bus.sent == []


def test_a_supervisor_that_listens_no_more_holds_nothing_up(prepared: Prepared) -> None:
    ours, theirs = pair()
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # a few words
    bus = Bus(3.0)
    run_main(build(parts_of(prepared, bus, ours, Before(()), bus.now)))  # type: ignore[arg-type]
    assert bus.closed_ns > 0
    assert ours.lost > 0
    assert not ours.over
    theirs.close()
    later = Bus(2.0)
    run_main(build(parts_of(prepared, later, ours, Before(()), later.now)))  # type: ignore[arg-type]
    assert ours.over
    assert later.closed_ns > 0, "nor one that is gone"


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ([{"kind": "start", "latched": ["a", "b"], "lost": [5, 1.5, 2]}], Before(("a", "b"), (5, 1.5, 2.0))),
        ([{"kind": "limits"}, {"kind": "start", "latched": []}], Before(())),
        ([{"kind": "start", "latched": None}], Before(None)),
        ([{"kind": "start", "latched": "a", "lost": [5, -1.0, 2]}], Before(None)),
        ([{"kind": "start", "latched": [], "lost": [5, float("inf"), 2]}], Before(())),
        ([{"kind": "start", "latched": [], "lost": [5, 1.0]}], Before(())),
        ([{"kind": "start"}], Before(None)),
        ([], Before(None)),
    ],
)
def test_what_the_run_before_left_is_waited_for_and_otherwise_lost(told: list[Told], left: Before) -> None:
    ours, theirs = pair()
    supervisor = Link(theirs)
    for message in told:
        supervisor.tell(message)
    assert left_before(ours, wait_s=0.05) == left
    theirs.close()
    assert left_before(ours, wait_s=60.0) == Before(None), "one that is gone is not waited for"
