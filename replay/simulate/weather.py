"""Where vehicles live, and the air temperature there by the hour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY_S, YEAR_DAYS = 86_400.0, 365.25
_COLDEST_DAY, _COLDEST_HOUR = 20.0, 5.0  # of the year on the northern half; of the local day


class Region(NamedTuple):
    """A town and its climate: yearly mean, half the range between seasons, half the range over a day."""

    name: str
    lat_deg: float
    lon_deg: float
    utc_h: int
    mean_c: float
    season_c: float
    daily_c: float


# Rounded climate normals.
REGIONS = (
    Region("Munich", 48.14, 11.58, 1, 9.7, 9.5, 4.5),
    Region("Oslo", 59.91, 10.75, 1, 6.5, 11.0, 3.5),
    Region("Lisbon", 38.72, -9.14, 0, 17.3, 6.0, 4.5),
    Region("Beijing", 39.90, 116.40, 8, 13.0, 15.0, 5.0),
    Region("Phoenix", 33.45, -112.07, -7, 24.0, 11.5, 7.0),
    Region("Melbourne", -37.81, 144.96, 10, 15.5, -5.5, 5.0),
)


def ambient_c(region: Region, draws: np.random.Generator, start_ns: int, hours: int) -> NDArray[np.float32]:
    """Give the air temperature at each full hour from the start, (hours,), °C: season, day, passing fronts."""
    utc_days = start_ns / (DAY_S * 1e9) + np.arange(hours) / 24.0
    season = -region.season_c * np.cos(2 * np.pi * (utc_days % YEAR_DAYS - _COLDEST_DAY) / YEAR_DAYS)
    local_h = (utc_days * 24.0 + region.utc_h) % 24.0
    daily = -region.daily_c * np.cos(2 * np.pi * (local_h - _COLDEST_HOUR) / 24.0)
    fronts = np.zeros(hours)
    for period_days in (3.1, 5.3, 9.7):
        phase, size_c = draws.uniform(0, 2 * np.pi), draws.normal(0, 2.0)
        fronts += size_c * np.sin(2 * np.pi * utc_days / period_days + phase)
    return (region.mean_c + season + daily + fronts).astype(np.float32)
