"""The sender: incidents first, live frames at once, history only in what is left of the line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.outbox import BACKFILL, LIVE, URGENT, Outbox, OutboxSettings, Record
from edge.retention import BLACKBOX, DROPPED, FRAMES, INCIDENT
from edge.sender import Sender, SenderSettings
from edge.uplink import Report
from tests.support.outbox import S, put

DAY_S = 86_400


@dataclass
class Line:
    """An uplink that a test can break; what is sent arrives when the test says so."""

    up: bool = True
    sent: list[tuple[str, Record]] = field(default_factory=list)
    flying: list[Record] = field(default_factory=list)
    refuses: bool = False

    def send(self, lane: str, record: Record) -> bool:
        if self.refuses:
            return False
        self.sent.append((lane, record))
        self.flying.append(record)
        return True

    def report(self) -> Report:
        numbers = [r.number for r in self.flying]
        self.flying = []
        return Report(numbers, []) if self.up else Report([], numbers)

    def hear(self) -> list[bytes]:
        return []

    def cost(self, lane: str, record: Record) -> int:
        return len(record.payload)

    def close(self) -> Report:
        return self.report()

    def ids(self, since: int = 0) -> list[str]:
        return [f"{lane}:{r.id[3:]}" for lane, r in self.sent[since:]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _sender(folder: Path, **settings: int) -> tuple[Sender, Line, Outbox]:
    box, line = Outbox(folder, "P1", OutboxSettings(live_age_s=30)), Line()
    return Sender(box, line, SenderSettings(**settings)), line, box


def test_incidents_go_first_then_live_frames_then_history(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path)
    for n, (kind, at_s) in enumerate([(FRAMES, 100), (FRAMES, 990), (BLACKBOX, 900), (INCIDENT, 995)]):
        put(box, kind, n, at_s=at_s)
    sender.step(1000 * S)
    assert line.ids() == [f"{URGENT}:3", f"{URGENT}:2", f"{LIVE}:1"]
    sender.step(1001 * S)
    assert line.ids()[3:] == [f"{BACKFILL}:0"]
    sender.step(1002 * S)
    assert sum(box.waiting.values()) == 0
    assert {lane: n for lane, (n, _) in sender.sent.items()} == {URGENT: 2, LIVE: 1, BACKFILL: 1}


def test_after_an_outage_history_never_holds_up_what_is_live(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path, backfill_bytes=5000)
    line.up = False
    for n in range(200):  # 2,000 s without a line
        put(box, FRAMES, n, 1000, at_s=10 * n)
        sender.step(round((10 * n + 1) * S))
    assert box.waiting[FRAMES] == 200
    line.up, begins = True, len(line.sent)
    waited: list[float] = []
    for k in range(60):  # ten frames a second arrive, and a new batch every second
        now_s = 2001 + k
        put(box, FRAMES, 1000 + k, 1000, at_s=now_s - 1)
        at = len(line.sent)
        sender.step(round(now_s * S))
        assert f"{LIVE}:{1000 + k}" in line.ids(at)
        later = [r for lane, r in line.sent[at:] if lane == BACKFILL]
        assert sum(len(r.payload) for r in later) <= 5000
        waited.append(now_s)
        sender.step(round((now_s + 0.5) * S))
    back = [r for lane, r in line.sent[begins:] if lane == BACKFILL]
    assert [r.t_ns for r in back] == sorted(r.t_ns for r in back)
    assert {r.id for r in back} >= {f"id-{n}" for n in range(150)}
    assert len({r.id for r in back}) == len(back)


def test_what_does_not_arrive_goes_again_by_the_lane_of_its_age(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path)
    line.up = False
    put(box, FRAMES, 1, at_s=100)
    for now_s in (101, 111):
        sender.step(now_s * S)
    assert line.ids() == [f"{LIVE}:1", f"{LIVE}:1"]
    sender.step(133 * S)
    assert line.ids()[2:] == [f"{BACKFILL}:1"]
    assert sender.failures == 2
    assert box.waiting[FRAMES] == 1


def test_a_record_that_nobody_takes_holds_up_neither_live_frames_nor_history(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path, backfill_bytes=500)
    good = line.report

    def report() -> Report:
        refused = {r.number for r in line.flying if r.kind == INCIDENT}  # too large for whoever takes it
        arrived = set(good().delivered)
        return Report(sorted(arrived - refused), sorted(refused))

    line.report = report  # type: ignore[method-assign]
    put(box, INCIDENT, 0, 5000, at_s=0)
    for n in range(1, 60):
        put(box, FRAMES, n, at_s=n)
    for k in range(100):
        now_s = 1000 + k / 10
        if k % 10 == 0:
            put(box, FRAMES, 200 + k, at_s=now_s)
        sender.step(round(now_s * S))
    assert box.waiting == {INCIDENT: 1, DROPPED: 0, BLACKBOX: 0, FRAMES: 0}
    assert sender.failures > 2


def test_a_line_that_takes_nothing_loses_nothing(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path)
    line.refuses = True
    for n in range(5):
        put(box, FRAMES if n % 2 else INCIDENT, n, at_s=100)
    sender.step(101 * S)
    assert line.sent == []
    line.refuses = False
    sender.step(102 * S)
    assert len(line.sent) == 5


def test_no_more_is_on_its_way_than_allowed(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path, live_bytes=3000)
    line.report = lambda: Report([], [])  # type: ignore[method-assign] # nothing ever comes back
    for n in range(10):
        put(box, FRAMES, n, 1000, at_s=100)
    for k in range(5):
        sender.step((101 + k) * S)
    assert len(line.sent) <= 4


def test_a_day_over_its_budget_sends_no_history_and_the_next_does(tmp_path: Path) -> None:
    sender, line, box = _sender(tmp_path, budget_bytes=2500, backfill_bytes=1000)
    for n in range(10):
        put(box, FRAMES, n, 1000, at_s=n)
    for k in range(20):
        sender.step((DAY_S + k) * S)
    assert 2500 <= sender.day_bytes <= 4500
    count = len(line.sent)
    put(box, INCIDENT, 50, at_s=DAY_S)
    put(box, FRAMES, 51, at_s=DAY_S + 20)
    sender.step((DAY_S + 21) * S)
    assert line.ids(count) == [f"{URGENT}:50", f"{LIVE}:51"]
    sender.step((DAY_S + 22) * S)
    sender.step(2 * DAY_S * S)
    assert line.ids(count + 2) != []
    assert sender.day_bytes == 0
