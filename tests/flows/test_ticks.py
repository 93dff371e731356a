"""Wall time comes in as items, to every shard, until the other input has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from flows import ticks
from flows.settings import RecoverySettings
from flows.ticks import AWAKE, EVERY, TickSource, to_every_shard
from schemas.events import Tick
from tests.support.fleet import BEGIN_NS, Pausing, cut_every, drive, run

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Clock(datetime):
    """A clock that stands where it was set."""

    at = BEGIN

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        return cls.fromtimestamp(cls.at.timestamp(), tz)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    Clock.at = BEGIN
    monkeypatch.setattr(ticks, "datetime", Clock)
    return Clock


def test_ticks_carry_the_clock_that_was_given(clock: type[Clock]) -> None:
    given = iter([5, 7])
    part = TickSource(now=lambda: next(given)).build_part("ticks", "ticks", None)
    first = part.next_batch()
    clock.at += EVERY
    assert [first, part.next_batch()] == [[Tick(5)], [Tick(7)]]


def test_a_tick_comes_every_second_however_long_a_batch_took(clock: type[Clock]) -> None:
    part = TickSource(now=lambda: 0).build_part("ticks", "ticks", None)
    assert part.next_awake() == BEGIN
    came = []
    for ms in (0, 400, 990, 1000, 1700, 2300, 2900, 3000, 3100):  # the third comes late, the fourth does not
        clock.at = BEGIN + timedelta(milliseconds=ms)
        came += [ms] * len(part.next_batch())
    assert came == [0, 1000, 2300, 3000]


def test_between_ticks_it_wakes_so_often_that_no_other_input_waits_for_it(clock: type[Clock]) -> None:
    part = TickSource().build_part("ticks", "ticks", None)
    for _ in range(3):
        part.next_batch()
        assert part.next_awake() == clock.at + AWAKE
        clock.at += AWAKE
    assert EVERY / AWAKE >= 10


def test_a_clock_that_is_set_ahead_makes_one_tick_and_no_burst(clock: type[Clock]) -> None:
    part = TickSource(now=lambda: 0).build_part("ticks", "ticks", None)
    part.next_batch()
    clock.at += timedelta(days=1)
    assert [len(part.next_batch()) for _ in range(3)] == [1, 0, 0]


def test_ticks_end_with_the_other_input() -> None:
    ended = False
    part = TickSource(until=lambda: ended).build_part("ticks", "ticks", None)
    assert part.next_batch()
    ended = True
    with pytest.raises(StopIteration):
        part.next_batch()


def test_every_shard_of_every_model_gets_each_tick() -> None:
    sent = to_every_shard(["a", "b"], 3)(Tick(9))
    assert [key for key, _ in sent] == ["a/000", "a/001", "a/002", "b/000", "b/001", "b/002"]
    assert {tick for _, tick in sent} == {Tick(9)}


def test_no_epoch_holds_the_other_input_until_the_next_tick(memory: Callable[[str], Path]) -> None:
    """Thirty blocks over epochs of 20 ms, with ticks a second apart: held at each epoch they took thirty ticks."""
    came: list[int] = []

    def now() -> int:
        came.append(BEGIN_NS)
        return BEGIN_NS

    blocks = cut_every(drive(1, 0.1, 10.0), 1)[:30]
    source = Pausing(blocks, {})
    told = TickSource(now, until=lambda: source.ended)
    run(blocks, source=source, ticks=told, recovery=RecoverySettings(memory("store"), 0.02))
    assert len(came) < len(blocks) / 2
