"""Fit OCV and resistances of a cell group to recorded current and voltage, at known SOC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.monotone import pchip
from schemas.pack import GRID_SOC, OCV_SLOPE_MIN, Ocv, PackGrid, PackModel, Resistance, build_grid

Floats = NDArray[np.float64]
_CHUNK = 2_000  # rows whose Jacobian is held at once
_ROWS_PER_FACT = 60.0  # neighbouring rows repeat each other's error: so many count as one
_SIGMA_V = 0.01  # what voltage error is expected, against which the priors weigh
_LOG_STEP = 0.7  # a resistance at most doubles or halves in one step


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One recording of a rested cell group, columns (N,): time, current (+ charging), voltage, SOC, temperature.

    `counts` (N,) says how many rows each stands for; all alike by default.
    """

    t_s: Floats
    current_a: Floats
    v: Floats
    soc: Floats
    temp_c: Floats
    counts: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What is fitted: OCV and resistances over SOC and temperature.

    ocv_v (T, K) over ocv_temp_c (T,) and ocv_soc (K,); tau_s (B,);
    r_ohm (1 + B, T, S), r0 first, over r_temp_c and r_soc.
    """

    ocv_soc: Floats
    ocv_temp_c: Floats
    ocv_v: Floats
    r_soc: Floats
    r_temp_c: Floats
    r_ohm: Floats
    tau_s: Floats

    def grid(self) -> PackGrid:
        """Evaluate as a pack file with these tables would."""
        resistance = Resistance(self.r_soc, self.r_temp_c, self.r_ohm[0], self.tau_s, self.r_ohm[1:])
        return build_grid(Ocv(self.ocv_soc, self.ocv_temp_c, self.ocv_v), resistance)


@dataclass(frozen=True, slots=True)
class Priors:
    """How far the fit may go from where it starts, where the recordings say little.

    `ocv_v`: standard deviation of each knot from the start; `ocv_rough_v`: of the difference between the deviations
    of neighbouring knots; `r_rough`: of the second difference of log R over SOC; `r_arrhenius`: of the change in
    log R between neighbouring temperatures from that of the start; `r_log`: of log R itself from the start.
    """

    ocv_v: float = 0.02
    ocv_rough_v: float = 0.003
    r_rough: float = 0.3
    r_arrhenius: float = 0.3
    r_log: float = 2.0


def fitted(pack: PackModel, tables: Tables) -> PackModel:
    """Give a pack model with these tables in place of its own."""
    resistance = Resistance(tables.r_soc, tables.r_temp_c, tables.r_ohm[0], tables.tau_s, tables.r_ohm[1:])
    return replace(pack, ocv=Ocv(tables.ocv_soc, tables.ocv_temp_c, tables.ocv_v), resistance=resistance)


def branch_currents(t_s: Floats, current_a: Floats, tau_s: Floats) -> Floats:
    """Give i, and i behind a first-order lag of each tau, (1 + B, N); the branches start at rest."""
    keep = np.exp(-np.diff(t_s, prepend=t_s[0])[:, None] / tau_s)
    return np.concatenate([current_a[None], _lagged(keep, current_a).T])


@njit(cache=True)
def _lagged(keep: Floats, current_a: Floats) -> Floats:
    """Follow the current, keeping in each row `keep` (N, B) of what was before; a fit does so a thousand times."""
    lag = np.empty(keep.shape)
    x = np.zeros(keep.shape[1])
    for n in range(current_a.size):
        for b in range(x.size):
            x[b] = current_a[n] + keep[n, b] * (x[b] - current_a[n])
            lag[n, b] = x[b]
    return lag


def predict(grid: PackGrid, run: Run) -> Floats:
    """Give the voltage (N,) that a pack's grid predicts, by bilinear look-up as the estimators do."""
    s, k = _bracket(grid.soc, run.soc)
    w, t = _bracket(grid.temp_c, run.temp_c)

    def look_up(table: Floats) -> Floats:
        low = (1 - s) * table[..., t, k] + s * table[..., t, k + 1]
        high = (1 - s) * table[..., t + 1, k] + s * table[..., t + 1, k + 1]
        return np.asarray((1 - w) * low + w * high)

    r = look_up(np.concatenate([grid.r0[None], grid.rb]))
    x = branch_currents(run.t_s, run.current_a, grid.tau_s)
    return np.asarray(look_up(grid.ocv) + (r * x).sum(axis=0))


