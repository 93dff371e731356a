"""Cells whose truth is known: they fade, and the charge column follows with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.prognosis import blend, learn
from flows.prognosis.charges import Charges, gather
from flows.prognosis.model import About, Model, save
from flows.prognosis.soh import task


def fading(cells: int = 12, cycles: int = 120, seed: int = 1, noise: float = 0.002, name: str = "SET") -> Charges:
    """Give cells that fade at rates of their own; `q` says their capacity on a curve, `noise` says nothing."""
    draw = np.random.default_rng(seed)
    cell = np.repeat([f"P{i % 3}-{i}" for i in range(cells)], cycles)
    cycle = np.tile(np.arange(1.0, cycles + 1), cells)
    rate = np.repeat(draw.uniform(0.0005, 0.0025, cells), cycles)
    capacity = 2.0 * (1.0 - rate * cycle + draw.normal(0, 0.0005, cycle.size))
    x = np.column_stack(
        [np.exp(5.0 * (capacity - 2.0)) + draw.normal(0, noise, cycle.size), draw.normal(size=cycle.size)]
    )
    return gather(name, cell, cycle, ("q", "noise"), x, capacity)


def write(charges: Charges, folder: Path, dataset: str = "SET") -> Path:
    """Write them as a file of the column layout that `read_sets` reads, rows in no order."""
    rows = np.random.default_rng(0).permutation(len(charges))
    table = {
        "dataset": [dataset] * len(charges),
        "cell": np.array(charges.cells)[charges.cell[rows]],
        "cycle": charges.cycle[rows].astype(np.int64),
        **{name: charges.x[rows, i].astype(np.float32) for i, name in enumerate(charges.columns)},
        "capacity": charges.capacity_ah[rows].astype(np.float32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{dataset}.parquet"
    pq.write_table(pa.table(table), file)
    return file


def trained(out: Path, charges: Charges, seed: int = 1) -> Model:
    """Train a small model on charges alone, judged on nothing."""
    job = task(charges, "charge")
    fitted = learn.fit(job.x, job.soh, job.cell, seed)
    interval = learn.fit_interval(blend.predict(fitted, job.x), job.soh, job.cell)
    about = About("soh", "SET", "charge", charges.columns, job.names, 2.0, 50, 0.0, seed, 0)
    return save(out, about, fitted, interval)


def ending(cells: int = 18, seed: int = 1, name: str = "SET") -> Charges:
    """Give cells that fade with a knee to the end of their lives, 150 to 400 cycles; `q` says their capacity."""
    draw = np.random.default_rng(seed)
    cell, cycle, capacity = [], [], []
    for i in range(cells):
        life = int(draw.integers(150, 400))
        n = np.arange(1.0, life + 1)
        u = n / life
        loss = 0.2 * (0.45 * u**0.8 + 0.55 * np.exp(8.0 * (u - 1.0)))
        cell.append(np.repeat(f"P{i % 3}-{i}", life))
        cycle.append(n)
        capacity.append(2.0 * (1.0 - loss + draw.normal(0, 0.0005, life)))
    ah = np.concatenate(capacity)
    x = np.column_stack([np.exp(5.0 * (ah - 2.0)) + draw.normal(0, 0.002, ah.size), draw.normal(size=ah.size)])
    return gather(name, np.concatenate(cell), np.concatenate(cycle), ("q", "noise"), x, ah)
