"""SOC of the LG HG2 cell: on drives that nothing was fitted on, and with each Mixed drive left out of its own fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from flows.accuracy import residual, twin
from flows.accuracy.drives import Drive, Floats, SocRow, covered_pct, soc_errors
from operators.kernels.estimate import EstimateConfig
from replay.fit import lg_hg2
from replay.fit.lg_hg2 import CAPACITY_AH
from replay.fit.rc import fitted
from schemas.pack import PackModel, load_pack

START_ERROR = 0.2  # of SOC
CURRENT_OFFSET_A = 0.030  # on every sample: 1 % of the cell's capacity per hour
SETTLING_S = 300.0
_EVERY, _ROUNDS = 12, 5  # of a fit without one drive: the n-th row, and steps: all the fits in half a minute
_COLUMNS = ["kind", "test", "ambient_c", "sec", "v", "i", "temp_c", "ah"]


def figures(data: Path) -> dict[str, float]:
    """Give every figure of this set by name, %."""
    rows = soc_lg_hg2(data)
    warm, cold = [r for r in rows if r.ambient_c >= 0], [r for r in rows if r.ambient_c < 0]
    found = {}
    if warm:
        found["lg_hg2_soc_warm_mean_rmse_pct"] = mean_rmse_pct(warm)
        found["lg_hg2_soc_warm_worst_file_pct"] = max(r.rmse_pct for r in warm)
        found["lg_hg2_soc_warm_worst_point_pct"] = max(r.worst_pct for r in warm)
        found["lg_hg2_soe_warm_worst_file_pct"] = max(r.energy_rmse_pct for r in warm)
        found["lg_hg2_soe_warm_mean_rmse_pct"] = float(np.mean([r.energy_rmse_pct for r in warm]))
        held, samples = zip(*((r.energy_within_90_pct, r.samples) for r in warm), strict=True)
        found["lg_hg2_soe_warm_interval_90_covers_pct"] = float(np.average(held, weights=samples))
    if cold:
        found["lg_hg2_soc_cold_worst_file_pct"] = max(r.rmse_pct for r in cold)
    found["lg_hg2_soc_interval_90_covers_pct"] = covered_pct(rows)
    found["lg_hg2_soc_nis"] = float(np.average([r.nis for r in rows], weights=[r.samples for r in rows]))
    of_left_out = left_out(data)
    found |= _by_ambient("lg_hg2_left_out", of_left_out)
    every = [row for by_protocol in of_left_out.values() for row in by_protocol[""]]
    if every:
        found["lg_hg2_left_out_interval_90_covers_pct"] = covered_pct(every)
        found["lg_hg2_left_out_nis"] = float(np.average([r.nis for r in every], weights=[r.samples for r in every]))
    return found | _by_ambient("lg_hg2_held_out", held_out(data)) | twin.figures(data)


def _by_ambient(prefix: str, found: dict[float, dict[str, list[SocRow]]]) -> dict[str, float]:
    """Name the mean and the worst RMSE of rows by ambient temperature and protocol, %."""
    named = {}
    for ambient_c, by_protocol in found.items():
        at = f"{prefix}_{ambient_c:+.0f}c".replace("+", "p").replace("-", "m")
        for name, drives in by_protocol.items():
            named[f"{at}{name}_mean_rmse_pct"] = mean_rmse_pct(drives)
            named[f"{at}{name}_worst_file_pct"] = max(r.rmse_pct for r in drives)
    return named


def soc_lg_hg2(data: Path, cfg: EstimateConfig | None = None) -> list[SocRow]:
    """Run the estimator over every drive that the pack file was not fitted on (it was, on the Mixed ones).

    Each starts 20 % wrong, with 30 mA added to every sample of current; its first 300 s do not count.  Truth is
    1 + ah / 2.778.  Rows by ambient temperature, then test.  Raises FileNotFoundError where there are no recordings.
    """
    pack = load_pack("lg-hg2")
    chosen = _drives(data / "lg_hg2", _is_held_out)
    return [_errors(pack, cfg or EstimateConfig(), drive) for drive in chosen]


def left_out(data: Path, below_c: float = 0.0) -> dict[float, dict[str, list[SocRow]]]:
    """Fit the cell anew without each Mixed drive below `below_c`, and run the estimator over that drive.

    Gives by ambient temperature the rows of whole drives (""), and of drives from a third of their rows on, where
    the cell is not at rest; and of both with a residual that was learned on the other drives.
    """
    runs = lg_hg2.read(data, "Mixed")
    cold = residual.cold_runs(runs)
    found: dict[float, dict[str, list[SocRow]]] = {}
    for drive in _drives(data / "lg_hg2", lambda kind: kind.startswith("Mixed")):
        if drive.ambient_c >= below_c:
            continue
        left = (int(drive.ambient_c), drive.name)
        others = [run for key, run in runs.items() if key != left]
        pack = fitted(load_pack("lg-hg2"), lg_hg2.tables(data, others, _EVERY, _ROUNDS))
        weights = residual.learned(pack.grid(), [known for key, known in cold.items() if key != left])
        _both(found.setdefault(drive.ambient_c, {}), pack, weights, drive, CURRENT_OFFSET_A)
    return found


def held_out(data: Path, below_c: float = 0.0) -> dict[float, dict[str, list[SocRow]]]:
    """Run the shipped pack file, fitted on Mixed drives alone, over the other drives below `below_c`.

    Gives what `left_out` gives, a drive once with each sign of the current sensor's error and once without: a
    residual may only seem to help where its own error is opposite to the sensor's.
    """
    pack = load_pack("lg-hg2")
    weights = residual.learned(pack.grid(), [*residual.cold_runs(lg_hg2.read(data, "Mixed")).values()])
    found: dict[float, dict[str, list[SocRow]]] = {}
    for drive in _drives(data / "lg_hg2", _is_held_out):
        for offset_a in (-CURRENT_OFFSET_A, 0.0, CURRENT_OFFSET_A) if drive.ambient_c < below_c else ():
            _both(found.setdefault(drive.ambient_c, {}), pack, weights, drive, offset_a)
    return found


def _both(rows: dict[str, list[SocRow]], pack: PackModel, weights: Floats, drive: Drive, offset_a: float) -> None:
    """Add the errors over a drive and over its last two thirds, by the circuit alone and with a residual's weights."""
    for name, part in (("", drive), ("_from_third", drive.part(drive.t_s.size // 3))):
        cleaned = residual.without(weights, part, offset_a)
        for suffix, shown in (("", part), ("_residual", cleaned)):
            rows.setdefault(f"{name}{suffix}", []).append(_errors(pack, EstimateConfig(), shown, offset_a))


def mean_rmse_pct(rows: Sequence[SocRow]) -> float:
    """Average the RMSE over drives; NaN where there is none."""
    return float(np.mean([row.rmse_pct for row in rows])) if rows else float("nan")


def _is_held_out(kind: str) -> bool:
    return not kind.startswith(("Mixed", "Cap"))


def _errors(pack: PackModel, cfg: EstimateConfig, drive: Drive, offset_a: float = CURRENT_OFFSET_A) -> SocRow:
    first = float(drive.soc[0])
    wrong = first - START_ERROR if first >= START_ERROR else first + START_ERROR
    cfg = replace(cfg, initial_soc=wrong, initial_soc_std=START_ERROR)
    return soc_errors(pack, cfg, drive, SETTLING_S, cells_seen=True, offset_a=offset_a)


def _drives(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Drive]:
    """Read the drives of the wanted kinds, sorted by temperature and name."""
    files = [f for f in sorted(folder.glob("*.parquet")) if set(_COLUMNS) <= set(pq.read_schema(f).names)]
    if not files:
        msg = f"a Parquet file with the columns {', '.join(_COLUMNS)} must be in {folder}"
        raise FileNotFoundError(msg)
    for file in files:
        table = pq.read_table(file, columns=_COLUMNS)
        c: dict[str, Any] = {name: table[name].to_numpy() for name in _COLUMNS}
        kinds = {kind for kind in set(c["kind"].tolist()) if wanted(str(kind))}
        chosen = np.isin(c["kind"], list(kinds))
        for ambient_c, test in sorted({*zip(c["ambient_c"][chosen].tolist(), c["test"][chosen].tolist(), strict=True)}):
            rows = chosen & (c["ambient_c"] == ambient_c) & (c["test"] == test)
            columns = (c[name][rows].astype(np.float64) for name in ("sec", "i", "v", "temp_c", "ah"))
            t_s, current_a, volts, temp_c, ah = columns  # the file's − is discharge, as ours
            yield Drive(str(test), ambient_c, t_s, current_a, volts, temp_c, 1.0 + ah / CAPACITY_AH)
