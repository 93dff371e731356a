"""A pack model as the estimator's loops read it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.kernels import ocv
from schemas.pack import PackModel

_PLATEAU_V = 0.1  # V per unit SOC (1 mV/%)


class Cell(NamedTuple):
    """What the loops need of a pack model beside its tables."""

    cells: int
    capacity_ah: float
    fade: float  # of the capacity against the pack file's, in proportion, standard deviation
    hysteresis_v: float
    sum_offset_v: float  # per cell group
    borrowed: float  # 1 where the OCV table was measured on another kind of cell, else 0
    plateau: float  # 1 where OCV is all but flat over part of the SOC, else 0
    v_min: float
    v_max: float
    charge_max_a: float
    discharge_max_a: float


class Parameters(NamedTuple):
    """A pack model as the loops read it."""

    table: NDArray[np.float64]  # as ocv.table
    r_to: NDArray[np.float64]  # as ocv.resistance_to
    tau_s: NDArray[np.float64]  # (BRANCHES,)
    charge_share: NDArray[np.float64]  # (K,) as power.derating
    discharge_share: NDArray[np.float64]
    cell: Cell


@lru_cache(maxsize=256)
def parameters(pack: PackModel) -> Parameters:
    """Prepare a pack model, once; raises ValueError where it has more RC branches than the filter."""
    grid = pack.grid()
    at_c = np.arange(-60.0, 101.0)
    return Parameters(
        ocv.table(grid),
        ocv.resistance_to(grid),
        ocv.time_constants(grid),
        np.interp(at_c, pack.derating.temp_c, pack.derating.charge),
        np.interp(at_c, pack.derating.temp_c, pack.derating.discharge),
        Cell(
            cells=pack.series,
            capacity_ah=float(pack.usable_ah),
            fade=float(pack.capacity_std),
            hysteresis_v=float(pack.hysteresis_v),
            sum_offset_v=pack.sum_offset_v / pack.series,
            borrowed=float(pack.ocv_source == "borrowed"),
            plateau=float(grid.docv.min() < _PLATEAU_V),
            v_min=_cell_limit(pack, over=False),
            v_max=_cell_limit(pack, over=True),
            charge_max_a=float(pack.charge_max_a),
            discharge_max_a=float(pack.discharge_max_a),
        ),
    )


def _cell_limit(pack: PackModel, *, over: bool) -> float:
    """Give the innermost cell voltage limit; the end of the OCV table where the pack file has none."""
    bounds = [row.bound for row in pack.limits if row.quantity == "cell_v" and row.over == over]
    bounds = bounds or [float(pack.ocv.v.max() if over else pack.ocv.v.min())]
    return min(bounds) if over else max(bounds)
