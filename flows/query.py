"""What an analyst asks: SQL on a lake, printed as a table, CSV or JSON, or written as Parquet."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import BinaryIO, TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import TABLES
from sinks import ducklake
from sinks.views import views

_ROWS = 1000  # at a time
_SHOWN = 200  # rows of a table; the other formats give all
_FILE_WIDTH = 200  # columns of text where nobody's terminal says


class QueryError(ValueError):
    """SQL that the lake cannot answer, or a format that does not exist; the message is one line."""


def run_query(lake: Path, sql: str | None, fmt: str, out: TextIO | Path) -> None:
    """Answer `sql` from the lake as table, csv, json or parquet; without SQL, list what can be asked.

    The lake is only read, also while a flow writes it.  JSON is one array of objects, times as in SQL, UTC.
    Raises LakeError where there is no lake, QueryError with what is wrong in one line.
    """
    if fmt not in _WRITERS:
        msg = f"--format must be one of {', '.join(_WRITERS)}; got {fmt}"
        raise QueryError(msg)
    with ducklake.attach(lake) as con, _opened(out, binary=fmt == "parquet") as file:
        try:
            if sql is None and fmt == "table":
                _list(con, file)
                return
            answer = con.sql(_columns(con) if sql is None else sql)
            if answer is not None:  # a statement without rows
                _WRITERS[fmt](answer, file)
        except duckdb.Error as error:
            raise QueryError(_one_line(error)) from None


@contextmanager
def _opened(out: TextIO | Path, *, binary: bool) -> Iterator[TextIO]:
    if not isinstance(out, Path):
        if binary and out.isatty():
            msg = "parquet is no text: give --out FILE or redirect the output"
            raise QueryError(msg)
        yield out
    elif binary:
        with out.open("wb") as raw, io.TextIOWrapper(raw) as file:
            yield file
    else:
        with out.open("w", encoding="utf-8", newline="") as file:
            yield file


def _table(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    width = shutil.get_terminal_size((_FILE_WIDTH, 0)).columns if out.isatty() else _FILE_WIDTH
    with redirect_stdout(out):
        answer.show(max_width=width, max_rows=_SHOWN)


def _csv(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(answer.columns)
    texts = answer.project("COLUMNS(*)::VARCHAR")  # DuckDB's own text: nanoseconds and lists stay whole
    while rows := texts.fetchmany(_ROWS):
        writer.writerows(rows)


def _json(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    names = ", ".join(_json_value(name, kind) for name, kind in zip(answer.columns, answer.types, strict=True))
    objects = answer.project(f"to_json(struct_pack({names}))::VARCHAR")
    mark = "[\n"
    while rows := objects.fetchmany(_ROWS):
        for row in rows:
            out.write(mark + row[0])
            mark = ",\n"
    out.write("[]\n" if mark == "[\n" else "\n]\n")


def _json_value(name: str, kind: object) -> str:
    """Quote a column for struct_pack; floats by their shortest text, and JSON knows no NaN or infinity."""
    column = '"' + name.replace('"', '""') + '"'
    number = "CASE WHEN isfinite({x}) THEN {x}::VARCHAR::JSON END"
    if str(kind) in {"FLOAT", "DOUBLE"}:
        return f"{column} := {number.format(x=column)}"
    if str(kind) in {"FLOAT[]", "DOUBLE[]"}:
        return f"{column} := list_transform({column}, lambda x: {number.format(x='x')})"
    return f"{column} := {column}"


def _parquet(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    raw: BinaryIO = out.buffer  # what a TextIO of a file or of standard output has
    reader: pa.RecordBatchReader = answer.to_arrow_reader(1 << 17)
    with pq.ParquetWriter(raw, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


_WRITERS: dict[str, Callable[[duckdb.DuckDBPyRelation, TextIO], None]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}


def _columns(con: duckdb.DuckDBPyConnection) -> str:
    """Give the SQL that lists every column of every view, with its meaning."""
    meanings = pa.table(
        {
            "view_name": [table for table, columns in TABLES.items() for _ in columns],
            "column_name": [c.name for columns in TABLES.values() for c in columns],
            "meaning": [c.meaning for columns in TABLES.values() for c in columns],
        }
    )
    con.register("meanings", meanings)
    order = ", ".join(f"'{view.name}'" for view in views())
    return f"""
        SELECT table_name AS view_name, column_name, data_type, meaning, split_part(comment, chr(10), 1) AS about
        FROM (SELECT * EXCLUDE (comment) FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'main')
        JOIN (SELECT view_name AS table_name, comment FROM duckdb_views() WHERE database_name = 'lake')
            USING (table_name)
        LEFT JOIN (SELECT view_name AS table_name, column_name, meaning FROM temp.main.meanings)
            USING (table_name, column_name)
        ORDER BY list_position([{order}], table_name) NULLS LAST, table_name, column_index"""


def _list(con: duckdb.DuckDBPyConnection, out: TextIO) -> None:
    """Print each view with what it answers, an example and its columns."""
    shown = ""
    for view, column, kind, meaning, about in con.sql(_columns(con)).fetchall():
        if view != shown:
            answers, _, example = (about or "").partition("Example: ")
            out.write(f'\n{view}: {answers.strip()}\n    ibms query "{example}"\n')
            shown = view
        out.write(f"        {column:<24}{kind:<14}{meaning or ''}".rstrip() + "\n")


def _one_line(error: duckdb.Error) -> str:
    """Leave out the SQL that DuckDB repeats below its message."""
    return " ".join(str(error).partition("\n\nLINE")[0].split())
