"""Hard limits: at, just below and just above; debounce, tiers, directions."""

from typing import Any

import numpy as np
import pytest

from operators.kernels import limits as kernel
from operators.kernels.extremes import extremes
from schemas.pack import PackModel, load_pack
from schemas.quality import FROZEN
from tests.support.enriched import enriched, said

PACK: PackModel = load_pack("generic-nmc@16c4t60ah")
CFG = kernel.LimitsConfig.of(PACK)


def run(cfg: kernel.LimitsConfig = CFG, **columns: Any) -> list[tuple[int, str, int, int]]:
    block = enriched(np.arange(columns.pop("n", 20)) * columns.pop("dt", 1.0), **columns)
    return said(kernel.step(cfg, kernel.LimitsState.empty(1, 16, 4), block, extremes(block)))


def bound(quantity: str, tier: str, *, over: bool, direction: str = "any") -> float:
    rows = [r for r in PACK.limits if (r.quantity, r.tier, r.over, r.direction) == (quantity, tier, over, direction)]
    return rows[0].bound


def one_cell(v: float, cell: int = 5) -> np.ndarray:
    row = np.full(16, 4.1 if v > 3.5 else 3.0, np.float32)
    row[cell] = v
    return row


@pytest.mark.parametrize(
    ("kind", "over", "tier", "level"),
    [
        ("cell_overvoltage", True, "RSL", 2),
        ("cell_overvoltage", True, "MSL", 3),
        ("cell_undervoltage", False, "RSL", 2),
        ("cell_undervoltage", False, "MSL", 3),
    ],
)
def test_a_cell_at_its_limit_is_named_and_one_millivolt_inside_is_not(
    kind: str, over: bool, tier: str, level: int
) -> None:
    at = bound("cell_v", tier, over=over)
    beyond = run(cell_v=one_cell(np.nextafter(np.float32(at), np.float32(9 if over else 0))))
    assert (kind, 5, level) in {f[1:] for f in beyond}
    inside = run(cell_v=one_cell(at - 0.001 if over else at + 0.001))
    assert level not in {f[3] for f in inside if f[1] == kind}


def test_limits_of_operation_raise_nothing() -> None:
    at = bound("cell_v", "MOL", over=True)
    assert at + 0.005 < bound("cell_v", "RSL", over=True)
    assert run(cell_v=one_cell(at + 0.005)) == []


def test_the_first_frames_count_and_one_frame_is_not_enough() -> None:
    v = bound("cell_v", "MSL", over=True) + 0.01
    found = run(cell_v=one_cell(v), dt=10.0)
    assert min(f[0] for f in found) == PACK.limits[0].min_samples - 1
    cells = np.full((20, 16), 3.9, np.float32)
    cells[7, 5] = v
    assert run(cell_v=cells, dt=10.0) == []


def test_severity_rises_once_when_the_next_tier_is_crossed() -> None:
    cells = np.full((40, 16), 3.9, np.float32)
    cells[:20, 5] = bound("cell_v", "RSL", over=True) + 0.005
    cells[20:, 5] = bound("cell_v", "MSL", over=True) + 0.005
    assert [f[3] for f in run(cell_v=cells, n=40) if f[1] == "cell_overvoltage"] == [2, 3]


def test_clears_after_a_quarter_of_an_hour_inside_the_hysteresis() -> None:
    n, v = 2000, bound("cell_v", "RSL", over=True)
    cells = np.full((n, 16), 3.9, np.float32)
    cells[:10, 5] = v + 0.005
    cells[10:500, 5] = v - 0.005  # inside the bound, not the hysteresis: neither bad nor good
    found = [f for f in run(cell_v=cells, n=n) if f[1] == "cell_overvoltage"]
    assert [f[3] for f in found] == [2, 0]
    assert found[1][0] == 500 + 900 - 1


def test_an_hour_of_flapping_at_one_hertz_is_one_raise() -> None:
    cells = np.full((3600, 16), 4.1, np.float32)
    cells[::2, 5] = bound("cell_v", "RSL", over=True) + 0.005
    assert [f[1:] for f in run(cell_v=cells, n=3600)] == [("cell_overvoltage", 5, 2)]


def test_charging_too_fast_is_no_discharge_over_current() -> None:
    amps = bound("current_a", "MSL", over=True, direction="charge") + 1.0
    assert {f[1] for f in run(current_a=amps)} == {"overcurrent_charge"}
    amps = bound("current_a", "MSL", over=True, direction="discharge") + 1.0
    assert {f[1] for f in run(current_a=-amps)} == {"overcurrent_discharge"}


@pytest.mark.parametrize("current_a", [-10.0, 0.0, 10.0, np.nan])
def test_a_hot_probe_is_named_whatever_flows(current_a: float) -> None:
    temp = np.full(4, 52.0, np.float32)
    temp[2] = bound("temp_c", "MSL", over=True, direction="charge") + 0.5
    assert ("overtemperature", 2, 3) in {f[1:] for f in run(temp_c=temp, current_a=current_a)}


def test_isolation_is_held_against_the_pack_voltage() -> None:
    least = bound("isolation_ohm_per_v", "MSL", over=False) * CFG.pack_max_v
    bad = run(context={"isolation_ohm": np.full(20, 0.99 * least, np.float32)})
    assert ("isolation", -1, 3) in {f[1:] for f in bad}
    good = run(context={"isolation_ohm": np.full(20, 1e7, np.float32)})
    assert good == []


def test_frozen_and_backfilled_frames_are_no_samples() -> None:
    cells = one_cell(bound("cell_v", "MSL", over=True) + 0.01)
    assert run(cell_v=cells, quality=FROZEN) == []
    assert run(cell_v=cells, lane=1) == []


def test_values_that_are_not_available_raise_nothing() -> None:
    assert run(cell_v=np.nan, temp_c=np.nan, current_a=np.nan, pack_v=np.nan) == []


def test_too_many_rows_are_refused_with_their_number() -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=f"at most {kernel.ROWS} RSL and MSL rows; got"):
        kernel.LimitsConfig.of(replace(PACK, limits=PACK.limits * 4))
