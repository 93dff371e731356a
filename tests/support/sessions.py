"""Sessions as the prognostics flow gets them: charges of a pack of known capacity, unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.session_step import SESSIONS
from schemas.events import Rows
from tests.support.frames import NS, T0_NS

MODEL = "generic-nmc@96c2t60ah"
CELLS = 96
NEW_AH = 60.0
HALF_DAY_NS = 43_200 * NS
CHARGE_V = 3.72  # of a cell group, on average


def charges(
    n: int,
    capacity_ah: Any = 54.0,
    *,
    pack: Any = 0,
    packs: Sequence[str] = ("A",),
    vehicles: Sequence[str] | None = None,
    first: int = 0,
    cells: Any = None,
    **columns: Any,
) -> Rows:
    """N charges of half a day each, from the `first` half day on; by default 30 → 80 % and well measured.

    `capacity_ah` is what the usable pack holds; `cells` (C,) or (N, C) are relative R0 and, halved, capacity.
    """
    of = np.broadcast_to(np.asarray(pack, np.int32), n).copy()
    end = T0_NS + (first + 1 + np.arange(n)) * HALF_DAY_NS
    usable = np.broadcast_to(np.asarray(capacity_ah, np.float64), n)
    values: dict[str, Any] = {
        "start_ns": end - HALF_DAY_NS // 4, "end_ns": end, "charge": True, "revision": 0, "frames": 360.0,
        "coverage": 1.0, "soc_start": 0.3, "soc_end": 0.8, "soc_start_std": 0.01, "soc_end_std": 0.01,
        "charge_out_ah": 0.0, "temp_mean_c": 25.0, "gap_max_s": 30.0, "soc_jump": 0.001, "capacity_ah": usable,
        "capacity_std_ah": 1.0, "r0_rel_std": 0.03, "d_soc_std": 0.005, "d_r0_std": 0.03, "d_q_std": 0.01,
        "capacity_low_ah": usable, "r0_rel": 1.0, "current_offset_a": np.nan, "current_offset_std_a": np.nan,
        "soh_bms_min": np.nan, "soh_bms_max": np.nan, "soh_bms_end": np.nan,
        **dict.fromkeys(CURVE, np.nan),
    }  # fmt: skip
    unknown = columns.keys() - values.keys() - {"charge_in_ah", "energy_in_kwh"}
    assert not unknown, f"sessions have no {sorted(unknown)}"
    values |= columns
    filled: dict[str, NDArray[Any]] = {k: np.array(np.broadcast_to(v, n)) for k, v in values.items()}
    swing = filled["soc_end"] - filled["soc_start"]
    given = filled.get("charge_in_ah")
    filled["charge_in_ah"] = usable * swing + filled["charge_out_ah"] if given is None else given
    energy = filled.get("energy_in_kwh")
    filled["energy_in_kwh"] = filled["charge_in_ah"] * CELLS * CHARGE_V / 1e3 if energy is None else energy
    for name in ("revision", "start_ns", "end_ns"):
        filled[name] = filled[name].astype(np.int64)
    for name, share in (("d_r0_cell", 1.0), ("d_q_cell", 0.5)):
        relative = np.full(CELLS, np.nan) if cells is None else np.asarray(cells) * share
        filled[name] = np.array(np.broadcast_to(relative, (n, CELLS)), np.float32)
    filled["id"] = np.array([f"{packs[p]}-{t}" for p, t in zip(of.tolist(), end.tolist(), strict=True)])
    names = tuple(packs)
    return Rows(SESSIONS, MODEL, names, names if vehicles is None else tuple(vehicles), of, filled)


CURVE = (
    "top_s", "top_ah", "top_v_mean", "top_v_std", "top_v_skewness", "top_v_kurtosis", "hold_s", "hold_ah",
    "hold_a_mean", "hold_a_std", "hold_a_skewness", "hold_a_kurtosis",
)  # fmt: skip


def cut(rows: Rows, start: int, end: int) -> Rows:
    """Give the rows from `start` to before `end`."""
    data = {k: v[start:end] for k, v in rows.data.items()}
    return Rows(rows.table, rows.model, rows.packs, rows.vehicles, rows.pack[start:end], data)
