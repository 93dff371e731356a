"""The lake itself: a DuckLake of Parquet files and a SQLite catalog."""

from __future__ import annotations

import fcntl
import importlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from schemas.tables import DAY, TABLES
from sinks.views import PRECEDENCE, precedence, views

CATALOG = "catalog.sqlite"
COMPACT_EVERY = 50  # publishes
KEEP_SNAPSHOTS = "24 hours"  # as long a reader may stay on what it began to read
INLINE_ROWS = 100  # a commit with fewer rows of a table goes to the catalog, not to a file of its own
FILE_SIZE = "128MB"  # what has grown so large is not written again
KEPT_MEMORY = "4MB"  # that a query used and that need not go back to the system when it is done
CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
MEMORY = "2GB"  # of the writer; sorting beyond it goes to <lake>/tmp

_SQL_TYPES: dict[str, str] = {
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "i8": "TINYINT",
    "i16": "SMALLINT",
    "i32": "INTEGER",
    "i64": "BIGINT",
    "u32": "UINTEGER",
    "u64": "UBIGINT",
    "f32": "FLOAT",
    "f64": "DOUBLE",
    "f32[]": "FLOAT[]",
    "time": "TIMESTAMP_NS",
    "bytes": "BLOB",
}


class LakeError(ValueError):
    """What keeps a lake from being opened or written, in one line."""


