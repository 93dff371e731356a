"""Values: closed-form cases first, then the recorded cars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from operators.kernels import plausible as kernel
from operators.kernels.plausible import PlausibleConfig, PlausibleState
from schemas.frames import BACKFILL, LIVE
from schemas.quality import (
    CELL_RANGE,
    CELL_RATE,
    CURRENT_RANGE,
    FROZEN,
    INCOMPLETE,
    NO_CELLS,
    PACK_V_RANGE,
    SUM_MISMATCH,
    SWEEP_SKEW,
    TEMP_RANGE,
)  # fmt: skip

AH = 60.0


class Line:
    """One pack's frames, 96 cells and 4 probes, with small noise so that no two are alike."""

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.current_a = rng.normal(0, 3, n).astype(np.float32)
        self.cell_v = (3.7 + rng.normal(0, 0.002, (n, 96))).astype(np.float32)
        self.pack_v = self.cell_v.sum(axis=1)
        self.temp_c = np.full((n, 4), 25.0, np.float32)
        self.dt_s = np.ones(n)
        self.dt_s[0] = np.nan
        self.lane = np.full(n, LIVE, np.uint8)

    def quality(self, cuts: tuple[int, ...] = ()) -> np.ndarray:
        state, cfg, n = PlausibleState.empty(1, 96, 4), PlausibleConfig(), len(self.dt_s)
        parts = []
        for a, b in zip((0, *cuts), (*cuts, n), strict=True):
            columns = (self.current_a[a:b], self.pack_v[a:b], self.cell_v[a:b], self.temp_c[a:b])
            content, _ = kernel.screen(cfg, *columns)
            quality, self.ok = kernel.step(
                cfg, state, AH, np.zeros(b - a, np.int32), self.lane[a:b], content, self.dt_s[a:b],
                np.zeros(b - a, np.uint32), columns,
            )  # fmt: skip
            parts.append(quality)
        return np.concatenate(parts)


def rows(quality: np.ndarray, bit: int) -> list[int]:
    return np.flatnonzero(quality & np.uint32(bit)).tolist()


def test_a_quiet_pack_is_flagged_nowhere() -> None:
    assert not Line(200).quality().any()


def test_impossible_values_become_nan_and_nothing_else_does() -> None:
    x = Line(20)
    x.cell_v[3, 7], x.cell_v[4, 8], x.temp_c[8, 2] = 66.5, 0.0, 511
    x.current_a[5], x.pack_v[6], x.pack_v[7] = 5734, 6553, 0
    quality = x.quality()
    assert rows(quality, CELL_RANGE) == rows(quality, INCOMPLETE) == [3, 4]
    assert (rows(quality, CURRENT_RANGE), rows(quality, PACK_V_RANGE), rows(quality, TEMP_RANGE)) == ([5], [6, 7], [8])
    assert np.argwhere(np.isnan(x.cell_v)).tolist() == [[3, 7], [4, 8]]
    assert [np.isnan(a).sum() for a in (x.current_a, x.pack_v, x.temp_c)] == [1, 2, 1]


@pytest.mark.parametrize(("missing", "bits"), [(0, 0), (1, INCOMPLETE), (48, INCOMPLETE), (49, INCOMPLETE | NO_CELLS)])
def test_fewer_than_half_the_cells_are_no_cells(missing: int, bits: int) -> None:
    x = Line(2)
    x.cell_v[1, :missing] = np.nan
    assert int(x.quality()[1]) == bits
    assert int(x.ok[1]) == 96 - missing


def test_the_heat_of_a_burning_pack_is_kept_and_a_lone_sentinel_is_not() -> None:
    x = Line(12)
    x.temp_c[2:, 0] = [60, 95, 140, 180, 260, 400, 600, 700, 700, 700]
    x.temp_c[6:, 1] = 120
    assert not rows(x.quality(), TEMP_RANGE)
    assert x.temp_c[8, 0] == 600
    y = Line(4)
    y.temp_c[1:, 3] = 215
    assert rows(y.quality(), TEMP_RANGE) == [1, 2, 3]


@pytest.mark.parametrize("period_s", [0.1, 1.0, 30.0])
def test_a_frozen_frame_is_flagged_after_three_repeats_and_five_seconds(period_s: float) -> None:
    x = Line(200)
    x.dt_s[1:] = period_s
    for a in (x.cell_v, x.temp_c, x.current_a, x.pack_v):
        a[40:160] = a[40]
    x.current_a[40:160] = 20.0
    first = 40 + max(3, int(np.ceil(round(5 / period_s, 6))))
    assert rows(x.quality(), FROZEN) == rows(x.quality((41, 43, 60)), FROZEN) == list(range(first, 160))


