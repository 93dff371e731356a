"""What `ibms twin` does: a vehicle's pack as last known, run forward under a drive or charge profile."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from operators.kernels import circuit_error
from operators.kernels.health import HealthConfig
from operators.kernels.twin import Future, Load, Twin, run
from operators.session_records import r0_file
from schemas.checked import ConfigError
from schemas.pack import PackModel, load_pack
from sinks import ducklake

Floats = NDArray[np.float64]
_LOADS = ("current_a", "power_w")
_COLUMNS = ("t_s", *_LOADS, "ambient_c")
_MOST = 10_000_000  # rows of a profile
# What a full cycle at 25 °C costs where a pack's own history says nothing: 20 % of SOH in so many, typical, assumed.
_CYCLES_TO_80 = {"nmc": 1500.0, "lfp": 3500.0}
_OWN_CYCLES = 50.0  # after which a pack's own history says it
_DOUBLES_C = 15.0  # wear doubles with so many degrees above 25 °C: typical, assumed
_WARM_C = 25.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a profile would do to a pack; times in s from its beginning, None where it does not happen."""

    vehicle_id: str
    pack_id: str
    model: str
    known_at: str
    residual: bool  # the circuit with what was learned beside it; else the circuit alone
    soh: float
    soc_start: float
    soc_end: float
    pack_v_min: float
    pack_v_max: float
    cell_v_min: float
    cell_v_min_cell: int  # counts from 1
    cell_v_max: float
    temp_max_c: float
    temp_end_c: float
    energy_in_kwh: float
    energy_out_kwh: float
    heat_kwh: float
    cell_low_s: float | None
    cell_high_s: float | None
    temp_high_s: float | None
    temp_low_s: float | None
    empty_s: float | None
    full_s: float | None
    cycles: float
    soh_lost: float
    wear_from: str


def run_twin(vehicle: str, profile: Path, lake: Path, out: Path | None, *, as_json: bool) -> None:
    """Predict, print what comes of it, and write it row by row to `out` (Parquet)."""
    load = read_profile(profile)
    twin, about = read_twin(lake, vehicle)
    filled = Load(
        load.t_s, load.current_a, load.power_w, np.where(np.isnan(load.ambient_c), twin.temp_c, load.ambient_c)
    )
    future = run(twin, filled)
    answer = answered(twin, about, load, future)
    if out is not None:
        columns = {name: getattr(future, name) for name in Future.__slots__}
        pq.write_table(pa.table({"t_s": load.t_s, **columns}), out)
    if as_json:
        sys.stdout.write(orjson.dumps(asdict(answer)).decode() + "\n")
    else:
        _show(answer)


def read_profile(path: Path) -> Load:
    """Read t_s and one of current_a (+ into the battery) and power_w, and ambient_c where it is; CSV or Parquet."""
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        msg = f"--profile must be a CSV or Parquet file; got {str(error).splitlines()[0]} ({path})"
        raise ConfigError(msg) from None
    given = [name for name in _LOADS if name in table.column_names]
    if "t_s" not in table.column_names or len(given) != 1:
        msg = f"--profile must have t_s and one of current_a and power_w; got {', '.join(table.column_names)} ({path})"
        raise ConfigError(msg)
    c = {name: _numbers(table, name, path) for name in _COLUMNS}
    t_s, load = c["t_s"], c[given[0]]
    if not 2 <= t_s.size <= _MOST or not (np.diff(t_s) > 0).all() or not np.isfinite(load).all():  # noqa: PLR2004 - an interval
        msg = f"--profile must have two rows or more, t_s that rises and {given[0]} in every row; got others ({path})"
        raise ConfigError(msg)
    return Load(t_s, c["current_a"], c["power_w"], c["ambient_c"])


