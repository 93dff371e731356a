"""Which records of a lake are not what a run over all frames says, and how they are corrected: by revisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from schemas.checked import ConfigError
from schemas.tables import KEYS, TABLES
from sinks import ducklake

_MADE_BY = {"pack_file", "code_version", "params", "models"}
# Where a record begins and ends: what overlaps the span is corrected.
_TIMES = {
    "windows": ("start_ns", "end_ns"),
    "states": ("t_ns", "t_ns"),
    "sessions": ("start_ns", "end_ns"),
    "incidents": ("opened_ns", "updated_ns"),
    "gaps": ("from_ns", "to_ns"),
    "frames": ("t_ns", "t_ns"),
}
CORRECTED = tuple(_TIMES)
_MANY = ("windows", "states", "frames")  # no other record can have the key of one outside the span
_NOT_SAID = {"frames": {"lane", "recv_ns"}}  # how a record came
_WITHDRAW = {
    "states": "true AS withdrawn",
    "sessions": "true AS withdrawn",
    "incidents": "true AS withdrawn, 'clear' AS status",
    "gaps": "0::BIGINT AS missing",  # filled
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of event time, `end_ns` exclusive."""

    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Correction:
    """What becomes of one table's records: `rows` are to be written."""

    equal: int
    corrected: int
    new: int
    withdrawn: int
    rows: pa.Table


def within(table: str, rows: pa.Table, span: Span) -> pa.Table:
    """Give the rows that may correct something: of windows, states and frames those that overlap the span."""
    if table not in _MANY:
        return rows
    begin, end = (pc.cast(rows[name], pa.int64()) for name in _TIMES[table])
    return rows.filter(pc.and_(pc.less(begin, span.end_ns), pc.greater_equal(end, span.begin_ns)))


def find(con: duckdb.DuckDBPyConnection, pack: str, span: Span, fresh: dict[str, pa.Table]) -> dict[str, Correction]:
    """Compare what a run over all kept frames of a pack says with the lake.

    `fresh` has a column `at_end`: true for records that only the end of the frames closed.  Those, and what they
    overlap, are left alone unless the lake's own run has ended there too.  Raises ConfigError where windows of the
    span hold frames that were not kept.
    """
    for table in CORRECTED:
        rows = fresh.get(table)
        con.execute(f"DROP TABLE IF EXISTS temp.main.fresh_{table}")
        columns = ", ".join(f'"{c.name}"' for c in TABLES[table])
        if rows is None:
            con.execute(
                f"CREATE TEMP TABLE fresh_{table} AS SELECT {columns}, false AS at_end FROM raw.{table} LIMIT 0"
            )
        else:
            con.register("given", rows)
            newest = f"row_number() OVER (PARTITION BY {', '.join(KEYS[table])} ORDER BY revision DESC) = 1"
            con.execute(f"CREATE TEMP TABLE fresh_{table} AS SELECT {columns}, at_end FROM given QUALIFY {newest}")
            con.unregister("given")
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE held_{table} AS SELECT {columns} FROM {table} "
            f"WHERE pack_id = ? AND {_final(table)} AND {'true' if table not in _MANY else _overlaps(table, span)}",
            [pack],
        )
    _check_kept(con, pack)
    ended = _one(
        con, "SELECT count(*) FROM fresh_windows AS f SEMI JOIN held_windows USING (pack_hash, start_ns) WHERE f.at_end"
    )
    at_end = _one(con, "SELECT min(epoch_ns(start_ns)) FROM fresh_sessions WHERE at_end")
    open_ns = span.end_ns if ended or at_end is None else int(at_end)
    con.execute(
        "UPDATE fresh_incidents AS f SET id = h.id FROM held_incidents AS h "
        "WHERE f.opened_ns = h.opened_ns AND f.kind = h.kind AND f.subject = h.subject"
    )
    return {table: _compare(con, table, pack, span, ended=bool(ended), open_ns=open_ns) for table in CORRECTED}


def _check_kept(con: duckdb.DuckDBPyConnection, pack: str) -> None:
    row = con.execute(
        """SELECT count(*), min(h.start_ns), max(h.end_ns) FROM held_windows AS h
        LEFT JOIN fresh_windows AS f USING (pack_hash, start_ns) WHERE h.frames > coalesce(f.frames, 0)"""
    ).fetchone()
    assert row is not None
    if row[0]:
        msg = (
            f"all frames of {pack} between --from and --to must be kept; {row[0]} windows from {row[1]} to {row[2]} "
            "hold more than the lake keeps ([fleet] keep_frames = true keeps them)"
        )
        raise ConfigError(msg)


