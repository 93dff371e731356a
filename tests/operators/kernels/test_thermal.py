"""The truth table of a thermal event, and what looks like one."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from operators.kernels import thermal as kernel
from operators.kernels.extremes import extremes
from schemas.pack import load_pack
from schemas.quality import CELL_RANGE, FROZEN, NO_CELLS, TEMP_RANGE
from tests.support.enriched import enriched, said

CFG = kernel.ThermalConfig.of(load_pack("generic-nmc@16c4t60ah"))


def run(n: int = 120, dt: float = 1.0, **columns: Any) -> list[tuple[int, str, int, int]]:
    block = enriched(np.arange(n) * dt, **columns)
    return said(kernel.step(CFG, kernel.ThermalState.empty(1, 16, 4), block, extremes(block)))


@pytest.mark.parametrize(("a", "b", "c"), list(product([False, True], repeat=3)))
def test_an_event_needs_two_of_collapse_maximum_and_rapid_heating(a: bool, b: bool, c: bool) -> None:
    v = np.full((120, 16), 3.7, np.float32)
    v[60:, 3] = 0.74 * 3.7 if a else 0.76 * 3.7
    temp = np.full((120, 4), 30.0, np.float32)
    if b:  # hot from the start, so that nothing rises
        temp[:, 2] = CFG.temp_max_c
    else:
        temp[:, 2] = 40.0
    if c:
        temp[60:, 1] += np.minimum(np.arange(60), 15.0)  # 1 °C/s, stays below the maximum
    found = run(cell_v=v, temp_c=temp)
    assert bool(found) == (a + b + c >= 2)
    if found:
        assert found[0][1:] == ("thermal_event", 2, 4)
        assert 60 <= found[0][0] <= 70


def test_a_vehicle_that_sends_every_half_minute_is_told_by_three_degrees_between_frames() -> None:
    v = np.full((20, 16), 3.7, np.float32)
    v[10:, 3] = 1.0
    temp = np.full((20, 4), 30.0, np.float32)
    temp[10:, 1] += 4.0 * np.arange(1, 11)
    assert [f[1] for f in run(20, 30.0, cell_v=v, temp_c=temp)] == ["thermal_event"]


def test_invalid_frames_of_a_hot_pack_alarm() -> None:
    v = np.full((60, 16), 3.7, np.float32)
    temp = np.full((60, 4), 30.0, np.float32)
    temp[20:, 1] = 75.0
    v[30:] = np.nan
    temp[32:] = np.nan
    quality = np.zeros(60, np.uint32)
    quality[30:] = NO_CELLS | CELL_RANGE
    quality[32:] |= TEMP_RANGE
    found = run(60, cell_v=v, temp_c=temp, quality=quality)
    assert [(f[1], f[3]) for f in found] == [("thermal_event", 4)]


def test_a_probe_far_above_its_maximum_is_an_event_by_itself_but_one_sample_is_not() -> None:
    temp = np.full((120, 4), 30.0, np.float32)
    temp[50, 1] = 100.0
    assert run(temp_c=temp) == []
    temp[80:, 1] = 100.0
    assert [f[1:] for f in run(temp_c=temp)] == [("thermal_event", 1, 4)]


def test_one_probe_that_flickers_by_its_resolution_is_no_heating() -> None:
    temp = np.full((600, 4), 59.0, np.float32)
    temp[::2] += 1.0
    v = np.full((600, 16), 3.7, np.float32)
    v[:, 3] = 0.76 * 3.7
    assert run(600, cell_v=v, temp_c=temp) == []


def test_an_event_ends_after_half_an_hour_without_a_sign() -> None:
    temp = np.full((4000, 4), 30.0, np.float32)
    temp[10:20, 1] = 100.0
    found = run(4000, temp_c=temp)
    assert [f[3] for f in found] == [4, 0]
    assert found[1][0] == pytest.approx(20 + 1800, abs=80)


def test_frozen_and_backfilled_frames_are_not_looked_at() -> None:
    assert run(temp_c=100.0, quality=FROZEN) == []
    assert run(temp_c=100.0, lane=1) == []


def test_values_that_are_not_available_are_no_event() -> None:
    assert run(cell_v=np.nan, temp_c=np.nan) == []


def test_a_collapse_that_costs_the_isolation_needs_no_warm_probe() -> None:
    v = np.full((60, 16), 3.7, np.float32)
    v[30:, 3] = 0.0
    ohm = np.full(60, 3e6, np.float32)
    assert run(60, cell_v=v, context={"isolation_ohm": ohm}) == []
    ohm[31:] = 3e4
    assert [(f[0], f[1], f[3]) for f in run(60, cell_v=v, context={"isolation_ohm": ohm})] == [(32, "thermal_event", 4)]
    assert run(60, context={"isolation_ohm": ohm}) == []
