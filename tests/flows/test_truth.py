"""Estimates and incidents against what is known to be true, on lakes made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.truth import (
    ABSORBED,
    FOUND_BY,
    false_incidents,
    median,
    outcomes,
    replay_difference,
    soc_errors,
    write_truth,
)
from replay.simulate.faults import KINDS, Fault
from replay.simulate.fleet import FleetConfig, simulate
from schemas.events import DeadLetter, Gap, Incident, Item, Rows
from sinks import ducklake
from tests.support.commands import make_lake
from tests.support.fleet import MODEL

NS = 10**9
T0 = 1_767_571_200 * NS
SICK, SOUND, OTHER = "sim-000001", "sim-000002", "sim-000003"


def _windows(vehicle: str, model: str, soc: list[float], every_s: int = 1800) -> Rows:
    n = len(soc)
    start = T0 + np.arange(n) * every_s * NS
    data: dict[str, Any] = {
        "start_ns": start, "end_ns": start + 60 * NS, "revision": np.zeros(n, np.int32),
        "provisional": np.zeros(n, bool), "frames": np.full(n, 6, np.int32), "soc_end": np.array(soc, np.float32),
        "soc_std": np.full(n, 0.01, np.float32),
    }  # fmt: skip
    return Rows("windows", model, (vehicle,), (vehicle,), np.zeros(n, np.int32), data)


def _incident(vehicle: str, kind: str, at_s: float, revision: int = 0) -> Incident:
    at = T0 + int(at_s * NS)
    return Incident(f"{vehicle}{kind}", revision, "m", vehicle, vehicle, kind, "pack", 2, "open", at, at, 0, "", {})


RECORDS: list[Item] = [
    _windows(SICK, "m", [0.9] * 4),  # true: 0.5
    _windows(SOUND, "m", [0.5, 0.5, 0.51, 0.53]),
    _windows(OTHER, "lfp", [0.6, 0.6, 0.6, 0.6]),
    _windows("replayed", "m", [0.5, 0.52, 0.51]),
    _incident(SICK, "leak", 5000.0),
    _incident(SICK, "cooling", 20_000.0),
    _incident(SOUND, "cooling", 100.0),
    _incident(OTHER, "cooling", 100.0),
    _incident(OTHER, "leak", 100.0),
    Gap("g", 0, "m", SICK, SICK, "sequence", T0 + 1000 * NS, T0 + 1010 * NS, 1, 2, 2),
    Gap("h", 0, "lfp", OTHER, OTHER, "sequence", T0 + 4000 * NS, T0 + 4050 * NS, 1, 4, 4),
    Gap("h", 1, "lfp", OTHER, OTHER, "sequence", T0 + 4000 * NS, T0 + 4050 * NS, 1, 4, 0),
    DeadLetter("d", "f", 0, 0, 0, "clock_future", "", SICK, T0 + 9_000 * NS, T0 + 2000 * NS, "json", b""),
    DeadLetter("e", "f", 0, 1, 0, "late", "", SICK, T0 + 3000 * NS, T0 + 3060 * NS, "json", b""),
]


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with ducklake.attach(make_lake(tmp_path_factory.mktemp("truth"), RECORDS)) as con:
        yield con


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.5 for every pack, a frame every 10 s; frames that no window holds say otherwise."""
    t = np.arange(0, 6000, 10)
    soc = np.where(t % 1800 < 60, 0.5, 0.0)
    parts = [pa.table({"pack_id": [v] * t.size, "t_ns": pa.array(T0 + t * NS).view(pa.timestamp("ns")), "soc": soc})
             for v in (SICK, SOUND, OTHER)]  # fmt: skip
    path = tmp_path_factory.mktemp("truth") / "truth.parquet"
    pq.write_table(pa.concat_tables(parts), path)
    return path


def test_the_error_is_that_of_vehicles_without_a_fault(con: duckdb.DuckDBPyConnection, truth: Path) -> None:
    every, lfp, m = soc_errors(con, truth, [SICK])
    assert [e.model for e in (every, lfp, m)] == ["", "lfp", "m"]
    assert (every.windows, lfp.windows, m.windows) == (8, 4, 4)
    assert m.rmse_pct == pytest.approx(np.sqrt((0 + 0 + 1 + 9) / 4), rel=1e-4)
    assert lfp.rmse_pct == pytest.approx(10.0, rel=1e-4)
    assert every.rmse_pct == pytest.approx(np.sqrt((10 + 400) / 8), rel=1e-4)


def test_a_faulty_vehicle_would_have_spoilt_it(con: duckdb.DuckDBPyConnection, truth: Path) -> None:
    assert soc_errors(con, truth)[-1].rmse_pct > 20


def test_the_first_hour_can_be_left_out(con: duckdb.DuckDBPyConnection, truth: Path) -> None:
    m = soc_errors(con, truth, [SICK])[-1]
    assert m.settled_rmse_pct == pytest.approx(3.0, rel=1e-4)  # windows at 0, 30, 60 and 90 min: more than 1 h


