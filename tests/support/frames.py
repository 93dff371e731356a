"""Blocks for tests: frames of one or more packs, with the columns that later steps expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import power
from schemas.frames import FrameBlock, make_block
from schemas.ids import hash64

T0_NS = 1_767_571_200 * 10**9  # 2026-01-05T00:00Z
NS = 10**9


def frames(
    t_s: Any,
    current_a: Any = 0.0,
    *,
    cell_v: Any = 3.7,
    pack_v: Any = None,
    temp_c: Any = 25.0,
    cells: int = 4,
    probes: int = 2,
    pack: Any = None,
    names: Sequence[str] = ("A",),
    model: str = "generic-nmc@4c2t60ah",
    context: Mapping[str, NDArray[Any]] | None = None,
    **more: Any,
) -> FrameBlock:
    """Make frames at `t_s` seconds after T0; scalars are broadcast."""
    n = len(t_s)
    v = np.broadcast_to(np.asarray(cell_v, np.float32).reshape(-1, 1) if np.ndim(cell_v) == 1 else cell_v, (n, cells))
    return make_block(
        model,
        names,
        pack=np.zeros(n, np.int32) if pack is None else pack,
        t_ns=T0_NS + (np.asarray(t_s, np.float64) * NS).astype(np.int64),
        seq=more.pop("seq", np.arange(n)),
        current_a=np.broadcast_to(np.asarray(current_a, np.float32), n),
        pack_v=v.sum(axis=1) if pack_v is None else np.broadcast_to(np.asarray(pack_v, np.float32), n),
        cell_v=np.array(v, np.float32),
        temp_c=np.array(np.broadcast_to(np.asarray(temp_c, np.float32), (n, probes))),
        context=context,
        **more,
    )


def estimated(block: FrameBlock, **columns: Any) -> FrameBlock:
    """Add the derived columns of clean and estimate: quiet ones, unless given."""
    n, c = len(block), block.cells
    f4 = np.float32
    slot = block.pack.astype(np.int32)
    quiet: dict[str, Any] = {
        "slot": slot,
        "pack_hash": np.array([hash64(p) for p in block.packs], np.int64)[block.pack],
        "dt_s": np.ones(n),
        "quality": np.zeros(n, np.uint32),
        "cells_ok": (~np.isnan(block.cell_v)).sum(axis=1).astype(np.int16),
        "soc": np.full(n, 0.5),
        "soc_std": np.full(n, 0.02, f4),
        "soc_source": np.zeros(n, np.int8),
        "z_med": np.full(n, 0.5),
        "v_med": np.nanmedian(block.cell_v, axis=1).astype(f4) if c and n else np.full(n, np.nan, f4),
        "innov_v": np.zeros(n, f4),
        "innov_std_v": np.full(n, 0.01, f4),
        "d_soc": np.zeros((n, c), f4),
        "d_r0": np.zeros((n, c), f4),
        "d_q": np.zeros((n, c), f4),
        "resid_v": np.zeros((n, c), f4),
        "d_soc_std": np.full(n, 0.005, f4),
        "d_r0_std": np.full(n, 0.05, f4),
        "d_q_std": np.full(n, 0.05, f4),
        "r0_ohm": np.full(n, 1.0e-3, f4),
        "capacity_ah": np.full(n, 60.0, f4),
        "capacity_std_ah": np.full(n, 1.0, f4),
        "r0_std_ohm": np.full(n, 1.0e-4, f4),
        "q_med_ah": np.full(n, 60.0, f4),
        "soe_kwh": np.full(n, 6.0, f4),
        "current_offset_a": np.zeros(n, f4),
        "current_offset_std_a": np.full(n, 0.1, f4),
        "soe_std_kwh": np.full(n, 0.1, f4),
        **{name: np.full(n, 1e5 if "discharge" in name else 5e4, f4) for name in (*power.NAMES, *power.STD_NAMES)},
        **dict.fromkeys(power.LIMIT_NAMES, np.zeros(n, np.int8)),
        **dict.fromkeys(("sop_discharge_cell", "sop_charge_cell"), np.zeros(n, np.int16)),
        "soc_low_cell": np.zeros(n, np.int16),
        "soc_high_cell": np.zeros(n, np.int16),
    }
    return block.with_derived(**(quiet | columns))
