"""Times of steps, counted in buckets."""

from __future__ import annotations

from edge.timings import STEP_US, Timings


def test_a_step_counts_in_the_first_bucket_that_is_not_too_small() -> None:
    times = Timings()
    for took_us in (STEP_US[0] - 1.0, STEP_US[0], STEP_US[0] + 1.0, STEP_US[-1] + 1.0):
        times.add(took_us)
    assert times.counts == [2, 1, *[0] * (len(STEP_US) - 2), 1]
    assert times.total_us == 3 * STEP_US[0] + STEP_US[-1] + 1.0
    assert times.longest_us == STEP_US[-1] + 1.0


def test_buckets_rise() -> None:
    assert list(STEP_US) == sorted(set(STEP_US))
