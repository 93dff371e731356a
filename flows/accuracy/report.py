"""What `ibms bench accuracy` and `diagnosis` print: every figure beside what it should be."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from flows.accuracy import bmw_i3, faults, gateway, leaf_cell, lg_hg2, offset, prognosis, pulses, soh
from flows.accuracy.ev_faults import weak_cells
from schemas.checked import ConfigError

# Folder of recordings → its figures by name, which ends in the unit; what is not understood is added to the notes.
SETS: dict[str, Callable[[Path, list[str]], dict[str, float]]] = {
    "lg_hg2": lg_hg2.figures,
    "leaf_cell": leaf_cell.figures,
    "bmw_i3_trips": bmw_i3.figures,
    "soh_features": prognosis.figures,
}

_OTHERS = ("ev_faults", "can_traces", "leaf_roadtrip")  # folders that are known; the last two have no figures

# What a figure should be, (at least, at most), by pattern of its name; the first that fits.
_GOALS: dict[str, tuple[float, float]] = {
    **prognosis.GOALS,
    "*_threshold_*": (0.0, np.inf),  # what an ordinary BMS would say has none
    "gateway_*_helps_times": (5.0, np.inf),
    "simulated_offset_contactors_seen_worst_a": (0.0, 0.1),
    "simulated_offset_voltage_alone_worst_a": (0.0, 0.2),
    "short_10_ohm_median_delay_h": (0.0, 4.0),
    "short_30_ohm_median_delay_h": (0.0, 8.0),
    "short_100_ohm_median_delay_h": (0.0, 40.0),
    "resistance_*_found_at_pct": (0.0, 25.0),
    "cooling_off*_median_delay_h": (0.0, 1 / 6),
    "bias_20_mv*_first_told_as_leak_pct": (0.0, 0.0),
    "capacity_10_pct_lost_first_told_as_leak_pct": (0.0, 0.0),
    "bias_20_mv*_median_delay_h": (0.0, 24.0),
    "probe_stuck_median_delay_h": (0.0, 1 / 6),
    "flapping_most_incidents": (1.0, 1.0),
    "flapping_most_updates": (0.0, 5.0),
    "faulty_others_named_per_pack_month": (0.0, 0.1),
    "*_cause_named_pct": (75.0, 100.0),
    "healthy_*_false_in_first_hour": (0.0, 0.0),
    "healthy_*_false_per_pack_month": (0.0, 0.1),
    "lg_hg2_soc_warm_mean_rmse_pct": (0.0, 0.55),
    "lg_hg2_soc_warm_worst_file_pct": (0.0, 0.80),
    "lg_hg2_soc_warm_worst_point_pct": (0.0, 3.0),
    "lg_hg2_soe_warm_*rmse_pct": (0.0, 1.0),
    "lg_hg2_soe_warm_worst_file_pct": (0.0, 1.0),
    "lg_hg2_soc_cold_worst_file_pct": (0.0, 0.9),
    "lg_hg2_left_out_m20c*_mean_rmse_pct": (0.0, 1.2),
    "lg_hg2_left_out_m20c*_worst_file_pct": (0.0, 2.5),
    "lg_hg2_left_out_m10c*_mean_rmse_pct": (0.0, 0.8),
    "lg_hg2_left_out_m10c*_worst_file_pct": (0.0, 1.6),
    "lg_hg2_twin_la92_*_rmse_mv": (0.0, 15.0),
    "lg_hg2_twin_*_rmse_mv": (0.0, 28.0),  # harder cycles
    "lg_hg2_*interval_90_covers_pct": (85.0, 98.0),
    "bmw_i3_soc_pooled_rmse_pct": (0.0, 1.5),
    "bmw_i3_soc_worst_trip_pct": (0.0, 4.0),
    "bmw_i3_capacity_car_soc_median_ah": (61.2, 62.4),
    "bmw_i3_capacity_car_soc_iqr_ah": (0.0, 1.0),
    "bmw_i3_capacity_own_soc_ah": (59.95, 63.65),
    "bmw_i3_capacity_own_soc_low_ah": (0.0, 61.8),
    "bmw_i3_capacity_own_soc_high_ah": (61.8, np.inf),
    "sop_simulated_*_covers_pct": (85.0, 100.0),
    "soh_simulated_*_covers_pct": (85.0, 100.0),
    "leaf_cell_sop_interval_90_covers_pct": (85.0, 100.0),  # fitted on these very pulses
    "leaf_cell_sop_10c_*": (0.0, 10.0),
    "leaf_cell_sop_*": (0.0, 5.0),
}


def measure(data: Path, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give every figure of the sets in `data`, and `incidents` by recorded car; raises ConfigError where none is.

    `notes`, one line each, say what could not be scored, and why; they are not there where all could.
    `without` names sets to leave out, e.g. soh_features, whose models take three minutes to train.
    """
    present = [name for name in (*SETS, "ev_faults") if (data / name).is_dir() and name not in without]
    if not present:
        msg = f"--data must be a directory with one or more of {', '.join((*SETS, 'ev_faults'))} in it; got {data}"
        raise ConfigError(msg)
    console = Console(stderr=True, highlight=False)
    found: dict[str, Any] = {}
    with console.status("gateways of simulated vehicles …"):
        found |= gateway.figures()
    with console.status("current sensors of simulated vehicles …"):
        found |= offset.figures()
    with console.status("power of simulated packs …"):
        found |= pulses.figures()
    with console.status("health of simulated packs …"):
        found |= soh.figures()
    known = {*SETS, *_OTHERS}
    notes = [
        f"{folder.name}: left out, folders of recordings are {', '.join(sorted(known))}"
        for folder in sorted(data.iterdir())
        if folder.is_dir() and folder.name not in known and not folder.name.startswith(".")
    ]
    for name in present:
        with console.status(f"{name} …"):
            try:
                made = {"incidents": weak_cells(data, notes)} if name == "ev_faults" else SETS[name](data, notes)
            except ConfigError as wrong:
                notes.append(f"{name}: left out, {wrong}")
                continue
        found |= made
        if not any(made.values()) and not any(note.startswith(name) for note in notes):
            notes.append(f"{name}: nothing in it that could be scored")
    return found | ({"notes": notes} if notes else {})


