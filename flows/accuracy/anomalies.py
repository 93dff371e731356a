"""What online anomaly models add where no detector of diagnose has a name for what is wrong.

Healthy packs and packs with something odd go through the fleet flow; each model scores the same closed windows.  Every
model judges by its own 0.99 quantile per pack, and an event is so many odd windows among ten in a row; that number is
the smallest for which healthy packs stay within a budget, so that all models are compared at one price: that of an
alarm, and that of a vote.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from river import anomaly, preprocessing, stats

from flows.accuracy.told import told_by
from operators.fleet_model import train
from operators.kernels import anomaly as kernel
from replay.simulate.fleet import FleetConfig, simulate, vehicle_id
from schemas.frames import FrameBlock
from schemas.pack import PackModel, load_pack

MODEL = "generic-nmc@96c16t50ah"
SEED = 7101
ODDITIES = ("heater_stuck_on", "contactor_100_mohm", "load_flutters", "half_a_cell_half_a_probe")
BUDGETS = {"alarm": 0.1, "vote": 1.0}  # false events per vehicle-month
_AMONG = 10  # windows in a row
_SAME_NS = 24 * 3600 * 10**9  # what comes again within a day is the same event
_HEALTHY_H, _ODD_H, _FROM_H = 480.0, 216.0, 168.0
_PERIOD_S = 20.0
_QUANTILE = 0.99
_GRACE = kernel.AnomalyConfig().grace
_HOURS_PER_MONTH = 730.5
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Windows:
    """The closed windows of one fleet, M rows in order of vehicle and time, and when its packs got an incident."""

    vehicle: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    sound: NDArray[np.bool_]
    x: Floats  # (M, F) features, complete
    incident_ns: dict[int, int]  # by vehicle, the first after the oddity began
    months: float
    from_ns: int  # when the oddity began


def figures(vehicles: int, note: Callable[[str], None] = lambda _: None) -> dict[str, float]:
    """Give for each model: windows that make an event, false events, found and delay by oddity, cost, bytes."""
    note("healthy")
    healthy = windows_of(vehicles, "", SEED)
    odd = {}
    for oddity in ODDITIES:
        note(oddity)
        odd[oddity] = windows_of(vehicles, oddity, SEED)
    note("fleet model")
    trees, _ = train(_by_time(windows_of(max(vehicles // 2, 2), "", SEED + 1)), seed=1)
    found: dict[str, float] = {}
    for oddity, w in odd.items():
        found[f"diagnose_{oddity}_found_pct"] = 100.0 * len(w.incident_ns) / vehicles
    for name, model in {**MODELS, "fleet_trees": _fleet(trees)}.items():
        note(name)
        found |= {f"{name}_{key}": value for key, value in _judge(model, healthy, odd, vehicles).items()}
    return found


def windows_of(vehicles: int, oddity: str, seed: int) -> Windows:
    """Simulate, let the oddity begin at its hour in all of them, and run the fleet flow."""
    hours = _ODD_H if oddity else _HEALTHY_H
    cfg = FleetConfig(vehicles, hours, _PERIOD_S, (MODEL,), seed + bool(oddity) * 10, sleep=True)
    from_ns = cfg.start_ns + int(_FROM_H * 3600e9)
    pack = load_pack(MODEL)
    parts: list[dict[str, NDArray[Any]]] = []
    blocks = (_odd(block, pack, oddity, from_ns) for block, _ in simulate(cfg))
    told = told_by(blocks, cfg.models, lambda batch: parts.append(_columns(batch, pack)))
    number = {vehicle_id(n): n for n in range(vehicles)}
    first: dict[int, int] = {}
    for t in told:
        if t.opened_ns >= from_ns:
            first.setdefault(number[t.vehicle_id], t.opened_ns)
    joined = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    order = np.lexsort((joined["end_ns"], joined["vehicle"]))
    order = order[~np.isnan(joined["x"][order]).any(axis=1)]
    vehicle, end_ns, sound, x = (joined[k][order] for k in ("vehicle", "end_ns", "sound", "x"))
    return Windows(vehicle, end_ns, sound, x, first, vehicles * hours / _HOURS_PER_MONTH, from_ns)


def _columns(batch: pa.RecordBatch, pack: PackModel) -> dict[str, NDArray[Any]]:
    window = {k: batch.column(k).to_numpy(zero_copy_only=False) for k in kernel.NEEDED}
    return {
        "vehicle": np.array([int(v.rpartition("-")[2]) for v in batch.column("vehicle_id").to_pylist()]),
        "end_ns": batch.column("end_ns").cast(pa.int64()).to_numpy(),
        "sound": batch.column("quality").to_numpy() == 0,
        "x": kernel.features(window, pack.nominal_ah, pack.series),
    }


def _odd(block: FrameBlock, pack: PackModel, oddity: str, from_ns: int) -> FrameBlock:
    """Change what a pack with that oddity would send from its hour on."""
    rows = np.flatnonzero(block.t_ns >= from_ns)
    if not oddity or not rows.size:
        return block
    current, cell_v, pack_v, temp = (a.copy() for a in (block.current_a, block.cell_v, block.pack_v, block.temp_c))
    extra = np.zeros(rows.size, np.float32)
    if oddity == "heater_stuck_on":
        extra[:] = -0.3 * pack.nominal_ah  # 5 kW, whatever the vehicle does
    elif oddity == "contactor_100_mohm":
        pack_v[rows] += 0.1 * current[rows]
    elif oddity == "load_flutters":
        extra[:] = 1.0 * pack.nominal_ah * (1 - 2 * (block.seq[rows] % 2))
        extra[np.abs(current[rows]) < 1.0] = 0.0  # an inverter that hunts hunts under load
    else:  # each too little to be named alone
        cell_v[rows, 30] -= 0.012
        temp[rows, 3] += 2.0
    r0 = float(np.median(pack.grid().r0))
    current[rows] += extra
    cell_v[rows] += (extra * r0)[:, None]
    pack_v[rows] += extra * r0 * pack.series
    return replace(block, current_a=current, cell_v=cell_v, pack_v=pack_v, temp_c=temp)


# A model takes the windows of one pack in order, (M, F) and which may be learned from, and gives which are odd (M,) and
# how many bytes it keeps.
Model = Callable[[Floats, NDArray[np.bool_]], tuple[NDArray[np.bool_], int]]


def _ours(x: Floats, sound: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    state = kernel.AnomalyState.empty(1, 0, 0)
    _, judged, _, _ = kernel.step(kernel.AnomalyConfig(quantile=_QUANTILE), state, np.zeros(len(x), np.int32), x, sound)
    return judged == kernel.ODD, sum(getattr(state, name).nbytes for name in state.__dataclass_fields__)


def _online(
    make: Callable[[], Any], score: Callable[[Any, Floats], float], learn: Callable[[Any, Floats], None]
) -> Model:
    """Let a model score each window by a quantile of its own scores, and learn from those that are not odd."""

    def run(x: Floats, sound: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
        model, limit, learned = make(), stats.Quantile(_QUANTILE), 0
        odd = np.zeros(len(x), np.bool_)
        scaler = preprocessing.StandardScaler()
        for i, row in enumerate(x):
            named = _named(row)
            z = np.array(list(scaler.transform_one(named).values()))
            value, top = score(model, z), limit.get()
            odd[i] = learned >= _GRACE and top is not None and value >= top and top != 0.0
            if sound[i]:
                if not odd[i]:
                    learn(model, z)
                    scaler.learn_one(named)
                    learned += 1
                limit.update(value)
        return odd, len(pickle.dumps((model, limit, scaler)))

    return run


def _named(z: Floats) -> dict[int, float]:
    return dict(enumerate(z.tolist()))


def _squeezed(z: Floats) -> dict[int, float]:
    """Map deviations onto 0..1, as half-space trees want their features."""
    return dict(enumerate((0.5 + 0.5 * z / (3.0 + np.abs(z))).tolist()))


def _gauss_score(model: list[Any], z: Floats) -> float:
    return max(float(m.score_one(None, v)) for m, v in zip(model, z.tolist(), strict=True))


def _gauss_learn(model: list[Any], z: Floats) -> None:
    for m, v in zip(model, z.tolist(), strict=True):
        m.learn_one(None, v)


MODELS: dict[str, Model] = {
    "kernel_svm_of_distances": _ours,
    "river_one_class_svm": _online(
        anomaly.OneClassSVM, lambda m, z: float(m.score_one(_named(z))), lambda m, z: m.learn_one(_named(z))
    ),
    "river_half_space_trees": _online(
        lambda: anomaly.HalfSpaceTrees(n_trees=25, height=7, window_size=250, seed=1),
        lambda m, z: float(m.score_one(_squeezed(z))),
        lambda m, z: m.learn_one(_squeezed(z)),
    ),
    "river_gaussian_scorers": _online(
        lambda: [anomaly.GaussianScorer(window_size=None, grace_period=100) for _ in kernel.FEATURES],
        _gauss_score,
        _gauss_learn,
    ),
    "largest_deviation": _online(lambda: None, lambda _, z: float(np.abs(z).max()), lambda _m, _z: None),
}


def _fleet(trees: kernel.FleetTrees) -> Model:
    def run(x: Floats, sound: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
        score = kernel.fleet_score(trees, x)
        limit, odd = stats.Quantile(_QUANTILE), np.zeros(len(x), np.bool_)
        for i, value in enumerate(score.tolist()):
            top = limit.get()
            odd[i] = i >= _GRACE and top is not None and value >= top
            if sound[i]:
                limit.update(value)
        return odd, len(pickle.dumps(limit))

    return run


def _judge(model: Model, healthy: Windows, odd: Mapping[str, Windows], vehicles: int) -> dict[str, float]:
    """Score a model at each price: the fewest odd windows that keep healthy packs within it."""
    began = perf_counter()
    flags = {name: _flags(model, w) for name, w in {"": healthy, **odd}.items()}
    spent = perf_counter() - began
    size = max(size for _, size in flags.values())
    out: dict[str, float] = {}
    for price, budget in BUDGETS.items():
        many = next(k for k in range(1, _AMONG + 2) if k > _AMONG or _false(healthy, flags[""][0], k) <= budget)
        out[f"{price}_windows_of_ten"] = float(many) if many <= _AMONG else np.inf
        out[f"{price}_false_per_vehicle_month"] = _false(healthy, flags[""][0], many)
        for name, w in odd.items():
            delays = _delays(w, flags[name][0], many, vehicles)
            alone = [v for v in range(vehicles) if np.isfinite(delays[v]) and v not in w.incident_ns]
            out[f"{price}_{name}_found_pct"] = 100.0 * float(np.isfinite(delays).mean())
            out[f"{price}_{name}_found_alone_pct"] = 100.0 * len(alone) / vehicles
            out[f"{price}_{name}_median_delay_h"] = float(np.median(delays))
    out["us_per_window"] = 1e6 * spent / sum(len(w.x) for w in (healthy, *odd.values()))
    out["bytes_per_pack"] = float(size)
    return out


def _packs(w: Windows) -> Iterator[slice]:
    edges = np.flatnonzero(np.diff(w.vehicle, prepend=-1, append=-1))
    return (slice(int(a), int(b)) for a, b in pairwise(edges))


def _flags(model: Model, w: Windows) -> tuple[NDArray[np.bool_], int]:
    parts = [model(w.x[p], w.sound[p]) for p in _packs(w)]
    return np.concatenate([odd for odd, _ in parts]), max(size for _, size in parts)


def _events(w: Windows, odd: NDArray[np.bool_], many: int) -> list[tuple[int, int]]:
    """Give (vehicle, time) of each event: `many` odd windows among ten in a row; once a day at most."""
    out: list[tuple[int, int]] = []
    for p in _packs(w):
        among = np.convolve(odd[p], np.ones(_AMONG, np.int64))[: p.stop - p.start]
        last = -_SAME_NS
        for t in w.end_ns[p][among >= many].tolist():
            if t - last >= _SAME_NS:
                out.append((int(w.vehicle[p.start]), t))
            last = t
    return out


def _false(w: Windows, odd: NDArray[np.bool_], many: int) -> float:
    return len(_events(w, odd, many)) / w.months


def _delays(w: Windows, odd: NDArray[np.bool_], many: int, vehicles: int) -> Floats:
    """Give the hours from the oddity's beginning to the first event, by vehicle; inf where there is none."""
    delays = np.full(vehicles, np.inf)
    for vehicle, t in _events(w, odd, many):
        if t >= w.from_ns:
            delays[vehicle] = min(delays[vehicle], (t - w.from_ns) / 3.6e12)
    return delays


def _by_time(w: Windows) -> Floats:
    """Give the features in the order in which a lake's are trained on."""
    return w.x[np.lexsort((w.vehicle, w.end_ns))]
