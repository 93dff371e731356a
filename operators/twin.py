"""What a pack's circuit model misses at its charges, and whether what was learned of that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.kernels import circuit_error as kernel
from operators.kernels.circuit_error import CircuitErrorConfig
from operators.session_step import SESSIONS, session_step
from operators.shard import Packs
from operators.step import Step
from schemas.events import Item, Rows
from schemas.pack import PackModel

Floats = NDArray[np.float64]
_LEAST_SWING = 0.05  # of SOC: over less, its error moves the mean voltage as much as the circuit's does
_LEAST_COVERAGE = 0.9
_MOST_OUT = 0.02  # of the charge that went in: the rest has another voltage


class TwinStep(Step):
    """What the circuit misses of one shard's packs."""

    def __init__(self, pack: PackModel, cfg: CircuitErrorConfig) -> None:
        """Start with no pack."""
        self.state = kernel.CircuitErrorState.empty(0, pack.series, pack.probes)
        self._pack, self._cfg = pack, cfg

    def rows(self, rows: Rows) -> list[Item]:
        """Follow sessions, and pass them on."""
        if rows.table != SESSIONS:
            return [rows]
        given = charges(self._pack, rows.data)
        made = kernel.follow(self._cfg, self.state, self._pack, given)
        at = np.flatnonzero(~np.isnan(made.out[:, kernel.O_SAID]))
        return [rows, self._told(rows, at, given, made)] if at.size else [rows]

    def _told(self, rows: Rows, at: NDArray[np.int64], given: kernel.Charges, made: kernel.Followed) -> Rows:
        d, o = rows.data, made.out[at]
        event = o[:, kernel.O_EVENT].astype(np.int64)
        reasons = [reason(k, row) if k else "" for k, row in zip(event.tolist(), o, strict=True)]
        columns = {
            "pack_hash": d["pack_hash"][at],
            "session_id": d["id"][at],
            "revision": d["revision"][at].astype(np.int32),
            "t_ns": d["end_ns"][at],
            "v_charge": given.v[at],
            "v_circuit": made.v_circuit[at],
            "v_residual": o[:, kernel.O_SAID],
            "circuit_rmse_v": o[:, kernel.O_CIRCUIT],
            "residual_rmse_v": o[:, kernel.O_RESIDUAL],
            "kept": o[:, kernel.O_KEPT] > 0,
            "charges": o[:, kernel.O_CHARGES].astype(np.int32),
            "weights": made.weights[at].astype(np.float32),
            "event": np.array(kernel.EVENTS)[event],
            "reason": np.array(reasons, np.str_),
        }
        return Rows("twins", rows.model, rows.packs, rows.vehicles, rows.pack[at], columns)


def charges(pack: PackModel, d: Mapping[str, Any]) -> kernel.Charges:
    """Give sessions as charges, NaN where one does not tell of the circuit: no charge, too small, too full of holes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        v = (1e3 * d["energy_in_kwh"] / d["charge_in_ah"] - pack.sum_offset_v) / pack.series
        tells = (
            d["charge"]
            & (d["soc_end"] - d["soc_start"] >= _LEAST_SWING)
            & (d["coverage"] >= _LEAST_COVERAGE)
            & (np.nan_to_num(d["charge_out_ah"]) <= _MOST_OUT * d["charge_in_ah"])
        )
        return kernel.Charges(
            slot=d["slot"],
            t_ns=d["end_ns"],
            v=np.where(tells, v, np.nan),
            current_a=_current_a(d),
            soc_start=d["soc_start"],
            soc_end=d["soc_end"],
            soc_std=np.fmax(d["soc_start_std"], d["soc_end_std"]),
            temp_c=d["temp_mean_c"],
            r_scale=d["r0_rel"],
        )


def _current_a(d: Mapping[str, Any]) -> Floats:
    """Give the current that most of the charge saw (N,): ∫i² over ∫i, constant but for the hold at full."""
    hours = d["coverage"] * (d["end_ns"] - d["start_ns"]) / 3.6e12
    hold_ah, hold_h = np.nan_to_num(d["hold_ah"]), np.nan_to_num(d["hold_s"]) / 3600.0
    hold_aah = hold_h * (np.nan_to_num(d["hold_a_mean"]) ** 2 + np.nan_to_num(d["hold_a_std"]) ** 2)
    constant_ah = np.maximum(d["charge_in_ah"] - hold_ah, 0.0)
    return np.asarray((constant_ah**2 / np.maximum(hours - hold_h, 1e-3) + hold_aah) / d["charge_in_ah"])


def reason(event: int, o: Floats) -> str:
    """Say in words why what was learned is kept, dropped or learned anew; "" where nothing happened."""
    residual, circuit = (f"{1e3 * o[k]:.1f} mV" for k in (kernel.O_RESIDUAL, kernel.O_CIRCUIT))
    return {
        kernel.KEPT: f"the residual leaves {residual} of {circuit} over the newest charges",
        kernel.DROPPED: f"the residual leaves {residual}, the circuit alone {circuit}",
        kernel.RETRAINED: f"what is left moved by {1e3 * o[kernel.O_MOVED]:+.1f} mV a cell group (Page-Hinkley): "
        f"learned anew from the newest {kernel.NEWEST} charges",
    }.get(event, "")


def twin(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs,
    cfg: CircuitErrorConfig | None = None,
    *,
    files: Path | None = None,
) -> KeyedStream[Item]:
    """Add the step: sessions pass, and each charge adds what the circuit missed of it (table twins)."""
    config = cfg or CircuitErrorConfig()
    return session_step(step_id, up, lambda pack: TwinStep(pack, config), packs, files)
