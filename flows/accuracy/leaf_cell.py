"""Power for seconds of a Leaf cell, and its interval, against what its recorded pulses show.

A pulse of current I from rest moves the voltage from OCV to v after t seconds: R_t = (v − OCV) / I, and the power that
would just reach a limit is V_lim·|OCV − V_lim| / R_t.  The estimator runs over the whole test as if 96 such cells,
two in parallel, were a pack; what it says at the last row before a pulse is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.drives import Drive, estimated
from operators.kernels.estimate import EstimateConfig
from operators.kernels.parameters import parameters
from replay.fit.leaf import CELL_AH
from replay.fit.read import charge_ah, of_folder
from schemas.columns import NORMAL_90
from schemas.pack import PackModel, load_pack

COLUMNS = ("test", "t_s", "step_t_s", "i", "v")
TIMES_S = {"discharge": (2, 10, 30), "charge": (2, 10)}
_SOC = (0.2, 0.9)  # of pulses that count
_REST_A, _PULSE_A = 0.05, 1.0
_START = EstimateConfig(initial_soc=1.0, initial_soc_std=0.02)
_NO_LIMIT_A = 1e6  # the recorded cell's own limits, not the car's
_WIDE = 2  # cells in parallel
Floats = NDArray[np.float64]


def figures(data: Path, notes: list[str]) -> dict[str, float]:
    """Give by temperature, direction and duration mean and worst error of SOP, and how often its interval holds, %."""
    pack = replace(load_pack("leaf-24kwh"), charge_max_a=_NO_LIMIT_A, discharge_max_a=_NO_LIMIT_A)
    c = of_folder(data / "leaf_cell", COLUMNS, COLUMNS[:1], notes)
    errors: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    for test in sorted({str(name) for name in c["test"]}):
        told = re.search(r"HPPC-(-?\d+)C", test)
        if told is None:
            continue
        rows = _since_full(c, test)
        if rows is None:
            notes.append(f"leaf_cell: left out, no pulse from rest in {test}")
            continue
        for of, found in _errors(pack, rows, float(told[1])).items():
            errors.setdefault((told[1].replace("-", "m"), *of), []).extend(found)
    named: dict[str, float] = {}
    held: list[bool] = []
    for (temp_c, way, seconds), found in errors.items():
        name = f"leaf_cell_sop_{temp_c}c_{way}_{seconds}s"
        off, std = np.abs(found).T
        named |= {f"{name}_mean_pct": float(off.mean()), f"{name}_worst_pct": float(off.max())}
        held += (off <= NORMAL_90 * std).tolist()
    return named | ({"leaf_cell_sop_interval_90_covers_pct": float(100 * np.mean(held))} if held else {})


def _since_full(c: dict[str, NDArray[Any]], test: str) -> tuple[Floats, ...] | None:
    """Give time, time in the step, current and voltage of a test from the rest before its first pulse on: full."""
    rows: NDArray[np.int64] = np.flatnonzero(c["test"] == test)
    first = next((k for k, _ in _pulses(c["i"][rows], c["step_t_s"][rows])), None)
    return None if first is None else tuple(c[name][rows[max(first - 30, 0) :]] for name in COLUMNS[1:])


def _pulses(i: Floats, step_t_s: Floats) -> Iterator[tuple[int, int]]:
    """Give (first row, row after the last) of each pulse: from rest, of steady current, for half a minute at most."""
    begin: list[int] = (np.flatnonzero((np.abs(i[1:]) > _PULSE_A) & (np.abs(i[:-1]) < _REST_A)) + 1).tolist()
    for k in begin:
        off = np.abs(i[k:] - i[min(k + 1, i.size - 1)]) > 0.1 * abs(i[min(k + 1, i.size - 1)])
        end = k + (int(np.argmax(off[2:])) + 2 if off[2:].any() else off.size)
        if step_t_s[end - 1] <= TIMES_S["discharge"][-1] + 5.0:
            yield k, end


def _errors(
    pack: PackModel, rows: tuple[Floats, ...], temp_c: float
) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Compare at each pulse and duration, by direction: power over that of the pulse's own resistance, minus 1, %.

    Beside it the standard deviation that the estimator gives, in the same unit.
    """
    t_s, step_t_s, i, v = rows
    soc = 1.0 + charge_ah(t_s, i) / CELL_AH
    drive = Drive("", temp_c, t_s, _WIDE * i, pack.series * v, np.full(t_s.size, temp_c), soc)
    out, cell = estimated(pack, _START, drive, cells_seen=True), parameters(pack).cell
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for k, end in _pulses(i, step_t_s):
        way = "charge" if i[k + 1] > 0 else "discharge"
        limit_v = cell.v_max if way == "charge" else cell.v_min
        for seconds in TIMES_S[way]:
            if not _SOC[0] <= soc[k - 1] <= _SOC[1] or step_t_s[end - 1] < seconds - 0.5:
                continue
            at = k + int(np.argmin(np.abs(step_t_s[k:end] - seconds)))
            r_ohm = (v[at] - v[k - 1]) / (_WIDE * i[at])
            power_w = pack.series * limit_v * abs(v[k - 1] - limit_v) / r_ohm
            said, std = (float(out[f"sop_{way}_{seconds}s_{what}"][k - 1]) for what in ("w", "std_w"))
            found.setdefault((way, seconds), []).append((100.0 * (said / power_w - 1.0), 100.0 * std / power_w))
    return found
