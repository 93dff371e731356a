"""Cells that are exactly what the estimators assume: for truths in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import estimate as kernel
from operators.kernels.parameters import parameters
from schemas.pack import PackModel, Resistance, load_pack

Floats = NDArray[np.float64]


def one_branch_pack(cells: int = 4, probes: int = 2, chemistry: str = "nmc") -> PackModel:
    """Give a 50 Ah pack with R0 = 1 mΩ and one branch of 0.5 mΩ and 60 s, at any SOC and temperature."""
    pack = load_pack(f"generic-{chemistry}@{cells}c{probes}t50ah")
    zero, flat = np.zeros(1), np.full((1, 1), 1.0)
    circuit = Resistance(zero, np.array([25.0]), 1e-3 * flat, np.array([60.0]), 0.5e-3 * flat[None])
    return replace(pack, usable_ah=50.0, resistance=circuit)


@dataclass(frozen=True, slots=True)
class Truth:
    """What a simulated pack shows and holds: soc (N, C), cell_v (N, C)."""

    soc: Floats
    cell_v: Floats


def simulate(
    pack: PackModel,
    current_a: Floats,
    dt_s: float,
    soc: float,
    d_soc: Floats | float = 0.0,
    d_r0: Floats | float = 0.0,
    d_q: Floats | float = 0.0,
) -> Truth:
    """Simulate cells at 25 °C, at rest before the first sample; current runs linearly between samples."""
    grid, n = pack.grid(), current_a.size
    mean = np.concatenate([[0.0], (current_a[1:] + current_a[:-1]) / 2])
    passed = np.cumsum(mean) * dt_s / 3600.0
    z = (
        soc
        + np.broadcast_to(d_soc, pack.series)
        + passed[:, None] / (pack.usable_ah * (1 + np.broadcast_to(d_q, pack.series)))
    )
    keep = np.exp(-dt_s / pack.resistance.tau_s[0])
    u = np.zeros(n)
    for k in range(1, n):
        u[k] = keep * u[k - 1] + (1 - keep) * pack.resistance.rb_ohm[0, 0, 0] * mean[k]
    drop = current_a[:, None] * pack.resistance.r0_ohm[0, 0] * (1 + np.broadcast_to(d_r0, pack.series))
    ocv = np.interp(z, grid.soc, grid.ocv[11])  # 25 °C
    return Truth(z, ocv + drop + u[:, None])


def run(
    pack: PackModel,
    cfg: kernel.EstimateConfig,
    cell_v: NDArray[Any],
    current_a: NDArray[Any],
    dt_s: Floats | float = 1.0,
    *,
    state: kernel.EstimateState | None = None,
    **columns: Any,
) -> dict[str, NDArray[Any]]:
    """Step one pack in slot 0 over N rows; `columns` replace what `kernel.step` takes."""
    n, cells = cell_v.shape
    dt = np.broadcast_to(dt_s, n).astype(np.float64)
    if state is None:
        state = kernel.EstimateState.empty(1, cells, pack.probes)
        dt[0] = np.nan
    given: dict[str, Any] = {
        "slot": np.zeros(n, np.int32),
        "dt_s": dt,
        "quality": np.zeros(n, np.uint32),
        "lane": np.zeros(n, np.uint8),
        "current_a": current_a.astype(np.float32),
        "pack_v": np.full(n, np.nan, np.float32),
        "cell_v": np.ascontiguousarray(cell_v, np.float32),
        "temp_c": np.full((n, pack.probes), 25.0, np.float32),
    }
    return kernel.step(cfg, state, parameters(pack), **{**given, **columns})


def drive(n: int, seed: int, amps: float = 50.0, hold: int = 20) -> Floats:
    """Draw a current that changes every `hold` samples, mostly discharge, from rest."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(-0.2 * amps, amps, n // hold + 1)
    steps[0] = 0.0
    return np.repeat(steps, hold)[:n]
