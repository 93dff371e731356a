"""What `ibms train soh|rul` does with every set: check, judge on held-out cells, fit on all, write model and card."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from flows.prognosis import card, future, learn, registry, rul, soh
from flows.prognosis.charges import Charges, Floats, read_sets
from flows.prognosis.features import REFERENCE_EVERY, LeakError, features, refuse_lookahead
from flows.prognosis.model import About, Model, predict, save
from flows.prognosis.own import carried, read_lake
from flows.prognosis.serve import foretell
from flows.prognosis.split import FOLDS, by_cell, by_protocol
from schemas.checked import ConfigError

_SPLIT = {"soh": "cell, and protocol", "rul": "cell"}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train, from where, into which directory; `lake` means its own history, instead of sets in `data`."""

    data: Path | None
    out: Path
    sets: tuple[str, ...]
    inputs: str
    seed: int
    valid_from_ns: int
    lake: Path | None = None


def run_train(options: TrainOptions, kind: str) -> None:
    """Train a model of every set, of health (soh) or of cycles left (rul), and say what came of it."""
    sets = _sets(options, kind)
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False)
    table = Table("model", "hash", "MAPE %", "linear %", "last %", "mean %", "covers %", "gate", box=None)
    for name, (charges, one) in sets.items():
        with console.status(f"{name} …"):
            said = (train_soh if kind == "soh" else train_rul)(charges, one)
        m = said["metrics"]
        figures = (m["error_pct"], m["linear_mape_pct"], m["last_value_mape_pct"], m["dummy_mean_mape_pct"])
        covers = f"{m['interval_90_covers_mean_of_cells_pct']:.1f}"
        gate = "; ".join(said["gate"]) or "open"
        table.add_row(said["name"], said["model"], *(f"{f:.3f}" for f in figures), covers, gate)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    sys.stdout.write(f"each is a challenger now: ibms models promote HASH --models {options.out}\n")


def _sets(options: TrainOptions, kind: str) -> dict[str, tuple[Charges, TrainOptions]]:
    """Read what is to be learned from; what was learned from a lake speaks of what came after."""
    if options.data is not None:
        return {name: (charges, options) for name, charges in read_sets(options.data, options.sets).items()}
    assert options.lake is not None
    found = {}
    for name, own in read_lake(options.lake, kind, options.sets).items():
        later = replace(options, valid_from_ns=max(options.valid_from_ns, own.until_ns))
        found[name] = (own.charges if kind == "soh" else carried(own.charges), later)
    return found


def train_soh(charges: Charges, options: TrainOptions) -> dict[str, Any]:
    """Train one model of health: judged on held-out cells and protocols, then fitted on all; gives its card."""
    inputs, seed = options.inputs, options.seed
    with card.spending() as spent:
        try:
            refuse_lookahead(lambda c: features(c, inputs), charges, seed)
            fold = by_cell(charges, seed)
            job = soh.task(charges, inputs)
            held_out = soh.held_out(job, fold[job.rows], seed)
            found = soh.metrics(job, charges, fold[job.rows], held_out)
        except LeakError as error:  # one line with what leaks
            raise ConfigError(str(error)) from None
        protocols = _by_protocol(charges, job, seed)
        interval = learn.fit_interval(held_out, job.soh, job.cell)
        blend = learn.fit(job.x, job.soh - job.start, job.cell, seed)
    about = About(
        "soh", charges.set, inputs, charges.columns, job.names, charges.nominal_ah, REFERENCE_EVERY, 0.0, seed,
        options.valid_from_ns,
    )  # fmt: skip
    model = save(options.out, about, blend, interval)
    metrics = {"error_pct": found["mape_pct"], **found, **protocols}
    one = card.cost_of_one(lambda: predict(model, job.x[:1], job.start[:1]))
    return finish(options, charges, model, metrics, soh.gate(found), {"training": spent, "prediction": one})


def train_rul(charges: Charges, options: TrainOptions) -> dict[str, Any]:
    """Train one model of cycles left: judged on held-out cells, then fitted on all; gives its card."""
    seed = options.seed
    with card.spending() as spent:
        try:
            refuse_lookahead(lambda c: features(c, rul.INPUTS), charges, seed)
            job = rul.lives(charges)
            fold = by_cell(charges, seed)[job.rows]
            held_out = rul.held_out(job, fold, seed)
        except LeakError as error:  # one line with what leaks, or lacks
            raise ConfigError(str(error)) from None
        found = rul.metrics(job, fold, held_out)
        interval = learn.fit_interval(held_out.fused, np.log(job.left), job.cell)
        fitted = rul.fit(job, np.ones(len(job.cell), np.bool_), seed)
    about = About(
        "rul", charges.set, rul.INPUTS, charges.columns, future.names(job.charge_names), charges.nominal_ah, 0,
        fitted.fleet.eol_soh, seed, options.valid_from_ns,
    )  # fmt: skip
    model = save(options.out, about, fitted.blend, interval, fitted.fleet)
    past = job.past(len(job.cell) - 1)
    one = card.cost_of_one(
        lambda: foretell(model, job.of_charge[-1:], job.cycle[-1:], [past]), rounds=50
    )  # fmt: skip
    metrics = {"error_pct": found["mape_pct"], **found}
    return finish(options, charges, model, metrics, soh.gate(found), {"training": spent, "prediction": one})


def finish(
    options: TrainOptions, charges: Charges, model: Model, metrics: dict[str, float], gate: list[str],
    cost: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write the card beside the model, and put the model beside its champion."""
    about = model.about
    by = _SPLIT[about.kind] if options.lake is None else "pack"
    folder = options.out / model.sha
    size = sum(file.stat().st_size for file in folder.iterdir() if file.name != card.CARD)
    said = card.write(
        folder,
        {
            "model": model.sha,
            "name": about.name,
            "data": {**card.data_of(charges), "source": "laboratory" if options.lake is None else "lake"},
            "split": {"by": by, "folds": FOLDS, "seed": options.seed},
            "metrics": metrics,
            "gate": gate,
            "features": about.features,
            "cost": {**cost, "model_bytes": size},
        },
    )  # fmt: skip
    registry.challenge(options.out, about.name, model.sha)
    return said


def _by_protocol(charges: Charges, job: soh.Task, seed: int) -> dict[str, float]:
    """Judge on protocols that a model never saw; nothing where all cells went through the same."""
    if len(set(charges.protocols)) < 2:  # noqa: PLR2004 - one to learn from, one to test on
        return {}
    predicted: Floats = soh.held_out(job, by_protocol(charges)[job.rows], seed)
    return {"new_protocol_mape_pct": soh.mape_pct(predicted, job.soh)}
