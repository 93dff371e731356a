"""What is left of a cell's two electrodes and of its lithium, read from one slow charge.

The curve of a cell is that of its half cells, each stretched by its capacity and shifted by its lithium:

    V(q) = Up(y0 − q / Qp) − Un(x0 + q / Qn) + i R

Loss of lithium shifts the halves against each other, loss of active material shrinks one (Dubarry et al., Journal of
Power Sources 219 (2012) 204; Birkl et al., Journal of Power Sources 341 (2017) 373).  What is fitted is Qn, Qp, x0, y0
and R; lithium is x0 Qn + y0 Qp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ROUNDS, _SMALL = 60, 1e-9
_STEP = np.array([1e-5, 1e-5, 1e-5, 1e-5, 1e-6])  # of each parameter, for slopes
_PRIOR = np.array([0.3, 0.3, 0.3, 0.3, 0.05])  # how far each may go where a curve says nothing: logs, shares, ohm · Ah
_NOISE_V = 2e-3  # what half cells of another make miss, against which the prior weighs
_WALL = 2e-3  # of a stoichiometry: how far one may leave 0 … 1
_LEAST, _MOST = 1e-4, 1.0 - 1e-4  # of a stoichiometry


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """Open-circuit voltages of both electrodes over stoichiometry, each (M,), rising arguments."""

    x: Floats  # negative
    un_v: Floats
    y: Floats  # positive
    up_v: Floats


@dataclass(frozen=True, slots=True)
class Electrodes:
    """A cell: capacities of the electrodes, how full they are where a curve begins, and its resistance."""

    qn_ah: float
    qp_ah: float
    x0: float
    y0: float
    ohm: float = 0.0

    @property
    def lithium_ah(self) -> float:
        """Give the lithium that moves between the electrodes."""
        return self.x0 * self.qn_ah + self.y0 * self.qp_ah


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a curve says, with standard deviations of log Qn, log Qp, and log lithium."""

    electrodes: Electrodes
    rmse_v: float
    std: tuple[float, float, float]


def curve_v(halves: Halves, cell: Electrodes, q_ah: Floats, current_a: float) -> Floats:
    """Give the voltage (N,) after charges `q_ah` (N,) from where the cell is, at a steady current, + charging."""
    x, y = cell.x0 + q_ah / cell.qn_ah, cell.y0 - q_ah / cell.qp_ah
    return np.asarray(_beyond(y, halves.y, halves.up_v) - _beyond(x, halves.x, halves.un_v) + current_a * cell.ohm)


def resting_at(halves: Halves, qn_ah: float, qp_ah: float, lithium_ah: float, v: float) -> Electrodes:
    """Give a cell with these capacities and this lithium where it rests at `v`."""
    low, high = max(_LEAST, (lithium_ah - _MOST * qp_ah) / qn_ah), min(_MOST, (lithium_ah - _LEAST * qp_ah) / qn_ah)
    for _ in range(60):  # the voltage rises with lithium in the negative electrode
        x = 0.5 * (low + high)
        cell = Electrodes(qn_ah, qp_ah, x, (lithium_ah - x * qn_ah) / qp_ah)
        low, high = (x, high) if curve_v(halves, cell, np.zeros(1), 0.0)[0] < v else (low, x)
    return cell


def fit(halves: Halves, start: Electrodes, q_ah: Floats, v: Floats, current_a: float) -> Fitted:
    """Fit a cell to a curve (N,), by Levenberg and Marquardt from `start`, which is also what is believed before."""
    size = start.qn_ah

    def at(p: Floats) -> Electrodes:
        return Electrodes(float(np.exp(p[0])), float(np.exp(p[1])), float(p[2]), float(p[3]), float(p[4] / size))

    def errors(p: Floats) -> Floats:
        off = (curve_v(halves, at(p), q_ah, current_a) - v) / (_NOISE_V * np.sqrt(v.size / 20.0))
        cell, q = at(p), float(q_ah[-1])
        filled = np.array([cell.x0, 1.0 - cell.x0 - q / cell.qn_ah, 1.0 - cell.y0, cell.y0 - q / cell.qp_ah])
        return np.concatenate([off, (p - before) / _PRIOR, np.minimum(filled, 0.0) / _WALL])

    before = np.array([np.log(start.qn_ah), np.log(start.qp_ah), start.x0, start.y0, start.ohm * size])
    p, damping = before.copy(), 1e-3
    e = errors(p)
    for _ in range(_ROUNDS):
        slopes = np.stack([(errors(p + s) - e) / s.sum() for s in np.diag(_STEP)], axis=1)
        normal = slopes.T @ slopes
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slopes.T @ e)
        tried = errors(p + step)
        if tried @ tried < e @ e:
            done = e @ e - tried @ tried < _SMALL * (e @ e)
            p, e, damping = p + step, tried, max(damping / 5.0, 1e-9)
            if done:
                break
        else:
            damping *= 4.0
    cell = at(p)
    spread = np.linalg.inv(normal)
    of_lithium = np.array([cell.x0 * cell.qn_ah, cell.y0 * cell.qp_ah, cell.qn_ah, cell.qp_ah, 0.0]) / cell.lithium_ah
    std = [float(np.sqrt(g @ spread @ g)) for g in (*np.eye(5)[:2], of_lithium)]
    rmse_v = float(np.sqrt(np.mean((curve_v(halves, cell, q_ah, current_a) - v) ** 2)))
    return Fitted(cell, rmse_v, (std[0], std[1], std[2]))


def losses(new: Electrodes, now: Electrodes) -> tuple[float, float, float]:
    """Give the shares lost of lithium, negative and positive active material."""
    return 1 - now.lithium_ah / new.lithium_ah, 1 - now.qn_ah / new.qn_ah, 1 - now.qp_ah / new.qp_ah


def _beyond(at: Floats, axis: Floats, values: Floats) -> Floats:
    """Interpolate, and go on along the ends, so that a fit finds back."""
    out = np.interp(at, axis, values)
    ends = (values[1] - values[0]) / (axis[1] - axis[0]), (values[-1] - values[-2]) / (axis[-1] - axis[-2])
    return np.asarray(out + np.minimum(at - axis[0], 0.0) * ends[0] + np.maximum(at - axis[-1], 0.0) * ends[1])
