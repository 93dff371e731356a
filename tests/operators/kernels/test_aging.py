"""Resistance and capacity, from d_r0 and d_q made by hand."""

from typing import Any

import numpy as np
import pytest

from operators.kernels import aging as kernel
from schemas.quality import FROZEN, SWEEP_SKEW
from tests.support.enriched import enriched, said

CFG = kernel.AgingConfig()
DT = 300.0
C = 32
PER_DAY = int(86_400 / DT)


def run(n: int, **columns: Any) -> list[tuple[int, str, int, int]]:
    block = enriched(np.arange(n) * DT, cells=C, **columns)
    return said(kernel.step(CFG, kernel.AgingState.empty(1, C, 4), block))


def test_rising_resistance_is_found_before_a_quarter_more() -> None:
    n = 30 * PER_DAY
    rng = np.random.default_rng(4)
    d_r0 = rng.normal(0, 0.03, C) + rng.normal(0, 0.01, (n, C))
    d_r0[:, 5] += 0.5 * np.arange(n) / n
    found = run(n, d_r0=d_r0)
    assert found[0][1:] == ("resistance", 5, 1)
    assert 0.5 * found[0][0] / n < 0.25
    assert {f[2] for f in found} == {5}


def test_rising_resistance_is_told_since_its_trend_began() -> None:
    n, began = 30 * PER_DAY, 6 * PER_DAY
    d_r0 = np.random.default_rng(4).normal(0, 0.005, (n, C))
    d_r0[began:, 5] += 0.5 * np.arange(n - began) / (n - began)
    block = enriched(np.arange(n) * DT, cells=C, d_r0=d_r0)
    whole, _ = kernel.step(CFG, kernel.AgingState.empty(1, C, 4), block)
    found_ns, since_ns = block.t_ns[whole[0, 0]], whole[0, 5]
    assert abs(since_ns - block.t_ns[began]) < 0.15 * (found_ns - block.t_ns[began])


def test_a_cell_whose_resistance_leaps_has_had_it_since_the_leap() -> None:
    d_r0 = np.zeros((6 * PER_DAY, C))
    d_r0[3 * PER_DAY :, 3] = 0.5
    block = enriched(np.arange(len(d_r0)) * DT, cells=C, d_r0=d_r0)
    whole, _ = kernel.step(CFG, kernel.AgingState.empty(1, C, 4), block)
    assert 0 <= whole[0, 5] - block.t_ns[3 * PER_DAY] <= 3600 * 10**9


def test_an_early_guess_of_resistance_gives_way_to_a_sharper_one() -> None:
    n = 10 * PER_DAY
    d_r0 = np.zeros((n, C))
    d_r0[: n // 2, 5] = -0.12  # a first guess, while nothing was known
    std = np.where(np.arange(n) < n // 2, 0.08, 0.02)
    assert run(n, d_r0=d_r0, d_r0_std=std) == []


def test_a_cell_with_too_little_capacity_is_named_once_it_is_certain() -> None:
    n = 4 * PER_DAY
    d_q = np.zeros((n, C))
    d_q[:, 7] = -0.09
    std = np.linspace(0.03, 0.004, n)
    found = run(n, d_q=d_q, d_q_std=std)
    assert [f[1:] for f in found] == [("capacity", 7, 1)]
    assert std[found[0][0]] <= CFG.q_std


@pytest.mark.parametrize("name", ["d_r0", "d_q"])
def test_what_moves_a_neighbourhood_is_in_none_of_its_cells(name: str) -> None:
    x = np.zeros((4 * PER_DAY, C))
    x[PER_DAY:, 10:22] += 0.3 if name == "d_r0" else -0.2
    assert run(len(x), **{name: x}) == []


@pytest.mark.parametrize("columns", [{"quality": FROZEN}, {"quality": SWEEP_SKEW}, {"lane": 1}, {"d_r0_std": 0.2}])
def test_frames_that_cannot_be_believed_raise_nothing(columns: dict[str, Any]) -> None:
    d_r0 = np.zeros((4 * PER_DAY, C))
    d_r0[PER_DAY:, 3] = 1.0
    assert run(len(d_r0), d_r0=d_r0) != []
    assert run(len(d_r0), d_r0=d_r0, **columns) == []


def test_what_has_fallen_back_clears() -> None:
    d_r0 = np.zeros((6 * PER_DAY, C))
    d_r0[2 * PER_DAY : 4 * PER_DAY, 3] = 0.5
    assert [f[1:] for f in run(len(d_r0), d_r0=d_r0)] == [("resistance", 3, 2), ("resistance", 3, 0)]


def test_refuses_thresholds_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"r0_rise and q_loss must be > 0; got 0, 0\.07"):
        kernel.AgingConfig(r0_rise=0)
