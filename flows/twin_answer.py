"""What a profile would do to a pack, in numbers, and how sure each is.

A pack's SOC, capacity and resistances, and the heat of its pack file, are not known exactly: the profile runs on packs
at the two ends of what 90 % are in each of these, and what that moves is an answer's standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels.twin import Future, Load, Twin, run
from schemas.columns import NORMAL_90
from schemas.pack import PackModel

Floats = NDArray[np.float64]
# What a full cycle at 25 °C costs where a pack's own history says nothing: 20 % of SOH in so many, typical, assumed.
_CYCLES_TO_80 = {"nmc": 1500.0, "lfp": 3500.0}
_OWN_CYCLES = 50.0  # after which a pack's own history says it
_DOUBLES_C = 15.0  # wear doubles with so many degrees above 25 °C: typical, assumed
_WARM_C = 25.0
# What nobody measures in a vehicle, as standard deviations in proportion.
_HEAT_STD = 0.2  # of heat capacity and loss, which most pack files assume
_WEAR_STD = 0.4  # of wear that is typical
_ENDS = (-NORMAL_90, NORMAL_90)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a profile would do to a pack; times in s from its beginning, None where it does not happen."""

    vehicle_id: str
    pack_id: str
    model: str
    known_at: str
    residual: bool  # the circuit with what was learned beside it; else the circuit alone
    soh: float
    soc_start: float
    soc_end: float
    pack_v_min: float
    pack_v_max: float
    cell_v_min: float
    cell_v_min_cell: int  # counts from 1
    cell_v_max: float
    temp_max_c: float
    temp_end_c: float
    energy_in_kwh: float
    energy_out_kwh: float
    heat_kwh: float
    cell_low_s: float | None
    cell_high_s: float | None
    temp_high_s: float | None
    temp_low_s: float | None
    empty_s: float | None
    full_s: float | None
    cycles: float
    soh_lost: float
    wear_from: str
    std: dict[str, float]  # standard deviations by name, of every number above that is no time; none where SOC has none
    between_90: dict[str, tuple[float, float | None]]  # 90 % intervals of times; the end None: it may not happen


def answered(twin: Twin, about: dict[str, Any], load: Load, future: Future) -> Answer:
    """Put together what a person asks: extremes, energy, times to limits, wear, and how sure each is."""
    likely = _told(twin, about, load, future)
    wrong = [tuple(_told(one, about, load, run(one, load)) for one in pair) for pair in _doubted(twin, about)]
    moved = {name: [(low[name], high[name]) for low, high in wrong] for name in likely}
    std = {name: _deviation(pairs) for name, pairs in moved.items() if not name.endswith("_s")}
    for what, groups in (("cell", 1), ("pack", twin.pack.series)):
        for name in (f"{what}_v_min", f"{what}_v_max"):
            std[name] = math.hypot(std[name], groups * about["voltage_std_v"])
    std["soh_lost"] = math.hypot(std["soh_lost"], likely["soh_lost"] * _wear(twin.pack, about)[1])
    times = {name: _interval(likely[name], pairs) for name, pairs in moved.items() if name.endswith("_s")}
    return Answer(
        vehicle_id=about["vehicle_id"],
        pack_id=about["pack_id"],
        model=twin.pack.name,
        known_at=about["known_at"],
        residual=about["residual"],
        soh=about["soh"],
        cell_v_min_cell=int(future.cell_min[int(np.argmin(future.cell_v_min))]) + 1,
        wear_from=_wear(twin.pack, about)[2],
        std={**std, "soh": about["soh_std"]} if wrong else {},
        between_90={name: ends for name, ends in times.items() if ends is not None} if wrong else {},
        **likely,
    )


