"""Which model of health for edge, stream and batch: error, direction, memory and energy of four on the same charges."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.prognosis import blend, learn, soh
from flows.prognosis.card import WATTS, cost_of_one, spending
from flows.prognosis.charges import Charges, Floats, read_sets
from flows.prognosis.history import steady
from flows.prognosis.split import Fold, by_cell
from operators.kernels import trees

SET, INPUTS, SEED = "XJTU", "count", 1
AHEAD = 50  # charges, over which a direction is asked
FARTHER = (1, 100, 200)  # and over others: from one test to the next it is that of the tests' own noise
_AROUND = 15  # charges: the median around each is the best that anyone could say of its capacity
MOVED = 0.01  # SOH: twice what a capacity test repeats to; a smaller change has no direction that anyone measured
_BATCH = 1024
_ROUNDS = 50
Predict = Callable[[Floats], Floats]
# Fits best where: what is installed there, and what a prediction may cost.
_FOR = {
    "line": "edge: numpy alone",
    "trees": "stream: smallest cost a row in a batch",
    "blend": "batch, and stream where the error counts (what `ibms train soh` makes)",
    "transformer": "batch, beside the blend as a second opinion; never on the edge",
}


def models(data: Path) -> dict[str, Any]:
    """Measure each model by folds over cells of XJTU; a Transformer is left out where JAX is not installed.

    Energy is processor seconds times a stated power, and what the processor's own counter says where it is readable.
    """
    charges = read_sets(data, [SET])[SET]
    job, fold = soh.task(charges, INPUTS), by_cell(charges, SEED)
    found: dict[str, Any] = {"models_seed": float(SEED), "models_watts_per_core": WATTS}
    found |= {f"always_down_{k}": v for k, v in directions(-np.arange(len(charges), dtype=float), charges).items()}
    found |= {f"smoothed_capacity_{k}": v for k, v in directions(_around(charges), charges).items()}
    kinds: dict[str, Callable[[], tuple[Floats, Any]]] = {
        "line": lambda: _line(job, fold),
        "trees": lambda: _trees(job, fold),
        "blend": lambda: _blend(job, fold),
    }
    if find_spec("jax"):
        kinds["transformer"] = lambda: _transformer(charges, fold)
    for kind, run in kinds.items():
        with spending() as spent:
            predicted, payload = run()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # a process that does nothing else
            served = process.submit(_serve, kind, payload, job.x[:_BATCH]).result()
        found[f"model_{kind}"] = {
            "mape_pct": soh.mape_pct(predicted, job.soh),
            **directions(predicted, charges),
            "train_five_folds_cpu_s": spent["cpu_s"],
            "train_five_folds_j": spent["energy_j"],
            **({"train_five_folds_rapl_j": spent["rapl_package_j"]} if "rapl_package_j" in spent else {}),
            **served,
            "best_for": [_FOR[kind]],
        }
    return found


def directions(predicted: Floats, charges: Charges) -> dict[str, float]:
    """Say how often a change of capacity has the right sign, mean directional accuracy (MDA), over these changes.

    Over AHEAD charges, of all; of those where capacity moved; from each reference to the next, which is where the
    steady capacity has moved by more than a test repeats to: as many charges apart as that takes; and over FARTHER.
    """
    right, moved = _right(predicted, charges, AHEAD)
    referred = [_between_references(charges.soh[of], predicted[of]) for of in _cells(charges)]
    return {
        "mda": float(right.mean()),
        "mda_where_moved": float(right[moved].mean()) if moved.any() else np.nan,
        "mda_between_references": float(np.concatenate(referred).mean()),
        **{f"mda_over_{far}": float(_right(predicted, charges, far)[0].mean()) for far in FARTHER},
    }


def _right(predicted: Floats, charges: Charges, ahead: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say of each change over `ahead` charges of a cell whether its sign is right, and whether capacity moved."""
    at = np.flatnonzero(charges.cell[ahead:] == charges.cell[:-ahead])
    truth, said = (v[at + ahead] - v[at] for v in (charges.soh, predicted))
    return np.sign(truth) == np.sign(said), np.abs(truth) > MOVED


def _around(charges: Charges) -> Floats:
    """Give the median of the capacities (N,) measured around each charge of its cell, later ones too."""
    out = np.empty_like(charges.soh)
    for of in _cells(charges):
        padded = np.pad(charges.soh[of], _AROUND // 2, mode="edge")
        out[of] = np.median(np.lib.stride_tricks.sliding_window_view(padded, _AROUND), axis=1)
    return out


def _cells(charges: Charges) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(charges.cell == one) for one in np.unique(charges.cell)]


