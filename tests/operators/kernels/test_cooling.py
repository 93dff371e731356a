"""Warming and cooling against load, coolant and air, on a pack that follows the equation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from operators.kernels import cooling as kernel
from operators.kernels.extremes import extremes
from schemas.quality import FROZEN
from tests.support.enriched import enriched, said

CFG = kernel.CoolingConfig(60.0, 1500.0, 0.3)
DT = 10.0
R0 = 1e-3


def pack(cooled: np.ndarray, amps: np.ndarray, a: float = 1.6, b: float = 3.0) -> np.ndarray:
    """Temperature of a pack in coolant of 15 °C and air of 10 °C; `cooled` is the share of its cooling that works."""
    t = np.empty(len(amps))
    now = 25.0
    for n, i in enumerate(amps):
        now += DT / 1500.0 * (a * i * i * R0 + b * cooled[n] * 0.3 * (15.0 - now) + 0.3 * (10.0 - now))
        t[n] = now
    return (np.round(2 * t) / 2).astype(np.float32)


def around(n: int) -> dict[str, np.ndarray]:
    return {"coolant_c": np.full(n, 15.0, np.float32), "ambient_c": np.full(n, 10.0, np.float32)}


def run(temp: np.ndarray, amps: np.ndarray, **columns: Any) -> list[tuple[int, str, int, int]]:
    context = columns.pop("context", around(len(amps)))
    block = enriched(
        np.arange(len(amps)) * DT, temp_c=temp[:, None], current_a=amps, r0_ohm=R0, context=context, **columns
    )
    return said(kernel.step(CFG, kernel.CoolingState.empty(1, 16, 4), block, extremes(block)))


AMPS = np.full(6 * 360, 100.0, np.float32)  # six hours of fast charging


def test_a_pack_that_is_cooled_as_always_is_silent_whatever_its_own_numbers() -> None:
    for a, b in ((1.0, 1.5), (1.6, 3.0), (2.2, 4.0)):
        assert run(pack(np.ones(AMPS.size), AMPS, a, b), AMPS) == []


def test_cooling_that_fails_under_load_is_found() -> None:
    cooled = np.ones(AMPS.size)
    cooled[1080:] = 0.0
    found = run(pack(cooled, AMPS), AMPS)
    assert [f[1:] for f in found] == [("cooling", -1, 2)]
    assert 0 < (found[0][0] - 1080) * DT <= 1800.0


def test_a_drive_that_passes_through_zero_is_followed_all_the_way() -> None:
    amps = AMPS.copy()
    amps[::7] = 0.0
    cooled = np.ones(AMPS.size)
    cooled[1080:] = 0.0
    assert run(pack(np.ones(AMPS.size), amps), amps) == []
    assert [f[1] for f in run(pack(cooled, amps), amps)] == ["cooling"]


def test_cooling_that_stopped_before_it_was_needed_is_found_where_the_file_says_what_it_carries() -> None:
    temp = pack(np.zeros(AMPS.size), AMPS)
    known = replace(CFG, coolant_w_per_k=3.0 * CFG.loss_w_per_k)
    for cfg, found in ((CFG, []), (known, [("cooling", -1, 2)])):
        block = enriched(
            np.arange(AMPS.size) * DT, temp_c=temp[:, None], current_a=AMPS, r0_ohm=R0, context=around(AMPS.size)
        )
        told = said(kernel.step(cfg, kernel.CoolingState.empty(1, 16, 4), block, extremes(block)))
        assert [f[1:] for f in told] == found


def test_nothing_is_said_without_a_coolant_temperature() -> None:
    cooled = np.ones(AMPS.size)
    cooled[1080:] = 0.0
    assert run(pack(cooled, AMPS), AMPS, context={}) == []


def test_frozen_and_backfilled_frames_are_not_looked_at() -> None:
    cooled = np.ones(AMPS.size)
    cooled[1080:] = 0.0
    temp = pack(cooled, AMPS)
    assert run(temp, AMPS, quality=FROZEN) == []
    assert run(temp, AMPS, lane=1) == []


def test_refuses_a_cell_without_heat_capacity() -> None:
    with pytest.raises(ValueError, match=r"heat_capacity_j_per_k and loss_w_per_k must be > 0; got 60\.0, 0\.0, 0\.3"):
        kernel.CoolingConfig(60.0, 0.0, 0.3)


def test_one_probe_that_lies_warms_no_pack() -> None:
    temp = np.repeat(pack(np.ones(AMPS.size), AMPS)[:, None], 16, axis=1)
    temp[1080:, 3] += 40.0
    context = around(AMPS.size)
    block = enriched(np.arange(AMPS.size) * DT, temp_c=temp, current_a=AMPS, r0_ohm=R0, context=context, probes=16)
    assert said(kernel.step(CFG, kernel.CoolingState.empty(1, 16, 16), block, extremes(block))) == []
