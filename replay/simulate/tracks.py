"""Where a vehicle's places are, and the road between two of them."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

HOME, WORK, SHOP, FAR, PLACES = 0, 1, 2, 3, 4
ROAD_OVER_STRAIGHT = 1.3  # length of a road over the straight line between its ends
KM_PER_DEG = 111.2  # of latitude
_MEDIAN_KM, _LOG_SPREAD = np.array([0.0, 13.0, 4.0, 40.0]), np.array([0.0, 0.6, 0.5, 0.35])


def places(lat_deg: float, lon_deg: float, draws: np.random.Generator, longest_km: float) -> NDArray[np.float64]:
    """Draw home, work, shop and a far place, (4, 2) degrees: none further than `longest_km` by road."""
    home = np.array([lat_deg, lon_deg]) + draws.normal(0, 0.08, 2)
    road_km = np.clip(_MEDIAN_KM * np.exp(_LOG_SPREAD * draws.standard_normal(PLACES)), 0.0, longest_km)
    bearing = draws.uniform(0, 2 * np.pi, PLACES)
    straight = road_km / ROAD_OVER_STRAIGHT / KM_PER_DEG
    north, east = straight * np.cos(bearing), straight * np.sin(bearing) / np.cos(np.radians(home[0]))
    there: NDArray[np.float64] = home + np.stack([north, east], axis=1)
    return there


def road_km(places_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give road lengths between all places, (4, 4), km."""
    d = places_deg[:, None] - places_deg[None]
    d[..., 1] *= np.cos(np.radians(places_deg[0, 0]))
    length: NDArray[np.float64] = np.hypot(d[..., 0], d[..., 1]) * KM_PER_DEG * ROAD_OVER_STRAIGHT
    return length


@njit(cache=True)
def position(places_deg, origin, goal, share):
    """Give latitude and longitude after `share` (0..1) of the way: bends that repeat on every trip, both ways."""
    a, b = (origin, goal) if origin < goal else (goal, origin)
    x = share if origin < goal else 1.0 - share
    lat0, lon0 = places_deg[a, 0], places_deg[a, 1]
    d_lat, d_lon = places_deg[b, 0] - lat0, places_deg[b, 1] - lon0
    bend = np.sin(np.pi * x) * (0.17 * np.sin(2.3 * np.pi * x + a + b) + 0.035 * np.sin(9.0 * np.pi * x + b))
    narrow = np.cos(np.radians(lat0))  # a degree of longitude is so much shorter
    return lat0 + x * d_lat - bend * d_lon * narrow, lon0 + x * d_lon + bend * d_lat / narrow
