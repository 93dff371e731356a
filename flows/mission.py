"""What `ibms mission` does: whether a vehicle, or each of a fleet, can do a power and an energy, as last known."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from flows.twin import read_twin
from operators.kernels.mission import Doubt, Failure, Mission, judge
from operators.kernels.twin import Twin
from schemas.checked import ConfigError
from sinks import ducklake


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a pack can do it; `can` and `probability` are None where too little is known of it."""

    vehicle_id: str
    pack_id: str | None
    known_at: str | None
    can: bool | None
    probability: float | None
    reason: str
    soc: float | None = None
    soc_std: float | None = None


def run_mission(
    vehicle: str | None, mission: Mission, lake: Path, *, confidence: float, ambient_c: float | None, as_json: bool
) -> bool:
    """Judge one vehicle, or every one of the lake, and print it; false where not all of them can."""
    if vehicle is not None:
        answers = [_answered(*read_twin(lake, vehicle), mission, confidence, ambient_c)]
    else:
        answers = list(_fleet(lake, mission, confidence, ambient_c))
    if as_json:
        told = [asdict(a) for a in answers]
        sys.stdout.write(orjson.dumps(told if vehicle is None else told[0]).decode() + "\n")
    else:
        _show(answers)
    return all(a.can for a in answers)


def _fleet(lake: Path, mission: Mission, confidence: float, ambient_c: float | None) -> Iterator[Answer]:
    with ducklake.attach(lake) as con:
        vehicles = con.execute("SELECT DISTINCT vehicle_id FROM states ORDER BY vehicle_id").fetchall()
    for (vehicle,) in vehicles:
        try:
            known = read_twin(lake, vehicle)
        except ConfigError as unknown:
            yield Answer(vehicle, None, None, None, None, str(unknown).partition("; got ")[2])
        else:
            yield _answered(*known, mission, confidence, ambient_c)


def _answered(
    twin: Twin, about: dict[str, Any], mission: Mission, confidence: float, ambient_c: float | None
) -> Answer:
    vehicle, pack, at, soc, std = (about[k] for k in ("vehicle_id", "pack_id", "known_at", "soc", "soc_std"))
    if std is None or math.isnan(std):
        return Answer(vehicle, pack, at, None, None, "how sure its SOC is is not known", soc)
    verdict = judge(
        twin,
        Doubt(std, about["capacity_std"], about["resistance_std"]),
        mission,
        twin.temp_c if ambient_c is None else ambient_c,
        confidence,
    )
    reason = "" if verdict.failure is None else _words(verdict.failure, mission, confidence)
    return Answer(vehicle, pack, at, verdict.can, verdict.probability, reason, soc, std)


def _words(failure: Failure, mission: Mission, confidence: float) -> str:
    """Say what ends the mission first on a pack that is no better than this confidence allows."""
    cell, value, bound = f"cell group {failure.cell + 1}", failure.value, failure.bound
    what = {
        "charge": f"{cell} is empty",
        "cell voltage": f"{cell} at {value:.2f} V, limit {bound:.2f} V",
        "current": f"{value:.0f} A, limit {bound:.0f} A",
        "derated": f"{value:.0f} A, limit {bound:.0f} A at this temperature",
        "temperature": f"{value:.0f} °C, limit {bound:.0f} °C",
    }[failure.limit]
    when = f"after {failure.at_s / 60:.1f} of {mission.duration_s / 60:.1f} min"
    given = f"{failure.given_wh / 1000:.2f} of {mission.energy_wh / 1000:.2f} kWh"
    return f"{failure.lacks}, at {100 * confidence:g} % confidence: {what}, {when} and {given}"


def _show(answers: list[Answer]) -> None:
    table = Table("vehicle", "known at", "SOC", "can", "probability", "why not", box=None)
    for a in answers:
        soc = "" if a.soc is None or a.soc_std is None else f"{100 * a.soc:.1f} ± {100 * a.soc_std:.1f} %"
        sure = "" if a.probability is None else f"{100 * a.probability:.1f} %"
        can = {True: "yes", False: "no", None: "unknown"}[a.can]
        table.add_row(a.vehicle_id, a.known_at or "", soc, can, sure, a.reason)
    Console(width=None if sys.stdout.isatty() else 220, highlight=False).print(table)
