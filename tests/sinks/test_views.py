"""What the views show of all that the lake keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.events import Rows
from schemas.ids import record_id
from schemas.tables import TABLES
from sinks import ducklake
from sinks.views import views
from tests.support.lake import T0_NS, ask, count, part, publish, session, windows


def test_views_show_the_highest_revision_and_raw_keeps_all(tmp_path: Path) -> None:
    publish(tmp_path, [windows(1, soc=0.1)], [windows(1, soc=0.3, revision=2)], [windows(1, soc=0.2, revision=1)])
    assert ask(tmp_path, "SELECT revision, soc_end::DECIMAL(3, 1)::VARCHAR FROM windows") == [(2, "0.3")]
    assert count(tmp_path) == 3


def test_a_provisional_record_shows_until_the_final_one_is_there(tmp_path: Path) -> None:
    publish(tmp_path, [windows(1, provisional=True), session(provisional=True)])
    assert ask(tmp_path, "SELECT provisional FROM windows UNION ALL SELECT provisional FROM sessions") == [(True,)] * 2
    publish(tmp_path, [windows(1), session()])
    assert ask(tmp_path, "SELECT provisional FROM windows UNION ALL SELECT provisional FROM sessions") == [(False,)] * 2
    publish(tmp_path, [windows(1, provisional=True, revision=5)])
    assert ask(tmp_path, "SELECT provisional FROM windows") == [(False,)]


def test_a_trace_replayed_twice_into_one_lake_shows_once_and_the_newer_run_counts(tmp_path: Path) -> None:
    publish(tmp_path, [windows(5, soc=0.1), session()])
    publish(tmp_path, [windows(5, soc=0.2), session()])
    assert count(tmp_path) == 10
    assert ask(tmp_path, "SELECT count(*), max(soc_end) < 0.3, min(soc_end) > 0.15 FROM windows") == [(5, True, True)]
    assert ask(tmp_path, "SELECT count(*) FROM sessions") == [(1,)]


def test_only_what_an_earlier_run_may_have_brought_too_is_looked_up_in_a_view(tmp_path: Path) -> None:
    publish(tmp_path, [windows(3)])
    publish(tmp_path, [windows(3, first=2)])
    ranks = "SELECT minute(start_ns), precedence FROM raw.windows ORDER BY ALL"
    assert ask(tmp_path, ranks) == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (4, 0)]
    assert ask(tmp_path, "SELECT count(*) FROM windows") == [(5,)]


def test_starts_that_publish_nothing_leave_no_run(tmp_path: Path) -> None:
    for _ in range(3):
        part(tmp_path).close()
    publish(tmp_path, [windows(1)])
    assert ask(tmp_path, "SELECT DISTINCT run FROM raw.progress") == [(1,)]


def test_a_window_s_id_in_sql_is_that_of_python(tmp_path: Path) -> None:
    publish(tmp_path, [windows(40, pack=p) for p in ("A", "käfer|1", "")])
    for pack, start, given in ask(tmp_path, "SELECT pack_id, epoch_ns(start_ns), id FROM windows"):
        assert given == record_id(pack, "window", "-", start)


def states(t: int, soc: float, revision: int = 0, *, withdrawn: bool = False) -> Rows:
    data: dict[str, Any] = {"t_ns": np.array([T0_NS + t]), "soc": np.array([soc], np.float32)}
    data |= {"soc_cell": np.array([[0.5, np.nan]], np.float32), "revision": np.array([revision], np.int32)}
    return Rows("states", "m", ("A",), ("A",), np.zeros(1, np.int32), data | {"withdrawn": np.array([withdrawn])})


def test_what_a_filled_gap_withdraws_is_not_shown_and_raw_keeps_it(tmp_path: Path) -> None:
    publish(tmp_path, [states(5, 0.25), states(10, 0.5), session()])
    publish(tmp_path, [states(10, 0.5, revision=1, withdrawn=True), replace(session(), revision=1, withdrawn=True)])
    assert ask(tmp_path, "SELECT soc FROM states_latest") == [(0.25,)]
    assert ask(tmp_path, "SELECT count(*) FROM sessions") == [(0,)]
    assert ask(tmp_path, "SELECT count(*) FROM raw.states") == [(3,)]


def test_states_latest_has_one_row_a_pack(tmp_path: Path) -> None:
    publish(tmp_path, [states(10, 0.25), states(5, 0.5)], [states(10, 0.75, revision=1)])
    assert ask(tmp_path, "SELECT soc, soc_cell FROM states_latest") == [(0.75, [0.5, None])]


def test_a_lake_of_an_older_version_gets_the_columns_and_views_it_lacks(tmp_path: Path) -> None:
    with ducklake.open_writer(tmp_path) as con:
        con.execute("DROP VIEW fleet_today; DROP VIEW worst_cells; ALTER TABLE raw.windows DROP COLUMN soc_end")
    publish(tmp_path, [windows(2, soc=0.5)])
    assert ask(tmp_path, "SELECT count(*), sum(soc_end) FROM windows") == [(2, 1.0)]
    assert ask(tmp_path, "SELECT vehicles FROM fleet_today") == [(1,)]


def test_every_table_of_the_lake_has_its_view(tmp_path: Path) -> None:
    ducklake.open_writer(tmp_path).close()
    for table, columns in TABLES.items():
        names = [row[0] for row in ask(tmp_path, f"DESCRIBE {table}")]
        assert names == (["id"] if table == "windows" else []) + [c.name for c in columns]


def test_a_view_comes_after_every_view_that_it_reads() -> None:
    made: set[str] = set()
    names = {v.name for v in views()}
    for view in views():
        read = names & set(re.findall(r"(?:FROM|JOIN)\s+(\w+)", view.sql)) - {view.name}
        assert read <= made, f"{view.name} reads {sorted(read - made)} before it is there"
        made.add(view.name)
