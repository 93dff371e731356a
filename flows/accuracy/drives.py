"""How right the SOC is over one recorded drive whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.kernels import estimate as kernel
from operators.kernels.estimate import EstimateConfig, EstimateState
from schemas.pack import PackModel

_INTERVAL_90 = 1.645  # standard deviations
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drive:
    """One recording, columns (N,): time, current (+ charging), pack voltage, temperature and true SOC."""

    name: str
    ambient_c: float
    t_s: Floats
    current_a: Floats
    pack_v: Floats
    temp_c: Floats
    soc: Floats

    def since(self, row: int) -> Drive:
        """Give the recording from `row` on."""
        columns = (c[row:] for c in (self.t_s, self.current_a, self.pack_v, self.temp_c, self.soc))
        return Drive(self.name, self.ambient_c, *columns)


@dataclass(frozen=True, slots=True)
class SocRow:
    """Error of the SOC over one drive in percent of full charge, after settling."""

    test: str
    ambient_c: float
    samples: int
    rmse_pct: float
    worst_pct: float
    within_90_pct: float  # share of samples whose 90 % interval holds the truth; 90 would be right


def soc_errors(
    pack: PackModel, cfg: EstimateConfig, drive: Drive, settling_s: float, *, cells_seen: bool, offset_a: float = 0.0
) -> SocRow:
    """Run the estimator over a drive, `offset_a` added to each current; rows with unknown truth do not count.

    Without `cells_seen` it gets the pack voltage alone, else every cell group at its share of it.
    """
    n = drive.t_s.size
    volts = drive.pack_v / pack.series if cells_seen else np.full(n, np.nan)
    out = kernel.step(
        cfg,
        EstimateState.empty(1, pack.series, pack.probes),
        kernel.parameters(pack),
        slot=np.zeros(n, np.int32),
        dt_s=np.concatenate([[np.nan], np.diff(drive.t_s)]),
        quality=np.zeros(n, np.uint32),
        lane=np.zeros(n, np.uint8),
        current_a=(drive.current_a + offset_a).astype(np.float32),
        pack_v=drive.pack_v.astype(np.float32),
        cell_v=np.repeat(volts[:, None], pack.series, axis=1).astype(np.float32),
        temp_c=np.repeat(drive.temp_c[:, None], pack.probes, axis=1).astype(np.float32),
    )
    counts = (drive.t_s - drive.t_s[0] >= settling_s) & ~np.isnan(drive.soc)
    error = (out["soc"] - drive.soc)[counts]
    within = np.abs(error) <= _INTERVAL_90 * out["soc_std"][counts]
    return SocRow(
        test=drive.name,
        ambient_c=drive.ambient_c,
        samples=int(counts.sum()),
        rmse_pct=float(100 * np.sqrt(np.mean(error**2))),
        worst_pct=float(100 * np.abs(error).max()),
        within_90_pct=float(100 * within.mean()),
    )


def pooled_rmse_pct(rows: Sequence[SocRow]) -> float:
    """Give the RMSE over all samples of all drives."""
    samples = np.array([row.samples for row in rows])
    return float(np.sqrt(np.average(np.square([row.rmse_pct for row in rows]), weights=samples)))


def covered_pct(rows: Sequence[SocRow]) -> float:
    """Give the share of all samples whose 90 % interval holds the truth."""
    return float(np.average([row.within_90_pct for row in rows], weights=[row.samples for row in rows]))
