"""Probes beside their own normal."""

from typing import Any

import numpy as np
import pytest

from operators.kernels import probes as kernel
from schemas.quality import FROZEN
from tests.support.enriched import enriched, said

CFG = kernel.ProbesConfig(60.0)
DT = 60.0


def days(n_days: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A pack that warms and cools every day, driven twice: temperature (N, 8) and current (N,)."""
    n = int(n_days * 86_400 / DT)
    hour = np.arange(n) * DT / 3600.0 % 24.0
    load = ((hour > 8) & (hour < 9)) | ((hour > 17) & (hour < 18))
    amps = np.where(load, -40.0, 0.0)
    middle = (
        20.0
        + 4.0 * np.sin(2 * np.pi * (hour - 9) / 24.0)
        + 3.0 * np.convolve(load, np.exp(-np.arange(90) / 30.0) / 30.0)[:n]
    )
    rng = np.random.default_rng(seed)
    own = np.array([-1.0, -0.5, 0.0, 0.2, 0.5, 0.0, 4.5, 0.3])  # one is always 4.5 °C warmer
    temp = middle[:, None] + own + rng.normal(0, 0.12, (n, 8))
    return (np.round(2 * temp) / 2).astype(np.float32), amps.astype(np.float32)


def run(temp: np.ndarray, amps: np.ndarray, state: Any = None, **columns: Any) -> list[tuple[int, str, int, int]]:
    block = enriched(np.arange(len(temp)) * DT, probes=temp.shape[1], temp_c=temp, current_a=amps, **columns)
    return said(kernel.step(CFG, kernel.ProbesState.empty(1, 16, temp.shape[1]) if state is None else state, block))


def test_a_probe_that_is_always_warmer_is_its_own_normal() -> None:
    assert run(*days(10)) == []


def test_three_degrees_above_its_own_normal_are_found_within_a_charge() -> None:
    temp, amps = days(8)
    at = int(7.33 * 86_400 / DT)
    temp[at:, 6] += 3.0
    found = run(temp, amps)
    assert [f[1:] for f in found] == [("probe_offset", 6, 2)]
    assert (found[0][0] - at) * DT <= 3600.0


def test_a_probe_that_comes_back_clears() -> None:
    temp, amps = days(8)
    at = int(6 * 86_400 / DT)
    temp[at : at + 240, 3] += 5.0
    found = run(temp, amps)
    assert [f[1:] for f in found] == [("probe_offset", 3, 2), ("probe_offset", 3, 0)]


def test_the_first_hour_is_silent_for_what_could_be_a_normal() -> None:
    temp, amps = days(1 / 24)
    temp[:, 2] += 8.0
    assert run(temp, amps) == []


def test_a_probe_that_stands_still_while_its_pack_moves_is_named_until_it_moves() -> None:
    temp, amps = days(3)
    at = int(2.0 * 86_400 / DT)
    temp[at : at + 700, 5] = temp[at, 5]
    found = [f for f in run(temp, amps) if f[1] == "stuck_probe"]
    assert [f[2:] for f in found] == [(5, 2), (5, 0)]
    assert found[1][0] == at + 700


def test_a_probe_that_stands_still_is_told_from_when_it_last_moved_and_before_it_is_far_off() -> None:
    temp, amps = days(3)
    at = int(2.0 * 86_400 / DT)
    temp[at:, 5] = temp[at, 5]
    block = enriched(np.arange(len(amps)) * DT, probes=8, temp_c=temp, current_a=amps)
    whole, real = kernel.step(CFG, kernel.ProbesState.empty(1, 16, 8), block)
    first = int(np.flatnonzero(whole[:, 1] == kernel._STUCK)[0])
    assert abs(int(whole[first, 5]) - int(block.t_ns[at])) < 3600 * 10**9
    assert CFG.still_c <= real[first, 1] < CFG.stuck_c


def test_a_coarse_probe_is_named_soon_after_it_should_have_changed() -> None:
    temp, amps = days(4)
    fine = temp[:, 6].copy()  # half degrees
    coarse = np.round(temp)
    assert run(coarse, amps) == []
    at = int(3.3 * 86_400 / DT)
    coarse[at:, 6] = coarse[at, 6]
    found = run(coarse, amps)
    assert found[0][1:] == ("stuck_probe", 6, 2)
    assert {f[2] for f in found} == {6}
    assert abs(fine[found[0][0]] - fine[at]) <= 2.5


def test_what_is_learned_of_a_probe_is_no_way_that_it_should_have_gone() -> None:
    temp = np.full((240, 8), 20.0, np.float32)
    temp[:, 2] = 28.0
    assert run(temp, np.zeros(240, np.float32)) == []


def test_frozen_and_backfilled_frames_teach_nothing() -> None:
    temp, amps = days(1)
    for columns in ({"quality": FROZEN}, {"lane": 1}):
        state = kernel.ProbesState.empty(1, 16, 8)
        assert run(temp, amps, state, **columns) == []
        assert state.look_ns[0] == 0


def test_a_parked_pack_does_not_make_its_knowledge_wild() -> None:
    temp = np.full((60 * 24 * 40, 8), 20.0, np.float32)
    state = kernel.ProbesState.empty(1, 16, 8)
    run(temp, np.zeros(len(temp), np.float32), state)
    assert np.linalg.eigvalsh(state.cov[0]).min() >= -1e-9
    assert np.abs(state.normal_c).max() < 1.0


def test_refuses_a_pack_without_capacity() -> None:
    with pytest.raises(ValueError, match="capacity_ah must be > 0; got 0"):
        kernel.ProbesConfig(0.0)
