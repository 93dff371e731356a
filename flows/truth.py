"""How estimates and incidents compare with what a simulation knows to be true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from replay.simulate.faults import Fault
from replay.simulate.fleet import vehicle_id
from replay.simulate.truth import Truth
from schemas.frames import FrameBlock

_SETTLED_NS = 3600 * 10**9  # an estimator may take so long to find a pack's SOC; told apart in the report

# What in the lake counts as having found a fault of that kind: incidents by kind, gaps, dead letters by reason.
# A fault of one cell shows as whichever of its numbers moves first.
_CELL = (
    "leak", "cell_spread", "cell_offset", "cell_deviation", "resistance", "capacity", "sense_wire", "stuck_cell",
    "cell_undervoltage", "cell_overvoltage",
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
    "spoofed_field": ("incidents", ("soc_report",)),
    "clock_jump": ("dead_letters", ("clock_future", "clock_past")),
    "dropped": ("gaps", ("sequence", "time")),
    "late": ("dead_letters", ("late",)),
}
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


def write_truth(made: Iterable[tuple[FrameBlock, Truth]], path: Path) -> Iterator[FrameBlock]:
    """Give the blocks, and write each frame's true SOC to a Parquet file on the way."""
    schema = pa.schema([("pack_id", pa.string()), ("t_ns", pa.timestamp("ns")), ("soc", pa.float64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block, truth in made:
            names = pa.DictionaryArray.from_arrays(pa.array(block.pack), pa.array(block.packs)).cast(pa.string())
            columns = [names, pa.array(block.t_ns).view(pa.timestamp("ns")), pa.array(truth.soc)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            yield block


def soc_rmse_pct(con: duckdb.DuckDBPyConnection, truth: Path, without: Iterable[str] = ()) -> tuple[float, float]:
    """Give the RMSE of pack SOC in percent, over all windows and over those after each pack's first hour.

    A window's `soc_end` is compared with the truth at its last frame.  `without`: vehicles to leave out.
    """
    row = con.execute(
        """
        WITH w AS (SELECT pack_id, start_ns, end_ns, soc_end,
                          start_ns - min(start_ns) OVER (PARTITION BY pack_id) AS age
                   FROM lake.windows WHERE soc_end IS NOT NULL AND NOT list_contains($without, vehicle_id)),
        e AS (SELECT w.age, (w.soc_end - t.soc) ** 2 AS e2
              FROM w ASOF JOIN read_parquet($truth) t ON w.pack_id = t.pack_id AND t.t_ns < w.end_ns
              WHERE t.t_ns >= w.start_ns)
        SELECT sqrt(avg(e2)) * 100, sqrt(avg(e2) FILTER (age > INTERVAL 1 HOUR)) * 100 FROM e
        """,
        {"truth": str(truth), "without": list(without)},
    ).fetchone()
    assert row is not None
    every, settled = (float("nan") if v is None else float(v) for v in row)
    return every, settled


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
        out.append(Outcome(fault.kind, vehicle, begin, by != "", (at - begin) / 1e9 if by else float("nan"), by))
    return out


def first_record(
    con: duckdb.DuckDBPyConnection, table: str, names: tuple[str, ...], vehicle: str, begin_ns: int, end_ns: int
) -> tuple[int, str]:
    """Give time and name of the first matching record of a vehicle between two times; "" where there is none."""
    name, when = {
        # An incident is known when it opens, or when a later revision gives it this kind.
        "incidents": ("kind", "updated_ns"),
        "gaps": ("kind", "to_ns"),
        "dead_letters": ("reason", "greatest(t_ns, expected_ns)" if "late" in names else "expected_ns"),
    }[table]
    who = "pack_id" if table == "dead_letters" else "vehicle_id"
    source = "lake.raw.incidents" if table == "incidents" else f"lake.{table}"
    row = con.execute(
        f"""
        SELECT epoch_ns({when}), {name} FROM {source}
        WHERE {who} = $vehicle AND list_contains($names, {name}) AND epoch_ns({when}) BETWEEN $begin AND $end
        ORDER BY {when} LIMIT 1
        """,
        {"vehicle": vehicle, "names": list(names), "begin": begin_ns, "end": end_ns},
    ).fetchone()
    return (0, "") if row is None else (int(row[0]), str(row[1]))


def false_incidents(con: duckdb.DuckDBPyConnection, faults: Iterable[Fault]) -> int:
    """Count the incidents of vehicles that have no fault."""
    faulty = sorted({vehicle_id(f.vehicle) for f in faults})
    row = con.execute(
        "SELECT count(*) FROM lake.incidents WHERE vehicle_id LIKE 'sim-%' AND NOT list_contains($1, vehicle_id)",
        [faulty],
    ).fetchone()
    assert row is not None
    return int(row[0])


def median(values: Iterable[float]) -> float:
    """Give the median of those that are numbers; NaN where there is none."""
    known = np.array([v for v in values if np.isfinite(v)])
    return float(np.median(known)) if known.size else float("nan")
