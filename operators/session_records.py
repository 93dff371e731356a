"""Sessions as records: what a stretch summed up to, and what was known of the pack when it had ended."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import sessions
from operators.step import Slots
from schemas.events import Session
from schemas.frames import FrameBlock
from schemas.pack import GRID_SOC, GRID_TEMP_C, PackModel

_NAN = float("nan")
_OF_TOP = ("top_v_mean", "top_v_std", "top_v_skewness", "top_v_kurtosis")
_OF_HOLD = ("hold_a_mean", "hold_a_std", "hold_a_skewness", "hold_a_kurtosis")
_PLAIN = ("current_offset_a", "current_offset_std_a", "capacity_std_ah", "d_soc_std", "d_r0_std", "d_q_std")
_CHARGE = sessions.KINDS.index("charge")


def full_v(pack: PackModel) -> float:
    """Give the voltage of a full cell group at rest and 25 °C."""
    return float(pack.grid().ocv[int(np.flatnonzero(GRID_TEMP_C == 25.0)[0]), -1])  # noqa: PLR2004 - as said


def record(
    ended: sessions.Ended, i: int, block: FrameBlock | None, pack: PackModel, slots: Slots, name: str, revision: int
) -> Session:
    """Round off session `i`, under its id; `block` holds the frame that ended it, None where the input did."""
    a = dict(zip(sessions.ACC, ended.acc[i].tolist(), strict=True))
    s, mode = int(ended.slot[i]), int(ended.mode[i])
    begin_ns, end_ns = int(ended.begin_ns[i]), int(ended.end_ns[i])
    length_s = (end_ns - begin_ns) / 1e9
    known: dict[str, Any] = {} if block is None else _known(block, int(ended.row[i]), pack)
    if mode == _CHARGE:
        known |= _curve(a, full_v(pack))
    else:
        known = {k: v for k, v in known.items() if not k.endswith("_cell")}
    return Session(
        id=name,
        revision=revision,
        model=pack.name,
        pack_id=slots.packs[s],
        vehicle_id=slots.vehicles[s],
        kind=sessions.KINDS[mode],
        start_ns=begin_ns,
        end_ns=end_ns,
        frames=int(a["frames"]),
        coverage=min(a["covered_s"] / length_s, 1.0) if length_s > 0 else 0.0,
        soc_start=a["soc_start"],
        soc_end=a["soc_end"],
        soc_start_std=a["soc_start_std"],
        soc_end_std=a["soc_end_std"],
        charge_in_ah=a["charge_in_as"] / 3600,
        charge_out_ah=a["charge_out_as"] / 3600,
        energy_in_kwh=a["energy_in_ws"] / 3.6e6,
        energy_out_kwh=a["energy_out_ws"] / 3.6e6,
        current_mean_a=a["current_as"] / a["covered_s"] if a["covered_s"] else _NAN,
        current_max_a=a["current_max_a"],
        cell_v_min=a["cell_v_min"],
        cell_v_max=a["cell_v_max"],
        temp_min_c=a["temp_min_c"],
        temp_mean_c=a["temp_sum"] / a["temp_n"] if a["temp_n"] else _NAN,
        temp_max_c=a["temp_max_c"],
        rest_before_s=a["rest_before_s"],
        odo_start_km=a["odo_start_km"],
        odo_end_km=a["odo_end_km"],
        soc_bms_start=a["soc_bms_start"],
        soc_bms_end=a["soc_bms_end"],
        provisional=revision < 0,
        **{k: a[k] for k in ("gap_max_s", "soc_jump", "soh_bms_min", "soh_bms_max", "soh_bms_end")},
        **known,
    )


def _curve(a: dict[str, float], full: float) -> dict[str, float]:
    """Give moments over time: of the voltage near full, and of the current while it falls there."""
    found = {"top_s": a["top_s"], "hold_s": a["hold_s"]}
    if a["top_s"] > 0:
        sums = [a[k] / a["top_s"] for k in ("top_v1", "top_v2", "top_v3", "top_v4")]
        found |= dict(zip(_OF_TOP, _moments(sums), strict=True))
        found["top_v_mean"] += full
        found["top_ah"] = a["top_as"] / 3600
    if a["hold_s"] > 0:
        sums = [a[k] / a["hold_s"] for k in ("hold_as", "hold_i2", "hold_i3", "hold_i4")]
        found |= dict(
            zip(("hold_a_mean", "hold_a_std", "hold_a_skewness", "hold_a_kurtosis"), _moments(sums), strict=True)
        )
        found["hold_ah"] = a["hold_as"] / 3600
    return found


def _moments(raw: list[float]) -> tuple[float, float, float, float]:
    """Give mean, standard deviation, skewness and excess kurtosis from moments about zero."""
    m, m2, m3, m4 = raw
    var = m2 - m * m
    if not var > 1e-12 * max(m2, 1e-12):  # one value, and rounding
        return m, 0.0, _NAN, _NAN
    third = m3 - 3 * m * m2 + 2 * m**3
    fourth = m4 - 4 * m * m3 + 6 * m * m * m2 - 3 * m**4
    return m, var**0.5, third / var**1.5, fourth / (var * var) - 3.0


def _known(block: FrameBlock, row: int, pack: PackModel) -> dict[str, Any]:
    """Give what the estimate says at the frame that ended a session."""
    d, file_ohm = block.derived, r0_file(block.temp_c[row], float(block.derived["z_med"][row]), pack)
    smallest = 1.0 + float(np.min(d["d_q"][row])) if block.cells else _NAN
    return {
        "capacity_ah": float(d["capacity_ah"][row]),
        "capacity_low_ah": float(d["q_med_ah"][row]) * smallest,
        "r0_rel": float(d["r0_ohm"][row]) / file_ohm,
        "r0_rel_std": float(d["r0_std_ohm"][row]) / file_ohm,
        **{k: float(d[k][row]) for k in _PLAIN},
        **{f"{k}_cell": tuple((d[k][row] + np.float32(0)).tolist()) for k in ("d_soc", "d_r0", "d_q")},
    }


def r0_file(temp_c: NDArray[np.float32], soc: float, pack: PackModel) -> float:
    """Give the pack file's R0 at this SOC and the lower median of the probes, as the estimate reads it; NaN without."""
    known = np.sort(temp_c[~np.isnan(temp_c)])
    if not known.size or np.isnan(soc):
        return _NAN
    t = float(np.interp(float(known[(known.size - 1) // 2]), GRID_TEMP_C, np.arange(GRID_TEMP_C.size)))
    low = min(int(t), GRID_TEMP_C.size - 2)
    r0 = pack.grid().r0
    two = [float(np.interp(soc, GRID_SOC, r0[k])) for k in (low, low + 1)]
    return float(np.exp(np.log(two[0]) + (t - low) * (np.log(two[1]) - np.log(two[0]))))
