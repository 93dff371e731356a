"""Accept, order and check the frames of a shard's packs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import lines, order, plausible
from operators.kernels.plausible import PlausibleConfig, PlausibleState
from operators.kernels.pool import Pool
from operators.kernels.waiting import COUNT, empty_ends
from schemas.frames import FrameBlock

REASONS = lines.REASONS
_NS = 10**9
_RELEASED = ("src", "content", "dt_s", "slot", "flags")


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """What is accepted: times and order here, values in `values`."""

    lateness_s: float = 5.0  # disorder up to this much event time is invisible
    clock_jump_s: float = 60.0  # further ahead of the broker, or of the pack's own line, a clock is doubted
    min_time_s: float = 1_262_304_000.0  # 2010-01-01T00:00Z
    max_time_s: float = 4_102_444_800.0  # 2100-01-01T00:00Z
    silence_s: float = 60.0  # where nothing is counted, a longer silence is a gap (10 periods if that is more)
    most_waiting: int = 4096  # frames that one pack may have waiting
    values: PlausibleConfig = field(default_factory=PlausibleConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("lateness_s", "clock_jump_s", "min_time_s", "silence_s", "most_waiting"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)
        for low, high in (("lateness_s", "clock_jump_s"), ("min_time_s", "max_time_s")):
            if not getattr(self, low) < getattr(self, high):
                msg = f"{low} must be < {high} ({getattr(self, high)}); got {getattr(self, low)}"
                raise ValueError(msg)


@dataclass(slots=True)
class CleanState:
    """One slot per pack: its line in time and number, what it released lately, its last values."""

    line: NDArray[Any]  # (S,) lines.LINE
    ends: NDArray[np.int32]  # (S, lists, 3) first, last and number of the nodes in its lists
    ring: NDArray[np.uint32]  # (S, lines.MARKS) marks of released and refused frames
    values: PlausibleState

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> CleanState:
        """State of packs never seen."""
        return cls(
            lines.fresh(slots),
            empty_ends(slots),
            np.zeros((slots, lines.MARKS), np.uint32),
            PlausibleState.empty(slots, cells, probes),
        )


@dataclass(frozen=True, slots=True)
class Released:
    """What became of the frames: `frames` with slot, dt_s, quality and cells_ok; refusals row by row; gaps."""

    frames: FrameBlock
    refused: FrameBlock | None
    refusals: NDArray[Any]  # lines.REFUSAL, one per row of `refused`
    gaps: NDArray[Any]  # lines.GAP


def step(cfg: CleanConfig, state: CleanState, pool: Pool, nominal_ah: float, block: FrameBlock) -> Released:
    """Take N frames in arrival order; give those of them, and of the waiting ones, whose turn has come.

    `block.derived["slot"]` (N,) says which slot each row's pack owns.  `nominal_ah` is that of a cell group.
    Released LIVE frames of a pack are in strictly increasing time.  No input is written into.
    """
    slot = block.derived["slot"]
    content, odd = plausible.screen(cfg.values, block.current_a, block.pack_v, block.cell_v, block.temp_c)
    out = lines.room(len(block) + pool.waiting)
    row = _walk(cfg, state, pool, block, content, out, 0)
    while row < len(block):
        pool.grow()
        row = _walk(cfg, state, pool, block, content, out, row)
    pack_of = np.zeros(len(state.line), np.int32)
    pack_of[slot] = block.pack
    return _released(cfg, state, pool, nominal_ah, block, out, pack_of, odd=odd)


def finish(cfg: CleanConfig, state: CleanState, pool: Pool, nominal_ah: float, nothing: FrameBlock) -> Released:
    """Give all that waits, in order: the input has ended.  `nothing`: no rows, but pack and vehicle of each slot."""
    block = nothing.with_derived(slot=np.zeros(0, np.int32))
    out = lines.room(pool.waiting)
    _walk(cfg, state, pool, block, np.zeros(0, np.int64), out, 0, end=True)
    pack_of = np.arange(len(state.line), dtype=np.int32)
    return _released(cfg, state, pool, nominal_ah, block, out, pack_of, odd=True)


def last_t_ns(state: CleanState) -> NDArray[np.int64]:
    """Give each pack's newest time; a pack with frames waiting counts as seen now."""
    line: NDArray[Any] = state.line
    last: NDArray[np.int64] = np.maximum(line["newest"], line["last_t"])
    waiting = state.ends[:, :, COUNT].sum(axis=1) > 0
    return np.where(waiting, last.max(initial=0), last)


def _released(
    cfg: CleanConfig, state: CleanState, pool: Pool, nominal_ah: float, block: FrameBlock, out: lines.Result,
    pack_of: NDArray[np.int32], *, odd: bool,
) -> Released:  # fmt: skip
    frames_n, refused_n, gaps_n, mixed = out.num.tolist()
    src, content, dt_s, slot, flags = (np.ascontiguousarray(out.released[k][:frames_n]) for k in _RELEASED)
    frames = pool.take(src, pack_of[slot], block) if mixed else block
    refusals = out.refused[:refused_n]
    refused = None
    if refused_n:
        refused = pool.take(np.ascontiguousarray(refusals["src"]), pack_of[refusals["slot"]], block)
    pool.store(block)
    if odd and not mixed:
        frames = frames.with_frames(
            **{name: getattr(frames, name).copy() for name in ("current_a", "pack_v", "cell_v", "temp_c")}
        )
    quality, cells_ok = plausible.step(
        cfg.values, state.values, nominal_ah, slot, frames.lane, content, dt_s, flags,
        (frames.current_a, frames.pack_v, frames.cell_v, frames.temp_c),
    )  # fmt: skip
    frames = frames.with_derived(slot=slot, dt_s=dt_s, quality=quality, cells_ok=cells_ok)
    return Released(frames, refused, refusals, out.gaps[:gaps_n])


def _walk(
    cfg: CleanConfig, state: CleanState, pool: Pool, block: FrameBlock, content: NDArray[np.int64], out: lines.Result,
    start: int, *, end: bool = False,
) -> int:  # fmt: skip
    columns = lines.Columns(block.derived["slot"], block.t_ns, block.seq, block.lane, block.recv_ns, content)
    packs = lines.Lines(state.line, state.ends, state.ring, pool.node, pool.ctl)
    times = (cfg.lateness_s, cfg.clock_jump_s, cfg.min_time_s, cfg.max_time_s, cfg.silence_s)
    lateness, jump, low, high, silence = (int(t * _NS) for t in times)
    rules = lines.Rules(lateness, jump, low, high, silence, cfg.most_waiting)
    return int(order.walk(start, columns, packs, out, rules, end))
