"""Pace: event time against a clock that the test turns."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.pace import LONGEST_S, Pace, slices
from schemas.events import Tick
from schemas.frames import FrameBlock, concat
from tests.support.blocks import assert_same_frames, blocks
from tests.support.frames import frames

NS = 10**9
T0 = 1_700_000_000 * NS  # event time
NOW = 1_800_000_000 * NS  # the clock


class Clock:
    def __init__(self) -> None:
        self.ns = NOW

    def __call__(self) -> int:
        return self.ns


def wait_s(pace: Pace, t_s: float) -> float:
    """Say how long a frame must wait from now."""
    due = pace.due(T0 + round(t_s * NS))
    return 0.0 if due is None else due.timestamp() - pace.now() / NS


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_a_frame_is_due_as_long_after_the_first_as_it_was_recorded_over_speed(speed: float) -> None:
    pace = Pace(speed, Clock())
    assert pace.due(T0) is None
    for t_s in (1, 10, 30):
        assert wait_s(pace, t_s) == pytest.approx(t_s / speed, abs=1e-5)


def test_a_frame_is_due_at_its_time_and_not_a_moment_before() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    pace.due(T0)
    assert pace.due(T0 + 2 * NS) == datetime.fromtimestamp(NOW / NS + 2, UTC)
    clock.ns += 2 * NS - 1
    assert pace.due(T0 + 2 * NS) is not None
    clock.ns += 1
    assert pace.due(T0 + 2 * NS) is None


def test_a_late_replay_catches_up_instead_of_shifting() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    pace.due(T0)
    clock.ns += 20 * NS  # the flow stood still
    assert pace.due(T0 + 5 * NS) is None
    assert wait_s(pace, 25) == pytest.approx(5, abs=1e-5)


def test_a_long_silence_is_shortened_and_what_follows_keeps_its_pace() -> None:
    clock = Clock()
    pace = Pace(10.0, clock)
    pace.due(T0)
    night_s = 8 * 3600
    assert wait_s(pace, night_s) == pytest.approx(LONGEST_S / 10, abs=1e-5)
    assert wait_s(pace, night_s) == pytest.approx(LONGEST_S / 10, abs=1e-5)  # asked again while waiting
    clock.ns += round(LONGEST_S / 10 * NS)
    assert pace.due(T0 + night_s * NS) is None
    assert wait_s(pace, night_s + 10) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("wrong_s", [300, 3e9, -1.6e9])
def test_a_frame_with_a_wrong_clock_neither_stops_a_replay_nor_lets_it_run(wrong_s: float) -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    pace.due(T0)
    held = wait_s(pace, wrong_s)
    assert held <= LONGEST_S + 1e-5
    clock.ns += round(held * NS)
    after = wait_s(pace, 1)
    assert after <= LONGEST_S + 1e-5
    clock.ns += round(after * NS)
    assert wait_s(pace, 2) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be > 0 or max; got"):
        Pace(speed, Clock())


@given(blocks(), st.integers(1, 2**40))
def test_slices_change_no_row(block: FrameBlock, step_ns: int) -> None:
    cut = [b for b in slices([block], step_ns) if isinstance(b, FrameBlock)]
    assert_same_frames(concat(cut), block)
    for part in cut:
        assert len(set((part.t_ns // step_ns).tolist())) <= 1


def test_slices_cut_where_the_grid_changes_and_pass_the_rest() -> None:
    block = frames([0, 0.4, 0.9, 1.0, 1.5, 3.2])
    cut = list(slices([Tick(1), block, Tick(2)], NS))
    assert [len(b) if isinstance(b, FrameBlock) else b for b in cut] == [Tick(1), 3, 2, 1, Tick(2)]
