"""What goes first: frames thinned from the oldest file, then the oldest frames, and incidents last."""

from __future__ import annotations

from itertools import count

import pytest

from edge.retention import (
    BLACKBOX,
    DROPPED,
    FRAMES,
    FULL,
    INCIDENT,
    LEVELS,
    THINNED,
    TOO_OLD,
    Choice,
    Held,
    least,
    too_old,
)

DAY_NS = 86_400 * 10**9


def _held(*kinds: tuple[str, int], end_ns: int = 0) -> list[Held]:
    numbers = count(1)
    return [Held(next(numbers), kind, end_ns, end_ns, segment, 0, 10) for kind, segment in kinds]


def test_every_second_record_of_the_oldest_file_goes_first() -> None:
    held = _held((FRAMES, 1), (INCIDENT, 1), (FRAMES, 1), (FRAMES, 1), (FRAMES, 2), (FRAMES, 2))
    assert least(held, {1: 0, 2: 0}) == Choice(1, (3,), THINNED)


def test_the_file_that_was_thinned_least_goes_before_an_older_one() -> None:
    held = _held(*[(FRAMES, 1)] * 4, *[(FRAMES, 2)] * 4)
    assert least(held, {1: 1, 2: 0}) == Choice(2, (6, 8), THINNED)
    assert least(held, {1: 1, 2: 1}) == Choice(1, (2, 4), THINNED)


def test_what_is_as_thin_as_it_gets_goes_whole_and_a_disk_that_takes_nothing_goes_there_at_once() -> None:
    held = _held(*[(FRAMES, 1)] * 4, *[(FRAMES, 2)] * 4)
    assert least(held, {1: LEVELS, 2: LEVELS - 1}) == Choice(2, (6, 8), THINNED)
    assert least(held, {1: LEVELS, 2: LEVELS}) == Choice(1, (1, 2, 3, 4), FULL)
    assert least(held, {1: 0, 2: 0}, thin=False) == Choice(1, (1, 2, 3, 4), FULL)
    assert least(_held((FRAMES, 3)), {3: 0}) == Choice(3, (1,), FULL)


@pytest.mark.parametrize(
    ("kinds", "goes"),
    [
        ((INCIDENT, DROPPED, BLACKBOX, FRAMES), 4),
        ((INCIDENT, DROPPED, BLACKBOX), 3),
        ((DROPPED, INCIDENT), 2),
    ],
)
def test_black_boxes_wait_for_frames_and_incidents_for_black_boxes(kinds: tuple[str, ...], goes: int) -> None:
    choice = least(_held(*[(kind, 1) for kind in kinds]), {1: 0})
    assert choice == Choice(1, (goes,), FULL)


def test_nothing_that_waits_is_nothing_to_give_up() -> None:
    assert least([], {}) is None
    assert least(_held((DROPPED, 1)), {1: 0}) is None


def test_frames_go_after_their_days_and_incidents_do_not() -> None:
    old = _held((FRAMES, 1), (INCIDENT, 1), (FRAMES, 2))
    new = [h._replace(number=10 + k) for k, h in enumerate(_held(*[(FRAMES, 3)] * 6, end_ns=2 * DAY_NS))]
    frames = [h for h in old + new if h.kind == FRAMES]
    assert too_old(frames, 1.0) == [Choice(1, (1,), TOO_OLD), Choice(2, (3,), TOO_OLD)]
    assert too_old(frames, 2.0) == []


def test_one_wrong_stamp_throws_nothing_away() -> None:
    held = [h._replace(number=k, end_ns=k) for k, h in enumerate(_held(*[(FRAMES, 1)] * 8))]
    for wrong in range(8):
        frames = [h._replace(end_ns=400 * DAY_NS) if h.number == wrong else h for h in held]
        assert too_old(frames, 7.0) == []
