"""Cells apart from their pack at low current."""

from typing import Any

import numpy as np
import pytest

from operators.kernels import spread as kernel
from schemas.quality import FROZEN, SWEEP_SKEW
from tests.support.enriched import enriched, said

CFG = kernel.SpreadConfig(60.0)
DOCV = np.full(201, 0.6)
DT = 120.0
CELLS = 32


def run(dv: Any, hours: float = 24.0, docv: np.ndarray = DOCV, **columns: Any) -> list[tuple[int, str, int, int]]:
    """Let cells sit `dv` (C,) or (N, C) V off 3.7 V, with a millivolt of noise."""
    n = int(hours * 3600 / DT)
    rng = np.random.default_rng(1)
    v = 3.7 + np.broadcast_to(dv, (n, CELLS)) + rng.normal(0, 1e-3, (n, CELLS))
    block = enriched(np.arange(n) * DT, cells=CELLS, cell_v=v, **columns)
    return said(kernel.step(CFG, kernel.SpreadState.empty(1, CELLS, 4), block, docv))


def off(**cells: float) -> np.ndarray:
    dv = np.random.default_rng(2).normal(0, 2e-3, CELLS)
    for name, v in cells.items():
        dv[int(name[1:])] = v
    return dv


def test_a_pack_with_ordinary_spread_is_silent() -> None:
    assert run(off(), hours=100) == []


def test_a_cell_low_from_the_first_day_is_named_after_the_settling_time() -> None:
    found = run(off(c9=-0.025))
    assert [f[1:] for f in found] == [("cell_spread", 9, 1)]
    assert found[0][0] * DT / 3600 == pytest.approx(CFG.settle_h, abs=1.1)


def test_spread_is_told_since_first_seen_or_since_a_cell_parted_from_the_others() -> None:
    n = int(300 * 3600 / DT)
    late = np.broadcast_to(off(), (n, CELLS)).copy()
    began = n // 2
    late[began:, 9] -= 0.05 * np.arange(n - began) / (n - began)
    for dv, truth in ((off(c9=-0.025), 0), (late, began)):
        v = 3.7 + np.broadcast_to(dv, (n, CELLS))
        block = enriched(np.arange(n) * DT, cells=CELLS, cell_v=v)
        whole, _ = kernel.step(CFG, kernel.SpreadState.empty(1, CELLS, 4), block, DOCV)
        assert whole[0, 3] == 9
        late_h = (whole[0, 5] - block.t_ns[truth]) / 3.6e12
        assert late_h == 0 if truth == 0 else abs(late_h) < 36


def test_three_bad_cells_do_not_hide_each_other() -> None:
    assert {f[2] for f in run(off(c3=-0.05, c14=-0.06, c25=-0.04))} == {3, 14, 25}


def test_a_module_that_sits_apart_is_no_weak_cell() -> None:
    dv = off()
    dv[:12] += 0.02
    assert run(dv) == []


def test_a_cell_apart_from_its_module_is_named_and_the_module_is_not() -> None:
    dv = off()
    dv[20:] -= 0.008
    dv[26] = -0.03
    assert [f[2] for f in run(dv)] == [26]


def test_a_block_of_high_cells_is_raised_at_once_gaps_included() -> None:
    dv = off()
    dv[20:30] += 0.06
    dv[24] = 0.02  # leans the same way
    found = run(dv)
    assert len({f[0] for f in found}) == 1
    assert [f[2] for f in found] == list(range(20, 30))


def test_a_step_worsens_what_is_raised() -> None:
    n = int(72 * 3600 / DT)
    dv = np.tile(off(c9=-0.02), (n, 1))
    dv[n // 2 :, 9] = -0.12
    assert [f[1:] for f in run(dv, hours=72)] == [("cell_spread", 9, 1), ("cell_spread", 9, 2)]


def test_a_spread_at_a_knee_of_the_curve_counts_as_what_it_is_in_charge() -> None:
    steep = np.full(201, 20.0)  # V per unit SOC: 100 mV are half a percent
    assert run(off(c9=-0.1), docv=steep) == []
    assert run(off(c9=-0.1)) != []


@pytest.mark.parametrize(
    "columns",
    [
        {"quality": FROZEN},
        {"quality": SWEEP_SKEW},
        {"lane": 1},
        {"current_a": 20.0},
        {"current_a": np.nan},
        {"context": {"balancing_mask": np.ones(720, np.uint64)}},
    ],
)
def test_what_falsifies_a_spread_is_no_sample(columns: dict[str, Any]) -> None:
    assert run(off(c9=-0.1), **columns) == []


def test_a_cell_that_returns_clears() -> None:
    n = int(400 * 3600 / DT)
    dv = np.tile(off(c9=-0.025), (n, 1))
    dv[1000:, 9] = 0.0
    assert [f[3] for f in run(dv, hours=400)] == [1, 0]


def test_refuses_a_pack_without_capacity() -> None:
    with pytest.raises(ValueError, match="capacity_ah must be > 0; got -1"):
        kernel.SpreadConfig(-1.0)


def test_a_cell_on_a_knee_that_the_median_has_not_reached_counts_by_its_charge() -> None:
    knee = np.where(np.arange(201) < 180, 0.1, 10.0)  # V per unit SOC
    off_knee = run(off(c9=0.06), docv=knee, z_med=0.895)  # half a percent to the knee, then .6 % more
    assert off_knee == run(off(), docv=knee, z_med=0.895)
    assert [f[2] for f in run(off(c9=0.06), docv=knee, z_med=0.5)] == [9]  # 38 % of charge: a volt is a volt
