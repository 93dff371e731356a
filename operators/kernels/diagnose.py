"""All detectors over one block: hard limits, measurement faults, temperature, cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import aging, cooling, findings, limits, residuals, sensing, spread, thermal
from operators.kernels import probes as probe
from operators.kernels.extremes import extremes
from schemas.frames import FrameBlock
from schemas.pack import PackModel


@dataclass(frozen=True, slots=True)
class DiagnoseConfig:
    """The detectors' settings for one pack model; `docv` (K,) is the OCV's slope over SOC at 25 °C, V."""

    limits: limits.LimitsConfig
    sensing: sensing.SensingConfig
    thermal: thermal.ThermalConfig
    probes: probe.ProbesConfig
    cooling: cooling.CoolingConfig
    spread: spread.SpreadConfig
    residuals: residuals.ResidualsConfig
    aging: aging.AgingConfig
    docv: NDArray[np.float64]

    @classmethod
    def of(cls, pack: PackModel) -> DiagnoseConfig:
        """Take what depends on the pack model from it."""
        grid = pack.grid()
        return cls(
            limits.LimitsConfig.of(pack),
            sensing.SensingConfig(),
            thermal.ThermalConfig.of(pack),
            probe.ProbesConfig.of(pack),
            cooling.CoolingConfig.of(pack),
            spread.SpreadConfig.of(pack),
            residuals.ResidualsConfig.of(pack),
            aging.AgingConfig.of(pack),
            np.ascontiguousarray(grid.docv[int(np.argmin(np.abs(grid.temp_c - 25.0)))]),
        )


@dataclass
class DiagnoseState:
    """The detectors' states."""

    limits: limits.LimitsState
    sensing: sensing.SensingState
    thermal: thermal.ThermalState
    probes: probe.ProbesState
    cooling: cooling.CoolingState
    spread: spread.SpreadState
    residuals: residuals.ResidualsState
    aging: aging.AgingState

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> DiagnoseState:
        """State of packs never seen."""
        return cls(
            limits.LimitsState.empty(slots, cells, probes),
            sensing.SensingState.empty(slots, cells, probes),
            thermal.ThermalState.empty(slots, cells, probes),
            probe.ProbesState.empty(slots, cells, probes),
            cooling.CoolingState.empty(slots, cells, probes),
            spread.SpreadState.empty(slots, cells, probes),
            residuals.ResidualsState.empty(slots, cells, probes),
            aging.AgingState.empty(slots, cells, probes),
        )


def step(cfg: DiagnoseConfig, state: DiagnoseState, block: FrameBlock) -> dict[str, NDArray[Any]]:
    """Run every detector over the rows of `block`; columns of the findings table, F rows in row order.

    Needs what clean and estimate derive.  Rows of one pack must be in time order; backfill rows are skipped.
    """
    ext = extremes(block)
    found = findings.merge(
        [
            limits.step(cfg.limits, state.limits, block, ext),
            sensing.step(cfg.sensing, state.sensing, block, ext, cfg.spread.capacity_ah),
            thermal.step(cfg.thermal, state.thermal, block, ext),
            probe.step(cfg.probes, state.probes, block),
            cooling.step(cfg.cooling, state.cooling, block, ext),
            spread.step(cfg.spread, state.spread, block, cfg.docv),
            residuals.step(cfg.residuals, state.residuals, block, cfg.docv),
            aging.step(cfg.aging, state.aging, block),
        ]
    )
    return findings.columns(found, block.t_ns, block.derived["slot"])
