"""BMW i3 packs: 60 Ah from recorded trips, 120 Ah from the same cell chemistry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.fit import generic
from replay.fit.rc import Priors, Run, Tables, fit, rmse_v
from replay.fit.read import charge_ah, of_folder
from replay.fit.render import BREAK_CURRENT, PackSpec

SERIES = 96
CAPACITY_AH = 61.7  # median of the trips' ΔAh over the car's ΔSOC, as `capacities_ah` gives it
OCV_SOC = np.array([0, 0.03, 0.06, 0.1, *np.arange(0.15, 0.96, 0.05), 1.0])
R_SOC = np.array([0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0])
R_TEMP_C = np.array([-20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 50.0])
TAU_S = np.array([2.0, 20.0, 120.0, 800.0])
COLUMNS = ("trip", "t_s", "pack_v", "pack_a", "soc_pct", "batt_temp_c")
_FEWEST = 100  # rows of a trip


def trips(data: Path, notes: list[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the columns of all trips whose SOC the car tells; the others are told in `notes`."""
    c = of_folder(data / "bmw_i3_trips", COLUMNS, COLUMNS[:1], notes)
    silent = [trip for trip in sorted(set(c["trip"])) if (~np.isnan(c["soc_pct"][c["trip"] == trip])).sum() < _FEWEST]
    if notes is not None and silent:
        notes.append(f"bmw_i3_trips: left out, SOC known in fewer than {_FEWEST} rows: {', '.join(silent)}")
    rows = ~np.isin(c["trip"], silent)
    return {name: column[rows] for name, column in c.items()}


def read(data: Path) -> list[Run]:
    """Read the trips in order of name, one cell group: v = pack voltage / 96.

    SOC is charge moved over Q, shifted to the car's own SOC in the mean over a trip.
    """
    c = trips(data)
    runs = []
    for trip in sorted(set(c["trip"])):
        rows = c["trip"] == trip
        t_s, i = c["t_s"][rows], c["pack_a"][rows]
        moved = charge_ah(t_s, i) / CAPACITY_AH
        soc = moved + np.nanmean(c["soc_pct"][rows] / 100 - moved)
        runs.append(Run(t_s, i, c["pack_v"][rows] / SERIES, soc, c["batt_temp_c"][rows]))
    return runs


def capacities_ah(data: Path, least_swing: float = 0.03) -> list[float]:
    """Give, for each trip with that change of the car's own SOC, the charge moved over it."""
    c = trips(data)
    found = []
    for trip in sorted(set(c["trip"])):
        rows = (c["trip"] == trip) & ~np.isnan(c["soc_pct"])
        soc = c["soc_pct"][rows] / 100
        if abs(soc[-1] - soc[0]) >= least_swing:
            found.append(charge_ah(c["t_s"][rows], c["pack_a"][rows])[-1] / (soc[-1] - soc[0]))
    return found


def tables(runs: Sequence[Run]) -> Tables:
    """Fit OCV (shape of the generic NMC outside what was driven), R0 and four branches to trips."""
    shape = generic.nmc().tables
    factor = np.exp(2500 * (1 / (R_TEMP_C + 273.15) - 1 / 298.15))
    r = np.array([8e-4, 1.5e-4, 2e-4, 2e-4, 2e-4])[:, None, None] * factor[None, :, None] * np.ones(R_SOC.size)
    v = np.interp(OCV_SOC, shape.ocv_soc, shape.ocv_v[0])
    start = Tables(OCV_SOC, np.array([25.0]), v[None], R_SOC, R_TEMP_C, r, TAU_S)
    return fit(start, runs, Priors(ocv_v=0.1, ocv_rough_v=0.01, r_rough=0.2, r_arrhenius=0.2), every=10)


def spec_60ah(data: Path) -> PackSpec:
    """Fit `tables` to every other trip."""
    runs = read(data)
    fitted, held_out = runs[::2], runs[1::2]
    found = tables(fitted)
    grid = found.grid()
    per_trip_ah = capacities_ah(data)
    trips = len(per_trip_ah)
    low, high = (f(np.concatenate([r.soc for r in fitted])) for f in (np.min, np.max))
    return PackSpec(
        about="BMW i3 60 Ah (2013-2016): 96 prismatic NMC cells in series.",
        chemistry="nmc",
        series=SERIES,
        parallel=1,
        probes=8,
        nominal_ah=60.0,
        usable_ah=CAPACITY_AH,
        charge_max_a=150.0,
        discharge_max_a=410.0,
        break_current_a=3.5,
        ocv_source="measured",
        ocv_from="bmw_i3_trips",
        tables=found,
        heat_capacity_j_per_k=1900.0,
        loss_w_per_k=0.6,
        provenance={
            "capacity": f"charge over the car's SOC, median {np.median(per_trip_ah):.1f} Ah of {trips} trips "
            "with ≥ 3 % swing",
            "ocv": f"pack_v / 96 of {len(fitted)} trips (every other by name), SOC {low:.2f}-{high:.2f} of the car; "
            "outside that the generic NMC shape continues",
            "resistance": f"R0 and four branches on the same {sum(r.v.size for r in fitted)} rows, every tenth: "
            f"RMSE {1e3 * rmse_v(grid, fitted):.1f} mV; the other {len(held_out)} trips "
            f"{1e3 * rmse_v(grid, held_out):.1f} mV; below 1 °C and above 32 °C by Arrhenius",
            "thermal": "1.9 kg a cell at 1000 J/(kg K), refrigerant-cooled floor; assumed",
            "limits": f"default profile; largest recorded currents with a margin; {BREAK_CURRENT}",
        },
    )


def spec_120ah(of_60ah: PackSpec) -> PackSpec:
    """Describe the 120 Ah pack: OCV of the 60 Ah pack, resistances by Ah."""
    size = of_60ah.nominal_ah / 120.0
    return replace(
        of_60ah,
        about="BMW i3 120 Ah (2018-2022): 96 prismatic NMC cells in series.",
        nominal_ah=120.0,
        usable_ah=120.0,
        charge_max_a=190.0,
        ocv_source="borrowed",
        ocv_from="bmw-i3-60ah",
        tables=replace(of_60ah.tables, r_ohm=of_60ah.tables.r_ohm * size),
        heat_capacity_j_per_k=2000.0,
        provenance={
            "capacity": "nameplate",
            "ocv": "bmw-i3-60ah; the newer cell's cathode differs somewhat",
            "resistance": "bmw-i3-60ah, divided by the ratio of Ah; not measured on this pack",
            "thermal": "2 kg a cell at 1000 J/(kg K); assumed",
            "limits": f"default profile; currents of the 60 Ah car, charging 50 kW with a margin; {BREAK_CURRENT}",
        },
    )