def rmse_v(grid: PackGrid, runs: Sequence[Run]) -> float:
    """Give the root mean square of prediction minus recording over all rows, V."""
    errors = np.concatenate([predict(grid, run) - run.v for run in runs])
    return float(np.sqrt(np.mean(errors**2)))


def fit(start: Tables, runs: Sequence[Run], priors: Priors, every: int = 1, rounds: int = 12) -> Tables:
    """Fit the tables to the recordings: Gauss-Newton on OCV knots and log R knots, with priors around `start`.

    Takes every `every`-th row.
    """
    soc, temp_c, v = (np.concatenate([getattr(run, name)[::every] for run in runs]) for name in ("soc", "temp_c", "v"))
    x = np.concatenate([branch_currents(r.t_s, r.current_a, start.tau_s)[:, ::every] for r in runs], axis=1)
    counts = np.concatenate([(np.ones(r.v.size) if r.counts is None else r.counts)[::every] for r in runs])
    order = np.lexsort((soc, np.round(temp_c)))  # rows alike in temperature and SOC share the few knots they touch
    soc, temp_c, v, x, counts = soc[order], temp_c[order], v[order], x[:, order], counts[order]
    weight = _SIGMA_V**2 * _ROWS_PER_FACT / every
    tables = start
    for _ in range(rounds):
        a, b = _prior_equations(start, tables, priors)
        curves = _curves(tables)
        for low in range(0, v.size, _CHUNK):
            part = slice(low, low + _CHUNK)
            jac, model = _linearise(tables, curves, soc[part], temp_c[part], x[:, part])
            used = np.flatnonzero(jac.any(axis=0))
            jac = jac[:, used]
            weighed = jac * (counts[part] / weight)[:, None]
            a[np.ix_(used, used)] += jac.T @ weighed
            b[used] += weighed.T @ (v[part] - model)
        step = np.asarray(np.linalg.solve(a, b), np.float64)
        tables = _moved(tables, step)
        if np.abs(step).max() < 1e-4:  # noqa: PLR2004 - 0.1 mV, 0.01 % of R: less than the file shows
            break
    return tables


