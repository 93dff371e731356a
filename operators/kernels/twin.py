"""What would this pack do under that load? Its circuit model, run forward with its own parameters, cell by cell.

    v = OCV(z, T) + s (i R0 + Σ u)      dz = i dt / Q      C dT/dt = i (v − OCV) − k (T − ambient)

Each cell group has its own SOC z, capacity Q and scale s of the resistances; temperature is one for the pack.  A load
is a current, or a power whose current follows from the voltage that it causes (two corrections per step).  What was
learned of the pack's charges beside the circuit (kernels/circuit_error) moves OCV and R0 of every cell group alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels import circuit_error, ocv
from operators.kernels.ocv import BRANCHES, OCV, R0, RB
from schemas.pack import PackModel

Floats = NDArray[np.float64]
_CORRECTIONS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A pack as it is now: each cell group's SOC, capacity and scale of resistance (C,), and its temperature."""

    pack: PackModel
    soc: Floats
    capacity_ah: Floats
    r_scale: Floats
    temp_c: float
    residual: Floats = field(default_factory=lambda: np.zeros(circuit_error.COUNT))  # weights, V


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What is asked of a pack at times (N,): a current (+ into it), or where that is NaN a power; the air around."""

    t_s: Floats
    current_a: Floats
    power_w: Floats
    ambient_c: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Future:
    """What comes of it, (N,): the load holds from a time to the next."""

    current_a: Floats
    pack_v: Floats
    cell_v_min: Floats
    cell_v_max: Floats
    cell_min: NDArray[np.int64]  # the group that is lowest
    temp_c: Floats
    soc_min: Floats
    soc_max: Floats
    energy_in_kwh: Floats  # so far
    energy_out_kwh: Floats
    heat_kwh: Floats


def run(twin: Twin, load: Load) -> Future:
    """Predict a pack's voltages, temperature, SOC and energy under a load; it begins at rest."""
    grid, n = twin.pack.grid(), load.t_s.size
    out = np.empty((10, n))
    cell_min = np.zeros(n, np.int64)
    _walk(
        load.t_s, load.current_a, load.power_w, load.ambient_c, ocv.table(grid), ocv.time_constants(grid),
        twin.soc.astype(np.float64), twin.capacity_ah.astype(np.float64), twin.r_scale.astype(np.float64), twin.temp_c,
        twin.pack.thermal.heat_capacity_j_per_k, twin.pack.thermal.loss_w_per_k, twin.pack.sum_offset_v,
        twin.residual.astype(np.float64), twin.pack.nominal_ah, out, cell_min,
    )  # fmt: skip
    current_a, pack_v, low, high, temp, soc_min, soc_max, into, out_of, heat = out
    return Future(current_a, pack_v, low, high, cell_min, temp, soc_min, soc_max, into, out_of, heat)


@njit(cache=True, error_model="numpy")
def _walk(
    t_s, current_a, power_w, ambient_c, table, tau_s, soc, capacity_ah, scale, temp_c, heat_j_per_k, loss_w_per_k,
    sum_offset_v, residual, nominal_ah, out, cell_min,
):  # fmt: skip
    cells = soc.size
    at = np.empty((cells, ocv.WIDTH))
    u = np.zeros((cells, BRANCHES))
    temp = temp_c
    into = out_of = heat = 0.0
    i = 0.0
    for n in range(t_s.size):
        rest_v, ohm = sum_offset_v, 0.0
        for c in range(cells):
            ocv.look_up(table, soc[c], temp, at[c])
            at[c, OCV] = ocv.ocv_at(table, soc[c], temp)  # beyond empty and full it goes on falling and rising
            at[c, OCV] += circuit_error.rest_v(residual, soc[c], temp)
            at[c, R0] += circuit_error.ohm(residual, nominal_ah, temp, scale[c] * at[c, R0]) / scale[c]
            rest_v += at[c, OCV]
            ohm += scale[c] * at[c, R0]
            for b in range(BRANCHES):
                rest_v += u[c, b]
        i = current_a[n]
        if i != i:
            i = power_w[n] / rest_v
            for _ in range(_CORRECTIONS):
                i = power_w[n] / max(rest_v + i * ohm, 0.2 * rest_v)
        pack_v = rest_v + i * ohm
        low, high, lowest = np.inf, -np.inf, 0
        drop = 0.0
        for c in range(cells):
            v = at[c, OCV] + i * scale[c] * at[c, R0]
            for b in range(BRANCHES):
                v += u[c, b]
            drop += v - at[c, OCV]
            high = max(high, v)
            if v < low:
                low, lowest = v, c
        out[0, n], out[1, n], out[2, n], out[3, n], out[4, n] = i, pack_v, low, high, temp
        cell_min[n] = lowest
        out[5, n], out[6, n] = soc.min(), soc.max()
        out[7, n], out[8, n], out[9, n] = into, out_of, heat
        if n + 1 == t_s.size:
            break
        dt_s = max(t_s[n + 1] - t_s[n], 0.0)
        kwh = i * pack_v * dt_s / 3.6e6
        if kwh > 0.0:
            into += kwh
        else:
            out_of -= kwh
        heat_w = max(i * drop, 0.0) / cells
        heat += heat_w * cells * dt_s / 3.6e6
        # exactly, as if heat and air stood still over the step
        keep = np.exp(-dt_s * loss_w_per_k / heat_j_per_k)
        if loss_w_per_k > 0.0:
            end_c = ambient_c[n] + heat_w / loss_w_per_k
            temp = end_c + (temp - end_c) * keep
        else:
            temp += heat_w * dt_s / heat_j_per_k
        for c in range(cells):
            soc[c] += i * dt_s / 3600.0 / capacity_ah[c]
            for b in range(BRANCHES):
                a = np.exp(-dt_s / tau_s[b])
                u[c, b] = a * u[c, b] + (1.0 - a) * i * scale[c] * at[c, RB + b]
