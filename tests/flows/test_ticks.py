"""Wall time comes in as items, to every shard, until the other input has ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from flows import ticks
from flows.ticks import EVERY, TickSource, to_every_shard
from schemas.events import Tick


def test_ticks_carry_the_clock_that_was_given() -> None:
    clock = iter([5, 7])
    part = TickSource(now=lambda: next(clock)).build_part("ticks", "ticks", None)
    assert [part.next_batch(), part.next_batch()] == [[Tick(5)], [Tick(7)]]


def test_a_tick_comes_every_second_however_long_a_batch_took() -> None:
    part = TickSource().build_part("ticks", "ticks", None)
    first = part.next_awake()
    assert first is not None
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)
    part.next_batch()
    part.next_batch()
    assert part.next_awake() == first + 2 * EVERY


def test_a_clock_that_is_set_ahead_makes_one_tick_and_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    part = TickSource().build_part("ticks", "ticks", None)
    ahead = datetime.now(UTC) + timedelta(days=1)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.fromtimestamp(ahead.timestamp(), tz)

    monkeypatch.setattr(ticks, "datetime", Clock)
    part.next_batch()
    assert part.next_awake() == ahead


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
