"""The LG 18650HG2 cell, from its C/20 discharge and its mixed drive cycles at six temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from replay.fit.rc import Priors, Run, Tables, fit, predict, rmse_v
from replay.fit.read import of_folder
from replay.fit.render import PackSpec
from schemas.checked import ConfigError
from schemas.pack import PackGrid

CAPACITY_AH = 2.778  # between 4.2 V and 2.8 V at C/20 and 25 °C
TEMP_C = np.array([-20.0, -10.0, 0.0, 10.0, 25.0, 40.0])
# a slower branch moves as OCV does: no filter can tell them apart on a drive
TAU_S = np.array([2.0, 20.0, 100.0, 300.0])
R_SOC = np.array([0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0])
OCV_SOC = np.array([
    0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7,
    0.75, 0.8, 0.85, 0.9, 0.94, 0.97, 1.0,
])  # fmt: skip
PRIORS = Priors(ocv_v=0.015, ocv_rough_v=0.0035)
_CLOCK_ROWS, _CLOCK_EVERY = 900, 300  # over which the clocks of a recording are compared, and how often


COLUMNS = ("kind", "test", "ambient_c", "sec", "v", "i", "temp_c", "ah")  # of drive cycles
TEXT = COLUMNS[:2]
C20_COLUMNS = ("ambient_c", "status", "v", "ah", "i")  # of the C/20 discharge


def read(data: Path, kind: str, *, exactly: bool = False) -> dict[tuple[int, str], Run]:
    """Read drive cycles whose kind is `kind`, or starts with it ("Mixed", "LA92"), by (ambient °C, test)."""
    c = of_folder(data / "lg_hg2", COLUMNS, TEXT)
    of_kind = np.array([text == kind if exactly else text.startswith(kind) for text in c["kind"]])
    runs = {}
    for ambient in sorted(set(c["ambient_c"])):
        for test in sorted(set(c["test"][of_kind & (c["ambient_c"] == ambient)])):
            rows = of_kind & (c["ambient_c"] == ambient) & (c["test"] == test)
            soc = 1 + c["ah"][rows] / CAPACITY_AH
            runs[int(ambient), test] = Run(c["sec"][rows], c["i"][rows], c["v"][rows], soc, c["temp_c"][rows])
    return runs


def start(data: Path) -> Tables:
    """Give the C/20 discharge at 25 °C, raised by its own i·R, and resistances by Arrhenius (2500 K)."""
    c = of_folder(data / "lg_hg2", C20_COLUMNS, ("status",))
    down = (c["ambient_c"] == 25) & (c["status"] == "DCH")  # noqa: PLR2004 - °C
    if not down.any():
        msg = f"the C/20 discharge must be there at 25 °C; got none ({data / 'lg_hg2'})"
        raise ConfigError(msg)
    order = np.argsort(c["ah"][down])
    v = np.interp(OCV_SOC, 1 + c["ah"][down][order] / CAPACITY_AH, c["v"][down][order])
    v += 0.05 * -c["i"][down].mean()  # 50 mΩ in all
    factor = np.exp(2500 * (1 / (TEMP_C + 273.15) - 1 / 298.15))
    r = np.array([0.02, 0.006, 0.006, 0.006, 0.006])[:, None, None] * factor[None, :, None] * np.ones(R_SOC.size)
    return Tables(OCV_SOC, TEMP_C, np.repeat(v[None], TEMP_C.size, axis=0), R_SOC, TEMP_C, r, TAU_S)


def spec(data: Path) -> PackSpec:
    """Fit OCV per temperature (within a prior around C/20), R0 and four branches to the mixed cycles."""
    mixed, held_out = read(data, "Mixed"), read(data, "LA92")
    found = tables(data, list(mixed.values()))
    grid = found.grid()
    rows = sum(r.v.size for r in mixed.values())
    return PackSpec(
        about="One LG 18650HG2 cell.",
        chemistry="nmc",
        series=1,
        parallel=1,
        probes=1,
        nominal_ah=3.0,
        usable_ah=CAPACITY_AH,
        capacity_std=0.02,  # of the very cell that was measured
        charge_max_a=6.0,
        discharge_max_a=20.0,
        break_current_a=3.5,
        ocv_source="measured",
        ocv_from="lg_hg2",
        tables=found,
        heat_capacity_j_per_k=125.0,
        loss_w_per_k=0.46,
        provenance={
            "capacity": "C/20 discharge at 25 °C, lg_hg2_c20; SOC = 1 + ah / 2.778 at every temperature",
            "ocv": "C/20 discharge at 25 °C, then fitted per temperature within 15 mV: slow polarisation is in it",
            "resistance": f"least squares on Mixed1-8, {rows} rows, every third; {_by_temperature(grid, mixed)}",
            "held_out": f"LA92, not fitted: {_by_temperature(grid, held_out)}; with v and i aligned in time: "
            f"{_by_temperature(grid, {k: aligned(grid, r) for k, r in held_out.items()})}",
            "thermal": "fitted to the temperatures of Mixed drives from 0 °C on (flows.accuracy.twin); holder and air "
            "around count with the cell, whose own 48 g hold 46 J/K",
            "limits": "default profile; 2 C regeneration as recorded, 20 A as the data sheet; break current assumed",
        },
    )


def tables(data: Path, runs: Sequence[Run], every: int = 3, rounds: int = 8) -> Tables:
    """Fit to drive cycles, reading every n-th row: once as they are, and once with their currents aligned."""
    first = start(data)
    once = fit(first, runs, PRIORS, every=every, rounds=rounds)
    grid = once.grid()
    # from the same start again: begun at what was found, its priors would count these recordings twice
    return fit(first, [aligned(grid, r) for r in runs], PRIORS, every=every, rounds=rounds)


def aligned(grid: PackGrid, run: Run) -> Run:
    """Shift the current towards the next row by the share that the residual shows.

    Some recordings sample voltage up to half a second after current: the residual then follows the next
    change of current as the resistance does, and a fit would take it for one.
    """
    i = run.current_a
    ahead, behind = np.diff(i, append=i[-1]), np.diff(i, prepend=i[0])
    x = np.stack([np.ones_like(i), i, behind, ahead], axis=1)
    slope = np.linalg.lstsq(x, run.v - predict(grid, run), rcond=None)[0][3]
    r0 = np.median(np.interp(run.temp_c, grid.temp_c, grid.r0[:, 120]))
    return replace(run, current_a=i + np.clip(slope / r0, 0, 1) * ahead)


def in_step(run: Run) -> Run:
    """Shift the current to the moments at which the voltage was sampled, 0 to 1 row later and drifting.

    Which share of a change of voltage goes with the change of current one row on says how much later, over 15 minutes
    around; the recording alone is asked, no model of the cell.
    """
    di, dv = np.diff(run.current_a), np.diff(run.v)
    x = np.stack([np.append(di[1:], 0.0), di, np.append(0.0, di[:-1]), np.concatenate([[0.0, 0.0], di[:-2]])], axis=1)
    at = np.arange(0, di.size, _CLOCK_EVERY)
    share = np.zeros(at.size)
    for n, middle in enumerate(at.tolist()):
        part = slice(max(middle - _CLOCK_ROWS // 2, 0), middle + _CLOCK_ROWS // 2)
        next_row, same_row = np.linalg.lstsq(x[part], dv[part], rcond=None)[0][:2]
        share[n] = np.clip(next_row / (next_row + same_row), 0.0, 1.0) if next_row + same_row > 0 else np.nan
    known = ~np.isnan(share)
    later = np.interp(np.arange(run.v.size), at[known], share[known]) if known.any() else np.zeros(run.v.size)
    return replace(run, current_a=run.current_a + later * np.diff(run.current_a, append=run.current_a[-1]))


def _by_temperature(grid: PackGrid, runs: dict[tuple[int, str], Run]) -> str:
    def at(ambient: int) -> Sequence[Run]:
        return [run for (a, _), run in runs.items() if a == ambient]

    ambients = sorted({a for a, _ in runs})
    return "RMSE " + ", ".join(f"{1e3 * rmse_v(grid, at(a)):.1f} mV at {a} °C" for a in ambients)
