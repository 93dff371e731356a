"""SOC of the LG HG2 cell: on drives that nothing was fitted on, and with each Mixed drive left out of its own fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flows.accuracy import residual, twin
from flows.accuracy.drives import Drive, Floats, SocRow, covered_pct, soc_errors
from operators.kernels.estimate import EstimateConfig
from replay.fit import lg_hg2
from replay.fit.lg_hg2 import CAPACITY_AH
from replay.fit.rc import fitted
from replay.fit.read import of_folder
from schemas.checked import ConfigError
from schemas.pack import PackModel, load_pack

START_ERROR = 0.2  # of SOC
CURRENT_OFFSET_A = 0.030  # on every sample: 1 % of the cell's capacity per hour
SETTLING_S = 300.0
_EVERY, _ROUNDS = 12, 5  # of a fit without one drive: the n-th row, and steps: all the fits in half a minute


def figures(data: Path, notes: list[str]) -> dict[str, float]:
    """Give every figure of this set by name, what is not understood in `notes`; raises ConfigError where nothing is."""
    rows = soc_lg_hg2(data, notes=notes)
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
    found |= _intervals("lg_hg2_soc", rows)
    try:
        of_left_out = left_out(data)
    except ConfigError as missing:
        notes.append(f"lg_hg2: left-out Mixed drives left out, {missing}")
        of_left_out = {}
    found |= _by_ambient("lg_hg2_left_out", of_left_out)
    found |= _intervals("lg_hg2_left_out", [row for by_protocol in of_left_out.values() for row in by_protocol[""]])
    kinds = sorted(filter(_is_held_out, set(of_folder(data / "lg_hg2", lg_hg2.COLUMNS, lg_hg2.TEXT)["kind"].tolist())))
    return found | _by_ambient("lg_hg2_held_out", held_out(data)) | twin.figures(data, kinds, notes)


def _intervals(prefix: str, rows: Sequence[SocRow]) -> dict[str, float]:
    """Name how often the 90 % interval holds, and the filter's NIS; nothing where there is no drive."""
    if not rows:
        return {}
    nis = float(np.average([r.nis for r in rows], weights=[r.samples for r in rows]))
    return {f"{prefix}_interval_90_covers_pct": covered_pct(rows), f"{prefix}_nis": nis}


def _by_ambient(prefix: str, found: dict[float, dict[str, list[SocRow]]]) -> dict[str, float]:
    """Name the mean and the worst RMSE of rows by ambient temperature and protocol, %."""
    named = {}
    for ambient_c, by_protocol in found.items():
        at = f"{prefix}_{ambient_c:+.0f}c".replace("+", "p").replace("-", "m")
        for name, drives in by_protocol.items():
            named[f"{at}{name}_mean_rmse_pct"] = mean_rmse_pct(drives)
            named[f"{at}{name}_worst_file_pct"] = max(r.rmse_pct for r in drives)
    return named


def soc_lg_hg2(data: Path, cfg: EstimateConfig | None = None, notes: list[str] | None = None) -> list[SocRow]:
    """Run the estimator over every drive that the pack file was not fitted on (it was, on the Mixed ones).

    Each starts 20 % wrong, with 30 mA added to every sample of current; its first 300 s do not count.  Truth is
    1 + ah / 2.778.  Rows by ambient temperature, then test.  Raises ConfigError where there are no recordings; drives
    that are too short are told in `notes`.
    """
    pack = load_pack("lg-hg2")
    chosen = _drives(data / "lg_hg2", _is_held_out, notes)
    return [_errors(pack, cfg or EstimateConfig(), drive) for drive in chosen]


def left_out(data: Path, below_c: float = 0.0) -> dict[float, dict[str, list[SocRow]]]:
    """Fit the cell anew without each Mixed drive below `below_c`, and run the estimator over that drive.

    Gives by ambient temperature the rows of whole drives (""), and of drives from a third of their rows on, where
    the cell is not at rest; and of both with a residual that was learned on the other drives.
    """
    runs = lg_hg2.read(data, twin.MIXED)
    cold = residual.cold_runs(runs)
    found: dict[float, dict[str, list[SocRow]]] = {}
    for drive in _drives(data / "lg_hg2", lambda kind: kind.startswith(twin.MIXED)):
        if drive.ambient_c >= below_c:
            continue
        left = (int(drive.ambient_c), drive.name)
        others = [run for key, run in runs.items() if key != left]
        pack = fitted(load_pack("lg-hg2"), lg_hg2.tables(data, others, _EVERY, _ROUNDS))
        others_cold = [known for key, known in cold.items() if key != left]
        weights = residual.learned(pack.grid(), others_cold) if others_cold else None
        _both(found.setdefault(drive.ambient_c, {}), pack, weights, drive, CURRENT_OFFSET_A)
    return found


def held_out(data: Path, below_c: float = 0.0) -> dict[float, dict[str, list[SocRow]]]:
    """Run the shipped pack file, fitted on Mixed drives alone, over the other drives below `below_c`.

    Gives what `left_out` gives, a drive once with each sign of the current sensor's error and once without: a
    residual may only seem to help where its own error is opposite to the sensor's.
    """
    pack = load_pack("lg-hg2")
    cold = [*residual.cold_runs(lg_hg2.read(data, twin.MIXED)).values()]
    weights = residual.learned(pack.grid(), cold) if cold else None
    found: dict[float, dict[str, list[SocRow]]] = {}
    for drive in _drives(data / "lg_hg2", _is_held_out):
        for offset_a in (-CURRENT_OFFSET_A, 0.0, CURRENT_OFFSET_A) if drive.ambient_c < below_c else ():
            _both(found.setdefault(drive.ambient_c, {}), pack, weights, drive, offset_a)
    return found


def _both(
    rows: dict[str, list[SocRow]], pack: PackModel, weights: Floats | None, drive: Drive, offset_a: float
) -> None:
    """Add the errors over a drive and over its last two thirds, by the circuit alone and with a residual's weights."""
    for name, part in (("", drive), ("_from_third", drive.part(drive.t_s.size // 3))):
        rows.setdefault(name, []).append(_errors(pack, EstimateConfig(), part, offset_a))
        if weights is not None:
            cleaned = residual.without(weights, part, offset_a)
            rows.setdefault(f"{name}_residual", []).append(_errors(pack, EstimateConfig(), cleaned, offset_a))


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


def _drives(folder: Path, wanted: Callable[[str], bool], notes: list[str] | None = None) -> Iterator[Drive]:
    """Read the drives of the wanted kinds, sorted by temperature and name; those that are too short go to `notes`."""
    c = of_folder(folder, lg_hg2.COLUMNS, lg_hg2.TEXT, notes)
    kinds = {kind for kind in set(c["kind"].tolist()) if wanted(str(kind))}
    chosen = np.isin(c["kind"], list(kinds))
    for ambient_c, test in sorted({*zip(c["ambient_c"][chosen].tolist(), c["test"][chosen].tolist(), strict=True)}):
        rows = chosen & (c["ambient_c"] == ambient_c) & (c["test"] == test)
        if rows.sum() < twin.LEAST_ROWS:
            if notes is not None:
                notes.append(f"lg_hg2: left out, {test} at {ambient_c:g} °C has fewer than {twin.LEAST_ROWS} rows")
            continue
        t_s, current_a, volts, temp_c, ah = (c[name][rows] for name in ("sec", "i", "v", "temp_c", "ah"))
        # the file's − is discharge, as ours
        yield Drive(str(test), ambient_c, t_s, current_a, volts, temp_c, 1.0 + ah / CAPACITY_AH)
