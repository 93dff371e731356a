"""The lake sink: two phases, one transaction, readers beside the writer, what views show."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import bytewax.operators as op
import duckdb
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main

from schemas.arrow import LakeItem, Provenance, to_arrow
from schemas.events import Item, Rows, Session, Tick
from schemas.ids import hash64, record_id
from schemas.tables import TABLES
from sinks import ducklake
from sinks.ducklake import LakeError
from sinks.lake import LakePartition, LakeSink, publish_pending

MADE_BY = Provenance({"m": "abc"}, "1", "p")
T0_NS = 1_767_571_200 * 10**9
NEVER: dict[str, Any] = {"publish_s": 1e9, "publish_bytes": 1 << 60, "publish_epochs": 1 << 30}


def windows(
    n: int = 1, *, first: int = 0, pack: str = "A", revision: int = 0, provisional: bool = False, soc: float = 0.5
) -> Rows:
    """Closed windows of one pack, one a minute."""
    start = T0_NS + np.arange(first, first + n) * 60 * 10**9
    data: dict[str, Any] = {"start_ns": start, "end_ns": start + 60 * 10**9}
    data |= {"revision": np.full(n, revision, np.int32), "provisional": np.full(n, provisional)}
    data |= {"soc_end": np.full(n, soc, np.float32)}
    return Rows("windows", "m", (pack,), (pack,), np.zeros(n, np.int32), data)


def session(revision: int = 0, *, provisional: bool = False) -> Session:
    return Session("s1", revision, "m", "A", "A", "park", T0_NS, T0_NS + 1, 5, *(0.5,) * 21, provisional=provisional)


def records(*items: Item) -> list[LakeItem]:
    return to_arrow(items, MADE_BY)


@cache
def _empty_lake() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    ducklake.open_writer(folder).close()
    return folder


def part(lake: Path, resume: dict[str, Any] | None = None, *, recovery: bool = True, **due: Any) -> LakePartition:
    if not (lake / ducklake.CATALOG).exists():
        shutil.copytree(_empty_lake(), lake, dirs_exist_ok=True)  # quicker than making one
    sink = LakeSink(lake, "test", recovery=recovery, **(NEVER | due))
    return sink.build_part("lake", "lake", resume)


_connect = ducklake._connect


@cache
def _instance(use: str) -> duckdb.DuckDBPyConnection:
    """One instance for all writers and one for all readers: loading the extensions costs more than most tests."""
    return _connect()


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect() -> duckdb.DuckDBPyConnection:
        con = _instance("write").cursor()
        con.execute("DETACH DATABASE IF EXISTS lake")
        return con

    monkeypatch.setattr(ducklake, "_connect", connect)


def ask(lake: Path, sql: str) -> list[tuple[Any, ...]]:
    con = _instance("read")
    ducklake.attach_also(con, lake, "lake")
    con.execute("USE lake")
    try:
        return con.execute(sql).fetchall()
    finally:
        con.execute("USE memory")
        con.execute("DETACH lake")


def count(lake: Path, table: str = "windows") -> int:
    return int(ask(lake, f"SELECT count(*) FROM raw.{table}")[0][0])


def test_rows_are_published_at_the_first_item_after_their_snapshot_and_not_before(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_epochs=1)
    lake.write_batch(records(windows(3)))
    assert count(tmp_path) == 0
    lake.snapshot()
    assert count(tmp_path) == 0
    lake.write_batch([Tick(1)])
    assert count(tmp_path) == 3


def test_a_quiet_sink_publishes_by_ticks_once_rows_have_waited_a_minute(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_s=60)
    for second, expected in ((100, 0), (101, 0), (159, 0), (161, 2)):
        lake.write_batch([*(records(windows(2)) if second == 100 else []), Tick(second * 10**9)])
        assert count(tmp_path) == expected, second
        lake.snapshot()


def test_rows_are_published_once_enough_bytes_wait(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_bytes=50_000)
    for number in range(6):
        lake.write_batch(records(windows(100, first=100 * number)))
        lake.snapshot()
    assert 0 < count(tmp_path) < 600


def test_resuming_publishes_what_the_snapshot_covers_and_forgets_what_is_newer(tmp_path: Path) -> None:
    lake = part(tmp_path)
    lake.write_batch(records(windows(1, first=0)))
    durable = lake.snapshot()
    lake.write_batch(records(windows(1, first=1)))
    lake.snapshot()  # never became durable
    lake.close()

    again = part(tmp_path, durable)
    assert ask(tmp_path, "SELECT start_ns = epoch_ms(1767571200000) FROM raw.windows") == [(True,)]
    again.write_batch(records(windows(1, first=2)))
    again.snapshot()
    again.close()
    assert publish_pending(tmp_path, "test") == 1
    assert ask(tmp_path, "SELECT minute(start_ns) FROM windows ORDER BY ALL") == [(0,), (2,)]


def test_a_fresh_start_forgets_what_an_earlier_one_left_pending(tmp_path: Path) -> None:
    lake = part(tmp_path)
    lake.write_batch(records(windows(1)))
    lake.snapshot()
    lake.close()
    part(tmp_path).close()
    assert publish_pending(tmp_path, "test") == 0
    assert count(tmp_path) == 0


def test_an_epoch_that_the_lake_holds_is_not_inserted_again(tmp_path: Path) -> None:
    lake = part(tmp_path)
    lake.write_batch(records(windows(2)))
    durable = lake.snapshot()
    kept = next(tmp_path.glob("pending/sink-test/*.arrows"))
    content = kept.read_bytes()
    lake.close()
    publish_pending(tmp_path, "test")
    kept.write_bytes(content)  # as after a kill between the commit and the file's deletion
    part(tmp_path, durable).close()
    assert count(tmp_path) == 2
    assert not kept.exists()


def test_a_lake_that_is_ahead_of_the_recovery_store_is_refused(tmp_path: Path) -> None:
    lake = part(tmp_path)
    old = lake.snapshot()
    lake.write_batch(records(windows(2)))
    lake.snapshot()
    lake.close()
    publish_pending(tmp_path, "test")
    with pytest.raises(LakeError, match="the recovery store is older: epoch 0"):
        part(tmp_path, old)


def test_a_recovery_store_of_another_sink_is_refused(tmp_path: Path) -> None:
    lake = part(tmp_path)
    state = lake.snapshot()
    lake.close()
    with pytest.raises(LakeError, match="the recovery store is of run 1 of other"):
        part(tmp_path, {**state, "name": "other"})


def test_without_recovery_everything_is_published_by_close(tmp_path: Path) -> None:
    lake = part(tmp_path, recovery=False)
    lake.write_batch(records(windows(2)))
    lake.snapshot()
    assert count(tmp_path) == 0
    lake.close()
    assert count(tmp_path) == 2


def test_without_recovery_rows_are_published_inside_a_long_epoch(tmp_path: Path) -> None:
    lake = part(tmp_path, recovery=False, publish_bytes=50_000)
    for number in range(6):
        lake.write_batch(records(windows(100, first=100 * number)))
    assert count(tmp_path) > 0
    lake.close()
    assert count(tmp_path) == 600


def test_an_epoch_larger_than_memory_allows_is_spilled_and_whole(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sinks.pending.SPILL_BYTES", 10_000)
    lake = part(tmp_path)
    for number in range(20):
        lake.write_batch(records(windows(50, first=50 * number), session(number)))
    assert (tmp_path / "pending/sink-test/open.tmp").stat().st_size > 0
    lake.snapshot()
    lake.close()
    publish_pending(tmp_path, "test")
    assert count(tmp_path) == 1000
    assert count(tmp_path, "sessions") == 20


def test_a_failed_insert_leaves_no_row_of_any_table_and_no_progress(tmp_path: Path) -> None:
    con = ducklake.open_writer(tmp_path)
    ducklake.new_run(con, "test")
    tables = _tables(windows(2))
    tables["no_such_table"] = tables["windows"]
    with pytest.raises((duckdb.Error, KeyError)):
        ducklake.publish(con, "test", 1, tables)
    assert ducklake.last_run(con, "test") == ducklake.Run(1, 0, 0)
    con.close()
    assert count(tmp_path) == 0


def _tables(*items: Item) -> dict[str, Any]:
    import pyarrow as pa

    return {item[0]: pa.Table.from_batches([item[1]]) for item in records(*items) if not isinstance(item, Tick)}


def test_two_writers_of_one_lake_are_refused(tmp_path: Path) -> None:
    lake = part(tmp_path)
    with pytest.raises(LakeError, match="one writer at a time"):
        part(tmp_path)
    lake.close()
    part(tmp_path).close()


def publish(lake: Path, *epochs: Sequence[Item]) -> None:
    """Run the sink without recovery over a few epochs."""
    sink = part(lake, recovery=False, publish_epochs=1)
    for items in epochs:
        sink.write_batch(records(*items))
        sink.snapshot()
    sink.close()


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


def test_states_latest_has_one_row_a_pack(tmp_path: Path) -> None:
    def states(t: int, soc: float, revision: int = 0) -> Rows:
        data: dict[str, Any] = {"t_ns": np.array([T0_NS + t]), "soc": np.array([soc], np.float32)}
        data |= {"soc_cell": np.array([[0.5, np.nan]], np.float32), "revision": np.array([revision], np.int32)}
        return Rows("states", "m", ("A",), ("A",), np.zeros(1, np.int32), data)

    publish(tmp_path, [states(10, 0.25), states(5, 0.5)], [states(10, 0.75, revision=1)])
    assert ask(tmp_path, "SELECT soc, soc_cell FROM states_latest") == [(0.75, [0.5, None])]


@pytest.mark.parametrize("rows", [3, 300])  # inlined in the catalog, and in a Parquet file
def test_values_come_back_bit_for_bit(tmp_path: Path, rows: int) -> None:
    draw = np.random.default_rng(rows)
    edges = [0.0, 1e-45, 3.4028235e38, np.nan, 0.1, -1 / 3]
    f4 = np.resize(np.array(edges, np.float32), rows)
    f8 = draw.standard_normal(rows)
    cells = draw.standard_normal((rows, 5)).astype(np.float32)
    t = T0_NS + np.arange(rows) * 10**9 + draw.integers(0, 10**9, rows)
    pack, many = np.zeros(rows, np.int32), {"revision": np.zeros(rows, np.int32)}
    state = Rows("states", "m", ("A",), ("B",), pack, many | {"t_ns": t, "soc": f4, "soc_cell": cells})
    window = Rows("windows", "m", ("A",), ("B",), pack, many | {"start_ns": t, "odo_km": f8})
    publish(tmp_path, [state, window])
    with ducklake.attach(tmp_path) as con:
        got = con.execute("SELECT epoch_ns(t_ns) AS t, soc, soc_cell FROM states ORDER BY t").fetchnumpy()
        odo = con.execute("SELECT odo_km FROM windows ORDER BY start_ns").fetchnumpy()["odo_km"]
    assert np.array_equal(got["t"], t)
    assert np.ma.filled(got["soc"].astype(np.float32), np.nan).tobytes() == f4.tobytes()
    assert np.stack(got["soc_cell"].tolist()).astype(np.float32).tobytes() == cells.tobytes()
    assert np.asarray(odo).tobytes() == f8.tobytes()


def test_minus_zero_is_stored_as_zero_so_that_no_file_s_dictionary_decides(tmp_path: Path) -> None:
    publish(tmp_path, [replace(windows(200), data={**windows(200).data, "odo_km": np.resize([0.0, -0.0], 200)})])
    assert ask(tmp_path, "SELECT DISTINCT odo_km::VARCHAR FROM windows") == [("0.0",)]


def test_compaction_joins_files_and_loses_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(ducklake, "INLINE_ROWS", 0)
    monkeypatch.setattr(ducklake, "COMPACT_EVERY", 10)
    epochs: list[list[Item]] = [[windows(50, first=50 * e), session(e)] for e in range(10)]
    publish(tmp_path, *epochs)
    for table, rows in (("windows", 500), ("sessions", 10)):
        sql = f"SELECT count(*) FROM ducklake_list_files('lake', '{table}', schema => 'raw')"
        assert ask(tmp_path, sql) == [(1,)]
        assert count(tmp_path, table) == rows


def test_rows_of_one_pack_lie_together_in_a_file(tmp_path: Path) -> None:
    names = tuple(f"P{i}" for i in range(20))
    mixed = replace(windows(400), packs=names, vehicles=names, pack=np.tile(np.arange(20, dtype=np.int32), 20))
    publish(tmp_path, [mixed])
    file = next(tmp_path.glob("data/raw/windows/**/*.parquet"))
    with duckdb.connect() as con:
        packs = [row[0] for row in con.execute(f"SELECT pack_id FROM '{file}'").fetchall()]
    assert packs == sorted(packs)
    assert "model=m" in str(file)
    assert "day=5" in str(file)


def test_an_encrypted_lake_reads_back_and_its_files_do_not(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path, "test", recovery=False, encrypt=True)
    lake = sink.build_part("lake", "lake", None)
    lake.write_batch(records(windows(500), session()))
    lake.snapshot()
    lake.close()
    assert ask(tmp_path, "SELECT (SELECT count(*) FROM windows), (SELECT count(*) FROM sessions)") == [(500, 1)]
    files = list(tmp_path.glob("data/**/*.parquet"))
    assert len(files) == 2  # also the single session: nothing of it in the catalog
    with duckdb.connect() as con, pytest.raises(duckdb.Error, match="encrypted"):
        con.execute(f"SELECT * FROM '{files[0]}'")


def test_encryption_of_a_plain_lake_is_refused(tmp_path: Path) -> None:
    part(tmp_path).close()
    with pytest.raises(LakeError, match="made without encryption"):
        LakeSink(tmp_path, "test", recovery=False, encrypt=True).build_part("lake", "lake", None)
    part(tmp_path).close()  # and the lock is free


def test_a_lake_that_was_moved_still_reads(tmp_path: Path) -> None:
    publish(tmp_path / "a", [windows(500)])
    (tmp_path / "a").rename(tmp_path / "b")
    assert ask(tmp_path / "b", "SELECT count(*) FROM windows") == [(500,)]


def test_a_lake_of_an_older_version_gets_the_columns_and_views_it_lacks(tmp_path: Path) -> None:
    with ducklake.open_writer(tmp_path) as con:
        con.execute("DROP VIEW fleet_today; DROP VIEW worst_cells; ALTER TABLE raw.windows DROP COLUMN soc_end")
    publish(tmp_path, [windows(2, soc=0.5)])
    assert ask(tmp_path, "SELECT count(*), sum(soc_end) FROM windows") == [(2, 1.0)]
    assert ask(tmp_path, "SELECT vehicles FROM fleet_today") == [(1,)]


def test_opening_a_lake_again_changes_nothing(tmp_path: Path) -> None:
    ducklake.open_writer(tmp_path).close()
    before = ask(tmp_path, "SELECT max(snapshot_id) FROM lake.snapshots()")
    ducklake.open_writer(tmp_path).close()
    assert ask(tmp_path, "SELECT max(snapshot_id) FROM lake.snapshots()") == before


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    ducklake.open_writer(tmp_path).close()
    rows = ask(tmp_path, "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%extensions'")
    assert dict(rows) == {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    assert ask(tmp_path, "SELECT value FROM duckdb_settings() WHERE name = 'allow_unsigned_extensions'") == [("false",)]


def test_no_lake_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=f"no lake in {tmp_path}"):
        ducklake.attach(tmp_path)


_READER = """
import sys
from pathlib import Path
from sinks import ducklake
seen = []
with ducklake.attach(Path(sys.argv[1])) as con:
    while len(set(seen)) < 5 and len(seen) < 5000:  # the writer goes on until it has seen enough
        seen.append(con.execute("SELECT count(*), count(DISTINCT start_ns) FROM windows").fetchone())
