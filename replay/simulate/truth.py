"""The truth beside simulated frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What was really so, row by row beside a block.

    soc is that of the usable pack, min zQ / (min zQ + min (1−z)Q); soc_low and soc_high are of the emptiest and
    the fullest group; capacity_ah is the usable pack's; r0_ohm the mean over groups; current_a without sensor
    error; temp_max_c of the hottest group.  fault has bit k set where the k-th of faults.KINDS acts on the row.
    The columns per cell group, (N, C), are None unless asked for.
    """

    soc: NDArray[np.float64]
    soc_low: NDArray[np.float64]
    soc_high: NDArray[np.float64]
    capacity_ah: NDArray[np.float64]
    r0_ohm: NDArray[np.float64]
    current_a: NDArray[np.float64]
    temp_max_c: NDArray[np.float64]
    fault: NDArray[np.uint32]
    soc_cell: NDArray[np.float32] | None = None
    r0_cell_ohm: NDArray[np.float32] | None = None
    capacity_cell_ah: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """N."""
        return self.soc.size

    def take(self, rows: NDArray[np.integer[Any]] | slice) -> Truth:
        """Give the rows in that order."""
        columns: dict[str, Any] = {k: v if v is None else v[rows] for k, v in _columns(self).items()}
        return Truth(**columns)


def _columns(truth: Truth) -> dict[str, Any]:
    return {f.name: getattr(truth, f.name) for f in fields(truth)}


def join(parts: Sequence[Truth]) -> Truth:
    """Put truths one behind the other."""
    rows = [_columns(p) for p in parts]
    whole: dict[str, Any] = {k: v if v is None else np.concatenate([r[k] for r in rows]) for k, v in rows[0].items()}
    return Truth(**whole)
