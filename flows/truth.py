"""How estimates and incidents compare with what a simulation knows to be true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from operators.kernels.health import HealthConfig
from replay.simulate.faults import Fault
from replay.simulate.fleet import FleetConfig, model_name, true_soh, vehicle_id
from replay.simulate.truth import Truth
from schemas.columns import NORMAL_90
from schemas.frames import FrameBlock
from schemas.pack import load_pack

# What in the lake counts as having found a fault of that kind: incidents by kind, gaps (also those that were filled
# afterwards), dead letters by reason.  A fault of one cell shows as whichever of its numbers moves first.
_CELL = (
    "leak", "cell_spread", "cell_offset", "cell_step", "cell_deviation", "resistance", "capacity", "sense_wire",
    "stuck_cell", "cell_undervoltage", "cell_overvoltage",
)  # fmt: skip
_PROBE = ("stuck_probe", "probe_offset", "probe_deviation")
_HEAT = ("cooling", "overtemperature", "thermal_event", *_PROBE)
FOUND_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "internal_short": ("incidents", (*_CELL, *_HEAT)),
    "rising_resistance": ("incidents", _CELL),
    "capacity_loss": ("incidents", _CELL),
    "cooling_fault": ("incidents", _HEAT),
    "thermal_runaway": ("incidents", (*_HEAT, *_CELL)),
    "sensor_bias": ("incidents", _CELL),
    "stuck_value": ("incidents", _PROBE),
    "open_sense_wire": ("incidents", _CELL),
    "missing_cells": ("incidents", ("missing_cells",)),
    "frozen_frame": ("incidents", ("frozen",)),
    "spoofed_field": ("incidents", ("soc_report", "soc_report_full", "soc_report_still")),
    # A clock that is ahead for long passes for a gap; then every frame of the right time is refused with both times.
    "clock_jump": ("dead_letters", ("clock_future", "clock_past", "late", "time_conflict")),
    "dropped": ("gaps", ("sequence", "time")),
    # Frames that come too late for their place leave a gap and fill it; where that was too small, they are refused.
    "late": ("late_frames", ("filled gap", "late")),
}
_LATE = """(
    SELECT vehicle_id, 'filled gap' AS kind, to_ns FROM lake.gaps WHERE revision > 0 AND missing = 0
    UNION ALL SELECT pack_id, reason, greatest(t_ns, expected_ns) FROM lake.dead_letters WHERE reason = 'late'
)"""
# What the flow absorbs: it leaves no trace, and none is expected.
ABSORBED = ("duplicated", "out_of_order")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scheduled fault: whether it was found, and how long that took."""

    kind: str
    vehicle_id: str
    start_ns: int
    found: bool
    delay_s: float  # NaN where not found
    by: str  # what found it
    seen_s: float = 0.0  # time covered by windows since it began


