"""Read the recordings that packs are fitted to; current + into the battery, columns float64."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from replay.fit.rc import Floats


def columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read columns of a Parquet file as numpy arrays: text stays text, numbers become float64, null is NaN."""
    table = pq.read_table(path, columns=list(names))
    return {name: _numbers(table[name].to_numpy()) for name in names}


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
