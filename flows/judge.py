"""What a trained model says of field charges: their curves in the columns of the laboratory, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.prognosis.model import Model
from flows.prognosis.serve import Served, follow_charges, new_state, predict_soh, served
from operators.health import Judge, MakeJudge, Said
from operators.kernels.charges import ChargeState
from operators.session_records import full_v
from schemas.checked import ConfigError
from schemas.columns import NORMAL_90
from schemas.pack import PackModel

Floats = NDArray[np.float64]
# A model that learned from cells on a tester has not seen packs: its own interval is not that of a pack.
FOREIGN_STD = 0.06
# Voltage of a full cell by the beginning of a set's name; the field's voltages are moved there.
_FULL_V = (("XJTU", 4.2), ("TJU", 4.2), ("MIT", 3.6), ("HUST", 3.6))
# Column of the laboratory → column of the table sessions, and whether it grows with the size of the cell.
COLUMNS: dict[str, tuple[str, bool]] = {
    "voltage_mean": ("top_v_mean", False),
    "voltage_std": ("top_v_std", False),
    "voltage_kurtosis": ("top_v_kurtosis", False),
    "voltage_skewness": ("top_v_skewness", False),
    "cc_q": ("top_ah", True),
    "cc_charge_time": ("top_s", False),
    "current_mean": ("hold_a_mean", True),
    "current_std": ("hold_a_std", True),
    "current_kurtosis": ("hold_a_kurtosis", False),
    "current_skewness": ("hold_a_skewness", False),
    "cv_q": ("hold_ah", True),
    "cv_charge_time": ("hold_s", False),
}


def judges(models: Path, name: str) -> tuple[MakeJudge, str]:
    """Load champion and challenger of `name`, for the packs of every shard, and their hashes; raises ConfigError."""
    found = served(models, name)
    if found.champion.about.kind != "soh" or found.champion.about.inputs == "reference":
        msg = f"prognostics.model must be one of health from charges or their count (soh/…/count); got {name}"
        raise ConfigError(msg)
    found = of_field(found, "prognostics.model")
    return partial(TrainedJudge, found), hashes(found)


def of_field(found: Served, key: str) -> Served:
    """Refuse a champion that field charges tell nothing; a challenger of other columns cannot run beside it."""
    if not set(found.champion.about.columns) & set(COLUMNS):
        known = ", ".join(COLUMNS)
        msg = f"{key} must have one of the columns {known}; got {', '.join(found.champion.about.columns)}"
        raise ConfigError(msg)
    if found.challenger is not None and found.challenger.about.columns != found.champion.about.columns:
        return replace(found, challenger=None)
    return found


def hashes(found: Served) -> str:
    """Give the hashes of who speaks and who runs beside, by comma."""
    return ",".join(m.sha for m in (found.champion, found.challenger) if m is not None)


class Follower:
    """What the charges of one shard's packs say, in the columns of a model."""

    def __init__(self, model: Model, pack: PackModel) -> None:
        """Start with no pack."""
        self._model, self._pack = model, pack
        self._state = new_state(model, 0)

    def follow(self, slot: NDArray[np.int32], charge: Mapping[str, Any]) -> Floats:
        """Follow charges, those of a pack in order of time; gives their features (N, M)."""
        self._grow(int(slot.max()) + 1)
        reference = np.full(len(slot), np.nan)
        return follow_charges(self._model, self._state, slot, lab_columns(self._model, self._pack, charge), reference)

    def _grow(self, slots: int) -> None:
        have = len(self._state.charges)
        if slots > have:
            fresh = new_state(self._model, max(slots, have + have // 4) - have)
            joined = {f.name: np.concatenate([getattr(s, f.name) for s in (self._state, fresh)]) for f in fields(fresh)}
            self._state = ChargeState(**joined)

    def dump(self) -> dict[str, Any]:
        """Give its state, and whose it is."""
        arrays = {f.name: getattr(self._state, f.name).copy() for f in fields(self._state)}
        return {"columns": self._model.about.columns, **arrays}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave; what another model's columns said so far is left."""
        if data.get("columns") == self._model.about.columns:
            self._state = ChargeState(**{f.name: data[f.name].copy() for f in fields(ChargeState)})


class TrainedJudge(Judge):
    """Champion and challenger over one shard's packs."""

    def __init__(self, found: Served, pack: PackModel) -> None:
        """Start with no pack."""
        self._served, self._heard = found, Follower(found.champion, pack)

    def judge(self, slot: NDArray[np.int32], t_ns: NDArray[np.int64], charge: dict[str, Any], cycles: Floats) -> Said:
        """Say the SOH at charges that came within 0.2 V of full; before a model's time it is silent."""
        model = self._served.champion
        followed = self._heard.follow(slot, charge)
        told = charge["top_s"] > 0
        soh, std = self._said(model, followed, cycles, told, t_ns)
        beside = self._served.challenger
        said = Said(
            soh, std, np.where(np.isnan(soh), "", model.sha), np.full(len(slot), np.nan), np.full(len(slot), "", "<U16")
        )
        if beside is not None:
            said.beside[:], _ = self._said(beside, followed, cycles, told, t_ns)
            said.beside_sha[:] = np.where(np.isnan(said.beside), "", beside.sha)
        return said

    def _said(
        self, model: Model, followed: Floats, cycles: Floats, told: NDArray[np.bool_], t_ns: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        soh, std = np.full(len(told), np.nan), np.full(len(told), np.nan)
        at = np.flatnonzero(told & (t_ns > model.about.valid_from_ns))
        if at.size:
            found = predict_soh(model, followed[at], cycles[at])
            soh[at] = found.value
            std[at] = np.hypot((found.high - found.low) / (2.0 * NORMAL_90), FOREIGN_STD)
        return soh, std

    def dump(self) -> dict[str, Any]:
        """Give its state."""
        return self._heard.dump()

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._heard.load(data)


def lab_columns(model: Model, pack: PackModel, charge: Mapping[str, Any]) -> Floats:
    """Give charges in a model's columns (N, K), of a cell of the size that it learned from; NaN where there is none."""
    about = model.about
    size = about.nominal_ah / pack.nominal_ah
    full = next((v for prefix, v in _FULL_V if about.set.startswith(prefix)), full_v(pack))
    out = np.full((len(charge["top_s"]), len(about.columns)), np.nan)
    for k, column in enumerate(about.columns):
        if column in COLUMNS:
            source, grows = COLUMNS[column]
            out[:, k] = charge[source] * (size if grows else 1.0)
            if column == "voltage_mean":
                out[:, k] += full - full_v(pack)
    return out