def test_the_interval_holds_90_percent_of_a_normal_error(con: duckdb.DuckDBPyConnection, truth: Path) -> None:
    every, lfp, m = soc_errors(con, truth, [SICK])
    assert (m.within_90_pct, lfp.within_90_pct, every.within_90_pct) == (75.0, 0.0, 37.5)  # ± 1.645 % SOC


def test_a_lake_without_windows_has_no_error(truth: Path, tmp_path: Path) -> None:
    with ducklake.attach(make_lake(tmp_path, [])) as empty:
        (every,) = soc_errors(empty, truth)
    assert every.windows == 0
    assert np.isnan([every.rmse_pct, every.settled_rmse_pct, every.within_90_pct]).all()


@pytest.mark.parametrize(
    ("fault", "found", "delay_s", "by"),
    [
        (Fault("internal_short", 1, 4000.0, 9000.0, 0, 10.0), True, 1000.0, "leak"),
        (Fault("internal_short", 1, 1000.0, 2000.0, 0, 10.0), True, 4000.0, "leak"),  # within the hour of grace
        (Fault("internal_short", 1, 100.0, 1300.0, 0, 10.0), False, np.nan, ""),  # more than an hour after its end
        (Fault("internal_short", 1, 6000.0, 9000.0, 0, 10.0), False, np.nan, ""),  # before it began
        (Fault("internal_short", 2, 4000.0, 9000.0, 0, 10.0), False, np.nan, ""),  # another vehicle's
        (Fault("cooling_fault", 1, 4000.0, 21_000.0, size=1.0), True, 16_000.0, "cooling"),
        (Fault("rising_resistance", 1, 19_000.0, 30_000.0, 0, 1.0), False, np.nan, ""),  # cooling does not tell of it
        (Fault("dropped", 1, 900.0, 1100.0), True, 110.0, "sequence"),
        (Fault("clock_jump", 1, 1900.0, 2100.0, size=300.0), True, 100.0, "clock_future"),
        (Fault("late", 1, 2900.0, 3100.0, size=60.0), True, 160.0, "late"),
        (Fault("late", 3, 3900.0, 4100.0, size=60.0), True, 150.0, "filled gap"),
        (Fault("late", 1, 500.0, 1100.0, size=60.0), True, 2560.0, "late"),  # its gap there was never filled
    ],
)
def test_a_fault_is_found_by_what_tells_of_it_in_its_time(
    con: duckdb.DuckDBPyConnection, fault: Fault, found: bool, delay_s: float, by: str
) -> None:
    (outcome,) = outcomes(con, [fault], T0)
    assert (outcome.kind, outcome.found, outcome.by) == (fault.kind, found, by)
    assert outcome.delay_s == pytest.approx(delay_s, nan_ok=True)


def test_it_is_said_for_how_long_the_vehicle_was_seen_since(con: duckdb.DuckDBPyConnection) -> None:
    (early,), (late,) = (outcomes(con, [Fault("dropped", 1, at, 90_000.0)], T0) for at in (0.0, 3000.0))
    assert (early.seen_s, late.seen_s) == (240.0, 120.0)


def test_every_kind_of_fault_is_looked_for_or_absorbed() -> None:
    assert FOUND_BY.keys() | set(ABSORBED) == KINDS.keys()
    assert not FOUND_BY.keys() & set(ABSORBED)


def test_what_the_flow_absorbs_is_not_looked_for(con: duckdb.DuckDBPyConnection) -> None:
    assert outcomes(con, [Fault("duplicated", 1, 1.0, 2.0), Fault("out_of_order", 1, 1.0, 2.0)], T0) == []


def test_false_incidents_are_those_of_healthy_vehicles(con: duckdb.DuckDBPyConnection) -> None:
    assert false_incidents(con, [SOUND, OTHER]) == {"cooling": 2, "leak": 1}
    assert false_incidents(con, []) == {}


def test_a_replayed_trace_is_compared_window_by_window(con: duckdb.DuckDBPyConnection) -> None:
    assert replay_difference(con, SOUND, "replayed") == pytest.approx(2.0, rel=1e-4)
    assert np.isnan(replay_difference(con, SOUND, "nobody"))


def test_the_median_leaves_out_what_was_not_found() -> None:
    assert median([1.0, np.nan, 3.0, 100.0]) == 3.0
    assert np.isnan(median([np.nan]))


def test_truth_is_written_beside_the_blocks_that_pass(tmp_path: Path) -> None:
    cfg = FleetConfig(2, 1.0, 10.0, (MODEL,), sleep=False)
    made = list(simulate(cfg))
    passed = list(write_truth(iter(made), tmp_path / "t.parquet"))
    table = pq.read_table(tmp_path / "t.parquet")
    assert [len(b) for b in passed] == [len(b) for b, _ in made]
    assert table["soc"].to_pylist() == np.concatenate([t.soc for _, t in made]).tolist()
