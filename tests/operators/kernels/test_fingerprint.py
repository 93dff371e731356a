"""Packs told apart by their cells."""

from __future__ import annotations

import numpy as np
import pytest

from operators.kernels.fingerprint import FingerprintConfig, agreement, pattern

CELLS = 96


def cells(seed: int, noise: float = 0.0, noise_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    own, other = np.random.default_rng(seed), np.random.default_rng((seed, noise_seed))
    d_r0, d_q = own.normal(0, 0.025, CELLS), own.normal(0, 0.006, CELLS)
    return (d_r0 + other.normal(0, noise, CELLS)).astype(np.float32), (d_q + other.normal(0, noise / 4, CELLS)).astype(
        np.float32
    )


def known(*values: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    made = [pattern(*v) for v in values]
    return np.array([m for m in made if m is not None])


def test_a_pack_agrees_with_itself_whatever_the_level() -> None:
    d_r0, d_q = cells(1)
    seen = pattern((d_r0 * 1.7 + 0.3).astype(np.float32), (d_q - 0.02).astype(np.float32))
    assert seen is not None
    assert agreement(known((d_r0, d_q)), seen)[0] == pytest.approx(1.0, abs=1e-6)


def test_noise_as_large_as_half_the_spread_leaves_a_pack_known() -> None:
    seen = pattern(*cells(1, 0.012, 5))
    assert seen is not None
    assert agreement(known(cells(1, 0.012, 6)), seen)[0] > FingerprintConfig().same


def test_of_two_hundred_packs_none_looks_like_another() -> None:
    seen = pattern(*cells(0))
    assert seen is not None
    r = agreement(known(*(cells(k) for k in range(200))), seen)
    assert np.argmax(r) == 0
    assert np.sort(r)[-2] < FingerprintConfig().same - 0.1


def test_unknown_cells_give_no_pattern_and_flat_ones_say_nothing() -> None:
    d_r0, d_q = cells(1)
    d_r0[3] = np.nan
    assert pattern(d_r0, d_q) is None
    assert pattern(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None
    flat = pattern(np.zeros(CELLS, np.float32), np.zeros(CELLS, np.float32))
    assert flat is not None
    assert agreement(known(cells(1)), flat)[0] == 0


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValueError, match=r"other and same must be in 0\.\.1 and rise; got 0\.7, 0\.6"):
        FingerprintConfig(other=0.7)