def _between_references(soh: Floats, predicted: Floats) -> NDArray[np.bool_]:
    """Say for each reference of one cell (N,) after the first whether the direction from the one before is right."""
    truth, said = steady(soh), steady(predicted)
    references = [0]
    for n, value in enumerate(truth.tolist()):
        if abs(value - truth[references[-1]]) >= MOVED:
            references.append(n)
    return np.asarray(np.sign(np.diff(truth[references])) == np.sign(np.diff(said[references])))


def _folds(
    job: soh.Task, fold: Fold, fit: Callable[[Floats, Floats, NDArray[np.int32]], Any], kind: str
) -> tuple[Floats, Any]:
    """Predict every row by a model of other cells; gives the last model too."""
    out, payload = np.empty(len(job.soh)), None
    for one in np.unique(fold):
        test = fold == one
        rows = np.flatnonzero(~test)[learn.thin(job.cell[~test])]
        payload = fit(job.x[rows], job.soh[rows], job.cell[rows])
        out[test] = _ready(kind, payload)(job.x[test])
    return out, payload


def _line(job: soh.Task, fold: Fold) -> tuple[Floats, Any]:
    def fit(x: Floats, y: Floats, _: NDArray[np.int32]) -> Any:  # noqa: ANN401 - what a process is given
        middle, width = np.nan_to_num(np.nanmean(x, axis=0)), np.nanstd(x, axis=0)
        width = np.where(width > 0, width, np.inf)
        a = np.column_stack([np.nan_to_num((x - middle) / width), np.ones(len(x))])
        return middle, width, np.linalg.solve(a.T @ a + 1e-6 * len(a) * np.eye(a.shape[1]), a.T @ y)

    return _folds(job, fold, fit, "line")


def _trees(job: soh.Task, fold: Fold) -> tuple[Floats, Any]:
    def fit(x: Floats, y: Floats, _: NDArray[np.int32]) -> Any:  # noqa: ANN401 - as above
        return learn.fit_trees(x, y, SEED)

    return _folds(job, fold, fit, "trees")


def _blend(job: soh.Task, fold: Fold) -> tuple[Floats, Any]:
    def fit(x: Floats, y: Floats, cell: NDArray[np.int32]) -> Any:  # noqa: ANN401 - as above
        return learn.fit(x, y, cell, SEED)

    return _folds(job, fold, fit, "blend")


def _transformer(charges: Charges, fold: Fold) -> tuple[Floats, Any]:
    from flows.prognosis import sequence  # noqa: PLC0415 - JAX is an extra

    return sequence.out_of_fold(sequence.SequenceConfig(), charges, fold, SEED)


def _ready(kind: str, payload: Any) -> Predict:  # noqa: ANN401 - what a process is given
    """Load a model once; gives what predicts with it."""
    if kind == "line":
        middle, width, beta = payload
        return lambda x: np.asarray(np.column_stack([np.nan_to_num((x - middle) / width), np.ones(len(x))]) @ beta)
    if kind == "transformer":
        from flows.prognosis import sequence  # noqa: PLC0415 - JAX is an extra

        def attend(x: Floats) -> Floats:
            tokens = np.repeat(np.arange(len(x))[:, None], payload.cfg.tokens, axis=1)
            return sequence.predict(payload, x, tokens, np.arange(len(x)))

        return attend
    if kind == "trees":
        return lambda x: trees.value(payload, x)
    return lambda x: blend.predict(payload, x)


def _serve(kind: str, payload: Any, x: Floats) -> dict[str, float]:  # noqa: ANN401 - what a process is given
    """Measure predictions in a process of their own: processor time and joule of one and of many, highest memory."""
    say = _ready(kind, payload)
    one, many = cost_of_one(lambda: say(x[:1]), _ROUNDS), cost_of_one(lambda: say(x), _ROUNDS)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss would hold the parent's too
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    return {
        "one_us": 1e6 * one["cpu_s"],
        "one_mj": 1e3 * one["energy_j"],
        "row_of_1024_us": 1e6 * many["cpu_s"] / len(x),
        "row_of_1024_mj": 1e3 * many["energy_j"] / len(x),
        "serve_peak_mb": peak_kib / 1024.0,
    }
