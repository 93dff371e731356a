"""Cells that leave their own place, from d_soc made by hand."""

from typing import Any

import numpy as np
import pytest

from operators.kernels import residuals as kernel
from schemas.frames import FrameBlock
from schemas.quality import FROZEN, SWEEP_SKEW
from tests.support.enriched import enriched, said

CFG = kernel.ResidualsConfig(50.0)
DT = 300.0
C = 32
PER_DAY = int(86_400 / DT)


SLOPE_V = 0.8
DOCV = np.full(201, SLOPE_V)


def quiet(days: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A pack that stands at 80 and at 30 % SOC each day; cells with offsets of 0.5 % and capacities within 2 %."""
    n = int(days * PER_DAY)
    rng = np.random.default_rng(seed)
    z = np.interp(np.arange(n) * DT % 86_400.0 / 3600.0, [0, 8, 12, 20, 24], [0.8, 0.8, 0.3, 0.3, 0.8])
    own = rng.normal(0, 5e-3, C) - (z[:, None] - 0.5) * rng.normal(0, 0.02, C)
    return z, own + rng.normal(0, 8e-4, (n, C))


def run(n: int, state: Any = None, *, sends_mask: bool = True, **columns: Any) -> list[tuple[int, str, int, int]]:
    if sends_mask:
        columns.setdefault("context", {"balancing_mask": np.zeros(n, np.uint64)})
    block = block_of(n, **columns)
    return said(kernel.step(CFG, kernel.ResidualsState.empty(1, C, 4) if state is None else state, block, DOCV))


def block_of(n: int, **columns: Any) -> FrameBlock:
    """Make frames whose voltages are those of `d_soc`, at rest throughout."""
    columns.setdefault("cell_v", 3.7 + SLOPE_V * columns["d_soc"])
    return enriched(np.arange(n) * DT, cells=C, **columns)


def leaking(days: float, ohm: float, from_day: float, cell: int = 9) -> tuple[np.ndarray, np.ndarray, int]:
    z, d_soc = quiet(days)
    at = int(from_day * PER_DAY)
    d_soc[at:, cell] -= 3.7 / ohm / 50.0 / 3600.0 * DT * np.arange(len(z) - at)
    return z, d_soc, at


def test_offsets_and_capacities_of_its_own_are_no_fault() -> None:
    z, d_soc = quiet(20)
    assert run(len(z), z_med=z, d_soc=d_soc) == []


@pytest.mark.parametrize(("ohm", "hours"), [(10.0, 4.0), (30.0, 8.0), (100.0, 40.0)])
def test_an_internal_short_is_named_a_leak_in_time(ohm: float, hours: float) -> None:
    z, d_soc, at = leaking(12, ohm, 7)
    found = run(len(z), z_med=z, d_soc=d_soc)
    assert {f[2] for f in found} == {9}
    leaks = [f for f in found if f[1] == "leak" and f[3] >= 2]
    assert 0 < (leaks[0][0] - at) * DT / 3600 <= hours


def test_the_leak_current_is_that_of_the_short() -> None:
    z, d_soc, _ = leaking(8, 10.0, 7)
    block = block_of(len(z), z_med=z, d_soc=d_soc, context={"balancing_mask": np.zeros(len(z), np.uint64)})
    whole, real = kernel.step(CFG, kernel.ResidualsState.empty(1, C, 4), block, DOCV)
    assert real[whole[:, 1] == kernel._LEAK][0, 0] == pytest.approx(0.37, rel=0.25)


@pytest.mark.parametrize("by", [0.02, -0.02])
@pytest.mark.parametrize("lag_h", [0.1, 1.0, 3.0])
def test_a_voltage_that_jumps_is_a_step_and_no_leak_however_long_the_estimate_takes(by: float, lag_h: float) -> None:
    z, d_soc = quiet(10)
    at = 7 * PER_DAY
    cell_v = 3.7 + SLOPE_V * d_soc
    cell_v[at:, 4] += SLOPE_V * by
    d_soc[at:, 4] += by * (1.0 - np.exp(-np.arange(len(z) - at) * DT / 3600.0 / lag_h))
    found = run(len(z), z_med=z, d_soc=d_soc, cell_v=cell_v)
    assert [f[1:] for f in found] == [("cell_offset", 4, 1), ("cell_step", 4, 1), ("cell_offset", 4, 0)]
    assert (found[0][0] - at) * DT <= 86_400.0


def test_the_size_of_a_step_is_that_of_the_voltage() -> None:
    z, d_soc = quiet(10)
    d_soc[7 * PER_DAY :, 4] -= 0.025
    block = block_of(len(z), z_med=z, d_soc=d_soc, context={"balancing_mask": np.zeros(len(z), np.uint64)})
    whole, real = kernel.step(CFG, kernel.ResidualsState.empty(1, C, 4), block, DOCV)
    assert real[whole[:, 1] == kernel._STEP][0, 0] == pytest.approx(-0.02, rel=0.15)


@pytest.mark.parametrize("loss", [0.1, 0.2])
def test_a_cell_that_loses_capacity_at_once_neither_leaks_nor_stays(loss: float) -> None:
    z, d_soc = quiet(10)
    at = 7 * PER_DAY
    d_soc[at:, 4] -= loss * (z[at] - z[at:])
    found = run(len(z), z_med=z, d_soc=d_soc)
    assert {f[1] for f in found} == {"cell_offset"}


def test_what_moves_many_cells_at_once_is_in_none_of_them() -> None:
    z, d_soc = quiet(9)
    d_soc[7 * PER_DAY :, ::4] += 0.03
    assert run(len(z), z_med=z, d_soc=d_soc) == []


def test_what_moves_a_neighbourhood_is_in_none_of_its_cells() -> None:
    z, d_soc = quiet(9)
    d_soc[7 * PER_DAY :, 10:14] += 0.03
    found = run(len(z), z_med=z, d_soc=d_soc)
    assert len({f[2] for f in found}) in {0, 4}  # few beside many neighbours are cells of their own
    d_soc[7 * PER_DAY :, 10:20] += 0.03
    assert run(len(z), z_med=z, d_soc=d_soc) == []


def test_charge_that_balancing_takes_is_no_leak() -> None:
    z, d_soc = quiet(16)
    n = len(z)
    on = (np.arange(n) % PER_DAY) < 36  # three hours each night
    taken = np.cumsum(on & (np.arange(n) > 7 * PER_DAY)) * 2e-3 * DT / 3600.0
    d_soc[:, 6] += 0.02 - taken
    found = run(n, z_med=z, d_soc=d_soc, context={"balancing_mask": np.where(on, np.uint64(1 << 6), np.uint64(0))})
    assert found == []


def test_a_leak_is_found_between_nights_of_balancing() -> None:
    z, d_soc, at = leaking(12, 30.0, 7)
    on = (np.arange(len(z)) % PER_DAY) < 36
    found = run(len(z), z_med=z, d_soc=d_soc, context={"balancing_mask": np.where(on, np.uint64(1), np.uint64(0))})
    assert ("leak", 9, 2) in {f[1:] for f in found}
    assert 0 < (found[0][0] - at) * DT / 3600 <= 24.0


@pytest.mark.parametrize("columns", [{"quality": FROZEN}, {"quality": SWEEP_SKEW}, {"lane": 1}, {"d_soc_std": 0.05}])
def test_frames_that_cannot_be_believed_teach_nothing(columns: dict[str, Any]) -> None:
    z, d_soc, _ = leaking(9, 10.0, 7)
    state = kernel.ResidualsState.empty(1, C, 4)
    found = run(len(z), state, z_med=z, d_soc=d_soc, **columns)
    assert [f for f in found if f[1] in {"leak", "cell_offset"}] == []
    assert state.look_ns[0] == 0


def test_the_first_hour_is_silent() -> None:
    z, d_soc = quiet(1 / 24)
    d_soc[:, 3] -= 0.05
    assert run(len(z), z_med=z, d_soc=d_soc) == []


def test_a_pack_that_stands_for_months_keeps_a_positive_covariance() -> None:
    n = 90 * PER_DAY
    state = kernel.ResidualsState.empty(1, C, 4)
    assert run(n, state, z_med=0.71, d_soc=np.random.default_rng(3).normal(0, 1e-4, (n, C))) == []
    a, b, d = state.cov[0]
    assert a > 0
    assert a * d - b * b >= 0
    assert np.abs(state.soc_slope).max() < 0.05


def test_a_vehicle_that_does_not_say_when_it_balances_is_judged_with_more_slack() -> None:
    z, d_soc = quiet(9)
    d_soc[7 * PER_DAY :, 4] -= 0.01
    assert run(len(z), z_med=z, d_soc=d_soc) != []
    assert run(len(z), sends_mask=False, z_med=z, d_soc=d_soc) == []


def test_refuses_a_pack_without_capacity() -> None:
    with pytest.raises(ValueError, match="capacity_ah must be > 0; got 0"):
        kernel.ResidualsConfig(0.0)
