"""The law of loss and the particles that follow it: closed forms first."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from operators.kernels.degradation import FilterConfig, fit_shape, follow_life, share_of_loss

SHAPE = np.array([np.log(0.8), 0.0, np.log(8.0)])


def test_the_law_is_nothing_at_the_start_and_all_at_the_end() -> None:
    shapes = np.random.default_rng(1).normal(size=(50, 3))
    assert_allclose(share_of_loss(np.array(0.0), shapes), 0.0, atol=1e-12)
    assert_allclose(share_of_loss(np.array(1.0), shapes), 1.0)


def test_without_a_knee_the_law_is_a_power() -> None:
    u = np.linspace(0, 1, 9)
    assert_allclose(share_of_loss(u, np.array([np.log(0.5), -50.0, 1.0])), np.sqrt(u), atol=1e-12)


def test_a_shape_of_the_grid_is_found_again() -> None:
    u = np.linspace(0.02, 1, 50)
    assert_allclose(fit_shape(u, share_of_loss(u, SHAPE)), SHAPE)


def start(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    particles = np.tile(np.r_[np.log(1500.0), SHAPE], (count, 1)) + draw.normal(size=(count, 4)) * [0.5, 0.2, 0.5, 0.2]
    return particles, draw.standard_normal((12, count, 4))


def test_particles_find_the_life_that_a_history_tells() -> None:
    particles, jitter = start()
    cycle = np.linspace(80, 850, 12)
    loss = 0.2 * share_of_loss(cycle / 1000.0, SHAPE)
    end = follow_life(FilterConfig(noise=0.003), cycle, loss, 0.2, particles, jitter)
    assert np.median(np.exp(end[:, 0])) == pytest.approx(1000, rel=0.04)
    assert np.exp(end[:, 0]).min() > 850, "a life that is over is none"
    assert end[:, 0].std() < 0.3 * particles[:, 0].std()


def test_the_input_is_not_touched_and_the_same_draws_give_the_same_bits() -> None:
    particles, jitter = start()
    before = particles.copy()
    cycle, loss = np.linspace(80, 850, 12), np.linspace(0.01, 0.12, 12)
    first, again = (follow_life(FilterConfig(), cycle, loss, 0.2, particles, jitter) for _ in range(2))
    assert_array_equal(first, again)
    assert_array_equal(particles, before)


def test_where_no_particle_can_be_right_they_come_back_as_they_were() -> None:
    particles, jitter = start()
    got = follow_life(FilterConfig(), np.array([1e9]), np.array([0.1]), 0.2, particles, jitter)
    assert_array_equal(got, particles)


@pytest.mark.parametrize("wrong", [{"noise": 0.0}, {"floor_loss": -1.0}, {"keep": 0.0}, {"fewest": 1.5}])
def test_a_filter_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be > 0"):
        FilterConfig(**wrong)
