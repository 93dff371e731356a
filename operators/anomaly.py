"""How odd each window is, for its own pack and for the fleet, and whether a feature drifts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bytewax.operators import KeyedStream

from operators.fleet_model import FleetModel
from operators.kernels import anomaly as kernel
from operators.kernels import drift
from operators.shard import Packs, Told, shard_step
from operators.step import Step
from schemas.events import Item, Rows
from schemas.pack import PackModel

_DRIFT_FEATURES = tuple(kernel.FEATURES.index(f) for f in ("spread_v", "spread_temp_c", "spread_soc", "spread_r0"))


@dataclass(slots=True)
class AnomalyStepState:
    """The online models and the drift tests."""

    online: kernel.AnomalyState
    drift: drift.DriftState

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> AnomalyStepState:
        """State of packs never seen."""
        return cls(kernel.AnomalyState.empty(slots, cells, probes), drift.DriftState.empty(slots, cells, probes))


class AnomalyStep(Step):
    """Scores of one shard's windows.  They add a vote and an explanation; they raise nothing by themselves."""

    def __init__(self, pack: PackModel, cfg: kernel.AnomalyConfig, model: FleetModel | None) -> None:
        """Start with no pack; `model` is the fleet's, where one was trained."""
        self.state = AnomalyStepState.empty(0, pack.series, pack.probes)
        self._pack, self._cfg, self._model, self._drift = pack, cfg, model, drift.DriftConfig()

    def rows(self, rows: Rows) -> list[Item]:
        """Add the anomaly columns to windows; a provisional window is scored when it is final."""
        if rows.table != "windows" or rows.data["provisional"].any():
            return [rows]
        d, slot, online = rows.data, rows.data["slot"], self.state.online
        x = kernel.features(d, self._pack.nominal_ah, self._pack.series)
        score, judged, feature, deviation = kernel.step(self._cfg, online, slot, x, d["quality"] == 0)
        # A feature's own spread, as learned before the window, is the unit of its drift.
        share, _ = drift.step(self._drift, self.state.drift, slot, np.ascontiguousarray(deviation[:, _DRIFT_FEATURES]))
        fleet = np.full(len(slot), np.nan, np.float32)
        if self._model is not None:
            known = d["end_ns"] > self._model.valid_from_ns
            fleet = np.where(known, kernel.fleet_score(self._model.trees, x), np.float32(np.nan))
        known = ~np.isnan(share)
        return [
            replace(
                rows,
                data={
                    **d,
                    "drift": np.where(known.any(axis=1), np.where(known, share, -np.inf).max(axis=1), np.nan),
                    "anomaly_score": score,
                    "anomaly_fleet": fleet,
                    "anomaly_state": judged,
                    "anomaly_feature": feature,
                },
            )
        ]


def anomaly(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs,
    cfg: kernel.AnomalyConfig | None = None,
    *,
    model: FleetModel | None = None,
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Add the step: windows get their anomaly columns; other items pass."""
    config = cfg or kernel.AnomalyConfig()
    return shard_step(step_id, up, lambda pack, _slots: AnomalyStep(pack, config, model), packs, files=files, told=told)
