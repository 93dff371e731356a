"""What an analyst gets: formats, errors in one line, and the questions that come with the lake."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.query import QueryError, run_query
from schemas.arrow import Provenance, to_arrow
from schemas.events import DeadLetter, Gap, Incident, Item, Rows
from schemas.tables import TABLES
from sinks import ducklake
from sinks.ducklake import LakeError
from sinks.lake import LakeSink
from sinks.views import views

DAY_NS = 86_400 * 10**9
T0_NS = 1_767_571_200 * 10**9  # a midnight
PACKS = ("A", "B")


def _windows(day: int) -> Rows:
    """Two packs, one window each an hour."""
    n = 48
    start = T0_NS + day * DAY_NS + np.repeat(np.arange(24), 2) * 3600 * 10**9
    f4 = np.float32
    data: dict[str, Any] = {
        "start_ns": start,
        "end_ns": start + 60 * 10**9,
        "revision": np.zeros(n, np.int32),
        "provisional": np.zeros(n, bool),
        "frames": np.full(n, 60, np.int32),
        "complete_frames": np.full(n, 50, np.int32),
        "coverage": np.full(n, 0.5, f4),
        "quality": np.tile(np.array([1, 4], np.uint32), 24),
        "mode": np.ones(n, np.int8),
        "soc_end": np.linspace(1, 0.25, n).astype(f4),
        "cell_v_min": np.full(n, 3.5, f4),
        "cell_v_max": np.full(n, 3.75, f4),
        "energy_out_kwh": np.full(n, 0.5, f4),
        "odo_km": 1000.0 * day + np.arange(n),
        "temp_max_c": np.full(n, np.nan, f4),
    }
    return Rows("windows", "m", PACKS, PACKS, np.tile(np.array([0, 1], np.int32), 24), data)


def _states() -> Rows:
    n = 2
    cells = {"soc_cell": 0.5, "r0_cell_ohm": 0.001, "capacity_cell_ah": 60.0}
    data: dict[str, Any] = {k: np.full((n, 5), v, np.float32) for k, v in cells.items()}
    data["r0_cell_ohm"][1, 3] *= 1.5
    data["capacity_cell_ah"][0, 0] *= 0.75
    stds = {"soc_cell_std": 0.01, "r0_cell_std_ohm": 0.0001, "capacity_cell_std_ah": 3.0}
    data |= {k: np.full(n, v, np.float32) for k, v in stds.items()}
    return Rows("states", "m", PACKS, PACKS, np.arange(2, dtype=np.int32), data | {"t_ns": np.full(n, T0_NS)})


def _incident(number: int, status: str, severity: int) -> Incident:
    words = ("short", "cell 3", severity, status, T0_NS + number, T0_NS, 0, "in words", {"b": 2.0, "a": 1.0})
    causes = {"sense_wire": 0.3, "self_discharge": 0.6} if number > 1 else {}
    return Incident(f"i{number}", 0, "m", "A", "A", *words, since_ns=T0_NS - 3 * 3600 * 10**9, causes=causes)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    items: list[Item] = [_windows(day) for day in range(9)]
    items += [_states(), _incident(1, "open", 2), _incident(2, "open", 4), _incident(3, "clear", 4)]
    items.append(Gap("g1", 0, "m", "A", "A", "sequence", T0_NS, T0_NS + 5 * 10**9, 7, 9, 3))
    items += [DeadLetter(f"d{i}", "bus", 0, i, 0, "late", "by 9 s", "A", T0_NS, 0, "json", b"abc") for i in range(2)]
    part = LakeSink(folder, "test", recovery=False).build_part("lake", "lake", None)
    part.write_batch(to_arrow(items, Provenance({"m": "abc"}, "1", "p")))
    part.snapshot()
    part.close()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _one_instance(lake: Path) -> Iterator[None]:
    """Read over one connection: loading the extensions costs more than the tests."""
    con = ducklake.attach(lake)

    @contextmanager
    def again(wanted: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        ducklake.check(wanted)
        with con.cursor() as cursor:
            cursor.execute("USE lake")
            yield cursor

    patch = pytest.MonkeyPatch()
    patch.setattr(ducklake, "attach", again)
    yield
    patch.undo()
    con.close()


def ask(lake: Path, sql: str | None, fmt: str = "json") -> str:
    out = io.StringIO()
    run_query(lake, sql, fmt, out)
    return out.getvalue()


def rows(lake: Path, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask(lake, sql))
    return found


def test_json_has_the_shortest_floats_and_null_for_what_is_not_a_number(lake: Path) -> None:
    sql = "SELECT 0.1::FLOAT a, 'nan'::FLOAT b, ['inf'::DOUBLE, 0.5] c, '2026-01-05 00:00:00.000000001'::TIMESTAMP_NS t"
    assert ask(lake, sql) == '[\n{"a":0.1,"b":null,"c":[null,0.5],"t":"2026-01-05 00:00:00.000000001"}\n]\n'


def test_json_of_nothing_is_an_empty_list(lake: Path) -> None:
    assert json.loads(ask(lake, "SELECT 1 WHERE false")) == []


def test_csv_has_a_header_and_every_row_in_order(lake: Path) -> None:
    got = list(csv.reader(io.StringIO(ask(lake, "SELECT pack_id, soc_end FROM windows ORDER BY soc_end, 1", "csv"))))
    assert got[0] == ["pack_id", "soc_end"]
    assert len(got) == 1 + 9 * 48
    assert [float(r[1]) for r in got[1:]] == sorted(float(r[1]) for r in got[1:])


def test_csv_quotes_what_needs_it_and_leaves_null_empty(lake: Path) -> None:
    assert ask(lake, "SELECT 'a,\"b' x, NULL::INTEGER y, 2 z", "csv") == 'x,y,z\n"a,""b",,2\n'


def test_parquet_goes_to_a_file_with_its_types(lake: Path, tmp_path: Path) -> None:
    run_query(lake, "SELECT start_ns, soc_end, model FROM windows", "parquet", tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert [str(t) for t in table.schema.types] == ["timestamp[ns]", "float", "string"]
    assert table.num_rows == 9 * 48


def test_parquet_goes_to_a_pipe_too(lake: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    run_query(lake, "SELECT 1 AS a", "parquet", out)
    assert pq.read_table(io.BytesIO(out.buffer.getvalue())).to_pylist() == [{"a": 1}]


def test_parquet_to_a_terminal_is_refused(lake: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(QueryError, match="--out FILE"):
        run_query(lake, "SELECT 1", "parquet", Terminal())


def test_a_table_shows_names_values_and_how_many_rows_there_are(lake: Path) -> None:
    text = ask(lake, "SELECT pack_id, soc_end FROM windows", "table")
    assert "soc_end" in text
    assert "432 rows" in text


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nowhere", "nowhere does not exist"),
        ("SELECT error('mid\nway') FROM windows", "mid way"),
        ("DELETE FROM raw.windows", "read-only"),
        ("CREATE TABLE x (a INTEGER)", "read-only"),
    ],
)
def test_a_wrong_question_is_one_line(lake: Path, sql: str, message: str) -> None:
    for fmt in ("table", "csv", "json"):
        with pytest.raises(QueryError, match=message) as wrong:
            ask(lake, sql, fmt)
        assert "\n" not in str(wrong.value)


def test_an_unknown_format_names_those_that_exist(lake: Path) -> None:
    with pytest.raises(QueryError, match="table, csv, json, parquet; got xml"):
        ask(lake, "SELECT 1", "xml")


def test_no_lake_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake in"):
        ask(tmp_path, "SELECT 1")


def test_without_sql_every_view_is_listed_with_columns_meaning_and_an_example(lake: Path) -> None:
    text = ask(lake, None, "table")
    for view in views():
        assert f"\n{view.name}: " in text
    assert "coldest probe" in text
    listed = {(r["view_name"], r["column_name"]): r["meaning"] for r in json.loads(ask(lake, None))}
    for table, columns in TABLES.items():
        assert {c.name: c.meaning for c in columns}.items() <= {
            k[1]: m for k, m in listed.items() if k[0] == table
        }.items()


@pytest.mark.parametrize("view", [v.name for v in views()])
def test_the_example_of_each_view_runs(lake: Path, view: str) -> None:
    about = next(v.about for v in views() if v.name == view)
    example = re.fullmatch(r".*Example: (SELECT .*)", about)
    assert example is not None
    ask(lake, example[1])


def test_fleet_today_counts_the_newest_day_only(lake: Path) -> None:
    (today,) = rows(lake, "SELECT * FROM fleet_today")
    assert (today["day"], today["vehicles"], today["frames"]) == ("2026-01-13", 2, 48 * 60)
    assert today["distance_km"] == 2 * 46
    assert (today["open_incidents"], today["worst_severity"]) == (2, 4)
    assert today["temp_highest_c"] is None


def test_a_vehicle_s_week_has_its_last_seven_days(lake: Path) -> None:
    week = rows(lake, "SELECT * FROM vehicle_week WHERE vehicle_id = 'B'")
    assert [d["day"][-2:] for d in week] == ["07", "08", "09", "10", "11", "12", "13"]
    assert {d["driving_windows"] for d in week} == {24}
    assert {d["distance_km"] for d in week} == {46}


def test_worst_cells_names_the_cells_that_stand_out_counted_from_one(lake: Path) -> None:
    worst = rows(lake, "SELECT * FROM worst_cells")
    assert len(worst) == 10
    assert (worst[0]["pack_id"], worst[0]["cell"], round(worst[0]["r0_over_median"], 6)) == ("B", 4, 0.5)
    assert (worst[1]["pack_id"], worst[1]["cell"], round(worst[1]["capacity_over_median"], 6)) == ("A", 1, -0.25)
    assert [round(worst[0][name], 6) for name in ("soc_std", "r0_std", "capacity_std")] == [0.01, 0.1, 0.05]


def test_imbalance_is_three_numbers_each_with_an_interval_and_the_cell_that_makes_it(lake: Path) -> None:
    a, b = rows(lake, "SELECT * FROM imbalance ORDER BY pack_id")
    assert (a["capacity_low_cell"], b["r0_high_cell"]) == (1, 4)
    half = 1.645 * 2**0.5  # of a 90 % interval of a difference, in standard deviations of a cell
    assert a["spread_capacity"] == pytest.approx(0.25)
    assert a["spread_capacity_low"] == pytest.approx(0.25 - half * 0.05)
    assert b["spread_r0_high"] == pytest.approx(0.5 + half * 0.1)
    assert (a["spread_soc"], a["spread_soc_low"]) == (0.0, 0.0)
    assert a["spread_soc_high"] == pytest.approx(half * 0.01)


def test_open_incidents_leaves_out_the_cleared_and_begins_with_the_gravest(lake: Path) -> None:
    found = rows(lake, "SELECT id, evidence FROM open_incidents")
    assert [r["id"] for r in found] == ["i2", "i1"]
    assert json.loads(found[0]["evidence"]) == {"a": 1.0, "b": 2.0}


def test_causes_are_counted_by_model_and_years_and_lead_to_the_windows_that_speak_for_them(lake: Path) -> None:
    (cause,) = rows(lake, "SELECT * FROM causes")
    assert (cause["model"], cause["years"], cause["cause"], cause["incidents"]) == ("m", 0, "self_discharge", 2)
    assert (cause["packs"], cause["still_open"], round(cause["likelihood"], 3)) == (1, 1, 0.6)
    for_it = rows(lake, f"SELECT * FROM cause_windows WHERE incident = '{cause['for_example']}'")
    assert [(w["pack_id"], w["start_ns"]) for w in for_it] == [("A", "2026-01-05 00:00:00")]


def test_data_coverage_joins_frames_gaps_and_refusals_of_a_pack_and_day(lake: Path) -> None:
    first = rows(lake, "SELECT * FROM data_coverage WHERE day = '2026-01-05' ORDER BY pack_id")
    a, b = first
    assert (a["frames"], a["gaps"], a["missing_frames"], a["longest_gap_s"], a["dead_letters"]) == (
        24 * 60,
        1,
        3,
        5.0,
        2,
    )
    assert (b["gaps"], b["missing_frames"], b["longest_gap_s"], b["dead_letters"], b["quality"]) == (0, 0, None, 0, 4)


def test_dead_letters_are_counted_by_reason(lake: Path) -> None:
    (late,) = rows(lake, "SELECT * FROM dead_letters_by_reason")
    assert (late["reason"], late["letters"], late["bytes"], late["an_example"]) == ("late", 2, 6, "by 9 s")
