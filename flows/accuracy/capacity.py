"""Capacity from charge and the change of SOC that went with it, both with errors: weighted total least squares.

Q minimises Σ (ΔAh − Q ΔSOC)² / (σ_Ah² + Q² σ_SOC²) (Plett, J. Power Sources 196 (2011) 2319); its 90 % interval is
where that sum, over its own mean where the errors are larger than they said, is within 2.71 of the least (χ², one
degree of freedom).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CHI2_90 = 2.706
_STEPS = 20_001


def capacity_ah(d_ah: Floats, d_soc: Floats, std_ah: Floats, std_soc: Floats) -> tuple[float, float, float]:
    """Give (capacity, low, high) in Ah, 90 %, of swings (N,): charge in Ah, change of SOC 0..1, standard deviations."""
    middle = float(np.median(d_ah / d_soc))
    ah = np.linspace(0.3 * middle, 3.0 * middle, _STEPS)
    var = np.square(std_ah)[:, None] + np.square(ah * std_soc[:, None])
    cost = (np.square(d_ah[:, None] - ah * d_soc[:, None]) / var).sum(axis=0)
    best = int(np.argmin(cost))
    larger = max(1.0, float(cost[best]) / max(d_ah.size - 1, 1))
    inside = ah[cost <= cost[best] + _CHI2_90 * larger]
    return float(ah[best]), float(inside[0]), float(inside[-1])
