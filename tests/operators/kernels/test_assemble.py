from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.kernels.assemble import NEVER, STEP_NS, closings, event_time, period_of, read_held


def slow_event_time(t: list[int]) -> list[int]:
    out: list[int] = []
    for i, now in enumerate(t):
        back = i > 0 and now - t[i - 1] < -STEP_NS
        out.append(now if i == 0 or back else max(now, out[-1]))
    return out


times = st.lists(st.integers(0, 40).map(lambda x: x * STEP_NS // 4), min_size=1, max_size=40)


@given(times, st.integers(0, 40))
def test_event_time_is_the_running_maximum_since_the_clock_was_last_set_back(t: list[int], cut: int) -> None:
    want = slow_event_time(t)
    whole = event_time(np.array(t), NEVER, NEVER)
    assert whole.tolist() == want
    cut = min(cut, len(t))
    first = event_time(np.array(t[:cut], np.int64), NEVER, NEVER)
    last = (t[cut - 1], want[cut - 1]) if cut else (NEVER, NEVER)
    second = event_time(np.array(t[cut:], np.int64), *last)
    assert [*first.tolist(), *second.tolist()] == want


def test_a_time_on_the_grid_ends_its_own_period() -> None:
    assert period_of(np.array([0, 1, 9, 10, 11, -1, -10]), 10).tolist() == [0, 1, 1, 1, 2, 0, -1]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30), st.data())
def test_a_period_closes_once_and_only_if_something_drove_it(rows: list[tuple[int, bool]], data: st.DataObject) -> None:
    period = np.array([p for p, _ in rows])
    driven = np.array([d for _, d in rows])
    runs = np.flatnonzero(np.diff(period, append=-1))  # last row of each run
    starts = [0, *(runs[:-1] + 1).tolist()]
    want = [int(period[b]) for a, b in zip(starts, runs, strict=True) if driven[a : b + 1].any()]
    cut = data.draw(st.integers(0, len(rows)))
    open_period, flag, got = NEVER, False, []
    for part in (slice(0, cut), slice(cut, None)):
        if not period[part].size:
            continue
        _, which, flag = closings(period[part], np.flatnonzero(driven[part]), open_period, open_driven=flag)
        open_period = int(period[part][-1])
        got += which.tolist()
    assert got + ([open_period] if flag else []) == want


def test_a_reading_is_the_last_sample_up_to_it_and_nan_where_too_old_or_never() -> None:
    rows = np.array([2, 5])
    sample_ns = np.array([NEVER, 20, 50]) * np.array([1, STEP_NS, STEP_NS])
    values = np.array([[np.nan, np.nan], [1.0, 10.0], [2.0, np.nan]])
    ends = np.array([1, 2, 4, 5, 9])
    at_ns = np.array([10, 20, 30, 51, 70]) * STEP_NS
    age = np.array([5, 100]) * STEP_NS
    got = read_held(rows, sample_ns, values, ends, at_ns, age)
    nan = np.nan
    np.testing.assert_array_equal(got, [[nan, nan], [1, 10], [nan, 10], [2, nan], [nan, nan]])


def test_a_sample_from_before_the_clock_was_set_back_is_not_available() -> None:
    got = read_held(
        np.zeros(0, np.int64),
        np.array([100 * STEP_NS]),
        np.array([[1.0]]),
        np.array([0, 0]),
        np.array([40, 99]) * STEP_NS,
        np.array([10 * STEP_NS]),
    )
    np.testing.assert_array_equal(got, [[np.nan], [1.0]])
