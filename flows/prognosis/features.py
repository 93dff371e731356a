"""Which numbers a model of health sees of each charge, and the check that none of them looks ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flows.prognosis.charges import Charges, Floats
from operators.kernels.charges import OF_REFERENCE, SINCE_REFERENCE, ChargeConfig, ChargeState, follow, names

# What a model is given: the charges alone; how many there were; a capacity measured every so many cycles.
INPUTS = ("charge", "count", "reference")
COUNT = ("cycles", "root_cycles")
REFERENCE_EVERY = 50
CONFIG = ChargeConfig()
_HUNDRED = 100.0  # cycles: keeps the count in the size of the other inputs

Make = Callable[[Charges], Floats]


class LeakError(ValueError):
    """A feature or a split through which a model learns what it could not know."""


def feature_names(columns: tuple[str, ...], inputs: str) -> tuple[str, ...]:
    """Name the features of `inputs` (one of INPUTS) over these columns."""
    return tuple(_kept(columns, inputs)) + (() if inputs == "charge" else COUNT)


def features(charges: Charges, inputs: str, every: int = REFERENCE_EVERY) -> Floats:
    """Give the features (N, len(feature_names)) of every charge, from it and earlier charges of its cell.

    With `inputs` reference, the capacity of the first and then of each `every`-th charge is known from the next one on.
    """
    known = charges.nth() % every == 0 if inputs == "reference" else np.zeros(len(charges), np.bool_)
    reference = np.where(known, charges.soh, np.nan)
    state = ChargeState.empty(len(charges.cells), len(charges.columns), CONFIG.first)
    followed = follow(CONFIG, state, charges.cell, charges.x, reference)
    return chosen(charges.columns, inputs, followed, charges.cycle)


def chosen(columns: tuple[str, ...], inputs: str, followed: Floats, cycle: Floats) -> Floats:
    """Choose from what the kernel says of charges (N, M) at cycles (N,) what belongs to `inputs`."""
    out = followed[:, list(_kept(columns, inputs).values())]
    if inputs == "charge":
        return out
    return np.column_stack([out, cycle / _HUNDRED, np.sqrt(np.maximum(cycle, 0.0))])


def refuse_lookahead(make: Make, charges: Charges, seed: int = 1, cells: int = 3, cuts: int = 4) -> None:
    """Raise LeakError where features (N, F) of `make` change when what comes later is not there.

    Some cells are cut at some charges: the features of that charge must be the same bits when histories end there, and
    when the capacity measured after it is another.  As many other cells stand beside these, through which a feature
    might look ahead; all of a large set would only take longer, and so would one cell at a time.
    """
    draw = np.random.default_rng(seed)
    charges = _of_cells(charges, np.sort(draw.permutation(len(charges.cells))[: 2 * cells]))
    whole = make(charges)
    some = draw.permutation(len(charges.cells))[:cells]
    of_cells = [np.flatnonzero(charges.cell == cell) for cell in some]
    for _ in range(cuts):
        ends = np.array([draw.choice(rows) for rows in of_cells])
        last = np.full(len(charges.cells), len(charges))
        last[some] = ends
        until = np.flatnonzero(np.arange(len(charges)) <= last[charges.cell])
        cut = make(charges.take(until))
        capacity = np.where(np.arange(len(charges)) >= last[charges.cell], 0.5, 1.0) * charges.capacity_ah
        halved = make(replace(charges, capacity_ah=capacity))
        for row in ends.tolist():
            _same(whole[row], cut[np.searchsorted(until, row)], charges, row, "later charges")
            _same(whole[row], halved[row], charges, row, "the capacity itself")


def _of_cells(charges: Charges, some: NDArray[np.int64]) -> Charges:
    """Give the charges of some cells (sorted), as a set of these alone."""
    taken = charges.take(np.isin(charges.cell, some))
    names, protocols = (tuple(told[k] for k in some.tolist()) for told in (charges.cells, charges.protocols))
    return replace(taken, cells=names, protocols=protocols, cell=np.searchsorted(some, taken.cell).astype(np.int32))


def _same(whole: Floats, cut: Floats, charges: Charges, row: int, what: str) -> None:
    if not np.array_equal(whole, cut, equal_nan=True):
        which = int(np.flatnonzero(~((whole == cut) | (np.isnan(whole) & np.isnan(cut))))[0])
        where = f"cell {charges.cells[charges.cell[row]]}, cycle {charges.cycle[row]:g}"
        msg = f"features must not look ahead; feature {which} changes with {what} ({charges.set}, {where})"
        raise LeakError(msg)


def _kept(columns: tuple[str, ...], inputs: str) -> dict[str, int]:
    """Name the kernel's columns that belong to `inputs`, with their places."""
    if inputs not in INPUTS:
        msg = f"inputs must be one of {', '.join(INPUTS)}; got {inputs}"
        raise ValueError(msg)
    every = names(columns)
    # With a reference the levels themselves only add noise between cells: what moved since it says more.
    of_reference = {*OF_REFERENCE, *(c + s for c in columns for s in SINCE_REFERENCE)}
    return {name: at for at, name in enumerate(every) if (name in of_reference) == (inputs == "reference")}