assert seen == sorted(seen), seen
assert all(rows % 2000 == 0 for rows, _ in seen), seen  # whole publishes only
print(len(set(seen)))
"""


def test_other_processes_query_while_the_lake_is_written(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_epochs=1)
    command = [sys.executable, "-c", _READER, str(tmp_path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    took = []
    number = 0
    while any(r.poll() is None for r in readers):
        number += 1
        lake.write_batch(records(windows(2000, first=2000 * number)))
        lake.snapshot()
        before = time.perf_counter()
        lake.write_batch([Tick(number)])
        took.append(time.perf_counter() - before)
    lake.close()
    for reader in readers:
        out, _ = reader.communicate()
        assert reader.returncode == 0
        assert int(out) == 5, "the readers never saw the lake change"
    ms = np.array(took) * 1e3
    print(f"{len(took)} publishes beside two readers, ms: median {np.median(ms):.0f}, worst {ms.max():.0f}")
    assert np.median(took) < 1.0


class _Flow:
    """A flow of lake items, with recovery, that can be run again."""

    def __init__(self, work: Path, items: list[Any]) -> None:
        self.lake, self._items, self._recovery = work / "lake", items, work / "recovery"
        self._recovery.mkdir()
        init_db_dir(str(self._recovery), 1)

    def run(self) -> None:
        flow = Dataflow("small")
        items = op.input("source", flow, TestingSource(self._items))
        out = op.flat_map("to-arrow", items, lambda item: [("lake", r) for r in records(item)])
        op.output("lake", out, LakeSink(self.lake, "test", recovery=True, **(NEVER | {"publish_epochs": 1})))
        config = RecoveryConfig(str(self._recovery))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=config)


def test_the_last_epoch_of_a_flow_is_published_after_its_return(tmp_path: Path) -> None:
    flow = _Flow(tmp_path, [windows(1, first=i) for i in range(4)])
    flow.run()
    assert count(flow.lake) == 3
    assert publish_pending(flow.lake, "test") == 1
    assert count(flow.lake) == 4
    assert publish_pending(flow.lake, "test") == 0


def test_a_finished_run_resumed_adds_nothing(tmp_path: Path) -> None:
    flow = _Flow(tmp_path, [windows(1, first=i) for i in range(4)])
    for _ in range(3):
        flow.run()
        publish_pending(flow.lake, "test")
        assert count(flow.lake) == 4


def test_a_run_killed_before_its_last_publish_shows_everything_after_the_next_start(tmp_path: Path) -> None:
    flow = _Flow(tmp_path, [windows(1, first=i) for i in range(4)])
    flow.run()  # and nobody called publish_pending
    flow.run()
    assert count(flow.lake) == 4


def test_every_table_of_the_lake_has_its_view(tmp_path: Path) -> None:
    ducklake.open_writer(tmp_path).close()
    for table, columns in TABLES.items():
        names = [row[0] for row in ask(tmp_path, f"DESCRIBE {table}")]
        assert names == (["id"] if table == "windows" else []) + [c.name for c in columns]


def test_pack_hash_is_filled_where_a_step_did_not(tmp_path: Path) -> None:
    publish(tmp_path, [windows(1, pack="A"), windows(1, pack="B")])
    rows = ask(tmp_path, "SELECT pack_id, pack_hash, pack_file, code_version, params FROM windows ORDER BY 1")
    assert rows == [(p, hash64(p), "abc", "1", "p") for p in "AB"]
