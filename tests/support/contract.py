"""How every kernel and every step is made, fed and compared: one table for the contract suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators import anomaly, clean, diagnose, estimate, incidents, window
from operators.kernels import anomaly as anomaly_kernel
from operators.kernels import diagnose as diagnose_kernel
from operators.kernels import drift, plausible, sessions
from operators.kernels import estimate as estimate_kernel
from operators.kernels import window as window_kernel
from operators.kernels.clean import CleanConfig
from operators.kernels.estimate import EstimateConfig
from operators.kernels.incidents import IncidentsConfig
from operators.kernels.slots import State
from operators.shard import Build, ShardLogic
from schemas.frames import BACKFILL, LIVE, FrameBlock
from schemas.pack import PackModel, load_pack
from schemas.quality import FROZEN, NO_CELLS
from tests.support.frames import NS, T0_NS, estimated, frames

Columns = dict[str, NDArray[Any]]
SHAPES = [(1, 0), (8, 1), (96, 16), (200, 1)]  # cells, probes
PACKS = 5


def model(cells: int, probes: int) -> PackModel:
    return load_pack(f"generic-nmc@{cells}c{probes}t60ah")


# -- what kernels are fed


def plain(n: int, cells: int, probes: int, seed: int = 0) -> FrameBlock:
    """N frames of PACKS packs, as clean and estimate would pass them on: times rise, some columns lack values."""
    draw = np.random.default_rng(seed)
    pack = draw.integers(0, PACKS, n)
    step_s = draw.choice([1.0, 1.0, 1.0, 10.0, 100.0, 4000.0], n)
    t_s, dt_s, last = np.zeros(n), np.full(n, np.nan), np.zeros(PACKS)
    for row, p in enumerate(pack.tolist()):
        dt_s[row] = step_s[row] if last[p] else np.nan
        t_s[row] = last[p] = last[p] + step_s[row]
    current = np.repeat(draw.normal(-10, 40, n // 5 + 1), 5)[:n]
    cell_v = 3.7 + 0.001 * current[:, None] + draw.normal(0, 0.01, (n, cells))
    cell_v[draw.random((n, cells)) < 0.02] = np.nan
    block = frames(
        t_s, current, cell_v=cell_v, temp_c=25 + draw.normal(0, 3, (n, probes)), cells=cells, probes=probes, pack=pack,
        names=tuple("ABCDE"), model=model(cells, probes).name, lane=np.where(draw.random(n) < 0.05, BACKFILL, LIVE),
        context={"speed_kmh": draw.choice([0, 50, np.nan], n), "soc_bms": draw.random(n), "ambient_c": draw.random(n)},
    )  # fmt: skip

    def per_cell(scale: float) -> NDArray[np.float32]:
        return draw.normal(0, scale, (n, cells)).astype(np.float32)

    return estimated(
        block,
        dt_s=dt_s,
        quality=draw.choice([0, 0, 0, 1, FROZEN, NO_CELLS], n).astype(np.uint32),
        z_med=draw.random(n),
        soc=draw.random(n),
        d_soc=per_cell(0.02),
        d_r0=per_cell(0.2),
        d_q=per_cell(0.05),
        resid_v=per_cell(0.01),
        v_med=np.nanmedian(np.column_stack([cell_v, np.full(n, 3.7)]), axis=1).astype(np.float32),
    )


def _floats(block: FrameBlock, change: Callable[[NDArray[Any]], NDArray[Any]]) -> FrameBlock:
    """Replace every column of floats."""

    def over(columns: Mapping[str, NDArray[Any]]) -> Columns:
        return {k: change(v) if v.dtype.kind == "f" else v for k, v in columns.items()}

    fixed = over({k: getattr(block, k) for k in ("current_a", "pack_v", "cell_v", "temp_c")})
    return replace(block.with_frames(**fixed), context=over(block.context), derived=over(block.derived))


def nan(n: int, cells: int, probes: int) -> FrameBlock:
    """No value is available."""
    block = _floats(plain(n, cells, probes), lambda v: np.full_like(v, np.nan))
    return block.with_derived(cells_ok=np.zeros(n, np.int16))


def holes(n: int, cells: int, probes: int) -> FrameBlock:
    """Any value may be missing."""
    draw = np.random.default_rng(7)
    block = plain(n, cells, probes)
    dt_s = block.derived["dt_s"]
    holed = _floats(block, lambda v: np.where(draw.random(v.shape) < 0.3, v.dtype.type(np.nan), v))
    return holed.with_derived(dt_s=dt_s)


def bounds(n: int, cells: int, probes: int) -> FrameBlock:
    """The ends of what clean lets through, flat and jumping."""
    draw = np.random.default_rng(8)
    ends = {"cell_v": (0.5, 5.0), "temp_c": (-50.0, 150.0), "current_a": (-3000.0, 3000.0), "pack_v": (1e-3, 1500.0)}
    block = plain(n, cells, probes)
    columns = {k: np.where(draw.random(getattr(block, k).shape) < 0.5, *e).astype(np.float32) for k, e in ends.items()}
    return block.with_frames(**columns)


def still(n: int, cells: int, probes: int) -> FrameBlock:
    """Time stands still, and any value may be missing."""
    block = holes(n, cells, probes)
    return block.with_frames(t_ns=np.full(n, T0_NS + NS)).with_derived(dt_s=np.zeros(n))


def repeated(n: int, cells: int, probes: int) -> FrameBlock:
    """Every frame comes twice."""
    block = plain((n + 1) // 2, cells, probes)
    block = block.take(np.repeat(np.arange(len(block)), 2)[:n])
    dt_s = block.derived["dt_s"].copy()
    dt_s[1::2] = 0.0
    return block.with_derived(dt_s=dt_s)


FEEDS = {f.__name__: f for f in (plain, nan, holes, bounds, still, repeated)}


# -- kernels


@dataclass(frozen=True)
class Kernel:
    """A stateful kernel: its empty state, and a step over a block that gives columns, in row order."""

    empty: Callable[[int, int, int], State]
    run: Callable[[Any, FrameBlock], Columns]


def _plausible(state: plausible.PlausibleState, block: FrameBlock) -> Columns:
    cfg, d = plausible.PlausibleConfig(), block.derived
    columns = tuple(x.copy() for x in (block.current_a, block.pack_v, block.cell_v, block.temp_c))
    content, _ = plausible.screen(cfg, *columns)
    quality, ok = plausible.step(
        cfg, state, 60.0, d["slot"], block.lane, content, d["dt_s"], d["quality"], columns,  # type: ignore[arg-type]
    )  # fmt: skip
    return dict(zip(("content", "quality", "ok", "i", "p", "v", "t"), (content, quality, ok, *columns), strict=True))


def _estimate(state: estimate_kernel.EstimateState, block: FrameBlock) -> Columns:
    flow = estimate.EstimateStep(model(block.cells, block.probes), EstimateConfig())
    flow.state = state
    (out,) = flow.block(replace(block, derived={k: block.derived[k] for k in ("slot", "dt_s", "quality")}))
    assert isinstance(out, FrameBlock)
    return {k: v for k, v in out.derived.items() if k != "slot"}


def _diagnose(state: diagnose_kernel.DiagnoseState, block: FrameBlock) -> Columns:
    found = diagnose_kernel.step(diagnose_kernel.DiagnoseConfig.of(model(block.cells, block.probes)), state, block)
    return {k: v for k, v in found.items() if k != "row"}


def _window(state: window_kernel.WindowState, block: FrameBlock) -> Columns:
    closed = window_kernel.step(window_kernel.WindowConfig(), state, block)
    return {k: getattr(closed, k) for k in ("slot", "start_ns", "acc", "last")}


def _sessions(state: sessions.SessionState, block: FrameBlock) -> Columns:
    ended, _ = sessions.step(sessions.SessionConfig(), state, block, 60.0)
    return {k: getattr(ended, k) for k in ("slot", "mode", "begin_ns", "end_ns", "acc")}


def _features(block: FrameBlock, count: int) -> NDArray[np.float64]:
    """Any numbers of the block stand for features of windows."""
    columns = [block.current_a, block.pack_v, block.derived["soc"], block.derived["v_med"]]
    return np.ascontiguousarray(np.stack([columns[f % 4] * (1 + f) for f in range(count)], axis=1).astype(np.float64))


def _anomaly(state: anomaly_kernel.AnomalyState, block: FrameBlock) -> Columns:
    x = _features(block, len(anomaly_kernel.FEATURES))
    cfg = anomaly_kernel.AnomalyConfig(grace=10, quantile=0.9)
    out = anomaly_kernel.step(cfg, state, block.derived["slot"], x, block.derived["quality"] == 0)
    return dict(zip(("score", "judged", "feature", "deviation"), out, strict=True))


def _drift(state: drift.DriftState, block: FrameBlock) -> Columns:
    share, changed = drift.step(drift.DriftConfig(), state, block.derived["slot"], _features(block, drift.FEATURES))
    return {"share": share, "changed": changed}


KERNELS = {
    "plausible": Kernel(plausible.PlausibleState.empty, _plausible),
    "estimate": Kernel(estimate_kernel.EstimateState.empty, _estimate),
    "diagnose": Kernel(diagnose_kernel.DiagnoseState.empty, _diagnose),
    "window": Kernel(window_kernel.WindowState.empty, _window),
    "sessions": Kernel(sessions.SessionState.empty, _sessions),
    "anomaly": Kernel(anomaly_kernel.AnomalyState.empty, _anomaly),
    "drift": Kernel(drift.DriftState.empty, _drift),
}
# Kernels that are run as parts: module → where.
PARTS = dict.fromkeys(("limits", "sensing", "thermal", "probes", "cooling", "spread", "residuals", "aging"), "diagnose")
# Kernels whose state is more than arrays: they are run as steps.
AS_STEPS = {"clean", "incidents"}


def joined(parts: list[Columns]) -> Columns:
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def unequal(a: Columns, b: Columns) -> list[str]:
    """Name the columns that differ in any bit (NaN apart, which has many)."""
    return [k for k in a.keys() | b.keys() if k not in a or k not in b or _bits(a[k]) != _bits(b[k])]


def _bits(values: NDArray[Any]) -> tuple[Any, ...]:
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return values.dtype, values.shape, values.tobytes()


# -- steps

STEPS: dict[str, Build] = {
    "clean": lambda pack, slots: clean.CleanStep(pack, slots, CleanConfig(), "test"),
    "estimate": lambda pack, _: estimate.EstimateStep(pack, EstimateConfig()),
    "diagnose": lambda pack, _: diagnose.DiagnoseStep(pack, diagnose_kernel.DiagnoseConfig.of(pack)),
    "window": lambda pack, slots: window.WindowStep(
        window.WindowStepConfig(window=window_kernel.WindowConfig(10.0), state_s=60.0, keep_frames=True), pack, slots
    ),
    "anomaly": lambda pack, _: anomaly.AnomalyStep(pack, anomaly_kernel.AnomalyConfig(grace=10), None),
    "incidents": lambda pack, slots: incidents.IncidentsStep(pack, slots, IncidentsConfig()),
}  # in the order of the flow


def shard(name: str, resume: dict[str, Any] | None = None) -> ShardLogic:
    return ShardLogic(STEPS[name], load_pack, resume, assigns=name == "clean")
