"""SOC and capacity of the BMW i3 from its trips, which have the pack's voltage and none of the cells'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.capacity import capacity_ah
from flows.accuracy.drives import Drive, SocRow, covered_pct, estimated, pooled_rmse_pct, soc_errors
from operators.kernels.estimate import EstimateConfig
from replay.fit import bmw_i3
from replay.fit.rc import fitted
from replay.fit.read import charge_ah
from schemas.pack import PackModel, load_pack

_START = EstimateConfig(initial_soc=0.5, initial_soc_std=0.3)
_LEAST_S = 900.0  # of a trip that counts
_SETTLING_S = 600.0
_LEAST_SWING = 0.1  # of SOC
_CURRENT_SHARE = 0.005  # error of the current sensor
Floats = NDArray[np.float64]


def figures(data: Path, notes: list[str]) -> dict[str, float]:
    """Give every figure of this set by name; what is not understood is told in `notes`."""
    found = {}
    trips = _trips(data, notes)
    packs = _packs(data)
    trips = trips if packs else []
    rows = soc_bmw_i3(trips, packs)
    if rows:
        found["bmw_i3_soc_pooled_rmse_pct"] = pooled_rmse_pct(rows)
        found["bmw_i3_soc_worst_trip_pct"] = max(r.rmse_pct for r in rows)
        found["bmw_i3_soc_interval_90_covers_pct"] = covered_pct(rows)
    per_trip = bmw_i3.capacities_ah(data)
    if per_trip:
        low, median, high = np.percentile(per_trip, [25, 50, 75])
        found["bmw_i3_capacity_car_soc_median_ah"] = float(median)
        found["bmw_i3_capacity_car_soc_iqr_ah"] = float(high - low)
    swings = own_swings(trips, packs)
    if swings.size:
        keys = ("ah", "low_ah", "high_ah")
        own = capacity_ah(*swings.T)
        found |= {f"bmw_i3_capacity_own_soc_{key}": value for key, value in zip(keys, own, strict=True)}
    return found


def soc_bmw_i3(trips: Sequence[Drive], packs: Sequence[PackModel]) -> list[SocRow]:
    """Run the estimator over each trip with its pack of `packs`; rows in order of name.

    It starts at 50 ± 30 %; trips of 15 min and more count, after their first 600 s, against the car's own SOC.
    """
    return [
        soc_errors(pack, _START, trip, _SETTLING_S, cells_seen=False)
        for trip, pack in zip(trips, packs, strict=True)
        if trip.t_s[-1] - trip.t_s[0] >= _LEAST_S
    ]


def own_swings(trips: Sequence[Drive], packs: Sequence[PackModel]) -> Floats:
    """Give (charge in Ah, change of SOC, standard deviations of both) of trips, (N, 4), by our SOC alone.

    Each SOC comes from ten minutes of its own that start at 50 ± 30 %: the charge between the two cannot have told it.
    Swings of 10 % and more count.
    """
    found = []
    for trip, pack in zip(trips, packs, strict=True):
        if trip.t_s[-1] - trip.t_s[0] < 2 * _SETTLING_S:
            continue
        first = int(np.searchsorted(trip.t_s, trip.t_s[0] + _SETTLING_S))
        last = int(np.searchsorted(trip.t_s, trip.t_s[-1] - _SETTLING_S))
        begin, end = (
            estimated(pack, _START, part, cells_seen=False) for part in (trip.part(0, first), trip.part(last))
        )
        ah = charge_ah(trip.t_s, trip.current_a)
        d_ah, d_soc = float(ah[-1] - ah[first - 1]), float(end["soc"][-1] - begin["soc"][-1])
        if abs(d_soc) >= _LEAST_SWING:
            std = float(np.hypot(begin["soc_std"][-1], end["soc_std"][-1]))
            found.append((d_ah, d_soc, abs(_CURRENT_SHARE * d_ah), std))
    return np.array(found)


def _packs(data: Path) -> list[PackModel]:
    """Fit OCV and R0 on every other trip, and on those between; give for each trip the pack that has not seen it."""
    runs = bmw_i3.read(data)
    if len(runs) < 2:  # noqa: PLR2004 - nothing to fit on but what is tested
        return []
    fits = [fitted(load_pack("bmw-i3-60ah"), bmw_i3.tables(runs[half::2])) for half in (1, 0)]
    return [fits[at % 2] for at in range(len(runs))]


def _trips(data: Path, notes: list[str]) -> list[Drive]:
    """Read the trips in order of name, with the car's own SOC as truth."""
    wanted = ("t_s", "pack_a", "pack_v", "batt_temp_c", "soc_pct")
    c = bmw_i3.trips(data, notes)
    found = []
    for trip in sorted(set(c["trip"])):
        t_s, current_a, volts, temp_c, soc_pct = (c[name][c["trip"] == trip] for name in wanted)
        found.append(Drive(str(trip), float(np.nanmean(temp_c)), t_s, current_a, volts, temp_c, soc_pct / 100))
    return found
