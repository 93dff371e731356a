"""Rows of a Parquet or CSV file, batch by batch, as far as they can be read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from replay.chunks import byte_chunks
from schemas.checked import ConfigError, shown

ROWS = 16_384  # of a batch
PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_BLOCK = 4 << 20  # bytes of CSV read at once; a longer line cannot be read
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_BROKEN = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table that was opened: its columns by name; `types` is empty for CSV, whose columns are text."""

    path: Path
    names: tuple[str, ...]
    types: dict[str, pa.DataType]
    delimiter: str  # "" for Parquet

    def check(self, columns: Sequence[str]) -> None:
        """Refuse columns that are there twice, or hold neither numbers, text nor times."""
        for name in columns:
            if self.names.count(name) > 1:
                msg = f"column {name} must be there once; {self.path} has it {self.names.count(name)} times"
                raise ConfigError(msg)
            kind = self.types.get(name, pa.string())
            if pa.types.is_nested(kind):
                msg = f"column {name} must hold numbers, text or times; got {kind!s:.80} ({self.path})"
                raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that were read: `rows` (N,) are their numbers in the file, from 0."""

    rows: NDArray[np.int64]
    batch: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class BadPart:
    """What could not be read, from row `row` on."""

    row: int
    payload: bytes
    detail: str


def open_table(path: str | Path) -> TableFile:
    """Open a Parquet or CSV file (CSV also .gz); raises ConfigError where it is neither."""
    path = Path(path)
    name = path.name.lower()
    try:
        if name.endswith(PARQUET):
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
            return TableFile(path, tuple(schema.names), dict(zip(schema.names, schema.types, strict=True)), "")
        if name.endswith(CSV):
            delimiter = _delimiter(path)
            with _open_csv(_input(path), delimiter, None, []) as stream:
                return TableFile(path, tuple(stream.schema.names), {}, delimiter)
    except _BROKEN as bad:
        msg = f"table must be readable Parquet or CSV; got {' '.join(str(bad).split())[:200]} ({path})"
        raise ConfigError(msg) from None
    msg = f"table must end in one of {', '.join((*PARQUET, *CSV))}; got {shown(path.name)}"
    raise ConfigError(msg)


def batches(
    table: TableFile, columns: Sequence[str], begin: int = 0, end: int | None = None, rows: int = ROWS
) -> Iterator[Part | BadPart]:
    """Read columns of the rows begin..end, in batches of about `rows`; never the whole file at once.

    A row group or a line that is damaged is a BadPart, and reading goes on behind it where that is possible.
    """
    wanted = list(dict.fromkeys(columns))
    found = _csv_parts(table, wanted) if table.delimiter else _parquet_parts(table, wanted, begin, end, rows)
    for part in found:
        if isinstance(part, BadPart):
            if begin <= part.row and (end is None or part.row < end):
                yield part
            continue
        inside = (part.rows >= begin) & (part.rows < (2**63 - 1 if end is None else end))
        if inside.all():
            yield part
        elif inside.any():
            a, b = np.flatnonzero(inside)[[0, -1]].tolist()
            yield Part(part.rows[a : b + 1], part.batch.slice(a, b + 1 - a))


def _parquet_parts(
    table: TableFile, columns: list[str], begin: int, end: int | None, rows: int
) -> Iterator[Part | BadPart]:
    with pq.ParquetFile(table.path, pre_buffer=False) as file:
        first = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            row, first = first, first + size
            if first <= begin or (end is not None and row >= end):
                continue
            try:
                for batch in file.iter_batches(rows, [group], columns, use_threads=False):
                    batch.validate(full=True)
                    yield Part(np.arange(row, row + batch.num_rows), batch)
                    row += batch.num_rows
            except _BROKEN as bad:
                yield BadPart(row, b"", f"rows {row}..{first - 1} are damaged: {' '.join(str(bad).split())[:200]}")


def _delimiter(path: Path) -> str:
    """Say what separates the header's columns: the commonest of comma, semicolon and tab."""
    with pa.input_stream(str(path), compression="detect") as file:
        header = bytes(file.read(1 << 16)).split(b"\n", 1)[0]
    return max(",;\t", key=lambda c: header.count(c.encode()))


