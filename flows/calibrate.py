"""What `ibms order calibrate` does: what a lake knows of each vehicle's pack becomes signed words to its gateway.

The gateway counts on with calibrated SOC, capacity and error of its current sensor.  Where asked, limits go with it: an
aged pack takes the charge current that a new one of its capacity would (lithium plates by C-rate), and a pack whose
resistance has grown gives the discharge current that heats it no more than a new one.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge.cloud_soc import STD
from flows.orders import LimitsOrder, give, signed_limits, signed_soc
from schemas.checked import ConfigError
from schemas.columns import NORMAL_90
from schemas.pack import PackModel, load_pack
from schemas.signed import read_private
from sinks import ducklake

# Columns of the table health: capacity of the pack and its standard deviation, Ah, and R0.
CAPACITY = f"capacity_ah, capacity_ah / soh * (soh_high - soh_low) / {2 * NORMAL_90} AS capacity_std_ah, r0_rel"
_OLD_S = 80 * 60.0  # an older SOC is from before what a gateway remembers to have counted
_LEAST_LESS = 0.01  # of a limit: less is not worth a message


@dataclass(frozen=True, slots=True)
class Known:
    """What the fleet knows of a vehicle's pack: SOC at a time, the rest as last known; NaN = not known."""

    vehicle: str
    model: str
    t_ns: int
    soc: float
    soc_std: float
    offset_a: float = math.nan  # what the current sensor shows too much
    offset_std_a: float = math.nan
    capacity_ah: float = math.nan
    capacity_std_ah: float = math.nan
    r0_rel: float = math.nan  # over the pack file's


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """Whom to tell ("" everybody), from which lake, whether limits too, for how long, and where the words go."""

    lake: Path
    vehicle: str
    limits: bool
    hours: float
    out: Path | None
    config: Path | None


def content(known: Known) -> dict[str, object]:
    """Give what a gateway is told to count on with (see edge.cloud_soc); groups that are not known stay out."""
    told: dict[str, object] = {}
    if math.isfinite(known.soc) and math.isfinite(known.soc_std):
        std = min(max(known.soc_std, STD[0]), STD[1])
        told |= {"soc": min(max(known.soc, 0.0), 1.0), "std": std, "t_ns": known.t_ns}
    for name, of in (("capacity_ah", "capacity_std_ah"), ("offset_a", "offset_std_a")):
        value, std = getattr(known, name), getattr(known, of)
        if math.isfinite(value) and std > 0.0:
            told |= {name: value, of: std}
    return told


def currents(known: Known, pack: PackModel) -> tuple[float | None, float | None]:
    """Give the charge and discharge currents, A, that such a pack should not pass; None where a new pack's hold."""
    aged = known.capacity_ah / pack.usable_ah
    grown = math.sqrt(known.r0_rel) if known.r0_rel > 1.0 else 1.0
    charge_a = pack.charge_max_a * aged if aged < 1.0 - _LEAST_LESS else None
    return charge_a, pack.discharge_max_a / grown if 1.0 / grown < 1.0 - _LEAST_LESS else None


def run_calibrate(options: CalibrateOptions, key: Path) -> None:
    """Sign what the lake knows, each vehicle its own, into files or onto the commands topic; raises ConfigError."""
    private, now_ns = read_private(key), time.time_ns()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    messages: list[tuple[str, Path | None, bytes]] = []
    told = limited = silent = 0
    for known in _newest(options, now_ns):
        said = content(known)
        told, silent = (told + 1, silent) if said else (told, silent + 1)
        if said:
            data = signed_soc(known.vehicle, said, private, now_ns, options.hours)
            messages.append((known.vehicle, _file(options, known, "soc"), data))
        charge_a, discharge_a = currents(known, load_pack(known.model)) if options.limits else (None, None)
        if charge_a is not None or discharge_a is not None:
            order = LimitsOrder(known.vehicle, known.model, charge_a, discharge_a, (), options.hours)
            messages.append((known.vehicle, _file(options, known, "limits"), signed_limits(order, key, now_ns)))
            limited += 1
    if not told and not silent:
        whom = f"vehicle {options.vehicle}" if options.vehicle else "vehicles with estimates"
        msg = f"the lake must hold {whom}; got none ({options.lake})"
        raise ConfigError(msg)
    give(messages, options.config)
    sys.stdout.write(f"{told} vehicles told what to count on with, {limited} get limits, {silent} are unknown\n")


def _file(options: CalibrateOptions, known: Known, kind: str) -> Path | None:
    return None if options.out is None else options.out / f"{quote(known.vehicle, safe='')}.{kind}"


def _newest(options: CalibrateOptions, now_ns: int) -> Iterator[Known]:
    """Read the newest of each vehicle; a SOC that its gateway cannot place in time any more is left out."""
    with ducklake.attach(options.lake) as con:
        rows = con.execute(
            f"""WITH w AS (
                SELECT * FROM windows WHERE soc_end IS NOT NULL AND ($1 = '' OR vehicle_id = $1)
                QUALIFY row_number() OVER (PARTITION BY vehicle_id ORDER BY end_ns DESC, revision DESC) = 1
            ), h AS (
                SELECT vehicle_id, t_ns, {CAPACITY} FROM health
                QUALIFY row_number() OVER (PARTITION BY vehicle_id ORDER BY t_ns DESC) = 1
            )
            SELECT w.vehicle_id, w.model, epoch_ns(w.end_ns), w.soc_end, w.soc_std, w.current_offset_a,
                w.current_offset_std_a, h.capacity_ah, h.capacity_std_ah, h.r0_rel
            FROM w LEFT JOIN h USING (vehicle_id) ORDER BY 1""",
            [options.vehicle],
        ).fetchall()
    for vehicle, model, t_ns, *values in rows:
        numbers: list[Any] = [math.nan if v is None else float(v) for v in values]
        if now_ns - t_ns > _OLD_S * 1e9:
            numbers[0] = math.nan
        yield Known(vehicle, model, t_ns, *numbers)
