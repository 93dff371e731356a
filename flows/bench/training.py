"""How long training on all laboratory sets takes, health from each kind of inputs and life, and in what memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

from flows.bench.core import one_core
from flows.bench.prognostics import peak_mb
from flows.prognosis.charges import read_sets
from flows.prognosis.features import INPUTS
from flows.prognosis.train import TrainOptions, train_rul, train_soh
from schemas.checked import ConfigError


def measure(data: Path) -> dict[str, Any]:
    """Train every model of `data` one after the other in a process of its own: seconds on one core, MB at the peak.

    As `ibms train` does it: judged on held-out cells and protocols in five folds, then fitted on all.
    """
    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as out:
        command = [sys.executable, "-m", "flows.bench.training", str(data), out]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(data: Path, out: Path, sets: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train on the named sets, by default on all; gives the figures by name."""
    options = TrainOptions(data, out, sets, "charge", 1, 0)
    spent: dict[str, float] = {}
    models = 0
    with one_core():
        began = process_time()
        all_charges = read_sets(data, sets)
        spent["read"] = process_time() - began
        for kind in (*INPUTS, "rul"):
            began = process_time()
            for charges in all_charges.values():
                try:
                    if kind == "rul":
                        train_rul(charges, options)
                    else:
                        train_soh(charges, replace(options, inputs=kind))
                    models += 1
                except ConfigError:  # too few cells, or lives, for five folds: `ibms train` says so
                    continue
            spent["life" if kind == "rul" else f"health, {kind}"] = process_time() - began
    return {
        "training_all_cpu_s": sum(spent.values()),
        "training_peak_mb": peak_mb(),
        "training_models": float(models),
        "training_cpu_s": {name: round(seconds, 1) for name, seconds in spent.items()},
    }


if __name__ == "__main__":
    from flows.cache import use_kernel_cache

    use_kernel_cache()
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")