class _Unpacked(io.RawIOBase):
    """The whole lines of a .gz, as far as it can be unpacked; `damage` then says what is wrong."""

    def __init__(self, path: Path) -> None:
        self.damage = ""
        self._lines = self._whole_lines(path)
        self._rest = b""

    def _whole_lines(self, path: Path) -> Iterator[bytes]:
        begun = b""  # a line whose end has not come yet; where it never comes, what is there is no row
        for chunk in byte_chunks(path, _BLOCK):
            if isinstance(chunk, str):
                self.damage = chunk
                return
            lines, end, begun = (begun + chunk).rpartition(b"\n")
            yield lines + end
        yield begun

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:  # noqa: ANN401 - a writable buffer
        while not self._rest:
            more = next(self._lines, None)
            if more is None:
                return 0
            self._rest = more
        n = min(len(into), len(self._rest))
        into[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


def _open_csv(
    path: Path | _Unpacked, delimiter: str, columns: list[str] | None, bad: list[pa_csv.InvalidRow]
) -> pa_csv.CSVStreamingReader:
    def keep(row: pa_csv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    return pa_csv.open_csv(
        path if isinstance(path, Path) else pa.PythonFile(path, mode="r"),
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=keep, ignore_empty_lines=True),
        convert_options=pa_csv.ConvertOptions(
            include_columns=columns or [],
            column_types=dict.fromkeys(columns or [], pa.binary()),
            strings_can_be_null=True,
        ),
    )


def _input(path: Path) -> Path | _Unpacked:
    """Unpack .gz by ourselves: pyarrow reads ahead, and loses at a damaged end what it has read before."""
    return _Unpacked(path) if path.suffix.lower() == ".gz" else path


def _csv_parts(table: TableFile, columns: list[str]) -> Iterator[Part | BadPart]:
    bad: list[pa_csv.InvalidRow] = []
    told = 0
    row = 0
    lost: set[int] = set()
    source = _input(table.path)
    with _open_csv(source, table.delimiter, columns, bad) as stream:
        while True:
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                batch = None
            except _BROKEN as broken:
                yield BadPart(row, b"", f"nothing can be read from row {row} on: {' '.join(str(broken).split())[:200]}")
                return
            for line in bad[told:]:
                lost.add(line.number - 2)  # counted from 1, and the header is a line
                detail = f"row must have {line.expected_columns} columns; got {line.actual_columns}"
                yield BadPart(line.number - 2, line.text.encode(errors="replace"), detail)
            told = len(bad)
            if batch is None:
                if isinstance(source, _Unpacked) and source.damage:
                    yield BadPart(row, b"", f"nothing can be read from row {row} on: {source.damage}")
                return
            numbers = np.arange(row, row + batch.num_rows + len(lost))
            numbers = numbers[~np.isin(numbers, list(lost))][: batch.num_rows]
            if numbers.size:
                row = int(numbers[-1]) + 1
                yield Part(numbers, batch)


def numbers(column: pa.Array) -> NDArray[np.float64]:
    """Give a column as float64 (N,); what is no number is NaN."""
    column = plain(column)
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_temporal(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_string(kind):
        column = pc.utf8_trim_whitespace(column)
        try:
            column = column.cast(pa.float64())
        except pa.ArrowInvalid:
            column = pc.if_else(pc.match_substring_regex(column, _NUMBER), column, None).cast(pa.float64())
    return np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def texts(column: pa.Array) -> tuple[NDArray[np.int32], list[str]]:
    """Give a column as codes (N,) into a list of texts; nothing is ""."""
    column = plain(column)
    try:
        column = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column = pa.array(["" if v is None else str(v) for v in column.to_pylist()], pa.string())
    encoded = column.fill_null("").dictionary_encode()
    return np.array(encoded.indices, np.int32), encoded.dictionary.to_pylist()


def plain(column: pa.Array) -> pa.Array:
    """Give a column without dictionary, text in any form as pa.string()."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        try:
            return column.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            return pa.array(
                [None if v is None else v.decode(errors="replace") for v in column.to_pylist()], pa.string()
            )
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    return column


def row_of(batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    """Give one row's values by column, bytes as text."""
    values: dict[str, Any] = batch.slice(row, 1).to_pylist()[0]
    return {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in values.items()}
