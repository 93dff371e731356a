"""How a pack may go on to lose capacity: a law of two parts, and particles that follow what was measured of it.

The loss at cycle n of a life of L cycles is, with u = n / L and D the loss that ends a life,

    loss = D · ((1 − knee) · u^power + knee · (e^(rate·(u − 1)) − e^−rate) / (1 − e^−rate))

a power law (growth of the film on the anode: Broussely et al., "Aging mechanism in Li ion cells and calendar life
predictions", 2001) and an exponential that makes the knee (He et al., "Prognostics of lithium-ion batteries based on
Dempster-Shafer theory and the Bayesian Monte Carlo method", 2011).  Particles carry (log L, log power, logit knee, log
rate); after each measurement they are weighted, and drawn again around themselves once few of them count (Liu and West,
"Combined parameter and state estimation in simulation-based filtering", 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SHAPE = ("log_power", "logit_knee", "log_rate")
_POWERS = np.log(np.array([0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0]))
_KNEES = np.array([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])
_RATES = np.log(np.array([3.0, 5.0, 8.0, 13.0, 20.0, 35.0]))


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """How far particles trust a measurement, and how they are drawn again."""

    noise: float = 0.006  # SOH: what the law misses, far more than a capacity test does
    floor_loss: float = 0.01  # SOH: a smaller loss that would end a life is taken as this
    keep: float = 0.98  # of a particle when it is drawn again; the rest goes to the middle of all
    fewest: float = 0.5  # share of particles that count, below which they are drawn again

    def __post_init__(self) -> None:
        """Refuse a noise or loss of nothing, and shares outside (0, 1]."""
        for name in ("noise", "floor_loss"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)
        for name in ("keep", "fewest"):
            if not 0 < getattr(self, name) <= 1:
                msg = f"{name} must be > 0 and ≤ 1; got {getattr(self, name)}"
                raise ValueError(msg)


def share_of_loss(u: Floats, shape: Floats) -> Floats:
    """Give the share of the final loss at shares `u` of a life, by (…, 3) shapes as SHAPE; 1 at u = 1."""
    power, knee, rate = np.exp(shape[..., 0]), 1.0 / (1.0 + np.exp(-shape[..., 1])), np.exp(shape[..., 2])
    least = np.exp(-rate)
    turn = (np.exp(rate * (u - 1.0)) - least) / (1.0 - least)
    return np.asarray((1.0 - knee) * np.maximum(u, 0.0) ** power + knee * turn)


def fit_shape(u: Floats, share: Floats) -> Floats:
    """Give the shape (3,) of a grid that fits shares of the final loss (M,) best at shares `u` (M,) of one life."""
    grid = np.stack(np.meshgrid(_POWERS, _KNEES, _RATES, indexing="ij"), axis=-1).reshape(-1, 3)
    off = share_of_loss(u[None, :], grid[:, None, :]) - share[None, :]
    return np.asarray(grid[np.argmin((off * off).mean(axis=1))])


def follow_life(
    cfg: FilterConfig, cycle: Floats, loss: Floats, final_loss: float, particles: Floats, jitter: Floats
) -> Floats:
    """Give particles (S, 4) after measured losses (M,), SOH, at cycles (M,) in order of time.

    `particles` (S, 4) = log life in cycles and shape, equally likely; `jitter` (M, S, 4) standard normal draws.  A
    life that should have ended before the last cycle counts for nothing; raises nothing: where none is left, they
    come back as they were.
    """
    out = np.array(particles, np.float64)
    _follow(
        np.ascontiguousarray(cycle, np.float64), np.ascontiguousarray(loss, np.float64),
        max(final_loss, cfg.floor_loss), out, jitter, cfg.noise, cfg.keep, cfg.fewest,
    )  # fmt: skip
    return out


@njit(cache=True)
def _follow(cycle, loss, final, particles, jitter, noise, keep, fewest):
    count = particles.shape[0]
    log_weight = np.zeros(count)
    weight = np.empty(count)
    drawn = np.empty_like(particles)
    last = cycle.size - 1
    for m in range(cycle.size):
        best = -np.inf
        for s in range(count):
            u = cycle[m] / np.exp(particles[s, 0])
            power = np.exp(particles[s, 1])
            knee = 1.0 / (1.0 + np.exp(-particles[s, 2]))
            rate = np.exp(particles[s, 3])
            least = np.exp(-rate)
            turn = (np.exp(rate * (min(u, 1.5) - 1.0)) - least) / (1.0 - least)
            off = final * ((1.0 - knee) * u**power + knee * turn) - loss[m]
            log_weight[s] -= 0.5 * (off / noise) ** 2
            if m == last and u >= 1.0:
                log_weight[s] -= 1e6
            best = max(best, log_weight[s])
        if not best > -1e5:
            return
        total = 0.0
        square = 0.0
        for s in range(count):
            weight[s] = np.exp(log_weight[s] - best)
            total += weight[s]
        for s in range(count):
            weight[s] /= total
            square += weight[s] * weight[s]
        if m < last and 1.0 / square > fewest * count:
            continue
        for k in range(4):  # the middle and width of each parameter, before any is drawn again
            middle = 0.0
            width = 0.0
            for s in range(count):
                middle += weight[s] * particles[s, k]
            for s in range(count):
                width += weight[s] * (particles[s, k] - middle) ** 2
            width = np.sqrt(width * (1.0 - keep * keep))
            at = 0
            reached = weight[0]
            for s in range(count):
                while reached < (s + 0.5) / count and at < count - 1:
                    at += 1
                    reached += weight[at]
                drawn[s, k] = keep * particles[at, k] + (1.0 - keep) * middle + width * jitter[m, s, k]
        for s in range(count):
            log_weight[s] = 0.0
            for k in range(4):
                particles[s, k] = drawn[s, k]
