"""What is foreseen of one pack: a fleet's word on the cycles left, joined with a law that follows its own history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flows.prognosis import history
from flows.prognosis.blend import Interval
from flows.prognosis.charges import Floats
from operators.kernels.degradation import FilterConfig, follow_life, share_of_loss

LEAST_CYCLES = 1.0
_POINTS, _PARTICLES = 16, 200
_WIDTH_OF_SHAPES = 0.3  # of the fleet's spread, around each shape that was seen
_NORMAL = 1.4826  # standard widths of a normal law, over its median absolute error
CONFIG = FilterConfig(noise=0.012)


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """What lives that were seen to their end say of another: how they bent, at what SOH they ended."""

    shapes: Floats  # (C, 3)
    eol_soh: float
    least: Floats  # (E,) smallest change of a column that counts, for rates in logarithms


@dataclass(frozen=True, slots=True, eq=False)
class Future:
    """What is said of one pack: log cycles left, and particles (S, 4) that go on from its history."""

    log_left: float
    particles: Floats


def names(charge_names: tuple[str, ...]) -> tuple[str, ...]:
    """Name the inputs of a model of life over these features of charges."""
    rates = (f"log_rate_of_{charge_names[k]}" for k in moving(charge_names))
    return (*history.NAMES, *charge_names, *rates)


def inputs(fleet: Fleet, charge_names: tuple[str, ...], of_charge: Floats, cycle: Floats, of_past: Floats) -> Floats:
    """Join what a history (N, len(history.NAMES)) and the features of a charge (N, K) at `cycle` (N,) say."""
    moved = np.abs(of_charge[:, moving(charge_names)]) + fleet.least
    return np.column_stack([of_past, of_charge, np.log(moved / np.maximum(cycle, LEAST_CYCLES)[:, None])])


def foresee(fleet: Fleet, spread: Interval, log_left: float, cycle: Floats, soh: Floats, seed: int) -> Future:
    """Join the fleet's word on log cycles left with a pack's history (M,) of steady SOH over cycles.

    Particles start from lives as long as the fleet's word, as sure as it was on other cells, and from shapes that were
    seen; they follow the history.  Midway between their middle and the fleet's word is the answer, and they move there.
    """
    draw = np.random.default_rng(seed)  # the same draws for every pack: the answer depends on its own past only
    noise, jitter = draw.standard_normal((_PARTICLES, 4)), draw.standard_normal((_POINTS, _PARTICLES, 4))
    picked = draw.integers(0, len(fleet.shapes), _PARTICLES)
    width = _NORMAL * float(np.interp(log_left, spread.at, spread.scale))
    now = max(float(cycle[-1]), LEAST_CYCLES)
    start = np.column_stack(
        [
            np.log(now + np.exp(log_left + width * noise[:, 0])),
            fleet.shapes[picked] + _WIDTH_OF_SHAPES * fleet.shapes.std(axis=0) * noise[:, 1:],
        ]
    )
    at = np.unique(np.linspace(0, len(cycle) - 1, _POINTS + 1).astype(np.int64)[1:])
    highest = np.maximum.accumulate(soh)
    loss = highest[at] - soh[at]
    end = follow_life(CONFIG, cycle[at], loss, float(highest[-1]) - fleet.eol_soh, start, jitter)
    left = np.maximum(np.exp(end[:, 0]) - now, LEAST_CYCLES)
    middle = float(np.median(np.log(left)))
    answer = 0.5 * (log_left + middle)  # the law errs in its own way, and so does the fleet: between them is best
    end[:, 0] = np.log(now + left * np.exp(answer - middle))
    return Future(answer, end)


def trajectory(
    fleet: Fleet, particles: Floats, cycle: Floats, soh: Floats, ahead: Floats
) -> tuple[Floats, Floats, Floats]:
    """Give middle, 5 % and 95 % of SOH (T,) at cycles `ahead` (T,), from the pack's last SOH on."""
    highest, now = float(soh.max()), float(cycle[-1])
    final = max(highest - fleet.eol_soh, CONFIG.floor_loss)
    life = np.exp(particles[:, :1])
    u = np.concatenate([[now], ahead])[None, :] / life
    said = highest - final * share_of_loss(np.minimum(u, 1.5), particles[:, None, 1:])  # far beyond its end: no law
    fades = np.clip((life - ahead) / np.maximum(life - now, 1.0), 0.0, 1.0)  # what the law misses now, it will not then
    path = said[:, 1:] + (float(soh[-1]) - said[:, :1]) * fades
    low, middle, high = np.quantile(path, (0.05, 0.5, 0.95), axis=0)
    return middle, low, high


def moving(charge_names: tuple[str, ...]) -> list[int]:
    """Place the features (K,) that say how a column moved."""
    return [k for k, name in enumerate(charge_names) if name.endswith((".change", ".trend"))]