def write_truth(made: Iterable[tuple[FrameBlock, Truth]], path: Path) -> Iterator[FrameBlock]:
    """Give the blocks, and write each frame's true SOC to a Parquet file on the way."""
    schema = pa.schema([("pack_id", pa.string()), ("t_ns", pa.timestamp("ns")), ("soc", pa.float64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block, truth in made:
            names = pa.DictionaryArray.from_arrays(pa.array(block.pack), pa.array(block.packs)).cast(pa.string())
            columns = [names, pa.array(block.t_ns).view(pa.timestamp("ns")), pa.array(truth.soc)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            yield block


@dataclass(frozen=True, slots=True)
class SocError:
    """How far the SOC of healthy packs is from the truth; NaN where there is no window to compare."""

    model: str  # "" for all models together
    windows: int
    rmse_pct: float
    settled_rmse_pct: float  # without each pack's first hour
    within_90_pct: float  # share of windows whose 90 % interval holds the truth; 90 would be right


def soc_errors(con: duckdb.DuckDBPyConnection, truth: Path, without: Iterable[str] = ()) -> list[SocError]:
    """Compare the pack SOC at the end of each window with the truth at its last frame: all models, then each.

    `without`: vehicles to leave out, since a pack with a fault is not the pack that its model describes.
    """
    rows = con.execute(
        """
        WITH w AS (SELECT pack_id, model, start_ns, end_ns, soc_end, soc_std,
                          start_ns - min(start_ns) OVER (PARTITION BY pack_id) AS age
                   FROM lake.windows WHERE soc_end IS NOT NULL AND NOT list_contains($without, vehicle_id)),
        e AS (SELECT w.model, w.age > INTERVAL 1 HOUR AS settled, w.soc_end - t.soc AS error, w.soc_std
              FROM w ASOF JOIN read_parquet($truth) t ON w.pack_id = t.pack_id AND t.t_ns < w.end_ns
              WHERE t.t_ns >= w.start_ns)
        SELECT coalesce(model, ''), count(*), sqrt(avg(error ** 2)) * 100,
               sqrt(avg(error ** 2) FILTER (settled)) * 100, avg((abs(error) <= $sigmas * soc_std)::INT) * 100
        FROM e GROUP BY ROLLUP (model) ORDER BY 1
        """,
        {"truth": str(truth), "without": list(without), "sigmas": NORMAL_90},
    ).fetchall()
    return [SocError(model, n, *(np.nan if v is None else float(v) for v in values)) for model, n, *values in rows]


def outcomes(
    con: duckdb.DuckDBPyConnection, faults: Iterable[Fault], start_ns: int, grace_s: float = 3600.0
) -> list[Outcome]:
    """Look up, for each fault, the first record of its vehicle that tells of it, up to `grace_s` after its end."""
    out = []
    for fault in faults:
        if fault.kind in ABSORBED:
            continue
        table, names = FOUND_BY[fault.kind]
        vehicle = vehicle_id(fault.vehicle)
        begin = start_ns + int(fault.start_s * 1e9)
        end = start_ns + int((fault.end_s + grace_s) * 1e9)
        at, by = first_record(con, table, names, vehicle, begin, end)
        delay_s = (at - begin) / 1e9 if by else float("nan")
        out.append(Outcome(fault.kind, vehicle, begin, by != "", delay_s, by, _seen_s(con, vehicle, begin, end)))
    return out


def _seen_s(con: duckdb.DuckDBPyConnection, vehicle: str, begin_ns: int, end_ns: int) -> float:
    """Give how much of a vehicle's time between two others its windows cover."""
    row = con.execute(
        "SELECT sum(epoch_ns(end_ns) - epoch_ns(start_ns)) / 1e9 FROM lake.windows"
        " WHERE vehicle_id = $1 AND epoch_ns(start_ns) BETWEEN $2 AND $3",
        [vehicle, begin_ns, end_ns],
    ).fetchone()
    return 0.0 if row is None or row[0] is None else float(row[0])


def first_record(
    con: duckdb.DuckDBPyConnection, table: str, names: tuple[str, ...], vehicle: str, begin_ns: int, end_ns: int
) -> tuple[int, str]:
    """Give time and name of the first matching record of a vehicle between two times; "" where there is none."""
    name, when = {
        # An incident is known when it opens, or when a later revision gives it this kind.
        "incidents": ("kind", "updated_ns"),
        "gaps": ("kind", "to_ns"),
        "late_frames": ("kind", "to_ns"),
        "dead_letters": ("reason", "CASE reason WHEN 'late' THEN greatest(t_ns, expected_ns) ELSE expected_ns END"),
    }[table]
    who = "pack_id" if table == "dead_letters" else "vehicle_id"
    source = {
        "incidents": "lake.raw.incidents",
        "late_frames": _LATE,
    }.get(table, f"lake.{table}")
    row = con.execute(
        f"""
        SELECT epoch_ns({when}), {name} FROM {source}
        WHERE {who} = $vehicle AND list_contains($names, {name}) AND epoch_ns({when}) BETWEEN $begin AND $end
        ORDER BY {when} LIMIT 1
        """,
        {"vehicle": vehicle, "names": list(names), "begin": begin_ns, "end": end_ns},
    ).fetchone()
    return (0, "") if row is None else (int(row[0]), str(row[1]))


def false_incidents(con: duckdb.DuckDBPyConnection, healthy: Iterable[str]) -> dict[str, int]:
    """Count the incidents of healthy vehicles by kind, the commonest first."""
    rows = con.execute(
        "SELECT kind, count(*) FROM lake.incidents WHERE list_contains($1, vehicle_id) GROUP BY 1 ORDER BY 2 DESC, 1",
        [list(healthy)],
    ).fetchall()
    return dict(rows)


def median(values: Iterable[float]) -> float:
    """Give the median of those that are numbers; NaN where there is none."""
    known = np.array([v for v in values if np.isfinite(v)])
    return float(np.median(known)) if known.size else float("nan")


def replay_difference(con: duckdb.DuckDBPyConnection, vehicle: str, replayed: str) -> float:
    """Give the largest difference in percent of SOC between a vehicle's windows and those of its replayed trace."""
    row = con.execute(
        """
        SELECT max(abs(a.soc_end - b.soc_end)) * 100 FROM lake.windows a JOIN lake.windows b USING (start_ns)
        WHERE a.vehicle_id = $1 AND b.vehicle_id = $2 AND a.frames = b.frames
        """,
        [vehicle, replayed],
    ).fetchone()
    return float("nan") if row is None or row[0] is None else float(row[0])


@dataclass(frozen=True, slots=True)
class Health:
    """SOH of one vehicle after its newest charge; before its first one it is only believed."""

    vehicle_id: str
    model: str
    soh: float
    low: float
    high: float
    counted: int  # charges
    true: float


def health(con: duckdb.DuckDBPyConnection, cfg: FleetConfig) -> list[Health]:
    """Give each simulated vehicle's SOH with its 90 % interval, beside the truth of a pack without a fault."""
    found = {
        row[0]: row[1:]
        for row in con.execute("SELECT vehicle_id, soh, soh_low, soh_high, accepted FROM health_latest").fetchall()
    }
    out = []
    for n, true in enumerate(true_soh(cfg)):
        model, vehicle = load_pack(model_name(cfg, n)), vehicle_id(n)
        believed = HealthConfig.of(model)
        half = believed.conformal * float(np.hypot(believed.prior_std, believed.bias))
        unknown = (believed.prior, believed.prior - half, believed.prior + half, 0)
        soh, low, high, counted = found.get(vehicle, unknown)
        out.append(Health(vehicle, model.name, soh, low, high, counted, true))
    return out