def test_single_repeats_and_a_still_pack_without_current_are_not_frozen() -> None:
    x = Line(200)
    for k in range(2, 200, 2):
        for a in (x.cell_v, x.temp_c, x.pack_v, x.current_a):
            a[k] = a[k - 1]
    x.current_a += 30
    y = Line(50)
    for a in (y.cell_v, y.temp_c, y.pack_v):
        a[:] = a[0]
    y.current_a[:] = 0.1
    assert not rows(x.quality(), FROZEN)
    assert not rows(y.quality(), FROZEN)


def test_a_pack_sensor_that_leaves_its_own_offset_is_flagged_and_a_constant_offset_is_not() -> None:
    x = Line(900)
    x.pack_v = x.cell_v.sum(axis=1) + np.float32(8.0)
    x.pack_v[800:820] += 12.0
    assert rows(x.quality(), SUM_MISMATCH) == list(range(800, 820))


def test_one_cell_that_jumps_is_too_fast_and_a_whole_pack_under_load_is_not() -> None:
    x = Line(60)
    x.cell_v[20, 5] -= 0.5
    x.cell_v[40:] -= 0.4
    x.current_a[40:] -= 400
    x.pack_v = x.cell_v.sum(axis=1)
    assert rows(x.quality(), CELL_RATE) == [20, 21]


def test_cells_read_one_after_another_during_a_current_step_slant() -> None:
    x = Line(40)
    x.current_a[20:] -= 100
    x.cell_v[20] -= np.linspace(0, 0.1, 96, dtype=np.float32)
    x.cell_v[21:] -= 0.1
    x.current_a[30:] += 100
    x.cell_v[30:] += 0.1
    x.pack_v = x.cell_v.sum(axis=1)
    assert rows(x.quality(), SWEEP_SKEW) == [20]


def test_backfill_is_checked_alone_and_not_remembered() -> None:
    x = Line(30)
    x.cell_v[10], x.cell_v[11, 0], x.lane[10:12] = 3.2, 9.0, BACKFILL
    quality = x.quality()
    assert rows(quality, CELL_RANGE) == [11]
    assert not quality[[10, *range(12, 30)]].any()


def test_content_is_told_apart_by_any_one_value_but_not_by_the_kind_of_nan() -> None:
    x = Line(1)
    columns = (x.current_a, x.pack_v, x.cell_v, x.temp_c)
    one, _ = kernel.screen(PlausibleConfig(), *columns)
    for a in columns:
        for k in range(a.size):
            kept = a.flat[k]
            a.flat[k] = np.nextafter(kept, np.float32(9e9))
            assert kernel.screen(PlausibleConfig(), *columns)[0] != one
            a.flat[k] = kept
    x.cell_v[0, 3] = np.nan
    one, _ = kernel.screen(PlausibleConfig(), *columns)
    x.cell_v.view(np.uint32)[0, 3] = 0xFFC00001
    assert kernel.screen(PlausibleConfig(), *columns)[0] == one


@pytest.mark.parametrize(("car", "values", "frames_hit"), [("car1", 1537, 64), ("car2", 463, 15)])
def test_exactly_the_impossible_cell_values_of_the_recorded_cars_become_nan(
    data_dir: Path, car: str, values: int, frames_hit: int
) -> None:
    t = pq.read_table(data_dir / "ev_faults" / f"{car}.parquet")
    raw_v = np.stack([t[n].to_numpy() for n in t.column_names if n.startswith("cell_mv")], axis=1) / 1000
    cell_v = raw_v.astype(np.float32)
    temp_c = np.stack([t[n].to_numpy() for n in t.column_names if n.startswith("temp_raw")], axis=1).astype(np.float32)
    current_a = -t["BMSBatteryCurrent"].to_numpy().astype(np.float32)  # in the file + is discharge
    pack_v = t["BMSBatteryVoltage"].to_numpy().astype(np.float32)
    t_ns = t["tboxTime"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    columns = (current_a, pack_v, cell_v, temp_c - np.float32(40 if car == "car2" else 0))
    content, odd = kernel.screen(PlausibleConfig(), *columns)
    assert odd
    n = len(t_ns)
    quality, ok = kernel.step(
        PlausibleConfig(), PlausibleState.empty(1, cell_v.shape[1], temp_c.shape[1]), AH, np.zeros(n, np.int32),
        np.full(n, LIVE, np.uint8), content, np.diff(t_ns, prepend=t_ns[0]) / 1e9, np.zeros(n, np.uint32), columns,
    )  # fmt: skip
    gone = np.isnan(cell_v)
    assert (gone.sum(), gone.any(axis=1).sum()) == (values, frames_hit)
    np.testing.assert_array_equal(gone, (raw_v < 0.5) | (raw_v > 5.0))
    np.testing.assert_array_equal(ok, (~gone).sum(axis=1))
    np.testing.assert_array_equal((quality & CELL_RANGE) > 0, gone.any(axis=1))
    assert not rows(quality, SUM_MISMATCH)
    if car == "car1":
        assert ((np.diff(content) == 0) & (abs(current_a[1:]) > 1.2)).sum() > 50  # legitimate single repeats
        assert not rows(quality, FROZEN)
