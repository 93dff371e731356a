"""What `ibms twin` does: a vehicle's pack as last known, run forward under a drive or charge profile."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
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

from flows.twin_answer import Answer, answered
from operators.kernels import circuit_error
from operators.kernels.health import HealthConfig
from operators.kernels.twin import Future, Load, Twin, run
from operators.session_records import r0_file
from schemas.checked import ConfigError
from schemas.pack import load_pack
from sinks import ducklake

Floats = NDArray[np.float64]
_LOADS = ("current_a", "power_w")
_COLUMNS = ("t_s", *_LOADS, "ambient_c")
_MOST = 10_000_000  # rows of a profile
_WARM_C = 25.0
# Standard deviations that nobody measures in a vehicle.
_PULSE_STD = 0.03  # of resistances, in proportion, beside what the estimate says (as operators.kernels.power)
_VOLTAGE_STD = 0.015  # V of a cell group, where its own charges do not say it: the LG HG2 (ibms bench accuracy)


def run_twin(vehicle: str, profile: Path, lake: Path, out: Path | None, *, as_json: bool) -> None:
    """Predict, print what comes of it, and write it row by row to `out` (Parquet)."""
    load = read_profile(profile)
    twin, about = read_twin(lake, vehicle)
    filled = Load(
        load.t_s, load.current_a, load.power_w, np.where(np.isnan(load.ambient_c), twin.temp_c, load.ambient_c)
    )
    future = run(twin, filled)
    answer = answered(twin, about, filled, future)
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

    Beside it: who and when, and how sure SOC, capacity, resistance, voltage and SOH are.
    """
    with ducklake.attach(lake) as con:
        row = con.execute(
            """SELECT pack_id, model, strftime(t_ns::TIMESTAMP, '%Y-%m-%dT%H:%M:%SZ'), soc, soc_std, soc_cell,
            r0_cell_ohm, capacity_cell_ah, temp_c, r0_std_ohm
            FROM states WHERE vehicle_id = $1 ORDER BY t_ns DESC LIMIT 1""",
            [vehicle],
        ).fetchone()
        if row is None:
            msg = f"VEHICLE must be one whose states the lake holds; got {vehicle} ({lake})"
            raise ConfigError(msg)
        judged = con.execute(
            """SELECT arg_max(soh, t_ns), arg_max(soh_std, t_ns), max(cycles), regr_slope(soh, cycles),
                sqrt(greatest(
                    regr_syy(soh, cycles) / nullif(regr_sxx(soh, cycles), 0) - regr_slope(soh, cycles) ** 2, 0
                ) / greatest(regr_count(soh, cycles)::BIGINT - 2, 1))
            FROM health
            WHERE vehicle_id = $1 AND pack_id = (SELECT arg_max(pack_id, t_ns) FROM health WHERE vehicle_id = $1)""",
            [vehicle],
        ).fetchone()
        residual, voltage_std = _residual(con, vehicle)
    pack_id, name, at, usable, usable_std, soc, r0, capacity, temp_c, r0_std = row
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
    soh, soh_std, cycles, slope, slope_std = judged if judged is not None else (None,) * 5
    r_std = 0.0 if r0_std is None or math.isnan(r0_std) else r0_std / float(np.median(cells[1]))
    about = {
        "vehicle_id": vehicle,
        "pack_id": pack_id,
        "known_at": at,
        "soc": usable,
        "soc_std": usable_std,
        "capacity_std": pack.capacity_std if soh_std is None else soh_std / soh,
        "resistance_std": math.hypot(r_std, _PULSE_STD),
        "voltage_std_v": voltage_std,
        "soh": HealthConfig.of(pack).prior if soh is None else soh,
        "soh_std": HealthConfig.of(pack).prior_std if soh_std is None else soh_std,
        "own_cycles": cycles or 0.0,
        "slope": 0.0 if slope is None else slope,
        "slope_std": 0.0 if slope_std is None else slope_std,
        "residual": residual is not None,
    }
    weights = np.zeros(circuit_error.COUNT) if residual is None else residual
    return Twin(pack, cells[0], cells[2], scale, temp, weights), about


def _residual(con: duckdb.DuckDBPyConnection, vehicle: str) -> tuple[Floats | None, float]:
    """Give what was learned beside the circuit of a vehicle's pack, where it is kept, and the error of the two.

    Weights (COUNT,), and V per cell group, RMS over the pack's newest charges.
    """
    if not con.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'twins'").fetchone():
        return None, _VOLTAGE_STD  # a lake from before there were any
    row = con.execute(
        """SELECT kept, weights, CASE WHEN kept THEN residual_rmse_v ELSE circuit_rmse_v END FROM twins
        WHERE vehicle_id = $1 ORDER BY t_ns DESC LIMIT 1""",
        [vehicle],
    ).fetchone()
    if row is None:
        return None, _VOLTAGE_STD
    kept, weights, rmse_v = row
    known = rmse_v is not None and math.isfinite(rmse_v)
    return np.array(weights, np.float64) if kept else None, rmse_v if known else _VOLTAGE_STD


def _show(answer: Answer) -> None:
    table = Table("", "", "± standard deviation, or 90 % interval", box=None)
    told = asdict(answer)
    std, between = told.pop("std"), told.pop("between_90")
    for name, value in told.items():
        text = "not reached" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        doubt = f"± {std[name]:.2g}" if name in std else ""
        if name in between:
            doubt = " … ".join("not reached" if t is None else f"{t:.4g}" for t in between[name])
        table.add_row(name, text, doubt)
    Console(width=None if sys.stdout.isatty() else 110, highlight=False).print(table)
