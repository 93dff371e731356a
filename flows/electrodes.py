"""What `ibms electrodes` does: lithium and active material lost, from slow charges of some packs, or of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flows.spm import OF_CHEMISTRY, Reference, reference, simulate_charge
from operators.kernels import electrodes as kernel
from operators.kernels.electrodes import Electrodes, Fitted
from schemas.checked import ConfigError
from schemas.pack import PackModel, load_pack
from sinks import ducklake

Floats = NDArray[np.float64]
_LEAST_SHARE = 0.5  # of the capacity: less of a curve fits too many cells
_MOST_C = 0.21  # 1/h: faster, diffusion bends the curve
_STEADY = 0.1  # of the mean: how far the current may leave it
_POINTS = 200
_FEWEST = 50
_PLATEAU_V = 0.03  # a half cell that stays within this from 20 to 80 % does not show how large it is
_NOISE_V = 2e-3  # that the fit believes: where it misses more, its standard deviations grow with it
_UNLIKE_V = 8e-3  # a fit that misses by more is of another cell design: not its losses, but their changes, tell
_COLUMNS = ("t_s", "current_a", "cell_v")


@dataclass(frozen=True, slots=True)
class Charge:
    """One charge of a cell group, columns (N,)."""

    pack_id: str
    at: str
    t_s: Floats
    current_a: Floats  # + into the battery
    cell_v: Floats


@dataclass(frozen=True, slots=True)
class Reading:
    """What one charge says against a new cell of the parameter set; shares, None where it says nothing.

    `reason` says why there is nothing, or what is left out.  `spm_rmse_v` is how far the single-particle model of the
    electrodes that were found is from the charge, a constant drop aside.
    """

    pack_id: str
    at: str
    charge_ah: float
    c_rate: float
    parameters: str
    lithium_lost: float | None = None
    lithium_std: float | None = None
    negative_lost: float | None = None
    negative_std: float | None = None
    positive_lost: float | None = None
    positive_std: float | None = None
    fit_rmse_v: float | None = None
    spm_rmse_v: float | None = None
    reason: str = ""


def run_electrodes(source: Path, pack: str, parameters: str, sample: int, *, as_json: bool) -> None:
    """Read a sample of a lake's packs, or one file, and print."""
    model = load_pack(pack) if pack else None
    lake = source.is_dir()
    if model is None and not lake:
        msg = f"--pack must name the pack model of a file, e.g. lg-hg2; got nothing ({source})"
        raise ConfigError(msg)
    charges = lake_charges(source, pack, sample) if lake else iter([(model, file_charge(source))])
    found = [read(charge, of, parameters) for of, charge in charges if of is not None]
    if not found:
        msg = f"SOURCE must hold frames of charges (keep_frames = true in the run); got none ({source})"
        raise ConfigError(msg)
    if as_json:
        sys.stdout.write(orjson.dumps([asdict(one) for one in found]).decode() + "\n")
    else:
        _show(found)


def read(charge: Charge, pack: PackModel, parameters: str = "") -> Reading:
    """Fit both electrodes to a charge, and check what was found by the single-particle model."""
    ref = reference(parameters or OF_CHEMISTRY[pack.chemistry])
    q_ah, v, current_a, why = curve(charge, pack.usable_ah)
    moved_ah = float(q_ah[-1]) if q_ah.size else 0.0
    about = Reading(charge.pack_id, charge.at, moved_ah, current_a / pack.usable_ah, ref.name, reason=why)
    if why:
        return about
    new = ref.sized(pack.usable_ah)
    start = kernel.resting_at(ref.halves, new.qn_ah, new.qp_ah, new.lithium_ah, float(v[0]))
    fitted = kernel.fit(ref.halves, start, q_ah, v, current_a)
    lithium, negative, positive = kernel.losses(new, fitted.electrodes)
    grown = max(fitted.rmse_v / _NOISE_V, 1.0)
    seen = ref.halves.up_v[(ref.halves.y > 0.2) & (ref.halves.y < 0.8)]  # noqa: PLR2004 - as _PLATEAU_V says
    flat = float(np.ptp(seen)) < _PLATEAU_V
    spm_rmse_v, failed = _checked(ref, fitted, q_ah, v, current_a, ref.capacity_ah / pack.usable_ah)
    unlike = (
        f"half cells of {ref.name} miss this curve by {1e3 * fitted.rmse_v:.0f} mV: hold charges of one pack together"
    )
    reasons = [unlike] * (fitted.rmse_v > _UNLIKE_V)
    reasons += ["the positive half cell is a plateau: its loss does not show"] * flat + [failed] * bool(failed)
    return replace(
        about,
        lithium_lost=lithium,
        lithium_std=grown * fitted.std[2],
        negative_lost=negative,
        negative_std=grown * fitted.std[0],
        positive_lost=None if flat else positive,
        positive_std=None if flat else grown * fitted.std[1],
        fit_rmse_v=fitted.rmse_v,
        spm_rmse_v=spm_rmse_v,
        reason="; ".join(reasons),
    )


