"""The lake itself: values, files, writers and readers."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from schemas.events import Item, Rows, Tick
from schemas.ids import hash64
from sinks import ducklake
from sinks.ducklake import LakeError
from sinks.lake import LakeSink
from tests.support.lake import T0_NS, ask, count, part, publish, records, session, windows


def test_two_writers_of_one_lake_are_refused(tmp_path: Path) -> None:
    lake = part(tmp_path)
    with pytest.raises(LakeError, match="one writer at a time"):
        part(tmp_path)
    lake.close()
    part(tmp_path).close()


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


def test_opening_a_lake_again_changes_nothing(tmp_path: Path) -> None:
    ducklake.open_writer(tmp_path).close()
    before = ask(tmp_path, "SELECT max(snapshot_id) FROM lake.snapshots()")
    ducklake.open_writer(tmp_path).close()
    assert ask(tmp_path, "SELECT max(snapshot_id) FROM lake.snapshots()") == before


def test_nothing_is_downloaded_and_extensions_are_signed(
    tmp_path: Path, lake_config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ducklake, "CONFIG", lake_config)
    ducklake.open_writer(tmp_path).close()
    with ducklake.attach(tmp_path) as con:
        rows = con.execute("SELECT name, value FROM duckdb_settings() WHERE name LIKE '%extensions'").fetchall()
    assert set(dict(rows)) >= {"autoinstall_known_extensions", "autoload_known_extensions", "allow_unsigned_extensions"}
    assert {value for name, value in rows if name.startswith(("auto", "allow_unsigned"))} == {"false"}


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
        lake.settle()
        took.append(time.perf_counter() - before)
    lake.close()
    for reader in readers:
        out, _ = reader.communicate()
        assert reader.returncode == 0
        assert int(out) == 5, "the readers never saw the lake change"
    ms = np.array(took) * 1e3
    print(f"{len(took)} publishes beside two readers, ms: median {np.median(ms):.0f}, worst {ms.max():.0f}")


def test_pack_hash_is_filled_where_a_step_did_not(tmp_path: Path) -> None:
    publish(tmp_path, [windows(1, pack="A"), windows(1, pack="B")])
    rows = ask(tmp_path, "SELECT pack_id, pack_hash, pack_file, code_version, params FROM windows ORDER BY 1")
    assert rows == [(p, hash64(p), "abc", "1", "p") for p in "AB"]


class _NoRoom:
    def execute(self, statement: str) -> None:
        msg = f"Failed to probe DuckLake metadata: disk I/O error ({statement})"
        raise duckdb.OperationalError(msg)


def test_a_disk_without_room_is_no_fault_of_the_lake(tmp_path: Path) -> None:
    """A LakeError would end a supervised run for good, where another start may find room."""
    with pytest.raises(duckdb.OperationalError, match="disk I/O error"):
        ducklake._attach(_NoRoom(), tmp_path / "catalog.sqlite", "lake", read_only=False)  # type: ignore[arg-type] # its one method
