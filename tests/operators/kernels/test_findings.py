"""Debounce and the growing table of findings."""

from itertools import pairwise

import numpy as np
import pytest

from operators.kernels import findings
from operators.kernels.findings import ONSETS, hold, onset


def run(bad: list[int], dt_s: float, for_s: float, samples: int, clear_s: float = 60.0) -> list[bool]:
    acc, raised, out = 0.0, False, []
    for sign in bad:
        acc, raised = hold(acc, raised, sign, dt_s, for_s, samples, clear_s)
        out.append(raised)
    return out


@pytest.mark.parametrize(
    ("dt_s", "for_s", "samples", "at"), [(1.0, 5.0, 3, 5), (10.0, 5.0, 3, 3), (0.1, 0.0, 1, 1), (60.0, 0.5, 3, 3)]
)
def test_raises_after_the_time_and_the_samples_that_it_states(dt_s: float, for_s: float, samples: int, at: int) -> None:
    raised = run([1] * 10, dt_s, for_s, samples)
    assert raised.index(True) + 1 == at


def test_glitches_rarer_than_one_in_five_raise_nothing() -> None:
    assert not any(run([1, -1, -1, -1, -1] * 200, 60.0, 0.5, 3))


def test_a_value_that_flaps_every_second_is_raised_once_and_stays() -> None:
    raised = run([1, -1] * 1800, 1.0, 5.0, 3)
    changes = sum(a != b for a, b in pairwise(raised))
    assert raised[-1]
    assert changes == 1


def test_clears_after_the_quiet_time_only() -> None:
    raised = run([1, 1, 1] + [-1] * 70, 1.0, 0.0, 3)
    assert raised[2] is True
    assert raised.index(False, 3) - 2 == 60


def _since(values: list[float], *, follows: bool = True, key: int = 7) -> list[int]:
    """Give since when, in hours from the first, each of hourly values has been on its way; −1 not known."""
    hour, start = 3_600_000_000_000, 480_000 * 3_600_000_000_000
    at, minute = np.full(ONSETS, -1, np.int16), np.zeros(ONSETS, np.int32)
    told = [onset(at, minute, key, start + n * hour, x, 0.5, follows) for n, x in enumerate(values)]
    return [-1 if t < 0 else round((t - start) / hour) for t in told]


def test_what_grows_in_a_straight_line_has_done_so_since_it_was_nothing() -> None:
    told = _since([0.0] * 10 + [0.05 * k for k in range(30)])
    assert told[:20] == [-1] * 20
    assert told[20] == 20
    assert set(told[30:]) == {10}


def test_what_leaps_has_done_so_since_the_leap_and_a_value_that_settles_since_it_was_seen() -> None:
    assert _since([0.0, 0.0, 2.0, 2.0, 2.0])[2] == 2
    assert _since([0.0, 0.6, 0.8, 1.2], follows=False)[1:] == [1, 1, 1]


def test_what_falls_back_and_leaves_again_begins_anew() -> None:
    assert _since([0.6, 0.4, 0.45, 0.1, np.nan, 0.6])[2:] == [0, -1, -1, 5]


def test_values_beyond_those_that_can_be_timed_are_not_known() -> None:
    at, minute = np.full(ONSETS, -1, np.int16), np.zeros(ONSETS, np.int32)
    told = [onset(at, minute, key, 10**18, 1.0, 0.5, True) for key in range(ONSETS + 1)]
    assert told[-1] == -1
    assert min(told[:-1]) > 0


def test_a_value_that_is_not_known_neither_raises_nor_clears() -> None:
    assert not any(run([0] * 100, 1.0, 0.0, 1))
    assert all(run([1] + [0] * 1000, 1.0, 0.0, 1))


def test_a_long_silence_does_not_clear_by_itself() -> None:
    assert run([1, -1], 86_400.0, 0.0, 1) == [True, True]


def rows_of(start: int, whole: np.ndarray, real: np.ndarray, count: np.ndarray, rows: int, each: int) -> int:
    """A walk that finds `each` things in every row."""
    for n in range(start, rows):
        if count[0] + each > len(whole):
            return n
        for k in range(each):
            findings.emit(whole, real, count, n, 1, 1, k, 2, 5, 0.5, 0.1, 0.2)
    return rows


@pytest.mark.parametrize("each", [0, 1, 7])
def test_a_full_table_stops_no_walk(each: int) -> None:
    whole, real = findings.collect(rows_of, 100, each, 100, each)
    assert whole[:, [0, 3]].tolist() == [[n, k] for n in range(100) for k in range(each)]
    assert len(real) == 100 * each


def test_no_rows_are_no_findings() -> None:
    whole, real = findings.collect(rows_of, 0, 3, 0, 3)
    assert (whole.shape, real.shape) == ((0, 6), (0, 3))


def test_merging_orders_by_row_then_kind_then_subject() -> None:
    def one(row: int, kind: int, subject: int) -> findings.Found:
        return np.array([[row, kind, 1, subject, 1, 0]]), np.array([[row, 0, 0]], np.float32)

    whole, real = findings.merge([one(3, 1, 0), one(1, 2, 7), one(1, 2, 4), one(1, 0, 9)])
    assert whole[:, [0, 1, 3]].tolist() == [[1, 0, 9], [1, 2, 4], [1, 2, 7], [3, 1, 0]]
    assert real[:, 0].tolist() == [1.0, 1.0, 1.0, 3.0]