def curve(charge: Charge, capacity_ah: float) -> tuple[Floats, Floats, float, str]:
    """Give charge (N,) and voltage (N,) at even steps, the mean current, and why it says nothing; "" where it does."""
    on = (charge.current_a > 0) & np.isfinite(charge.cell_v)
    none = np.zeros(0)
    if on.sum() < _FEWEST:
        return none, none, 0.0, f"{on.sum()} rows of charging; {_FEWEST} are needed"
    t_s, i, v = charge.t_s[on], charge.current_a[on], charge.cell_v[on]
    steady = np.abs(i / np.median(i) - 1) <= _STEADY  # without the hold at full, and the start
    t_s, i, v = t_s[steady], i[steady], v[steady]
    q = np.append(0.0, np.cumsum(0.5 * (i[1:] + i[:-1]) * np.diff(t_s))) / 3600.0
    mean_a = float(i.mean())
    if q[-1] < _LEAST_SHARE * capacity_ah:
        return q, v, mean_a, f"{100 * q[-1] / capacity_ah:.0f} % of capacity at a steady current; 50 % are needed"
    if mean_a > _MOST_C * capacity_ah:
        return q, v, mean_a, f"charged at {mean_a / capacity_ah:.2f} C; at most C/5 shows the electrodes"
    at = np.linspace(0.0, q[-1], _POINTS)
    # the mean of what was recorded around each step: quantised voltages are told finer than they were written
    cut = np.clip(np.round(q / q[-1] * (_POINTS - 1)).astype(np.int64), 0, _POINTS - 1)
    count = np.bincount(cut, minlength=_POINTS)
    known = count > 0
    mean_v = np.bincount(cut, v, _POINTS)[known] / count[known]
    mean_q = np.bincount(cut, q, _POINTS)[known] / count[known]
    return at, np.interp(at, mean_q, mean_v), mean_a, ""


def _checked(
    ref: Reference, fitted: Fitted, q_ah: Floats, v: Floats, current_a: float, scale: float
) -> tuple[float | None, str]:
    cell = fitted.electrodes
    sized = Electrodes(scale * cell.qn_ah, scale * cell.qp_ah, cell.x0, cell.y0)
    try:
        q, said = simulate_charge(ref, sized, scale * current_a)
    except ConfigError as failed:
        return None, str(failed)
    inside = q_ah * scale <= q[-1]
    off = np.interp(q_ah[inside] * scale, q, said) - v[inside]
    return float(np.std(off)), ""


def file_charge(path: Path) -> Charge:
    """Read t_s, current_a (+ into the battery) and cell_v of one charge, CSV or Parquet; raises ConfigError."""
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
        t_s, current_a, cell_v = (
            np.asarray(table[name].cast(pa.float64()).to_numpy(), np.float64) for name in _COLUMNS
        )
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        msg = f"SOURCE must be a lake, or a CSV or Parquet file with {', '.join(_COLUMNS)}; got {error} ({path})"
        raise ConfigError(msg) from None
    return Charge(path.name, "", t_s, current_a, cell_v)


def lake_charges(lake: Path, pack: str, sample: int) -> Iterator[tuple[PackModel, Charge]]:
    """Give the widest charge whose frames are kept of each pack of a sample, the same packs each time."""
    with ducklake.attach(lake) as con:
        chosen = con.execute(
            """SELECT pack_id, model, epoch_ns(start_ns), epoch_ns(end_ns) FROM sessions
            WHERE kind = 'charge' AND ($1 = '' OR model = $1)
              AND pack_id IN (SELECT DISTINCT pack_id FROM frames)
            QUALIFY row_number() OVER (PARTITION BY pack_id ORDER BY soc_end - soc_start DESC NULLS LAST, start_ns) = 1
            ORDER BY md5(pack_id) LIMIT $2""",
            [pack, sample],
        ).fetchall()
        for pack_id, model, start_ns, end_ns in chosen:
            of = load_pack(model)
            yield of, _charge(con, of, pack_id, start_ns, end_ns)


def _charge(con: duckdb.DuckDBPyConnection, pack: PackModel, pack_id: str, start_ns: int, end_ns: int) -> Charge:
    columns: Any = con.execute(
        """SELECT epoch_ns(t_ns) AS t, current_a, pack_v FROM frames
        WHERE pack_id = $1 AND t_ns BETWEEN make_timestamp_ns($2) AND make_timestamp_ns($3) ORDER BY t_ns""",
        [pack_id, start_ns, end_ns],
    ).fetchnumpy()
    t, current_a, pack_v = (
        np.ma.filled(np.ma.asarray(columns[k], np.float64), np.nan) for k in ("t", "current_a", "pack_v")
    )
    at = str(np.datetime64(start_ns, "ns").astype("datetime64[s]")) + "Z"
    return Charge(pack_id, at, (t - start_ns) / 1e9, current_a, (pack_v - pack.sum_offset_v) / pack.series)


def _show(found: list[Reading]) -> None:
    table = Table(
        "pack", "charge", "Ah", "C", "lithium lost", "negative lost", "positive lost", "fit mV", "SPM mV", "", box=None
    )

    def share(lost: float | None, std: float | None) -> str:
        return "–" if lost is None or std is None else f"{100 * lost:.1f} ± {100 * std:.1f} %"

    def mv(value: float | None) -> str:
        return "–" if value is None else f"{1e3 * value:.1f}"

    for one in found:
        table.add_row(
            one.pack_id, one.at, f"{one.charge_ah:.2f}", f"{one.c_rate:.2f}", share(one.lithium_lost, one.lithium_std),
            share(one.negative_lost, one.negative_std), share(one.positive_lost, one.positive_std),
            mv(one.fit_rmse_v), mv(one.spm_rmse_v), one.reason,
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    console.print(f"against a new cell of {found[0].parameters}; one of another design differs from the start")
