"""Packs whose OCV was never measured: whose curve fits best, how much charge moves a displayed percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from replay.fit import generic
from replay.fit.rc import Floats, Priors, Run, Tables, branch_currents, fit, rmse_v
from replay.fit.read import charge_ah, columns, stretches
from replay.fit.render import BREAK_CURRENT, PackSpec
from schemas.monotone import pchip

CARS = {"car1": (96, 24), "car2": (88, 19)}  # cell groups and probes
ROAD_TRIP = "leaf_roadtrip/leaf_roadtrip.parquet"
_LAGS_S = np.array([30.0, 300.0])
_OFFSETS = np.arange(-0.3, 0.1501, 0.01)
_SPANS = np.arange(0.75, 1.3001, 0.01)


@dataclass(frozen=True, slots=True, eq=False)
class Car:
    """What a car recorded, columns (N,): median cell voltage, + charging current, displayed SOC (0..1), mean probe."""

    t_s: Floats
    current_a: Floats
    v: Floats
    shown: Floats
    temp_c: Floats
    longest_gap_s: float


@dataclass(frozen=True, slots=True)
class Match:
    """A borrowed curve: SOC = offset + span × displayed SOC, and the error left, V."""

    name: str
    offset: float
    span: float
    rmse_v: float


def ev_faults(data: Path, car: str) -> Car:
    """Read a car of ev_faults: + = discharge there; impossible cells and probes are left out."""
    path = data / f"ev_faults/{car}.parquet"
    cells, probes = CARS[car]
    cell_names = [f"cell_mv_{k:03d}" for k in range(1, cells + 1)]
    probe_names = [f"temp_raw_{k:02d}" for k in range(1, probes + 1)]
    c = columns(path, ["tboxTime", "BMSBatteryCurrent", "vehBMSPackSOC", *cell_names, *probe_names])
    mv = np.stack([c[name] for name in cell_names], axis=1)
    mv[(mv < 2000) | (mv > 4500)] = np.nan  # noqa: PLR2004 - mV of a lithium cell
    raw = np.stack([c[name] for name in probe_names], axis=1)
    raw[np.isin(raw, (0, 255, 511))] = np.nan
    temp_c = raw - (40 if car == "car2" else 0)
    temp_c[(temp_c < -40) | (temp_c > 80)] = np.nan  # noqa: PLR2004 - °C of a pack
    complete = ~np.isnan(mv).any(axis=1) & ~np.isnan(temp_c).all(axis=1)
    keep = complete & ~np.isnan(c["BMSBatteryCurrent"]) & ~np.isnan(c["vehBMSPackSOC"])
    keep &= np.diff(c["tboxTime"], prepend=-np.inf) > 0
    return Car(
        c["tboxTime"][keep],
        -c["BMSBatteryCurrent"][keep],
        np.median(mv[keep], axis=1) / 1000,
        c["vehBMSPackSOC"][keep] / 100,
        np.nanmedian(temp_c[keep], axis=1),
        10.0 if car == "car1" else 90.0,
    )


def sum_offset_v(data: Path, car: str) -> float:
    """Give pack sensor minus sum of cells, median over complete rows, V."""
    names = [f"cell_mv_{k:03d}" for k in range(1, CARS[car][0] + 1)]
    c = columns(data / f"ev_faults/{car}.parquet", ["BMSBatteryVoltage", *names])
    mv = np.stack([c[name] for name in names], axis=1)
    complete = ((mv > 2000) & (mv < 4500)).all(axis=1)  # noqa: PLR2004 - mV of a lithium cell
    return float(np.nanmedian((c["BMSBatteryVoltage"] - mv.sum(axis=1) / 1000)[complete]))


def leaf_roadtrip(data: Path) -> Car:
    """Read the road trip: + = discharge there, SOC in 1e-4 %."""
    names = ["epoch time", "Pack Amps", "Avg CP mV", "SOC", "Pack T1 C", "Pack T2 C", "Pack T4 C"]
    c = columns(data / ROAD_TRIP, names)
    order = np.argsort(c["epoch time"], kind="stable")
    temp_c = np.mean([c[n][order] for n in names[-3:]], axis=0)
    return Car(
        c["epoch time"][order],
        -c["Pack Amps"][order],
        c["Avg CP mV"][order] / 1000,
        c["SOC"][order] / 1e6,
        temp_c,
        900.0,
    )


def ah_per_soc(car: Car, least_swing: float) -> tuple[float, int]:
    """Give Ah per unit of displayed SOC, by least squares over stretches without gaps, and how many were used."""
    moved, shown = [], []
    for part in stretches(car.t_s, car.longest_gap_s):
        change = car.shown[part][-1] - car.shown[part][0]
        if abs(change) >= least_swing:
            moved.append(charge_ah(car.t_s[part], car.current_a[part])[-1])
            shown.append(change)
    x, y = np.array(shown), np.array(moved)
    return float((x @ y) / (x @ x)), x.size


def match(car: Car, curves: Mapping[str, Tables]) -> list[Match]:
    """Rank OCV curves by what is left of the voltage after resistance and two lags are fitted; best first."""
    every = max(1, car.t_s.size // 5000)
    i = np.concatenate(
        [branch_currents(car.t_s[p], car.current_a[p], _LAGS_S) for p in stretches(car.t_s, car.longest_gap_s)], axis=1
    ).T[::every]
    v, shown = car.v[::every], car.shown[::every]
    q, _ = np.linalg.qr(i)
    found = []
    for name, tables in curves.items():
        row = tables.ocv_v[int(np.argmin(np.abs(tables.ocv_temp_c - 25)))]
        best = Match(name, 0, 1, np.inf)
        for offset in _OFFSETS:
            for span in _SPANS:
                left = v - pchip(tables.ocv_soc, row, offset + span * shown)[0]
                error = float(np.sqrt(np.mean((left - q @ (q.T @ left)) ** 2)))
                if error < best.rmse_v:
                    best = Match(name, float(offset), float(span), error)
        found.append(best)
    return sorted(found, key=lambda m: m.rmse_v)


def runs(car: Car, offset: float = 0.0, span: float = 1.0, least_rows: int = 1) -> list[Run]:
    """Give the stretches without gaps as recordings, with SOC = offset + span × displayed SOC."""
    return [
        Run(car.t_s[p], car.current_a[p], car.v[p], offset + span * car.shown[p], car.temp_c[p])
        for p in stretches(car.t_s, car.longest_gap_s)
        if car.t_s[p].size >= least_rows
    ]


def spec_ev_faults(data: Path, name: str, curves: Mapping[str, Tables]) -> PackSpec:
    """Describe a car of ev_faults: best borrowed curve, Ah from charge over displayed SOC, resistances scaled."""
    car = ev_faults(data, name)
    ranked = match(car, curves)
    best = ranked[0]
    per_shown, used = ah_per_soc(car, 0.05 if name == "car1" else 0.02)
    usable_ah = round(per_shown / best.span, 1)
    template = generic.nmc()
    size = usable_ah / template.nominal_ah
    curve = curves[best.name]
    start = replace(
        template.tables, ocv_soc=curve.ocv_soc, ocv_temp_c=curve.ocv_temp_c, ocv_v=curve.ocv_v,
        r_ohm=template.tables.r_ohm / size,
    )  # fmt: skip
    recorded = runs(car, best.offset, best.span, 60)
    only_r = Priors(ocv_v=1e-5, ocv_rough_v=1e-5, r_rough=0.05, r_arrhenius=0.05)
    total = fit(start, recorded, only_r).r_ohm.sum(axis=0) / start.r_ohm.sum(axis=0)
    tables = replace(start, r_ohm=start.r_ohm * float(np.median(total)))
    rows = sum(r.v.size for r in recorded)
    cells, probes = CARS[name]
    return PackSpec(
        about=f"The {name} of ev_faults: {cells} cell groups, {probes} probes, make unknown.",
        chemistry="nmc",
        series=cells,
        parallel=1,
        probes=probes,
        nominal_ah=usable_ah,
        usable_ah=usable_ah,
        charge_max_a=_above(car.current_a.max()),
        discharge_max_a=_above(-car.current_a.min()),
        break_current_a=3.5,
        ocv_source="borrowed",
        ocv_from=best.name,
        tables=tables,
        heat_capacity_j_per_k=30.0 * usable_ah,
        loss_w_per_k=0.5,
        sum_offset_v=round(sum_offset_v(data, name), 2),
        provenance={
            "capacity": f"{per_shown:.1f} Ah per displayed SOC over {used} stretches without gaps, over the span below",
            "ocv": f"{best.name}; SOC = {best.offset:.2f} + {best.span:.2f} × displayed SOC leaves "
            + ", ".join(f"{1e3 * m.rmse_v:.1f} mV ({m.name})" for m in ranked),
            "resistance": f"generic NMC by Ah × {np.median(total):.2f}, the total that {rows} rows of the median cell "
            f"show: RMSE {1e3 * rmse_v(tables.grid(), recorded):.1f} mV; voltages lag current by seconds, so its "
            "split into R0 and branches is the generic one",
            "sum_offset": "median of pack sensor minus sum of cells over complete rows",
            "thermal": "30 J/K per Ah; assumed",
            "limits": "default profile; 1.1 × the largest recorded currents; parallel cells unknown, a group counts as "
            f"one; {BREAK_CURRENT}",
        },
    )


def spec_leaf_62kwh(data: Path) -> PackSpec:
    """Describe the Leaf 62 kWh: OCV from a road trip at displayed SOC, resistances borrowed (frames are too rare)."""
    car = leaf_roadtrip(data)
    recorded = runs(car)
    template = generic.nmc()
    usable_ah = round(float(np.median(columns(data / ROAD_TRIP, ["AHr"])["AHr"])) / 1e4, 1)
    start = replace(template.tables, r_ohm=template.tables.r_ohm * template.nominal_ah / usable_ah)
    tables = fit(start, recorded, Priors(ocv_v=0.1, ocv_rough_v=0.015, r_log=0.02))
    ah, used = ah_per_soc(car, 0.1)
    return PackSpec(
        about="Nissan Leaf 62 kWh (2020): 96 groups of three NMC pouch cells.",
        chemistry="nmc",
        series=96,
        parallel=3,
        probes=3,
        nominal_ah=176.4,
        usable_ah=usable_ah,
        charge_max_a=280.0,
        discharge_max_a=500.0,
        break_current_a=3.5,
        ocv_source="measured",
        ocv_from="leaf_roadtrip",
        tables=tables,
        heat_capacity_j_per_k=3000.0,
        loss_w_per_k=0.4,
        provenance={
            "capacity": "median of the car's own AHr; charge over displayed SOC, at one frame in five minutes, "
            f"gives {ah:.0f} Ah over {used} stretches",
            "ocv": f"mean cell voltage of {car.v.size} rows at the car's SOC "
            f"{car.shown.min():.2f}-{car.shown.max():.2f}, less i·R: "
            f"RMSE {1e3 * rmse_v(tables.grid(), recorded):.1f} mV; outside that the generic NMC shape continues",
            "resistance": "generic NMC by Ah: frames five minutes apart do not show it",
            "thermal": "three cells of 1 kg at 1000 J/(kg K), passive cooling; assumed",
            "limits": f"default profile; 100 kW charging and 160 kW driving with a margin; {BREAK_CURRENT}",
        },
    )


def _above(largest_a: float) -> float:
    return float(np.ceil(1.1 * largest_a / 10) * 10)
