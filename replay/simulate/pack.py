"""True packs: what every vehicle really has inside, drawn around its pack model but never equal to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.simulate.cell import SOC_STEPS, cell_table
from schemas.pack import PackModel

OCV_SHAPE_V = 5e-3  # largest deviation of a pack's OCV curve from its file
R0_SPREAD = 0.20  # as share of the file's R0
CAPACITY_LOW, CAPACITY_HIGH = 0.75, 1.02  # as share of the file's usable Ah
REFERENCE_KWH = 24.0  # a smaller pack moves a vehicle that is smaller in proportion
FLOW = 4.0  # loss to pumped coolant over that to the air, where the file does not know it
DERATE_LOW_C = -30  # derating by whole °C from here on
_F4 = np.float32


class Model(NamedTuple):
    """What all vehicles of a pack model share, as kernels read it."""

    table: NDArray[np.float32]  # see cell.cell_table
    entropy_v_per_k: NDArray[np.float32]  # (K,) dU/dT
    nominal_ah: float
    v_max: float  # the charger holds the highest group here
    v_min: float
    charge_max_a: float
    discharge_max_a: float
    derate_charge: NDArray[np.float64]  # by whole °C from −30
    derate_discharge: NDArray[np.float64]
    sum_offset_v: float
    heat_capacity: float  # J/K of a group
    loss: float  # W/K of a group to the air around
    flow: float  # loss to pumped coolant over that
    neighbour: float  # W/K between neighbouring groups
    loss_at: NDArray[np.float32]  # (C,) share of `loss`: ends cool better than the middle
    probe_cell: NDArray[np.int64]  # (P,) group a probe sits on
    scale: float  # of vehicle power, 1 for a car
    mass_kg: float  # of that car
    bleed_ohm: float
    current_step_a: float  # resolution of the current sensor
    pack_step_v: float


class Packs(NamedTuple):
    """True values of V packs of one model: what does not change unless a fault changes it."""

    capacity_as: NDArray[np.float32]  # (V, C) A·s
    r_factor: NDArray[np.float32]  # (V, C) of the file's R0
    rb_factor: NDArray[np.float32]  # (V, C) of the file's branches
    leak_a: NDArray[np.float32]  # (V, C) self-discharge at 25 °C
    sense_v: NDArray[np.float32]  # (V, C) error of the cell's voltage channel
    shape_v: NDArray[np.float32]  # (V, K) of the OCV curve, beside the file's
    tau_s: NDArray[np.float64]  # (V, B)
    hysteresis_v: NDArray[np.float64]  # (V,)
    heat_factor: NDArray[np.float64]  # (V,) of heat capacity
    loss_factor: NDArray[np.float64]  # (V,)
    probe_tau_s: NDArray[np.float64]  # (V, P)
    probe_c: NDArray[np.float32]  # (V, P) error of the probe
    probe_step_c: NDArray[np.float32]  # (V,) its resolution
    noise_v: NDArray[np.float32]  # (V,) of a cell's voltage
    sweep_s: NDArray[np.float64]  # (V,) time to read all cells, one after another
    offset_a: NDArray[np.float64]  # (V,) of the current sensor
    gain: NDArray[np.float64]  # (V,)
    pack_offset_v: NDArray[np.float64]  # (V,)
    bms_ah: NDArray[np.float64]  # (V,) capacity that the vehicle's own BMS believes in
    bms_bias: NDArray[np.float64]  # (V,) of its SOC after rest
    isolation_ohm: NDArray[np.float64]  # (V,)
    soc: NDArray[np.float64]  # (V, C) at the start


# dU/dT in mV/K over SOC 0, 0.1 … 1, after published curves of graphite cells.
_ENTROPY = {
    "nmc": (-0.42, -0.30, -0.22, -0.14, -0.05, 0.04, 0.10, 0.08, 0.05, 0.03, 0.02),
    "lfp": (-0.30, -0.22, -0.14, -0.05, 0.05, 0.10, 0.10, 0.05, -0.02, -0.03, -0.03),
}
_CELL_LIMITS = ("MOL", "cell_v")


def model_of(pack: PackModel) -> Model:
    """Turn a pack model into what the kernels read."""
    grid = pack.grid()
    c, x = pack.series, np.linspace(-1.0, 1.0, pack.series) if pack.series > 1 else np.zeros(1)
    kwh = pack.usable_ah * float(grid.ocv[11].mean()) * c / 1e3
    bounds = {row.over: row.bound for row in pack.limits if (row.tier, row.quantity) == _CELL_LIMITS}
    degrees = np.arange(DERATE_LOW_C, 91.0)
    per_60ah = pack.nominal_ah / 60.0
    return Model(
        table=cell_table(grid.ocv, grid.r0, grid.rb),
        entropy_v_per_k=(np.interp(grid.soc, np.linspace(0, 1, 11), _ENTROPY[pack.chemistry]) * 1e-3).astype(_F4),
        nominal_ah=pack.nominal_ah,
        v_max=min(float(grid.ocv[11, -1]), bounds.get(True, 6.0) - 0.02),
        v_min=max(float(grid.ocv[11, 0]), bounds.get(False, 0.0)) + 0.05,
        charge_max_a=0.9 * pack.charge_max_a,
        discharge_max_a=0.9 * pack.discharge_max_a,
        derate_charge=np.interp(degrees, pack.derating.temp_c, pack.derating.charge),
        derate_discharge=np.interp(degrees, pack.derating.temp_c, pack.derating.discharge),
        sum_offset_v=pack.sum_offset_v,
        heat_capacity=pack.thermal.heat_capacity_j_per_k,
        loss=pack.thermal.loss_w_per_k,
        flow=FLOW if pack.thermal.coolant_w_per_k is None else pack.thermal.coolant_w_per_k / pack.thermal.loss_w_per_k,
        neighbour=pack.thermal.heat_capacity_j_per_k / 1200.0,
        loss_at=(1.0 + 0.5 * (x * x - (x * x).mean())).astype(_F4),
        probe_cell=((np.arange(pack.probes) + 0.5) * c / max(pack.probes, 1)).astype(np.int64),
        scale=min(kwh / REFERENCE_KWH, 1.0),
        mass_kg=1450.0 + 6.0 * max(kwh, REFERENCE_KWH),
        bleed_ohm=33.0 / per_60ah,
        current_step_a=0.1 if per_60ah > 0.3 else 0.1 * per_60ah,
        pack_step_v=0.1 if c > 12 else 0.001,
    )


def draw_packs(pack: PackModel, draws: list[np.random.Generator], offset_a: float | None) -> Packs:
    """Draw one true pack per generator; `offset_a` fixes the error of the current sensors, A."""
    rows = [_draw(pack, d) for d in draws]
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    if offset_a is not None:
        columns["offset_a"] = np.full(len(draws), offset_a)
    return Packs(**columns)


def _draw(pack: PackModel, d: np.random.Generator) -> dict[str, Any]:
    c, p, grid = pack.series, pack.probes, pack.grid()
    capacity = np.clip(d.uniform(0.77, 1.005) * (1 + 0.006 * d.standard_normal(c)), CAPACITY_LOW, CAPACITY_HIGH)
    r = np.clip(d.uniform(0.86, 1.14) * (1 + 0.025 * d.standard_normal(c)), 1 - R0_SPREAD, 1 + R0_SPREAD)
    rb = d.uniform(0.8, 1.25) * (1 + 0.04 * d.standard_normal(c))
    # Self-discharge: median 1.5 % a month; parts that differ by a factor of two in one pack are ordinary.
    leak = 0.015 * pack.nominal_ah / 720.0 * np.exp(0.3 * d.standard_normal() + 0.35 * d.standard_normal(c))
    per_60ah = pack.nominal_ah / 60.0
    healthy = capacity.mean() * pack.usable_ah
    return {
        "capacity_as": (capacity * pack.usable_ah * 3600.0).astype(_F4),
        "r_factor": r.astype(_F4),
        "rb_factor": rb.astype(_F4),
        "leak_a": leak.astype(_F4),
        "sense_v": np.clip(8e-4 * d.standard_normal(c), -2e-3, 2e-3).astype(_F4),
        "shape_v": _shape(grid.docv.min(axis=0), d).astype(_F4),
        "tau_s": grid.tau_s * d.uniform(0.75, 1.35, grid.tau_s.size),
        "hysteresis_v": (max(pack.hysteresis_v, 1.5e-3) * d.uniform(0.7, 1.4)),
        "heat_factor": d.uniform(0.9, 1.15),
        "loss_factor": d.uniform(0.8, 1.25),
        "probe_tau_s": d.uniform(10.0, 60.0, p),
        "probe_c": np.clip(0.5 * d.standard_normal(p), -1.5, 1.5).astype(_F4),
        "probe_step_c": _F4(1.0 if d.random() < 0.5 else 0.5),
        "noise_v": _F4(d.uniform(3e-4, 1e-3)),
        "sweep_s": d.uniform(0.01, 0.1),
        "offset_a": np.clip(0.2 * d.standard_normal(), -0.6, 0.6) * per_60ah,
        "gain": 1 + np.clip(4e-3 * d.standard_normal(), -0.01, 0.01),
        "pack_offset_v": 1e-3 * pack.series * 3.7 * np.clip(d.standard_normal(), -2, 2),
        "bms_ah": healthy * (1 + np.clip(0.03 * d.standard_normal(), -0.08, 0.08)),
        "bms_bias": np.clip(0.012 * d.standard_normal(), -0.03, 0.03),
        "isolation_ohm": np.exp(d.uniform(np.log(2e6), np.log(8e6))),
        "soc": d.uniform(0.45, 0.78) + np.clip(0.004 * d.standard_normal(c), -0.012, 0.012),
    }


def _shape(slope_v: NDArray[np.float64], d: np.random.Generator) -> NDArray[np.float64]:
    """Draw a smooth deviation of the OCV curve within ±5 mV that leaves the curve rising, (K,), V."""
    z = np.linspace(0.0, 1.0, SOC_STEPS + 1)
    waves = [d.normal() / n * np.sin(2 * np.pi * (0.5 * n * z + d.random())) for n in (1, 2, 3)]
    shape = np.sum(waves, axis=0)
    shape *= d.uniform(0.5, 1.0) * OCV_SHAPE_V / np.abs(shape).max()
    fall = -np.gradient(shape, z)
    steep = float((fall / slope_v).max())
    return np.asarray(shape * min(1.0, 0.7 / max(steep, 1e-9)))
