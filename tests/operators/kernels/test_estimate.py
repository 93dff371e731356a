"""Laws of the walk as a whole: what may change a result, and what may not."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels import estimate as kernel
from operators.kernels import slots
from operators.kernels.parameters import parameters
from schemas.frames import BACKFILL
from schemas.quality import FROZEN, NO_CELLS
from tests.support.circuit import drive, one_branch_pack, run, simulate

CFG = kernel.EstimateConfig()
PER_CELL = ("d_soc", "d_r0", "d_q", "resid_v")


def frames(rng: np.random.Generator, n: int, packs: int, cells: int, probes: int) -> dict[str, np.ndarray]:
    """Draw rows of several packs with everything that may be missing or odd."""
    cell_v = rng.uniform(3.2, 4.1, (n, 1)) + rng.normal(0, 0.01, (n, cells))
    cell_v[rng.random((n, cells)) < 0.05] = np.nan
    cell_v[rng.random(n) < 0.1] = np.nan
    current = rng.normal(0, 60, n)
    current[rng.random(n) < 0.1] = np.nan
    pack_v = 3.7 * cells + rng.normal(0, 1, n)
    pack_v[rng.random(n) < 0.3] = np.nan
    temp = rng.normal(20, 10, (n, probes))
    temp[rng.random((n, probes)) < 0.1] = np.nan
    return {
        "slot": rng.integers(0, packs, n).astype(np.int32),
        "dt_s": rng.choice([0.0, 0.1, 1.0, 30.0, 5000.0, np.nan], n),
        "quality": np.where(rng.random(n) < 0.1, FROZEN, 0).astype(np.uint32),
        "lane": (rng.random(n) < 0.1).astype(np.uint8),
        "current_a": current.astype(np.float32),
        "pack_v": pack_v.astype(np.float32),
        "cell_v": cell_v.astype(np.float32),
        "temp_c": temp.astype(np.float32),
        "soc_bms": np.where(rng.random(n) < 0.3, np.nan, rng.uniform(-0.1, 1.1, n)).astype(np.float32),
    }


def walk(columns: dict[str, np.ndarray], pack: Any, packs: int, cuts: list[int]) -> dict[str, np.ndarray]:
    state = kernel.EstimateState.empty(packs, pack.series, pack.probes)
    n = len(columns["slot"])
    parts = [
        kernel.step(CFG, state, parameters(pack), **{k: v[a:b] for k, v in columns.items()})
        for a, b in zip([0, *cuts], [*cuts, n], strict=True)
    ]
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for k, v in a.items():
        np.testing.assert_array_equal(v, b[k], err_msg=k)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 96, 200]), st.sampled_from([0, 1, 16]), st.data())
def test_neither_cutting_nor_the_order_of_slots_changes_a_bit(
    seed: int, cells: int, probes: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    pack, n, packs = one_branch_pack(cells, probes), 60, 5
    columns = frames(rng, n, packs, cells, probes)
    whole = walk(columns, pack, packs, [])
    cuts = sorted(data.draw(st.sets(st.integers(0, n))))
    assert_same_bits(walk(columns, pack, packs, cuts), whole)
    renamed = {**columns, "slot": rng.permutation(packs).astype(np.int32)[columns["slot"]]}
    assert_same_bits(walk(renamed, pack, packs, []), whole)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_what_comes_out_is_in_range_whatever_goes_in(seed: int) -> None:
    pack = one_branch_pack(8, 2)
    columns = frames(np.random.default_rng(seed), 200, 3, 8, 2)
    given_columns = {k: v.copy() for k, v in columns.items()}
    out = walk(columns, pack, 3, [])
    for k, v in given_columns.items():
        np.testing.assert_array_equal(columns[k], v, err_msg=f"{k} was written to")
    known = ~np.isnan(out["soc"])
    for k in ("soc", "z_med"):
        v = out[k][known]
        assert ((v >= 0) & (v <= 1) | np.isnan(v)).all(), k
    for k in ("soc_std", "sop_discharge_10s_w", "sop_charge_10s_w", "soe_kwh", "capacity_ah", "r0_ohm"):
        v = out[k][known]
        assert (np.isfinite(v) & (v >= 0)).all(), k
    assert np.isnan(out["soc"][columns["lane"] == BACKFILL]).all()
    assert (out["soc_low_cell"][~known] == -1).all()


def test_backfilled_rows_change_nothing() -> None:
    pack = one_branch_pack(4)
    current = drive(200, seed=1)
    truth = simulate(pack, current, 1.0, 0.6)
    lane = np.zeros(200, np.uint8)
    lane[100:150] = BACKFILL
    with_them = run(pack, CFG, truth.cell_v, current, lane=lane)
    keep = lane != BACKFILL
    without = run(pack, CFG, truth.cell_v[keep], current[keep])
    assert_same_bits({k: v[keep] for k, v in with_them.items()}, without)
    assert np.isnan(with_them["d_soc"][~keep]).all()


@pytest.mark.parametrize("what", ["cell_v", "current_a", "temp_c"])
def test_estimates_recover_after_a_stretch_of_nan(what: str) -> None:
    pack = one_branch_pack(6)
    d_soc = np.array([0.0, 0.02, -0.02, 0.0, 0.0, 0.0])
    current = drive(2400, seed=2)
    truth = simulate(pack, current, 1.0, 0.7, d_soc)
    columns: dict[str, Any] = {
        "cell_v": truth.cell_v.astype(np.float32),
        "current_a": current.astype(np.float32),
        "temp_c": np.full((2400, 2), 25.0, np.float32),
    }
    columns[what][600:900] = np.nan
    v = columns.pop("cell_v")
    out = run(pack, CFG, v, columns.pop("current_a"), **columns)
    assert out["z_med"][-1] == pytest.approx(np.sort(truth.soc[-1])[2], abs=0.01)
    assert out["d_soc"][-1] == pytest.approx(d_soc, abs=3e-3)
    assert np.isfinite(out["soc"]).all()


def test_with_fewer_than_half_the_cells_the_pack_voltage_tells() -> None:
    pack = one_branch_pack(8)
    current = drive(1800, seed=3)
    truth = simulate(pack, current, 1.0, 0.7)
    cells = truth.cell_v.copy()
    cells[900:, :5] = np.nan
    pack_v = truth.cell_v.sum(1) + 8 * 0.04  # the pack sensor has an offset, which the first half shows
    out = run(
        pack,
        CFG,
        cells,
        current,
        pack_v=pack_v.astype(np.float32),
        quality=np.where(np.arange(1800) < 900, 0, NO_CELLS).astype(np.uint32),
    )
    assert (out["soc_source"][:900] == kernel.CELL).all()
    assert (out["soc_source"][900:] == kernel.PACK).all()
    assert np.abs(out["z_med"] - truth.soc[:, 0])[900:].max() < 0.015
    for k in (*PER_CELL, "d_soc_std", "d_r0_std", "d_q_std", "v_med"):
        assert np.isnan(out[k][900:]).all(), k
    assert (out["soc_low_cell"][900:] == -1).all()


def test_a_pack_without_cell_voltages_is_followed_by_its_pack_voltage() -> None:
    pack = one_branch_pack(96, 0)
    current = drive(3600, seed=4)
    truth = simulate(pack, current, 1.0, 0.5)
    out = run(pack, kernel.EstimateConfig(initial_soc=0.8), np.full((3600, 96), np.nan), current,
              pack_v=truth.cell_v.sum(1).astype(np.float32))  # fmt: skip
    assert np.abs(out["z_med"] - truth.soc[:, 0])[1200:].max() < 0.015
    np.testing.assert_array_equal(out["soc"], out["z_med"])


def test_a_repeated_time_teaches_nothing_twice() -> None:
    pack = one_branch_pack(4)
    state = kernel.EstimateState.empty(1, 4, 2)
    truth = simulate(pack, np.full(50, -20.0), 1.0, 0.6)
    run(pack, CFG, truth.cell_v, np.full(50, -20.0), state=state)
    before = {k: v.copy() for k, v in slots.arrays(state).items()}
    run(pack, CFG, truth.cell_v[-1:], np.full(1, -20.0), 0.0, state=state)
    for k, v in slots.arrays(state).items():
        np.testing.assert_array_equal(v, before[k], err_msg=k)


def test_no_row_is_fine() -> None:
    pack = one_branch_pack(4)
    out = run(pack, CFG, np.zeros((0, 4)), np.zeros(0), state=kernel.EstimateState.empty(0, 4, 2))
    assert all(len(v) == 0 for v in out.values())


def test_state_pickles_and_takes_less_than_3_4_kb_for_96_cells() -> None:
    state = kernel.EstimateState.empty(3, 96, 16)
    again = pickle.loads(pickle.dumps(state))  # noqa: S301 - its own bytes
    np.testing.assert_array_equal(again.core, state.core)
    assert slots.nbytes_per_pack(state) <= 3400


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("noise_v", 0.0, r"noise_v must be > 0; got 0\.0"),
        ("hold_s", float("nan"), "hold_s must be > 0; got nan"),
        ("initial_soc", 1.2, r"initial_soc must be in 0\.\.1, or NaN .*; got 1\.2"),
    ],
)
def test_settings_are_checked(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel.EstimateConfig(**{field: value})
