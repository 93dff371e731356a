"""Power for seconds of simulated packs against what each can really do, and how often its interval says so.

A true pack is drawn around its pack file (replay.simulate.pack): aged, its cells apart, its OCV curve, resistances and
time constants not those of the file, its sensors wrong.  After a drive its true power for a time is found by trying
pulses of constant current on the true cells: the largest that keeps every cell, the current and the charge within
their limits to the pulse's end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.drives import followed
from operators.kernels.estimate import EstimateConfig
from operators.kernels.parameters import parameters
from operators.kernels.power import CURRENT, PULSES_S, VOLTAGE
from replay.simulate.cell import cell_table, voltage_trace
from replay.simulate.pack import Packs, draw_packs
from schemas.columns import NORMAL_90
from schemas.pack import PackModel, load_pack

Floats = NDArray[np.float64]
MODELS = {"nmc": "generic-nmc@8c2t60ah", "lfp": "generic-lfp@8c2t60ah"}
_PACKS, _SEED = 40, 20
_FRAMES, _DT_S = 360, 10.0  # of a drive
_MOMENTS = (120, 240, 360)  # frames after which power is asked for
_NO_LIMIT_A = 1e6  # every other pack has the limits of its cells alone
_WARM = 11  # row of the tables: 25 °C
_MOST_C = 60.0  # current over capacity, 1/h, up to which a pulse is looked for
_STEPS = 12


class Row(NamedTuple):
    """One power: what was said, its standard deviation, and what the pack could do, W."""

    seconds: int
    limit: int
    said_w: float
    std_w: float
    true_w: float


def figures() -> dict[str, float]:
    """Give by chemistry how many intervals of 90 % hold the truth, how wide and how wrong they are, %.

    By duration, and by whether cell voltage or current is said to bind: the current's limit is known, what a cell does
    at its own is not.
    """
    found: dict[str, float] = {}
    for name, model in MODELS.items():
        rows = powers(load_pack(model))
        for seconds in sorted({row.seconds for row in rows}):
            covers = told([row for row in rows if row.seconds == seconds])["interval_90_covers_pct"]
            found[f"sop_simulated_{name}_{seconds}s_interval_90_covers_pct"] = covers
        for limit, bound in ((VOLTAGE, "voltage"), (CURRENT, "current")):
            of = told([row for row in rows if row.limit == limit])
            found |= {f"sop_simulated_{name}_{bound}_bound_{k}": v for k, v in of.items()}
    return found


def told(rows: list[Row]) -> dict[str, float]:
    """Give the share of intervals that hold the truth, and the median error and deviation of powers, %."""
    said, std, true = (np.array([getattr(row, name) for row in rows]) for name in ("said_w", "std_w", "true_w"))
    return {
        "interval_90_covers_pct": float(100 * np.mean(np.abs(said - true) <= NORMAL_90 * std)),
        "median_error_pct": float(100 * np.median(np.abs(said / true - 1))),
        "median_std_pct": float(100 * np.median(std / said)),
    }


def powers(pack: PackModel, count: int = _PACKS, seed: int = _SEED) -> list[Row]:
    """Drive `count` true packs of a model, each its own way, and ask for power at three moments of each drive."""
    draws = [np.random.default_rng([seed, n]) for n in range(count)]
    true = draw_packs(pack, draws, None)
    rows: list[Row] = []
    for n, d in enumerate(draws):
        known = pack if n % 2 else replace(pack, charge_max_a=_NO_LIMIT_A, discharge_max_a=_NO_LIMIT_A)
        t_s, drive_a = _drive(d, pack.usable_ah)
        cells = _Cells(pack, true, n)
        framed = t_s % _DT_S == 0
        out = _estimated(known, true, n, drive_a[framed], cells.volts(t_s, drive_a)[0][framed], d)
        for frames in _MOMENTS:
            before = t_s <= (frames - 1) * _DT_S
            for way, name in ((-1, "discharge"), (1, "charge")):
                for seconds in (int(s) for s in PULSES_S):
                    said, std, limit = (
                        out[f"sop_{name}_{seconds}s_{what}"][frames - 1] for what in ("w", "std_w", "limit")
                    )
                    can = cells.power_w(known, t_s[before], drive_a[before], way, float(seconds))
                    if min(can, said) > 0:
                        rows.append(Row(seconds, int(limit), float(said), float(std), can))
    return rows


def _drive(d: np.random.Generator, capacity_ah: float) -> tuple[Floats, Floats]:
    """Draw a current that holds for half a minute to two, at rest first, then mostly discharge: time, current.

    A row is where a frame is sent or the current changes, which frames do not wait for; its current holds until then.
    """
    steps = 120.0 + np.cumsum(d.uniform(25.0, 125.0, round(_FRAMES * _DT_S / 25.0)))
    amps = np.append(0.0, capacity_ah * d.normal(-0.25, 0.6, steps.size))
    t_s = np.union1d(np.arange(_FRAMES) * _DT_S, steps[steps < (_FRAMES - 1) * _DT_S])
    return t_s, amps[np.searchsorted(steps, t_s, side="left")]


class _Cells:
    """The true cells of one drawn pack at 25 °C."""

    def __init__(self, pack: PackModel, true: Packs, n: int) -> None:
        grid = pack.grid()
        warm = slice(_WARM, _WARM + 1)
        self._tables = [
            cell_table(grid.ocv[warm] + true.shape_v[n], grid.r0[warm] * r, grid.rb[:, warm] * f)
            for r, f in zip(true.r_factor[n], true.rb_factor[n], strict=True)
        ]
        self._ah, self._soc = true.capacity_as[n] / 3600.0, true.soc[n]
        self._tau_s: Floats = true.tau_s[n]
        self._hysteresis_v = float(true.hysteresis_v[n])

    def volts(self, t_s: Floats, current_a: Floats) -> tuple[Floats, Floats]:
        """Give voltage and SOC (N, C) under a current that holds until its row's time."""
        traces = [
            voltage_trace(
                table, self._tau_s, float(ah), t_s, current_a, soc0=float(soc), hysteresis_v=self._hysteresis_v
            )
            for table, ah, soc in zip(self._tables, self._ah, self._soc, strict=True)
        ]
        return np.stack([v for v, _ in traces], axis=1), np.stack([z for _, z in traces], axis=1)

    def power_w(self, known: PackModel, t_s: Floats, before_a: Floats, way: int, seconds: float) -> float:
        """Find the power of the largest pulse after a drive that keeps the limits; 0 where none does."""
        cell = parameters(known).cell

        def kept(amps: float) -> tuple[float, float]:
            """Give what is left to the nearest limit, < 0 where one is crossed, and the power."""
            v, z = self.volts(np.append(t_s, t_s[-1] + seconds), np.append(before_a, way * amps))
            volts = cell.v_max - v[-1].max() if way > 0 else v[-1].min() - cell.v_min
            charge = 1.0 - z[-1].max() if way > 0 else z[-1].min()
            return float(min(volts, charge)), amps * float(v[-1].sum())

        low, high = 0.0, min(cell.charge_max_a if way > 0 else cell.discharge_max_a, _MOST_C * known.usable_ah)
        (at_low, watts), (at_high, most) = kept(low), kept(high)
        if at_high >= 0.0 or at_low <= 0.0:
            return most if at_high >= 0.0 else 0.0
        for _ in range(_STEPS):  # regula falsi, the end that stays halved (Illinois)
            amps = low + (high - low) * at_low / (at_low - at_high)
            left, watts = kept(amps)
            if left >= 0.0:
                low, at_low, at_high = amps, left, 0.5 * at_high
            else:
                high, at_high, at_low = amps, left, 0.5 * at_low
        return watts


def _estimated(
    known: PackModel, true: Packs, n: int, drive_a: Floats, volts: Floats, d: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Run the estimator over what the pack's sensors show of a drive."""
    shown = drive_a * true.gain[n] + true.offset_a[n]
    cell_v = volts + true.sense_v[n] + true.noise_v[n] * d.standard_normal(volts.shape)
    apart_s, temp_c = np.full(drive_a.size - 1, _DT_S), np.full((drive_a.size, known.probes), 25.0)
    return followed(known, EstimateConfig(), apart_s, shown, volts.sum(axis=1), cell_v, temp_c)
