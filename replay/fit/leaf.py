"""Nissan Leaf packs: 24 kWh from pulse tests of one of its cells, 62 kWh from a road trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from replay.fit.rc import Priors, Run, Tables, fit, rmse_v
from replay.fit.read import charge_ah, columns
from replay.fit.render import BREAK_CURRENT, PackSpec

CELL_AH = 31.0  # of the aged cell (33.1 Ah new): 30.3-30.7 Ah to 3.0 V at C/3, and the little left then
HPPC = {10: "NissanLeaf-cell-Low-Current-HPPC-10C", 25: "NissanLeaf-cell-Low-Current-HPPC-25C-2"}
HPPC[40] = "NissanLeaf-cell-Low-Current-HPPC-40C-1"
OCV_TEMP_C = np.array([10.0, 25.0, 40.0])
R_TEMP_C = np.array([-20.0, 0.0, 10.0, 25.0, 40.0, 55.0])
R_SOC = np.array([0, 0.02, 0.04, 0.06, 0.09, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
OCV_SOC = np.array([
    0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6,
    0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0,
])  # fmt: skip
TAU_S = np.array([2.0, 20.0, 200.0, 1500.0])
PULSES = (6, 7, 8)  # discharge, the rest after it, charge: they are few rows, and what power for seconds is read from
PULSE_COUNTS = 80.0
PULSE_STEP = 6  # the first discharge pulse of a round; before it the cell rests fully charged


def read(data: Path) -> dict[int, Run]:
    """Read the pulse tests of one cell, from the rest before the first pulse to 3.0 V, by temperature."""
    c = columns(data / "leaf_cell/leaf_cell.parquet", ("test", "t_s", "step", "i", "v"))
    runs = {}
    for temp_c, test in HPPC.items():
        rows = np.flatnonzero(c["test"] == test)
        rows = rows[np.flatnonzero(c["step"][rows] == PULSE_STEP)[0] - 1 :]
        t_s, i = c["t_s"][rows], c["i"][rows]
        soc = 1 + charge_ah(t_s, i) / CELL_AH
        pulsed = np.isin(c["step"][rows], PULSES)
        counts = np.where(pulsed, PULSE_COUNTS, 1.0)
        runs[temp_c] = Run(t_s, i, c["v"][rows], soc, np.full(t_s.size, float(temp_c)), counts)
    return runs


def fit_cell(runs: dict[int, Run]) -> Tables:
    """Fit one cell's OCV per temperature, R0 and four branches, from the discharge between the pulses onwards."""
    middle = runs[25]
    steady = (middle.current_a < -5) & (middle.current_a > -15)  # noqa: PLR2004 - the C/3 parts
    order = np.argsort(middle.soc[steady])
    v = np.interp(OCV_SOC, middle.soc[steady][order], middle.v[steady][order]) + 0.03
    v[0] = v[1] - 0.1  # nothing was recorded down there
    v = np.maximum.accumulate(v + 1e-4 * np.arange(v.size))
    factor = np.exp(2500 * (1 / (R_TEMP_C + 273.15) - 1 / 298.15))
    r = np.array([1.3e-3, 4e-4, 4e-4, 4e-4, 4e-4])[:, None, None] * factor[None, :, None] * np.ones(R_SOC.size)
    start = Tables(OCV_SOC, OCV_TEMP_C, np.repeat(v[None], 3, axis=0), R_SOC, R_TEMP_C, r, TAU_S)
    # each tenth of charge has a pulse of its own: its resistance need not lie on a line with its neighbours'
    return fit(
        start, list(runs.values()), Priors(ocv_v=0.05, ocv_rough_v=0.02, r_rough=2.0, r_arrhenius=0.5), rounds=25
    )


def spec_24kwh(data: Path) -> PackSpec:
    """Describe the 24 kWh pack, 96s2p: twice the cell's Ah, half its resistance."""
    runs = read(data)
    cell = fit_cell(runs)
    grid = cell.grid()
    errors = ", ".join(f"{1e3 * rmse_v(grid, [run]):.1f} mV at {t} °C ({run.v.size} rows)" for t, run in runs.items())
    return PackSpec(
        about="Nissan Leaf 24 kWh (2013): 96 groups of two 33.1 Ah pouch cells, LMO blend.",
        chemistry="nmc",
        series=96,
        parallel=2,
        probes=4,
        nominal_ah=66.2,
        usable_ah=2 * CELL_AH,
        charge_max_a=130.0,
        discharge_max_a=270.0,
        break_current_a=3.5,
        ocv_source="measured",
        ocv_from="leaf_cell",
        tables=replace(cell, r_ohm=cell.r_ohm / 2),
        heat_capacity_j_per_k=1600.0,
        loss_w_per_k=0.3,
        provenance={
            "capacity": "one aged cell, 30.3-30.7 Ah from full to 3.0 V at C/3; 31.0 Ah taken as its full span",
            "ocv": "fitted together with the resistances to the pulse tests, per temperature",
            "resistance": f"R0 and four branches on the pulse tests, first pulse to 3.0 V: RMSE {errors}; "
            "below 10 °C and above 40 °C by Arrhenius",
            "thermal": "two cells of 0.8 kg at 1000 J/(kg K), passive cooling; assumed",
            "limits": f"default profile; 50 kW charging and 80 kW driving with a margin; {BREAK_CURRENT}",
        },
    )