def attach(lake: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """Connect to a lake as `lake`, the current database; any number of processes may read.

    Raises LakeError where there is no lake or its extensions are missing.
    """
    check(lake)
    con = _connect()
    _attach(con, lake / CATALOG, "lake", read_only=read_only)
    con.execute("USE lake")
    return con


def attach_also(con: duckdb.DuckDBPyConnection, lake: Path, name: str) -> None:
    """Add a further lake under `name`, for reading.  Raises LakeError where there is none."""
    check(lake)
    _attach(con, lake / CATALOG, name, read_only=True)


def check(lake: Path) -> None:
    """Raise LakeError where there is no lake."""
    if not (lake / CATALOG).is_file():
        msg = f"no lake in {lake}: {lake / CATALOG} is missing"
        raise LakeError(msg)


def open_writer(lake: Path, *, encrypt: bool = False) -> duckdb.DuckDBPyConnection:
    """Connect for writing; makes the lake, its tables and views, or adds those that it lacks.

    Take `lock` first.  `encrypt` protects the data files of a lake that is made here.  Raises LakeError
    where an existing lake is not as `encrypt` asks.
    """
    lake.mkdir(parents=True, exist_ok=True)
    con = _connect()
    if not (lake / CATALOG).exists():
        _make(con, lake, encrypt=encrypt)
    _attach(con, lake / CATALOG, "lake", read_only=False)
    if encrypt and not _encrypted(con):
        msg = f"{lake} was made without encryption; --encrypt needs a new lake"
        raise LakeError(msg)
    con.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 1")  # one thread: one file a partition, in order
    con.execute(f"SET temp_directory = {_text(lake / 'tmp')}")
    con.execute("USE lake; BEGIN")
    _make_tables(con)
    _make_views(con)
    con.execute("COMMIT")
    return con


def _make(con: duckdb.DuckDBPyConnection, lake: Path, *, encrypt: bool) -> None:
    """Make a lake that is there as a whole or not at all."""
    making = lake / "making.sqlite"
    for left in lake.glob(making.name + "*"):
        left.unlink()
    # Once, and before DuckDB has the file: readers in a loop made commits 1.1 s instead of 70 ms without it.
    connection = sqlite3.connect(making)
    connection.execute("PRAGMA journal_mode=wal")
    connection.close()
    _attach(con, making, "lake", read_only=False, encrypt=encrypt)
    con.execute("BEGIN")
    con.execute("CREATE SCHEMA lake.raw")
    con.execute("CREATE TABLE lake.raw.progress (sink VARCHAR, run BIGINT, seq BIGINT, horizon_ns BIGINT)")
    con.execute("COMMIT")
    # Rows in the catalog are not encrypted; the progress row says nothing that needs to be.
    inline = "CALL ducklake_set_option('lake', 'data_inlining_row_limit', "
    con.execute(f"{inline}{0 if encrypt else INLINE_ROWS})")
    con.execute(f"{inline}{INLINE_ROWS}, schema => 'raw', table_name => 'progress')")
    con.execute(f"CALL ducklake_set_option('lake', 'target_file_size', '{FILE_SIZE}')")
    con.execute("DETACH lake")
    making.rename(lake / CATALOG)


def lock(lake: Path) -> int:
    """Become the lake's only writer until the file handle given back is closed; LakeError where another is."""
    lake.mkdir(parents=True, exist_ok=True)
    handle = os.open(lake / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        msg = f"another process writes to the lake {lake}: one writer at a time"
        raise LakeError(msg) from None
    return handle


@dataclass(frozen=True, slots=True)
class Run:
    """A fresh start of a sink and what came of it: `seq` is the last epoch that the lake holds, 0 where none.

    `horizon_ns` is the newest record that the lake held before: later ones cannot supersede anything.
    """

    number: int
    seq: int
    horizon_ns: int


def new_run(con: duckdb.DuckDBPyConnection, sink: str) -> Run:
    """Begin a run, numbered from 1 in this lake; one of the same sink that published nothing is taken up."""
    row = con.execute("SELECT sink, run, max(seq) FROM lake.raw.progress GROUP BY ALL ORDER BY run DESC").fetchone()
    number = 1 if row is None else int(row[1]) + 1
    if row is not None and (row[0], row[2]) == (sink, 0):
        number -= 1
        con.execute("DELETE FROM lake.raw.progress WHERE run = ?", [number])
    horizon_ns = 0 if number == 1 else _newest_ns(con)
    con.execute("INSERT INTO lake.raw.progress VALUES (?, ?, 0, ?)", [sink, number, horizon_ns])
    return Run(number, 0, horizon_ns)


def _newest_ns(con: duckdb.DuckDBPyConnection) -> int:
    of_tables = [f"SELECT max(epoch_ns({day})) AS t FROM lake.raw.{table}" for table, day in DAY.items()]
    row = con.execute(f"SELECT coalesce(max(t), 0) FROM ({' UNION ALL '.join(of_tables)})").fetchone()
    return 0 if row is None else int(row[0])


def last_run(con: duckdb.DuckDBPyConnection, sink: str) -> Run | None:
    """Give a sink's newest run."""
    row = con.execute(
        "SELECT run, max(seq), max(horizon_ns) FROM lake.raw.progress WHERE sink = ? GROUP BY run ORDER BY run DESC",
        [sink],
    ).fetchone()
    return None if row is None else Run(*map(int, row))


def publish(con: duckdb.DuckDBPyConnection, sink: str, seq: int, tables: dict[str, pa.Table]) -> bool:
    """Insert rows of all tables and advance the newest run of the sink to epoch `seq`, in one transaction.

    Gives False, and changes nothing, where the lake already holds `seq`.
    """
    con.execute("BEGIN")
    try:
        run = last_run(con, sink)
        assert run is not None, f"{sink} has no run"
        if run.seq >= seq:
            con.execute("ROLLBACK")
            return False
        for table, rows in tables.items():
            names = ", ".join(f'"{name}"' for name in rows.schema.names)
            rank = precedence(table, run.number, run.horizon_ns)
            con.register("incoming", rows)
            con.execute(
                f"INSERT INTO lake.raw.{table} ({names}, {PRECEDENCE}) "
                f"SELECT {names}, {rank} FROM incoming ORDER BY {_order(table)}"
            )
            con.unregister("incoming")
        con.execute("INSERT INTO lake.raw.progress VALUES (?, ?, ?, ?)", [sink, run.number, seq, run.horizon_ns])
        con.execute("COMMIT")
    except duckdb.Error:
        con.execute("ROLLBACK")
        raise
    return True


def needs_compaction(con: duckdb.DuckDBPyConnection) -> bool:
    """Say whether COMPACT_EVERY publishes have come since the last time that this was so."""
    row = con.execute("SELECT count(*) FROM lake.raw.progress WHERE seq > 0").fetchone()
    return row is not None and row[0] > 0 and row[0] % COMPACT_EVERY == 0


def compact(con: duckdb.DuckDBPyConnection) -> None:
    """Join small files, forget snapshots older than a day and delete the files that nothing needs any more."""
    con.execute("CALL ducklake_flush_inlined_data('lake')")
    con.execute("CALL ducklake_merge_adjacent_files('lake')")
    old = f"now() - INTERVAL '{KEEP_SNAPSHOTS}'"
    con.execute(f"CALL ducklake_expire_snapshots('lake', older_than => {old})")
    con.execute(f"CALL ducklake_cleanup_old_files('lake', older_than => {old})")
    con.execute(f"CALL ducklake_delete_orphaned_files('lake', older_than => {old})")  # of publishes that were killed


_PASSES = ("disk I/O error", "disk is full")  # SQLite's words, where the disk of the catalog has no room


def _connect() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(config={**CONFIG})
    con.execute(f"SET allocator_flush_threshold = '{KEPT_MEMORY}'")
    _load(con, "sqlite_scanner")
    _load(con, "ducklake")
    return con


def _attach(
    con: duckdb.DuckDBPyConnection, catalog: Path, name: str, *, read_only: bool, encrypt: bool = False
) -> None:
    catalog = catalog.resolve()
    # The folder may have moved since: what the catalog holds is relative to the data path given here.
    options = [f"DATA_PATH {_text(catalog.parent / 'data')}", "OVERRIDE_DATA_PATH true"]
    options += ["READ_ONLY"] if read_only else ["META_BUSY_TIMEOUT 60000"]
    options += ["ENCRYPTED"] if encrypt else []
    try:
        con.execute(f"ATTACH {_text(f'ducklake:sqlite:{catalog}')} AS {name} ({', '.join(options)})")
    except duckdb.Error as error:
        if any(text in str(error) for text in _PASSES):
            raise  # as where it happens to a lake that is open: another start may find room
        msg = f"cannot open the lake {catalog.parent}: {str(error).splitlines()[0]}"
        raise LakeError(msg) from None
    if _encrypted(con, name):
        _load(con, "httpfs")  # its OpenSSL encrypts Parquet


def _load(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load a signed extension from its wheel: nothing is downloaded."""
    try:
        module = importlib.import_module(f"duckdb_extension_{name}")
    except ModuleNotFoundError:
        msg = f"the lake needs the package duckdb-extension-{name.replace('_', '-')} {duckdb.__version__}"
        raise LakeError(msg) from None
    assert module.__file__ is not None
    path = Path(module.__file__).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.is_file():
        msg = f"duckdb-extension-{name.replace('_', '-')} must be of duckdb's version {duckdb.__version__}; no {path}"
        raise LakeError(msg)
    con.execute(f"LOAD {_text(path)}")


def _encrypted(con: duckdb.DuckDBPyConnection, name: str = "lake") -> bool:
    row = con.execute(f"SELECT value FROM ducklake_options('{name}') WHERE option_name = 'encrypted'").fetchone()
    return row is not None and row[0] == "true"


def _make_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make the tables and columns that are missing."""
    rows = con.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'raw'"
    )
    found: dict[str, set[str]] = {}
    for table, column in rows.fetchall():
        found.setdefault(table, set()).add(column)
    for table, columns in TABLES.items():
        typed = {c.name: f'"{c.name}" {_SQL_TYPES[c.type]}' for c in columns} | {PRECEDENCE: f"{PRECEDENCE} BIGINT"}
        if table not in found:
            con.execute(f"CREATE TABLE lake.raw.{table} ({', '.join(typed.values())})")
            con.execute(f"ALTER TABLE lake.raw.{table} SET SORTED BY ({_order(table)})")
            if table in DAY:
                day = DAY[table]
                parts = f"year({day}), month({day}), day({day}), model"
                con.execute(f"ALTER TABLE lake.raw.{table} SET PARTITIONED BY ({parts})")
        for name in typed.keys() - found.get(table, typed.keys()):
            con.execute(f"ALTER TABLE lake.raw.{table} ADD COLUMN {typed[name]}")


def _make_views(con: duckdb.DuckDBPyConnection) -> None:
    """Keep the lake's views equal to this version's; they are in the lake, so that any DuckDB client has them."""
    rows = con.execute("SELECT view_name, comment FROM duckdb_views() WHERE database_name = 'lake' AND NOT internal")
    found = dict(rows.fetchall())
    for view in views():
        text = f"{view.about}\n{view.sql}"  # DuckDB rewrites a view's SQL; its comment stays as it is
        if found.get(view.name) != text:
            con.execute(f"CREATE OR REPLACE VIEW lake.main.{view.name} AS {view.sql}")
            con.execute(f"COMMENT ON VIEW lake.main.{view.name} IS {_text(text)}")


def _order(table: str) -> str:
    """One vehicle's rows lie together: what is asked most."""
    return f"pack_id, {DAY[table]}" if table in DAY else "pack_id, id"


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
