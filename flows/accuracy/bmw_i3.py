"""SOC and capacity of the BMW i3 from its trips, which have the pack's voltage and none of the cells'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flows.accuracy.drives import Drive, SocRow, covered_pct, pooled_rmse_pct, soc_errors
from operators.kernels.estimate import EstimateConfig
from replay.fit import bmw_i3
from replay.fit.rc import Run, fitted
from replay.fit.read import columns
from schemas.pack import load_pack

_START = EstimateConfig(initial_soc=0.5, initial_soc_std=0.3)
_LEAST_S = 900.0  # of a trip that counts
_SETTLING_S = 600.0


def figures(data: Path) -> dict[str, float]:
    """Give every figure of this set by name."""
    found = {}
    rows = soc_bmw_i3(data)
    if rows:
        found["bmw_i3_soc_pooled_rmse_pct"] = pooled_rmse_pct(rows)
        found["bmw_i3_soc_worst_trip_pct"] = max(r.rmse_pct for r in rows)
        found["bmw_i3_soc_interval_90_covers_pct"] = covered_pct(rows)
    per_trip = bmw_i3.capacities_ah(data)
    if per_trip:
        low, median, high = np.percentile(per_trip, [25, 50, 75])
        found["bmw_i3_capacity_car_soc_median_ah"] = float(median)
        found["bmw_i3_capacity_car_soc_iqr_ah"] = float(high - low)
    return found


def soc_bmw_i3(data: Path) -> list[SocRow]:
    """Fit OCV and R0 on every other trip and run the estimator over the rest, and the reverse; rows in order of name.

    It starts at 50 ± 30 %; trips of 15 min and more count, after their first 600 s, against the car's own SOC.
    """
    runs, trips = bmw_i3.read(data), _trips(data)
    rows: list[tuple[int, SocRow]] = []
    for half in (0, 1):
        learn: Sequence[Run] = runs[half::2]
        if not learn:
            continue
        pack = fitted(load_pack("bmw-i3-60ah"), bmw_i3.tables(learn))
        rows += [
            (at, soc_errors(pack, _START, trips[at], _SETTLING_S, cells_seen=False))
            for at in range(1 - half, len(trips), 2)
            if trips[at].t_s[-1] - trips[at].t_s[0] >= _LEAST_S
        ]
    return [row for _, row in sorted(rows, key=lambda r: r[0])]


def _trips(data: Path) -> list[Drive]:
    """Read the trips in order of name, with the car's own SOC as truth."""
    wanted = ("trip", "t_s", "pack_a", "pack_v", "batt_temp_c", "soc_pct")
    c = columns(data / "bmw_i3_trips/bmw_i3_trips_10hz.parquet", wanted)
    found = []
    for trip in sorted(set(c["trip"])):
        t_s, current_a, volts, temp_c, soc_pct = (c[name][c["trip"] == trip] for name in wanted[1:])
        found.append(Drive(str(trip), float(np.nanmean(temp_c)), t_s, current_a, volts, temp_c, soc_pct / 100))
    return found
