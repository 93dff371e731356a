"""How right the SOC is over one recorded drive whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import estimate as kernel
from operators.kernels.estimate import EstimateConfig, EstimateState
from operators.kernels.parameters import parameters
from schemas.columns import NORMAL_90
from schemas.pack import PackModel

_CELL_V = 3.6  # of rated energy
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

    def part(self, first: int, end: int | None = None) -> Drive:
        """Give the rows of the recording from `first` on, to the one before `end`."""
        columns = (c[first:end] for c in (self.t_s, self.current_a, self.pack_v, self.temp_c, self.soc))
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
    nis: float  # mean square of the innovation over its standard deviation; 1 where errors were white
    energy_rmse_pct: float  # of the energy left until the recording's end, of the full pack's
    energy_within_90_pct: float  # share of samples whose 90 % interval holds it


def soc_errors(
    pack: PackModel, cfg: EstimateConfig, drive: Drive, settling_s: float, *, cells_seen: bool, offset_a: float = 0.0
) -> SocRow:
    """Run the estimator over a drive, `offset_a` added to each current; rows with unknown truth do not count.

    Without `cells_seen` it gets the pack voltage alone, else every cell group at its share of it.
    """
    known = drive.soc[~np.isnan(drive.soc)]
    cfg = replace(cfg, reserve_soc=min(max(float(known[-1]), 0.0), 0.99)) if known.size else cfg
    out = estimated(pack, cfg, drive, cells_seen=cells_seen, offset_a=offset_a)
    counts = (drive.t_s - drive.t_s[0] >= settling_s) & ~np.isnan(drive.soc)
    error = (out["soc"] - drive.soc)[counts]
    rated_wh = pack.usable_ah * pack.series * _CELL_V
    energy = (1e3 * out["soe_kwh"] - _energy_left_wh(drive))[counts] / rated_wh
    within = np.abs(error) <= NORMAL_90 * out["soc_std"][counts]
    return SocRow(
        test=drive.name,
        ambient_c=drive.ambient_c,
        samples=int(counts.sum()),
        rmse_pct=float(100 * np.sqrt(np.mean(error**2))),
        worst_pct=float(100 * np.abs(error).max()),
        within_90_pct=float(100 * within.mean()),
        nis=float(np.nanmean(np.square(out["innov_v"] / out["innov_std_v"])[counts])),
        energy_rmse_pct=float(100 * np.sqrt(np.mean(energy**2))),
        energy_within_90_pct=float(
            100 * np.mean(np.abs(energy) <= NORMAL_90 * 1e3 * out["soe_std_kwh"][counts] / rated_wh)
        ),
    )


def estimated(
    pack: PackModel, cfg: EstimateConfig, drive: Drive, *, cells_seen: bool, offset_a: float = 0.0
) -> dict[str, NDArray[Any]]:
    """Run the estimator over a drive; its columns, by name."""
    volts = drive.pack_v / pack.series if cells_seen else np.full(drive.t_s.size, np.nan)
    cell_v, temp_c = (
        np.repeat(one[:, None], many, axis=1) for one, many in ((volts, pack.series), (drive.temp_c, pack.probes))
    )
    return followed(pack, cfg, np.diff(drive.t_s), drive.current_a + offset_a, drive.pack_v, cell_v, temp_c)


def followed(
    pack: PackModel,
    cfg: EstimateConfig,
    apart_s: Floats,
    current_a: NDArray[Any],
    pack_v: NDArray[Any],
    cell_v: NDArray[Any],
    temp_c: NDArray[Any],
    contactor_state: NDArray[np.int8] | None = None,
) -> dict[str, NDArray[Any]]:
    """Run the estimator over the rows of one pack that it did not know; its columns, by name.

    `apart_s` (N - 1,) is the time from row to row; the others are as of `kernel.step`.
    """
    n = current_a.size
    return kernel.step(
        cfg,
        EstimateState.empty(1, pack.series, pack.probes),
        parameters(pack),
        slot=np.zeros(n, np.int32),
        dt_s=np.concatenate([[np.nan], apart_s]),
        quality=np.zeros(n, np.uint32),
        lane=np.zeros(n, np.uint8),
        current_a=np.asarray(current_a, np.float32),
        pack_v=np.asarray(pack_v, np.float32),
        cell_v=np.asarray(cell_v, np.float32),
        temp_c=np.asarray(temp_c, np.float32),
        contactor_state=contactor_state,
    )


def _energy_left_wh(drive: Drive) -> Floats:
    """Give what the pack still delivers from each row to the last, Wh."""
    dt_s = np.diff(drive.t_s, prepend=drive.t_s[0])
    given = np.cumsum(-drive.current_a * drive.pack_v * dt_s) / 3600
    return np.asarray(given[-1] - given)


def pooled_rmse_pct(rows: Sequence[SocRow]) -> float:
    """Give the RMSE over all samples of all drives."""
    samples = np.array([row.samples for row in rows])
    return float(np.sqrt(np.average(np.square([row.rmse_pct for row in rows]), weights=samples)))


def covered_pct(rows: Sequence[SocRow]) -> float:
    """Give the share of all samples whose 90 % interval holds the truth."""
    return float(np.average([row.within_90_pct for row in rows], weights=[row.samples for row in rows]))
