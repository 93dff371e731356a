"""How right is the SOH of simulated packs? At the first charge that counts and after a month, with its interval.

Every pack has a capacity, an OCV curve, resistances and sensors of its own, which the flows do not know.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.told import judged
from replay.simulate.fleet import FleetConfig, simulate, true_soh, vehicle_id
from sinks import ducklake

FLEETS = tuple(
    (name, FleetConfig(100, 28 * 24.0, 30.0, (f"generic-{name}@24c4t60ah",), first=100, seed=11))
    for name in ("lfp", "nmc")
)
_ROWS = "SELECT vehicle_id, soh, soh_low, soh_high FROM health WHERE accepted > 0 ORDER BY t_ns"


def figures() -> dict[str, float]:
    """Give RMS error, width of the 90 % interval (median) and how often it holds, in points of SOH."""
    found = {}
    for name, cfg in FLEETS:
        for when, (error, width, holds) in zip(("first_charge", "month"), errors(cfg), strict=True):
            of = f"soh_simulated_{name}_{when}"
            found[f"{of}_rms_pct"] = 100.0 * float(np.sqrt(np.mean(error**2)))
            found[f"{of}_interval_90_wide_pct"] = 100.0 * float(np.median(width))
            found[f"{of}_interval_90_covers_pct"] = 100.0 * float(holds.mean())
    return found


def errors(cfg: FleetConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give error, width of the interval and whether it holds, (3, packs with a charge that counted): first, last."""
    true = {vehicle_id(cfg.first + n): soh for n, soh in enumerate(true_soh(cfg))}
    with tempfile.TemporaryDirectory(prefix="ibms-soh-") as where:
        judged((block for block, _ in simulate(cfg)), cfg.models, Path(where))
        with ducklake.attach(Path(where)) as con:
            rows = con.execute(_ROWS).fetchall()
    last = {row[0]: row for row in rows}
    first = {row[0]: row for row in reversed(rows)}
    return _against(true, first), _against(true, last)


def _against(true: dict[str, float], rows: dict[str, tuple[str, float, float, float]]) -> NDArray[np.float64]:
    found = [(soh - true[v], high - low, low <= true[v] <= high) for v, soh, low, high in rows.values()]
    return np.array(found, np.float64).T
