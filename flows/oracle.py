"""What a trained model says of the life that is left to packs of the field, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.judge import Follower, hashes, of_field
from flows.prognosis.model import Model
from flows.prognosis.serve import Forecast, Served, predict_rul, served
from operators.life import NOT_YET, SHORT, STEPS, Life, MakeOracle, Oracle
from schemas.checked import ConfigError
from schemas.columns import NORMAL_90
from schemas.pack import PackModel

Floats = NDArray[np.float64]
_LEAST_LEFT = 0.02  # of SOH above its end: below, an error of SOH says nothing of the error of a life


def oracles(models: Path, name: str) -> tuple[MakeOracle, str]:
    """Load champion and challenger of `name`, for the packs of every shard, and their hashes; raises ConfigError."""
    found = served(models, name)
    if found.champion.about.kind != "rul":
        msg = f"prognostics.life must be one of cycles left (rul/…/count); got {name}"
        raise ConfigError(msg)
    found = of_field(found, "prognostics.life")
    return partial(TrainedOracle, found), hashes(found)


class TrainedOracle(Oracle):
    """Champion and challenger over one shard's packs."""

    def __init__(self, found: Served, pack: PackModel) -> None:
        """Start with no pack."""
        self._served, self._heard = found, Follower(found.champion, pack)

    def hear(self, slot: NDArray[np.int32], charge: dict[str, Any]) -> Floats:
        """Follow charges (N,); gives what they say (N, M)."""
        return self._heard.follow(slot, charge)

    def say(
        self,
        heard: Floats,
        rows: NDArray[np.int64],
        t_ns: NDArray[np.int64],
        cycles: Floats,
        soh_std: Floats,
        past: Sequence[tuple[Floats, Floats]],
    ) -> Life:
        """Say the life that is left, one call for all packs; before a model's time it is silent.

        The model learned from SOH as a tester measures it: what is not sure of a pack's own widens its interval.
        """
        model, beside = self._served.champion, self._served.challenger
        said = Life.unknown(len(rows), NOT_YET)
        at = _after(model, t_ns)
        if at.size:
            found = predict_rul(model, heard[rows[at]], cycles[at], [past[k] for k in at])
            _fill(said, at, found, model, soh_std[at], [past[k] for k in at])
        other = np.flatnonzero([]) if beside is None else _after(beside, t_ns)
        if beside is not None and other.size:
            said.beside[other] = predict_rul(beside, heard[rows[other]], cycles[other], [past[k] for k in other]).left
            said.beside_sha[other] = np.where(np.isnan(said.beside[other]), "", beside.sha)
        return said

    def dump(self) -> dict[str, Any]:
        """Give its state."""
        return self._heard.dump()

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._heard.load(data)


def _after(model: Model, t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(t_ns > model.about.valid_from_ns)


def _fill(
    said: Life, at: NDArray[np.int64], found: Forecast, model: Model, soh_std: Floats, past: Sequence[Any]
) -> None:
    assert model.fleet is not None
    now = np.array([soh[-1] if len(soh) else np.nan for _, soh in past])
    wider = NORMAL_90 * soh_std
    share = wider / np.maximum(now - model.fleet.eol_soh, _LEAST_LEFT)
    low, high = (np.hypot(np.log(found.left) - np.log(end), share) for end in (found.low, found.high))
    said.left[at], said.low[at], said.high[at] = found.left, found.left * np.exp(-low), found.left * np.exp(high)
    steps = np.linspace(0, found.soh.shape[1] - 1, STEPS).round().astype(np.int64)
    middle = found.soh[:, steps]
    said.at_cycles[at], said.soh_at[at] = found.at_cycle[:, steps], middle
    said.soh_low[at] = middle - np.hypot(middle - found.soh_low[:, steps], wider[:, None])
    said.soh_high[at] = middle + np.hypot(found.soh_high[:, steps] - middle, wider[:, None])
    said.eol_soh[at] = model.fleet.eol_soh
    known = ~np.isnan(found.left)
    said.sha[at] = np.where(known, model.sha, "")
    said.reason[at] = np.where(known, "", SHORT)
