"""The small rules about one pack's line, called from compiled code as the walk does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from operators.kernels import lines

S = 10**9


@njit
def _expected(line, q):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    return lines.expected_ns(line[0], q), lines.period_s(line[0])


@njit
def _follows(line, t, q):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    return lines.follows(line[0], t, q)


@njit
def _mark(t, q, content):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    return lines.mark_of(t, q, content)


def line(*periods: float, last_s: int = 1000, last_seq: int = 50, real_seq: int = 50) -> Any:
    made: Any = lines.fresh(1)
    made["last_t"], made["last_seq"], made["real_seq"] = last_s * S, last_seq, real_seq
    for name, period in zip(("period", "period1", "period2"), periods, strict=False):
        made[name] = period
    return made


@pytest.mark.parametrize(
    ("periods", "median"),
    [((), np.nan), ((2.0,), 2.0), ((60.0, 1.0), 1.0), ((1.0, 3600.0, 1.0), 1.0), ((3.0, 1.0, 2.0), 2.0)],
)
def test_the_period_is_the_median_of_the_last_three(periods: tuple[float, ...], median: float) -> None:
    assert _expected(line(*periods), 51)[1] == pytest.approx(median, nan_ok=True)


def test_the_expected_time_goes_on_from_the_last_frame_by_its_period() -> None:
    for q, seconds in ((51, 1002), (55, 1010), (48, 996), (50 + 10**6, 1000), (-1, 1000)):
        assert _expected(line(2.0, 2.0, 2.0), q)[0] == seconds * S
    assert _expected(line(), 51)[0] == 1000 * S


def test_the_next_number_follows_only_within_two_periods_of_each_number() -> None:
    one = line(2.0, 2.0, 2.0)
    assert _follows(one, 1002 * S, 51)
    assert not _follows(one, 1004 * S, 51)
    assert not _follows(one, 1002 * S, 52)
    assert not _follows(one, 1000 * S, 51)
    assert not _follows(line(), 1002 * S, 51)
    assert _follows(line(2.0, 2.0, 2.0, last_seq=51), 1005 * S, 52)  # 51 was refused


def test_marks_differ_by_time_number_and_content_and_are_never_the_empty_one() -> None:
    rng = np.random.default_rng(0)
    base = _mark(10, 20, 30)
    assert base not in {_mark(11, 20, 30), _mark(10, 21, 30), _mark(10, 20, 31)}
    draws = [_mark(*(int(x) for x in rng.integers(-(2**62), 2**62, 3))) for _ in range(2000)]
    assert len(set(draws)) == 2000
    assert min(draws) > 0


def test_a_new_line_has_no_time_no_number_and_no_period() -> None:
    made = lines.fresh(3)
    assert made["last_seq"].tolist() == [-1, -1, -1]
    assert made["newest"].tolist() == [0, 0, 0]
    assert np.isnan(made["period"]).all()
    room = lines.room(5)
    assert (len(room.released), len(room.refused), len(room.gaps)) == (10, 5, 20)  # live, and in a copy
