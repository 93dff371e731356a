"""What `ibms train anomaly` does: the fleet model from a lake's windows, in a fixed order."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from flows.settings import time_ns
from operators.fleet_model import save
from operators.kernels.anomaly import FEATURES, NEEDED, features
from schemas.checked import ConfigError
from schemas.pack import load_pack
from sinks import ducklake


def run_train_anomaly(lake: Path, path: Path, until: str, seed: int) -> None:
    """Train on windows that end before `until` (default: all), write the model, say what it was trained on."""
    before_ns = time_ns(until, "--until") if until else 2**63 - 1
    with ducklake.attach(lake) as con:
        # By time, then pack: neighbours in the order are different packs, as the trees' windows of 250 want it.
        columns = con.execute(
            f"""SELECT model, epoch_ns(end_ns) AS end_at, {", ".join(NEEDED)} FROM windows
            WHERE quality = 0 AND coalesce(anomaly_state, 0) <> 2 AND epoch_ns(end_ns) <= ?
            ORDER BY start_ns, pack_hash""",
            [before_ns],
        ).fetchnumpy()
    if not len(columns["end_at"]):
        msg = (
            f"the lake must hold windows without quality flags{f' before {until}' if until else ''}; got none ({lake})"
        )
        raise ConfigError(msg)
    x = np.empty((len(columns["end_at"]), len(FEATURES)))
    window = {k: np.ma.filled(np.ma.asarray(columns[k], np.float64), np.nan) for k in NEEDED}
    for name in np.unique(columns["model"].astype(str)):
        rows = columns["model"] == name
        pack = load_pack(str(name))
        x[rows] = features({k: v[rows] for k, v in window.items()}, pack.nominal_ah, pack.series)
    try:
        model = save(path, x, int(columns["end_at"].max()), seed)
    except ValueError as error:  # too few of them
        msg = f"{error} ({lake})"
        raise ConfigError(msg) from None
    sys.stdout.write(
        f"{model.windows:,} windows of {len(x):,} → {path} (hash {model.sha}); odd above {model.odd_score:.4f}\n"
        f'use it: [fleet] anomaly_model = "{path}"\n'
    )
