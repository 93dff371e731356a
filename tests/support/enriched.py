"""Frames as diagnose gets them, and what its detectors said."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels.findings import Found
from operators.kernels.kinds import KINDS
from schemas.frames import FrameBlock
from tests.support.frames import estimated, frames

DERIVED = ("quality", "z_med", "d_soc", "d_r0", "d_q", "d_soc_std", "d_r0_std", "d_q_std", "r0_ohm")


def enriched(t_s: Any, *, cells: int = 16, probes: int = 4, **columns: Any) -> FrameBlock:
    """Make frames `t_s` seconds after T0 with quiet estimates; scalars and rows are broadcast.

    `columns` are those of `frames`, and DERIVED.
    """
    t = np.asarray(t_s, np.float64)
    n = t.size
    pack = np.asarray(columns.pop("pack", np.zeros(n)), np.int32)
    dt_s = np.full(n, np.nan)
    for p in np.unique(pack):
        rows = np.flatnonzero(pack == p)
        dt_s[rows[1:]] = np.diff(t[rows])
    given = {name: columns.pop(name) for name in DERIVED if name in columns}
    if "lane" in columns:
        columns["lane"] = np.array(np.broadcast_to(columns["lane"], n))
    cell_v = np.array(np.broadcast_to(np.asarray(columns.pop("cell_v", 3.7), np.float32), (n, cells)))
    with warnings.catch_warnings():  # frames without any cell are a case
        warnings.simplefilter("ignore", RuntimeWarning)
        block = estimated(
            frames(t.tolist(), pack=pack, cells=cells, probes=probes, cell_v=cell_v, **columns),
            dt_s=dt_s,
            v_med=_median(cell_v),
            d_soc_std=np.full(n, 1e-3, np.float32),
            d_r0_std=np.full(n, 0.02, np.float32),
            d_q_std=np.full(n, 5e-3, np.float32),
        )
    old = block.derived
    return block.with_derived(
        **{k: np.array(np.broadcast_to(np.asarray(v, old[k].dtype), old[k].shape)) for k, v in given.items()}
    )


def _median(v: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the lower median of each row without its NaNs."""
    ordered = np.sort(v, axis=1)  # NaN last
    valid = np.isfinite(v).sum(axis=1)
    at = np.maximum((valid + 1) // 2 - 1, 0)
    return np.where(valid > 0, ordered[np.arange(len(v)), at], np.nan).astype(np.float32)


def said(found: Found) -> list[tuple[int, str, int, int]]:
    """Give findings as (row, kind, subject, level)."""
    return [(int(r[0]), KINDS[int(r[1])].name, int(r[3]), int(r[4])) for r in found[0]]
