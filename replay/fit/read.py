"""Read the recordings that packs are fitted to; current + into the battery, columns float64."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from replay.fit.rc import Floats
from replay.tabular import open_table
from schemas.checked import ConfigError


def columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read columns of a Parquet file as numpy arrays: text stays text, numbers become float64, null is NaN."""
    table = pq.read_table(path, columns=list(names))
    return {name: _numbers(table[name].to_numpy()) for name in names}


def of_folder(
    folder: Path, names: Sequence[str], text: Sequence[str] = (), notes: list[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Read columns as `columns` does of every Parquet and CSV file of a folder that has all of them, by file name.

    Those of `text` are text; a file in which another one is no number is left out and told in `notes`, once.  Raises
    ConfigError where no file is left.
    """
    found: list[pa.Table] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            given = open_table(path)
            if set(names) <= set(given.names):
                found.append(_typed(path, given.delimiter, names, text))
        except ConfigError as wrong:
            note = f"{path.parent.name}/{path.name}: left out, {wrong}"
            if notes is not None and path.suffix != ".md" and note not in notes:
                notes.append(note)
    if not found:
        msg = f"a Parquet or CSV file with the columns {', '.join(names)} must be in {folder}; got none"
        raise ConfigError(msg)
    table = pa.concat_tables(found)
    return {name: _numbers(table[name].to_numpy()) for name in names}


def _typed(path: Path, delimiter: str, names: Sequence[str], text: Sequence[str]) -> pa.Table:
    """Read columns as text or float64, rows whose text is missing left out; raises ConfigError."""
    try:
        if delimiter:
            parse = pa_csv.ParseOptions(delimiter=delimiter)
            convert = pa_csv.ConvertOptions(include_columns=list(names), column_types=dict.fromkeys(text, pa.string()))
            table = pa_csv.read_csv(path, parse_options=parse, convert_options=convert)
        else:
            table = pq.read_table(path, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        msg = f"it must be readable; got {str(error).splitlines()[0]}"
        raise ConfigError(msg) from None
    for name in names:
        wanted = pa.string() if name in text else pa.float64()
        try:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(wanted))
        except pa.ArrowException:
            kind = "text" if name in text else "numbers"
            msg = f"column {name} must be {kind}; got {table.schema.field(name).type}"
            raise ConfigError(msg) from None
    told = [pc.is_valid(table[name]) for name in text]
    return table.filter(reduce(pc.and_, told)) if told else table


def _numbers(column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind == "M":
        return column.astype("datetime64[ns]").astype(np.int64) / 1e9
    return column if column.dtype.kind in "OUS" else column.astype(np.float64)


def charge_ah(t_s: Floats, current_a: Floats) -> Floats:
    """Integrate current from the first row: (N,) Ah; a value holds back to the row before it."""
    return np.asarray(np.cumsum(current_a * np.diff(t_s, prepend=t_s[0])) / 3600)


def stretches(t_s: Floats, longest_s: float) -> list[slice]:
    """Cut at gaps longer than `longest_s` and at time going back."""
    dt = np.diff(t_s)
    edges = [0, *(np.flatnonzero((dt > longest_s) | (dt < 0)) + 1).tolist(), t_s.size]
    return [slice(a, b) for a, b in pairwise(edges)]