def _compare(
    con: duckdb.DuckDBPyConnection, table: str, pack: str, span: Span, *, ended: bool, open_ns: int
) -> Correction:
    keys = ", ".join(KEYS[table])
    names = [c.name for c in TABLES[table]]
    said = [n for n in names if n not in _MADE_BY | {"revision", "provisional"} | _NOT_SAID.get(table, set())]
    told = ", ".join(_STANDS if n == "status" else f'"{n}"' for n in said)
    same = " AND ".join(f"h.{k} = f.{k}" for k in KEYS[table])
    of_span = f"({_overlaps(table, span, 'f.')} OR {_overlaps(table, span, 'h.')})"
    closed = "true" if ended else f"(NOT f.at_end OR h.{KEYS[table][0]} IS NOT NULL)"
    last = (
        f"SELECT {keys}, max(coalesce(revision, 0)) AS last_revision FROM raw.{table} "
        f"WHERE pack_id = ? AND {_final(table)} GROUP BY {keys}"
    )
    both = f"fresh_{table} AS f LEFT JOIN held_{table} AS h ON {same}"
    changed = f"SELECT {told} FROM fresh_{table} EXCEPT SELECT {told} FROM held_{table}"
    count = _one(con, f"SELECT count(*) FROM {both} WHERE {of_span} AND {closed}")
    rows = con.execute(
        f"""SELECT f.* EXCLUDE (at_end) REPLACE ({_REPLACED.get(table, "")}
            coalesce(last_revision, 0)::INTEGER + 1 AS revision), h.{KEYS[table][0]} IS NULL AS is_new
        FROM {both} LEFT JOIN ({last}) AS l ON {same.replace("h.", "l.")}
        SEMI JOIN ({changed}) AS c ON {same.replace("h.", "c.")}
        WHERE {of_span} AND {closed}""",
        [pack],
    ).to_arrow_table()
    gone = rows.slice(0, 0)
    if table in _WITHDRAW:
        stands = {"gaps": "h.missing <> 0", "sessions": f"epoch_ns(h.end_ns) < {open_ns}"}.get(table, "true")
        gone = con.execute(
            f"""SELECT h.* REPLACE ({_WITHDRAW[table]}, last_revision::INTEGER + 1 AS revision), false AS is_new
            FROM held_{table} AS h ANTI JOIN fresh_{table} AS f ON {same}
            LEFT JOIN ({last}) AS l ON {same.replace("f.", "l.")}
            WHERE {_overlaps(table, span, "h.")} AND {stands}""",
            [pack],
        ).to_arrow_table()
    new = int(pc.sum(rows["is_new"]).as_py() or 0)
    whole = pa.concat_tables([rows, gone], promote_options="permissive").drop_columns(["is_new"])
    return Correction(count - len(rows), len(rows) - new, new, len(gone), whole)


# An incident that was raised is not raised again; whether the newest revision raised it says nothing of it.
_STANDS = "CASE status WHEN 'update' THEN 'open' ELSE status END AS status"
_REPLACED = {
    "incidents": "CASE WHEN h.id IS NOT NULL AND f.status = 'open' THEN 'update' ELSE f.status END AS status,",
    "frames": "coalesce(h.lane, 1)::TINYINT AS lane, coalesce(h.recv_ns, make_timestamp_ns(0)) AS recv_ns,",
}


def publish(con: duckdb.DuckDBPyConnection, pack: str, found: dict[str, Correction]) -> None:
    """Write all corrections in one transaction."""
    tables = {table: one.rows for table, one in found.items() if len(one.rows)}
    if tables:
        name = f"repair-{pack}"
        ducklake.new_run(con, name)
        ducklake.publish(con, name, 1, tables)


def _final(table: str) -> str:
    return "NOT coalesce(provisional, false)" if any(c.name == "provisional" for c in TABLES[table]) else "true"


def _overlaps(table: str, span: Span, of: str = "") -> str:
    begin, end = _TIMES[table]
    return f"(epoch_ns({of}{begin}) < {span.end_ns} AND epoch_ns({of}{end}) >= {span.begin_ns})"


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> Any:  # noqa: ANN401 - a value of SQL
    row = con.execute(sql).fetchone()
    assert row is not None
    return row[0]
