"""How right the estimates are on recordings: what `ibms bench` prints beside speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from operators.kernels import estimate as kernel
from operators.kernels.estimate import EstimateConfig, EstimateState
from schemas.pack import PackModel, load_pack

START_ERROR = 0.2  # of SOC
CURRENT_OFFSET_A = 0.030  # on every sample: 1 % of the cell's capacity per hour
SETTLING_S = 300.0
CAPACITY_AH = 2.778  # of the truth 1 + ah / capacity; the file's own soc divides by another number per temperature
_FADE = 0.02  # of the capacity; not the setting of a fleet, see soc_lg_hg2
_INTERVAL_90 = 1.645  # standard deviations
_COLUMNS = ["kind", "test", "ambient_c", "sec", "v", "i", "temp_c", "ah"]


@dataclass(frozen=True, slots=True)
class SocRow:
    """One recorded drive: error of the SOC in percent of full charge, after settling."""

    test: str
    ambient_c: float
    samples: int
    rmse_pct: float
    worst_pct: float
    within_90_pct: float  # share of samples whose 90 % interval holds the truth; 90 would be right


def soc_lg_hg2(data_dir: Path, cfg: EstimateConfig | None = None) -> list[SocRow]:
    """Run the estimator over every drive of lg_hg2 that its pack file was not fitted on.

    The pack file is fitted on the Mixed drives.  Each other one starts 20 % wrong, with 30 mA added to every sample
    of current; its first 300 s do not count.  Truth is 1 + ah / 2.778.  Rows by ambient temperature, then test.
    The cell's capacity is taken as known to 2 %, since the pack file was measured on it: a vehicle's is known to
    `EstimateConfig.fade` only, and with that the drives below 0 °C come out worse (0.91 % instead of 0.74 at −20 °C).
    Raises FileNotFoundError where the recordings are not there.
    """
    pack = load_pack("lg-hg2")
    settings = cfg or EstimateConfig()
    return [_drive(pack, settings, name, ambient_c, run) for name, ambient_c, run in _drives(data_dir / "lg_hg2")]


def mean_rmse_pct(rows: Sequence[SocRow], at_least_c: float = 0.0) -> float:
    """Average the RMSE over the drives at that ambient temperature or above; NaN where there is none."""
    chosen = [row.rmse_pct for row in rows if row.ambient_c >= at_least_c]
    return float(np.mean(chosen)) if chosen else float("nan")


def _drives(folder: Path) -> Iterator[tuple[str, float, dict[str, NDArray[Any]]]]:
    """Read the drives that are neither Mixed nor a capacity test, sorted by temperature and name."""
    files = [f for f in sorted(folder.glob("*.parquet")) if set(_COLUMNS) <= set(pq.read_schema(f).names)]
    if not files:
        msg = f"a Parquet file with the columns {', '.join(_COLUMNS)} must be in {folder}"
        raise FileNotFoundError(msg)
    for file in files:
        table = pq.read_table(file, columns=_COLUMNS)
        columns = {name: table[name].to_numpy() for name in _COLUMNS}
        drives = ~np.array([str(k).startswith(("Mixed", "Cap")) for k in columns["kind"]])
        keys = sorted({*zip(columns["ambient_c"][drives].tolist(), columns["test"][drives].tolist(), strict=True)})
        for ambient_c, test in keys:
            rows = drives & (columns["ambient_c"] == ambient_c) & (columns["test"] == test)
            yield test, ambient_c, {name: column[rows] for name, column in columns.items()}


def _drive(pack: PackModel, cfg: EstimateConfig, name: str, ambient_c: float, run: dict[str, NDArray[Any]]) -> SocRow:
    truth = 1.0 + run["ah"].astype(np.float64) / CAPACITY_AH
    wrong = truth[0] - START_ERROR if truth[0] >= START_ERROR else truth[0] + START_ERROR
    t_s = run["sec"].astype(np.float64)
    n = t_s.size
    out = kernel.step(
        replace(cfg, initial_soc=float(wrong), initial_soc_std=START_ERROR, fade=_FADE),
        EstimateState.empty(1, 1, 1),
        kernel.parameters(pack),
        slot=np.zeros(n, np.int32),
        dt_s=np.concatenate([[np.nan], np.diff(t_s)]),
        quality=np.zeros(n, np.uint32),
        lane=np.zeros(n, np.uint8),
        current_a=(run["i"] + CURRENT_OFFSET_A).astype(np.float32),  # the file's − is discharge, as ours
        pack_v=run["v"].astype(np.float32),
        cell_v=np.ascontiguousarray(run["v"][:, None], np.float32),
        temp_c=np.ascontiguousarray(run["temp_c"][:, None], np.float32),
    )
    counts = t_s - t_s[0] >= SETTLING_S
    error = (out["soc"] - truth)[counts]
    within = np.abs(error) <= _INTERVAL_90 * out["soc_std"][counts]
    return SocRow(
        test=name,
        ambient_c=ambient_c,
        samples=int(counts.sum()),
        rmse_pct=float(100 * np.sqrt(np.mean(error**2))),
        worst_pct=float(100 * np.abs(error).max()),
        within_90_pct=float(100 * within.mean()),
    )
