"""How cells are kept apart: five folds by cell, folds by protocol, and the check that refuses a split that leaks."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from flows.prognosis.charges import Charges
from flows.prognosis.features import LeakError

FOLDS = 5
_TELLS = 10  # first charges that tell one history from another, also where one ends earlier
Fold = NDArray[np.int64]


def by_cell(charges: Charges, seed: int, folds: int = FOLDS) -> Fold:
    """Give each row the fold (N,) of its cell; the cells of a protocol are spread over the folds.

    Raises LeakError where there are fewer cells than two.
    """
    of_cell = np.empty(len(charges.cells), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(charges.cells))
    protocols = np.array(charges.protocols)
    dealt = shuffled[np.argsort(protocols[shuffled], kind="stable")]
    of_cell[dealt] = np.arange(dealt.size) % folds
    fold = of_cell[charges.cell]
    refuse_leak(charges, fold)
    return fold


def by_protocol(charges: Charges, folds: int = FOLDS) -> Fold:
    """Give each row the fold (N,) of its protocol, which is tested by a model that never saw it."""
    names, of_cell = np.unique(np.array(charges.protocols), return_inverse=True)
    fold = (of_cell.astype(np.int64) % folds if names.size > folds else of_cell.astype(np.int64))[charges.cell]
    refuse_leak(charges, fold)
    return fold


def refuse_leak(charges: Charges, fold: Fold) -> None:
    """Raise LeakError where a cell, or one history under two names, lies on both sides of the split `fold` (N,)."""
    if np.unique(fold).size < 2:  # noqa: PLR2004 - something to learn from, and something to test on
        got = f"{np.unique(fold).size} from {np.unique(charges.cell).size} cells"
        msg = f"a split needs two folds or more; got {got} ({charges.set})"
        raise LeakError(msg)
    seen: dict[bytes, tuple[str, int]] = {}
    for at, name in enumerate(charges.cells):
        rows = np.flatnonzero(charges.cell == at)
        if not rows.size:
            continue
        folds = np.unique(fold[rows])
        if folds.size > 1:
            msg = f"a cell must lie in one fold; {name} lies in {', '.join(map(str, folds.tolist()))} ({charges.set})"
            raise LeakError(msg)
        rows = rows[:_TELLS]
        history = hashlib.blake2b(charges.capacity_ah[rows].tobytes() + charges.x[rows].tobytes()).digest()
        other, its_fold = seen.setdefault(history, (name, int(folds[0])))
        if its_fold != folds[0]:
            msg = f"a history must lie in one fold; {name} is {other} under another name ({charges.set})"
            raise LeakError(msg)
