"""How right models of health and of cycles left are on laboratory cells that they never saw: five folds by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flows.prognosis import learn, rul, soh
from flows.prognosis.charges import FOLDER, Charges, Floats, read_sets
from flows.prognosis.features import LeakError, features
from flows.prognosis.split import FOLDS, by_cell
from flows.prognosis.transfer import gain
from operators.kernels import trees

SEED = 1
_INPUTS = {"XJTU": ("charge", "count", "reference")}  # any other set: what a charge says alone, and with the count
_OTHERS = ("charge", "count")
_FEWEST_CELLS = 10  # five folds of fewer say nothing of a set

# What a figure should be, (at least, at most), by pattern of its name; the first that fits.
GOALS: dict[str, tuple[float, float]] = {
    "xjtu_soh_charge_mape_pct": (0.0, 0.95),
    "xjtu_soh_count_mape_pct": (0.0, 0.76),
    "xjtu_soh_reference_mape_pct": (0.0, 0.55),
    "mit_soh_*_mape_pct": (0.0, 0.20),
    "hust_soh_*_mape_pct": (0.0, 1.25),
    "tju_1_soh_*_mape_pct": (0.0, 0.90),
    "tju_2_soh_*_mape_pct": (0.0, 0.60),
    "hust_rul_mape_pct": (0.0, 8.0),
    "mit_rul_end_at_mid_life_pct": (0.0, 8.0),
    "xjtu_rul_end_at_mid_life_pct": (0.0, 11.0),
    "*_soh_*_covers_pct": (85.0, 95.0),
    "*_rul_covers_pct": (85.0, 95.0),
}


def figures(data: Path, notes: list[str]) -> dict[str, float]:
    """Measure every set of cells that is there, with the seed of folds and trees; raises ConfigError.

    Files and sets that cannot be judged are told in `notes`.
    """
    found = {"prognosis_seed": float(SEED)}
    read = read_sets(data, notes=notes)
    sets = {name: c for name, c in read.items() if len(c.cells) >= _FEWEST_CELLS}
    notes += [
        f"{FOLDER}: {name} left out, {len(read[name].cells)} of the {_FEWEST_CELLS} cells that folds need"
        for name in sorted(read.keys() - sets.keys())
    ]
    for name, charges in sets.items():
        said = name.lower().replace("-", "_")
        for inputs in _INPUTS.get(name, _OTHERS):
            found |= {f"{said}_soh_{inputs}_{k}": v for k, v in of_health(charges, inputs).items()}
        found |= {f"{said}_rul_{k}": v for k, v in of_life(charges).items()}
        if name in _INPUTS:
            found |= {f"{said}_random_rows_not_deployable_{k}": v for k, v in of_random_rows(charges).items()}
    return found | gain(sets, SEED)


def of_health(charges: Charges, inputs: str, seed: int = SEED) -> dict[str, float]:
    """Give errors of SOH on cells that the model never saw, of what one would say without it, and the coverage."""
    job = soh.task(charges, inputs)
    fold = by_cell(charges, seed)[job.rows]
    found = soh.metrics(job, charges, fold, soh.held_out(job, fold, seed))
    return {
        "mape_pct": found["mape_pct"],
        "worst_cell_pct": found["mape_worst_cell_pct"],
        "covers_pct": found["interval_90_covers_mean_of_cells_pct"],
        **{f"{k}_pct": found[f"{k}_mape_pct"] for k in ("linear", "last_value", "dummy_mean")},
    }


def of_life(charges: Charges, seed: int = SEED) -> dict[str, float]:
    """Give errors of cycles left on cells that the model never saw; nothing where too few lives ended."""
    try:
        job = rul.lives(charges)
        fold = by_cell(charges, seed)[job.rows]
    except LeakError:
        return {}
    found = rul.metrics(job, fold, rul.held_out(job, fold, seed))
    return {
        "mape_pct": found["mape_pct"],
        "end_at_mid_life_pct": found["end_at_mid_life_error_pct"],
        "linear_end_at_mid_life_pct": found["linear_end_at_mid_life_error_pct"],
        "linear_pct": found["linear_mape_pct"],
        "covers_pct": found["interval_90_covers_mean_of_cells_pct"],
        "lives": found["lives"],
        "broken_off": found["censored"],
    }


def of_random_rows(charges: Charges, seed: int = SEED) -> dict[str, float]:
    """Give R² and mean error over random rows, of capacity scaled by each cell's own lowest and highest.

    No such model can be deployed: its neighbours in time stand in the training rows, and the scale of a target is
    known when the cell is dead.  It is what is often published.
    """
    x = np.column_stack([charges.x, features(charges, "count")])
    target = np.empty(len(charges))
    for one in range(len(charges.cells)):
        rows = charges.cell == one
        ah: Floats = charges.capacity_ah[rows]
        target[rows] = (ah - ah.min()) / max(float(np.ptp(ah)), 1e-9)
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(charges))
    test = fold == 0
    off = trees.value(learn.fit_trees(x[~test], target[~test], seed), x[test]) - target[test]
    return {
        "r2": 1.0 - float((off**2).sum() / ((target[test] - target[test].mean()) ** 2).sum()),
        "mae": float(np.abs(off).mean()),
    }