def goal(name: str) -> tuple[float, float] | None:
    """Give the bounds that a figure should keep, if there are any."""
    return next((bounds for pattern, bounds in _GOALS.items() if fnmatch.fnmatch(name, pattern)), None)


def run_accuracy(data: Path, *, as_json: bool) -> None:
    """Measure and print, as a table or as one JSON object."""
    _print(measure(data), as_json=as_json)


def run_diagnosis(vehicles: int, healthy: int, *, as_json: bool) -> None:
    """Measure on simulated faults and print, as a table or as one JSON object."""
    console = Console(stderr=True, highlight=False)
    with console.status("diagnosis …") as status:
        found = faults.figures(vehicles, healthy, lambda name: status.update(f"{name} …"))
    _print(found, as_json=as_json)


def run_anomaly(vehicles: int, *, as_json: bool) -> None:
    """Hold online anomaly models beside each other on what no detector has a name for, and print."""
    from flows.accuracy import anomalies  # noqa: PLC0415 - river takes a second to import

    console = Console(stderr=True, highlight=False)
    with console.status("anomaly …") as status:
        found = anomalies.figures(vehicles, lambda name: status.update(f"{name} …"))
    _print(found, as_json=as_json)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    table = Table("figure", "measured", "goal", "", box=None)
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, value in found.items():
        if isinstance(value, float):
            bounds = goal(name)
            kept = "" if bounds is None or bounds[0] <= value <= bounds[1] else "missed"
            table.add_row(name, f"{value:.3g}", _told(bounds), kept)
    console.print(table)
    for note in found.get("notes", ()):
        console.print(f" not scored: {note}", soft_wrap=True)
    for car, lines in found.get("incidents", {}).items():
        console.print(f" {car}: " + ("; ".join(lines) or "no cell named"), soft_wrap=True)


def _told(bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return ""
    if bounds[1] == np.inf:
        return f"≥ {bounds[0]:g}" if bounds[0] else ""
    if bounds[0] == bounds[1]:
        return f"{bounds[0]:g}"
    return f"≤ {bounds[1]:g}" if not bounds[0] else f"{bounds[0]:g} … {bounds[1]:g}"