def _numbers(table: pa.Table, name: str, path: Path) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    try:
        return np.asarray(table[name].cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:
        msg = f"{name} must be numbers; got {table.schema.field(name).type} ({path})"
        raise ConfigError(msg) from None


def read_twin(lake: Path, vehicle: str) -> tuple[Twin, dict[str, Any]]:
    """Make a vehicle's pack as the lake last knew it: SOC, R0, capacity of each cell group; raises ConfigError.

    Beside it: who and when, and how sure SOC, capacity and SOH are.
    """
    with ducklake.attach(lake) as con:
        row = con.execute(
            """SELECT pack_id, model, strftime(t_ns::TIMESTAMP, '%Y-%m-%dT%H:%M:%SZ'), soc, soc_std, soc_cell,
            r0_cell_ohm, capacity_cell_ah, temp_c FROM states WHERE vehicle_id = $1 ORDER BY t_ns DESC LIMIT 1""",
            [vehicle],
        ).fetchone()
        if row is None:
            msg = f"VEHICLE must be one whose states the lake holds; got {vehicle} ({lake})"
            raise ConfigError(msg)
        judged = con.execute(
            """SELECT arg_max(soh, t_ns), arg_max(soh_std, t_ns), max(cycles), regr_slope(soh, cycles) FROM health
            WHERE vehicle_id = $1 AND pack_id = (SELECT arg_max(pack_id, t_ns) FROM health WHERE vehicle_id = $1)""",
            [vehicle],
        ).fetchone()
        residual = _residual(con, vehicle)
    pack_id, name, at, usable, usable_std, soc, r0, capacity, temp_c = row
    pack = load_pack(name)
    cells = [np.array([np.nan if v is None else v for v in column], np.float64) for column in (soc, r0, capacity)]
    probes = np.array([np.nan if v is None else v for v in temp_c], np.float64)
    if np.isnan(np.concatenate(cells)).any():
        msg = f"VEHICLE must be one whose cells are known; got {vehicle}, whose last state has none ({lake}, {at})"
        raise ConfigError(msg)
    known = probes[~np.isnan(probes)]
    temp = float(np.median(known)) if known.size else _WARM_C
    scale = (
        cells[1] / r0_file(probes.astype(np.float32), float(np.median(cells[0])), pack)
        if known.size
        else np.ones(pack.series)
    )
    soh, soh_std, cycles, slope = judged if judged is not None else (None, None, None, None)
    about = {
        "vehicle_id": vehicle,
        "pack_id": pack_id,
        "known_at": at,
        "soc": usable,
        "soc_std": usable_std,
        "capacity_std": pack.capacity_std if soh_std is None else soh_std / soh,
        "soh": HealthConfig.of(pack).prior if soh is None else soh,
        "own_cycles": cycles or 0.0,
        "slope": 0.0 if slope is None else slope,
        "residual": residual is not None,
    }
    weights = np.zeros(circuit_error.COUNT) if residual is None else residual
    return Twin(pack, cells[0], cells[2], scale, temp, weights), about


def _residual(con: duckdb.DuckDBPyConnection, vehicle: str) -> Floats | None:
    """Give what was learned beside the circuit of a vehicle's pack, where it is kept: weights (COUNT,)."""
    if not con.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'twins'").fetchone():
        return None  # a lake from before there were any
    row = con.execute(
        "SELECT kept, weights FROM twins WHERE vehicle_id = $1 ORDER BY t_ns DESC LIMIT 1", [vehicle]
    ).fetchone()
    return np.array(row[1], np.float64) if row is not None and row[0] else None


def answered(twin: Twin, about: dict[str, Any], load: Load, future: Future) -> Answer:
    """Put together what a person asks: extremes, energy, times to limits, wear."""
    pack, t_s = twin.pack, load.t_s - load.t_s[0]
    lowest = int(np.argmin(future.cell_v_min))
    moved_ah = float(np.sum(np.abs(future.current_a[:-1]) * np.diff(t_s))) / 3600.0
    cycles = moved_ah / (2.0 * pack.nominal_ah)
    per_cycle, source = _wear(pack, about)
    heat = 2.0 ** (np.maximum(future.temp_c - _WARM_C, 0.0) / _DOUBLES_C)
    usable = [_usable(low, high) for low, high in ((future.soc_min[k], future.soc_max[k]) for k in (0, -1))]
    return Answer(
        vehicle_id=about["vehicle_id"],
        pack_id=about["pack_id"],
        model=pack.name,
        known_at=about["known_at"],
        residual=about["residual"],
        soh=about["soh"],
        soc_start=usable[0],
        soc_end=usable[1],
        pack_v_min=float(future.pack_v.min()),
        pack_v_max=float(future.pack_v.max()),
        cell_v_min=float(future.cell_v_min.min()),
        cell_v_min_cell=int(future.cell_min[lowest]) + 1,
        cell_v_max=float(future.cell_v_max.max()),
        temp_max_c=float(future.temp_c.max()),
        temp_end_c=float(future.temp_c[-1]),
        energy_in_kwh=float(future.energy_in_kwh[-1]),
        energy_out_kwh=float(future.energy_out_kwh[-1]),
        heat_kwh=float(future.heat_kwh[-1]),
        cell_low_s=_first(t_s, future.cell_v_min <= _bound(pack, "cell_v", over=False)),
        cell_high_s=_first(t_s, future.cell_v_max >= _bound(pack, "cell_v", over=True)),
        temp_high_s=_first(t_s, future.temp_c >= _bound(pack, "temp_c", over=True)),
        temp_low_s=_first(t_s, future.temp_c <= _bound(pack, "temp_c", over=False)),
        empty_s=_first(t_s, future.soc_min <= 0.0),
        full_s=_first(t_s, future.soc_max >= 1.0),
        cycles=cycles,
        soh_lost=per_cycle * cycles * float(heat.mean()),
        wear_from=source,
    )


def _usable(low: float, high: float) -> float:
    return float(min(max(low / max(low + 1.0 - high, 1e-3), 0.0), 1.0))


def _wear(pack: PackModel, about: dict[str, Any]) -> tuple[float, str]:
    """Give SOH lost in a full cycle at 25 °C, from the pack's own history where that is long and falls."""
    if about["own_cycles"] >= _OWN_CYCLES and about["slope"] < 0:
        return -float(about["slope"]), "own history"
    return 0.2 / _CYCLES_TO_80[pack.chemistry], f"typical of {pack.chemistry} (assumed)"


def _bound(pack: PackModel, quantity: str, *, over: bool) -> float:
    """Give the innermost limit of the pack file; one that is never reached where there is none."""
    bounds = [row.bound for row in pack.limits if row.quantity == quantity and row.over == over]
    return (min(bounds, default=np.inf)) if over else max(bounds, default=-np.inf)


def _first(t_s: Floats, reached: NDArray[np.bool_]) -> float | None:
    return float(t_s[np.argmax(reached)]) if reached.any() else None


def _show(answer: Answer) -> None:
    table = Table("", "", box=None, show_header=False)
    told = asdict(answer)
    for name, value in told.items():
        text = "not reached" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name, text)
    Console(width=None if sys.stdout.isatty() else 110, highlight=False).print(table)