def _bracket(axis: Floats, at: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Give weight of the upper neighbour and index of the lower one on an axis, clamped."""
    inside = np.clip(at, axis[0], axis[-1])
    k = np.clip(np.searchsorted(axis, inside, side="right") - 1, 0, max(axis.size - 2, 0))
    if axis.size == 1:
        return np.zeros(at.size), k
    return (inside - axis[k]) / (axis[k + 1] - axis[k]), k


def _knot_slopes(knots: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Give a monotone cubic on GRID_SOC (201,) and its derivative by each knot's value (201, K)."""
    eps = 1e-6
    bumped = pchip(knots, values + eps * np.eye(knots.size), GRID_SOC)[0]
    base = pchip(knots, values, GRID_SOC)[0]
    return base, (bumped - base).T / eps


def _curves(tables: Tables) -> list[list[tuple[Floats, Floats]]]:
    """Give curve and knot slopes of each temperature's OCV, then of each resistance's logarithm."""
    ocv = [_knot_slopes(tables.ocv_soc, row) for row in tables.ocv_v]
    return [ocv, *([_knot_slopes(tables.r_soc, row) for row in table] for table in np.log(tables.r_ohm))]


def _linearise(
    tables: Tables, curves: list[list[tuple[Floats, Floats]]], soc: Floats, temp_c: Floats, x: Floats
) -> tuple[Floats, Floats]:
    """Give Jacobian (N, parameters) and predicted voltage (N,)."""
    s, k = _bracket(GRID_SOC, soc)

    def along(curve: Floats) -> Floats:
        w = s if curve.ndim == 1 else s[:, None]
        return np.asarray((1 - w) * curve[k] + w * curve[k + 1])

    jac = np.zeros((soc.size, tables.ocv_v.size + tables.r_ohm.size))
    model = np.zeros(soc.size)
    column = 0
    for share, (base, slope) in zip(_shares(tables.ocv_temp_c, temp_c), curves[0], strict=True):
        if share.any():
            model += share * along(base)
            jac[:, column : column + slope.shape[1]] = share[:, None] * along(slope)
        column += slope.shape[1]
    shares = _shares(tables.r_temp_c, temp_c)
    near = [bool(share.any()) for share in shares]
    for current, parts in zip(x, curves[1:], strict=True):
        log_r = np.zeros(soc.size)
        for share, (base, _), here in zip(shares, parts, near, strict=True):
            log_r += share * along(base) if here else 0.0
        dv = current * np.exp(log_r)
        model += dv
        for share, (_, slope), here in zip(shares, parts, near, strict=True):
            if here:
                jac[:, column : column + slope.shape[1]] = (dv * share)[:, None] * along(slope)
            column += slope.shape[1]
    return jac, model


def _shares(axis: Floats, at: Floats) -> Floats:
    """Give each knot's share in a linear interpolation, (T, N)."""
    w, k = _bracket(axis, at)
    shares = np.zeros((axis.size, at.size))
    shares[k, np.arange(at.size)] = 1 - w
    if axis.size > 1:
        shares[k + 1, np.arange(at.size)] = w
    return shares


def _prior_equations(start: Tables, now: Tables, priors: Priors) -> tuple[Floats, Floats]:
    """Give the normal equations of the priors around the present tables."""
    n_ocv, n = now.ocv_v.size, now.ocv_v.size + now.r_ohm.size
    rows: list[Floats] = []
    want: list[float] = []

    def add(index: Sequence[int], factor: Sequence[float], target: float, sigma: float) -> None:
        row = np.zeros(n)
        row[list(index)] = np.array(factor) / sigma
        rows.append(row)
        want.append(target / sigma)

    off = start.ocv_v - now.ocv_v
    width = off.shape[1]
    for (t, k), d in np.ndenumerate(off):
        i = t * width + k
        add([i], [1], d, priors.ocv_v)
        if k:
            add([i, i - 1], [1, -1], d - off[t, k - 1], priors.ocv_rough_v)
        if t:
            add([i, i - width], [1, -1], d - off[t - 1, k], priors.ocv_v / 2)
    log_now, log_start = np.log(now.r_ohm), np.log(start.r_ohm)
    size = now.r_ohm.shape
    for (b, t, k), value in np.ndenumerate(log_now):
        i = n_ocv + int(np.ravel_multi_index((b, t, k), size))
        if 0 < k < size[2] - 1:
            bend = -(log_now[b, t, k - 1] - 2 * value + log_now[b, t, k + 1])
            add([i - 1, i, i + 1], [1, -2, 1], bend, priors.r_rough)
        if t:
            change = (log_start[b, t, k] - log_start[b, t - 1, k]) - (value - log_now[b, t - 1, k])
            add([i, i - size[2]], [1, -1], change, priors.r_arrhenius)
        add([i], [1], log_start[b, t, k] - value, priors.r_log)
    matrix, target = np.array(rows), np.array(want)
    return matrix.T @ matrix, matrix.T @ target


def _moved(tables: Tables, step: Floats) -> Tables:
    """Apply a step; OCV stays rising by at least the smallest accepted slope."""
    n = tables.ocv_v.size
    ocv = tables.ocv_v + step[:n].reshape(tables.ocv_v.shape)
    for k in range(1, ocv.shape[1]):
        least = 2 * OCV_SLOPE_MIN * (tables.ocv_soc[k] - tables.ocv_soc[k - 1])
        ocv[:, k] = np.maximum(ocv[:, k], ocv[:, k - 1] + least)
    change = np.clip(step[n:], -_LOG_STEP, _LOG_STEP).reshape(tables.r_ohm.shape)
    return replace(tables, ocv_v=ocv, r_ohm=tables.r_ohm * np.exp(change))