def _told(twin: Twin, about: dict[str, Any], load: Load, future: Future) -> dict[str, Any]:
    """Give the numbers of an answer by name; times in s, None where something does not happen."""
    pack, t_s = twin.pack, load.t_s - load.t_s[0]
    moved_ah = float(np.sum(np.abs(future.current_a[:-1]) * np.diff(t_s))) / 3600.0
    cycles = moved_ah / (2.0 * pack.nominal_ah)
    heat = 2.0 ** (np.maximum(future.temp_c - _WARM_C, 0.0) / _DOUBLES_C)
    usable = [_usable(low, high) for low, high in ((future.soc_min[k], future.soc_max[k]) for k in (0, -1))]
    return {
        "soc_start": usable[0],
        "soc_end": usable[1],
        "pack_v_min": float(future.pack_v.min()),
        "pack_v_max": float(future.pack_v.max()),
        "cell_v_min": float(future.cell_v_min.min()),
        "cell_v_max": float(future.cell_v_max.max()),
        "temp_max_c": float(future.temp_c.max()),
        "temp_end_c": float(future.temp_c[-1]),
        "energy_in_kwh": float(future.energy_in_kwh[-1]),
        "energy_out_kwh": float(future.energy_out_kwh[-1]),
        "heat_kwh": float(future.heat_kwh[-1]),
        "cell_low_s": _first(t_s, future.cell_v_min <= _bound(pack, "cell_v", over=False)),
        "cell_high_s": _first(t_s, future.cell_v_max >= _bound(pack, "cell_v", over=True)),
        "temp_high_s": _first(t_s, future.temp_c >= _bound(pack, "temp_c", over=True)),
        "temp_low_s": _first(t_s, future.temp_c <= _bound(pack, "temp_c", over=False)),
        "empty_s": _first(t_s, future.soc_min <= 0.0),
        "full_s": _first(t_s, future.soc_max >= 1.0),
        "cycles": cycles,
        "soh_lost": _wear(pack, about)[0] * cycles * float(heat.mean()),
    }


def _doubted(twin: Twin, about: dict[str, Any]) -> Iterator[tuple[Twin, Twin]]:
    """Give pairs of packs at the two ends of what 90 % of packs are in SOC, capacity, resistance and heat, one a pair.

    None where it is not known how sure the SOC is.
    """
    if about["soc_std"] is None or math.isnan(about["soc_std"]):
        return
    pack = twin.pack
    low, high = (np.clip(twin.soc + k * about["soc_std"], 0.0, 1.0) for k in _ENDS)
    yield replace(twin, soc=low), replace(twin, soc=high)
    low, high = (twin.capacity_ah * math.exp(k * about["capacity_std"]) for k in _ENDS)
    yield replace(twin, capacity_ah=low), replace(twin, capacity_ah=high)
    low, high = (twin.r_scale * math.exp(k * about["resistance_std"]) for k in _ENDS)
    yield replace(twin, r_scale=low), replace(twin, r_scale=high)
    cool, hot = (_warmer(pack, math.exp(k * _HEAT_STD)) for k in _ENDS)
    yield replace(twin, pack=cool), replace(twin, pack=hot)


def _warmer(pack: PackModel, times: float) -> PackModel:
    """Give the pack with so many times the warming."""
    heat, loss = (x / times for x in (pack.thermal.heat_capacity_j_per_k, pack.thermal.loss_w_per_k))
    return replace(pack, thermal=replace(pack.thermal, heat_capacity_j_per_k=heat, loss_w_per_k=loss))


def _deviation(pairs: Sequence[tuple[float, float]]) -> float:
    """Give the standard deviation that independent doubts make together, each by its 90 % ends."""
    return math.sqrt(sum((b - a) ** 2 for a, b in pairs)) / (2.0 * NORMAL_90)


def _interval(
    likely: float | None, pairs: Sequence[tuple[float | None, float | None]]
) -> tuple[float, float | None] | None:
    """Give the 90 % interval of a time; its end is None where it may not come, all None where it hardly does."""
    reached = [[t for t in pair if t is not None] for pair in pairs]
    if likely is None:
        return min(((min(ends), None) for ends in reached if ends), default=None)
    early = math.hypot(*(max(likely - min(ends), 0.0) for ends in reached if ends))
    late = math.hypot(*(max(max(ends) - likely, 0.0) for ends in reached if ends))
    return max(likely - early, 0.0), likely + late if all(len(ends) == len(_ENDS) for ends in reached) else None


def _usable(low: float, high: float) -> float:
    return float(min(max(low / max(low + 1.0 - high, 1e-3), 0.0), 1.0))


def _wear(pack: PackModel, about: dict[str, Any]) -> tuple[float, float, str]:
    """Give SOH lost in a full cycle at 25 °C, its standard deviation in proportion, and whence.

    From the pack's own history where that is long and falls.
    """
    if about["own_cycles"] >= _OWN_CYCLES and about["slope"] < 0:
        return -float(about["slope"]), float(about["slope_std"]) / -float(about["slope"]), "own history"
    return 0.2 / _CYCLES_TO_80[pack.chemistry], _WEAR_STD, f"typical of {pack.chemistry} (assumed)"


def _bound(pack: PackModel, quantity: str, *, over: bool) -> float:
    """Give the innermost limit of the pack file; one that is never reached where there is none."""
    bounds = [row.bound for row in pack.limits if row.quantity == quantity and row.over == over]
    return (min(bounds, default=np.inf)) if over else max(bounds, default=-np.inf)


def _first(t_s: Floats, reached: NDArray[np.bool_]) -> float | None:
    return float(t_s[np.argmax(reached)]) if reached.any() else None
