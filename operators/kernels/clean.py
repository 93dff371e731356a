"""Accept, order and check the frames of a shard's packs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import lines, order, plausible, rewind, slots
from operators.kernels.plausible import PlausibleConfig, PlausibleState
from operators.kernels.pool import Pool
from operators.kernels.waiting import COUNT, FREE, empty_ends
from schemas.frames import FrameBlock

REASONS = lines.REASONS
_NS = 10**9
_COPIES_AT_ONCE = 8
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
    copy_after_s: float = 60.0  # a longer gap can be filled afterwards, for which the pack's state is copied;
    copy_run: int = 3  # and one longer than the lateness in which so many numbers in a row are missing
    keep_s: float = 86_400.0  # how long a copy waits for the first frame of its gap,
    settle_s: float = 3600.0  # and for the next one, in the pack's own time
    most_held: int = 4096  # frames after a gap that one pack may hold until it is filled
    most_pooled: int = 8192  # that all packs of a shard may have waiting while a gap is open
    copies_share: float = 0.02  # of a shard's packs that can have a copy at one time, and
    copies_least: int = 8  # at least so many
    keep_raw: bool = False  # frames get a derived column `raw`: see _with_raw
    values: PlausibleConfig = field(default_factory=PlausibleConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("lateness_s", "clock_jump_s", "min_time_s", "silence_s", "most_waiting", "copy_after_s",
                     "copy_run", "keep_s", "settle_s", "most_held", "most_pooled"):  # fmt: skip
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
    hole: NDArray[Any]  # (S,) lines.HOLE
    ends: NDArray[np.int32]  # (S, lists, 3) first, last and number of the nodes in its lists
    ring: NDArray[np.uint32]  # (S, lines.MARKS) marks of released and refused frames
    values: PlausibleState

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> CleanState:
        """State of packs never seen."""
        return cls(
            lines.fresh(slots),
            lines.no_holes(slots),
            empty_ends(slots),
            np.zeros((slots, lines.MARKS), np.uint32),
            PlausibleState.empty(slots, cells, probes),
        )


@dataclass(frozen=True, slots=True)
class Released:
    """What became of the frames: `frames` with slot, dt_s, quality and cells_ok; refusals row by row; gaps.

    Where a pack's state is copied, or a copy adopted, `more` goes on with (what to do, the frames after that).
    """

    frames: FrameBlock
    refused: FrameBlock | None
    refusals: NDArray[Any]  # lines.REFUSAL, one per row of `refused`
    gaps: NDArray[Any]  # lines.GAP
    more: tuple[tuple[NDArray[Any], FrameBlock], ...] = ()  # lines.OP


@dataclass(frozen=True, slots=True)
class Copies:
    """Slots for copies of packs' state: how many more may be made, and what makes them."""

    spare: int
    make: Callable[[int], tuple[CleanState, NDArray[np.int32]]]  # gives the state that has them, and which they are


def step(
    cfg: CleanConfig, state: CleanState, pool: Pool, nominal_ah: float, block: FrameBlock, copies: Copies | None = None
) -> Released:
    """Take N frames in arrival order; give those of them, and of the waiting ones, whose turn has come.

    `block.derived["slot"]` (N,) says which slot each row's pack owns.  `nominal_ah` is that of a cell group.
    Released frames of a slot are in strictly increasing time, and LIVE whatever lane they came in.  No input is
    written into.  Without `copies` none is made.
    """
    slot = block.derived["slot"]
    content, odd = plausible.screen(cfg.values, block.current_a, block.pack_v, block.cell_v, block.temp_c)
    out = lines.room(len(block) + pool.waiting)
    spare = copies.spare if copies is not None else 0
    pool.copies[1] = spare > 0
    row = _walk(cfg, state, pool, block, content, out, 0)
    while row < len(block):
        if pool.ctl[FREE] < 0:
            pool.grow()
        elif copies is not None:
            state, made = copies.make(min(spare, _COPIES_AT_ONCE))
            state.hole["owner"][made] = lines.FREE_COPY
            spare = spare - made.size if made.size else 0
            pool.copies = np.concatenate([[made.size, spare > 0], made]).astype(np.int32)
            pool.made += made.size
        row = _walk(cfg, state, pool, block, content, out, row)
    if copies is not None and not spare and not pool.copies[0]:
        rewind.shed(_lines(state, pool), out, 1 + pool.made // 8)
    pack_of = np.zeros(len(state.line), np.int32)
    pack_of[slot] = block.pack
    if pool.made:
        _name_copies(state, out, pack_of)
    return _released(cfg, state, pool, nominal_ah, block, out, pack_of, odd=odd)


def finish(cfg: CleanConfig, state: CleanState, pool: Pool, nominal_ah: float, nothing: FrameBlock) -> Released:
    """Give all that waits, in order: the input has ended.  `nothing`: no rows, but pack and vehicle of each slot."""
    block = nothing.with_derived(slot=np.zeros(0, np.int32))
    out = lines.room(pool.waiting)
    pool.copies[:2] = 0  # no more gap can be filled
    _walk(cfg, state, pool, block, np.zeros(0, np.int64), out, 0, end=True)
    pack_of = np.arange(len(state.line), dtype=np.int32)
    _name_copies(state, out, pack_of)
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
    frames_n, refused_n, gaps_n, mixed, ops_n = out.num.tolist()
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
    if frames.lane.any():
        frames = frames.with_derived(resent=frames.lane).with_frames(lane=np.zeros(len(frames), np.uint8))
    frames = frames.with_derived(slot=slot, dt_s=dt_s)
    check = partial(_checked, cfg, state, nominal_ah, odd=odd or bool(mixed))
    if not ops_n:
        return Released(check(frames, content, flags), refused, refusals, out.gaps[:gaps_n])
    ops = out.ops[:ops_n]
    parts, turns = _parts(slot, ops)
    first = check(frames.take(parts[0]), content[parts[0]], flags[parts[0]])
    more = []
    for turn, rows in zip(turns, parts[1:], strict=True):
        for _, kind, a, b in turn.tolist():
            if kind != lines.DROP:
                slots.copy(state.values, a, b)
        more.append((turn, check(frames.take(rows), content[rows], flags[rows])))
    pool.find_copies(state.hole)
    return Released(first, refused, refusals, out.gaps[:gaps_n], tuple(more))


def _checked(
    cfg: CleanConfig, state: CleanState, nominal_ah: float, frames: FrameBlock, content: NDArray[np.int64],
    flags: NDArray[np.uint32], *, odd: bool,
) -> FrameBlock:  # fmt: skip
    raw = _values(frames) if cfg.keep_raw and odd else None
    quality, cells_ok = plausible.step(
        cfg.values, state.values, nominal_ah, frames.derived["slot"], frames.lane, content, frames.derived["dt_s"],
        flags, (frames.current_a, frames.pack_v, frames.cell_v, frames.temp_c),
    )  # fmt: skip
    if raw is not None:
        frames = _with_raw(frames, raw)
    return frames.with_derived(quality=quality, cells_ok=cells_ok)


def _values(frames: FrameBlock) -> NDArray[np.float32]:
    return np.column_stack([frames.current_a, frames.pack_v, frames.cell_v, frames.temp_c])


def _with_raw(frames: FrameBlock, raw: NDArray[np.float32]) -> FrameBlock:
    """Keep the values as they came (N, 2 + C + P) where one of them has been taken out; NaN in other rows."""
    changed = (np.isnan(_values(frames)) & ~np.isnan(raw)).any(axis=1)
    raw[~changed] = np.nan
    return frames.with_derived(raw=raw) if changed.any() else frames


def _parts(slot: NDArray[np.int32], ops: NDArray[Any]) -> tuple[list[NDArray[np.int64]], list[NDArray[Any]]]:
    """Cut released rows into as few parts as the packs' copies allow: T + 1 parts, and what is done between them.

    Packs do not know of each other, so only the order of each pack's own rows and copies matters.
    """
    turn_of = np.zeros(slot.size, np.int64)
    done: dict[int, int] = {}  # by slot: how much has been done to it
    when = np.empty(len(ops), np.int64)
    for k, (at, _, a, b) in enumerate(ops.tolist()):
        when[k] = turn = max(done.get(a, 0), done.get(b, 0))
        done[a] = done[b] = turn + 1
        rows = at + np.flatnonzero((slot[at:] == a) | (slot[at:] == b))
        turn_of[rows] = turn + 1
    turns = [ops[when == k] for k in range(int(when.max()) + 1)]
    return [np.flatnonzero(turn_of == k) for k in range(len(turns) + 1)], turns


def _name_copies(state: CleanState, out: lines.Result, pack_of: NDArray[np.int32]) -> None:
    """Give each copy, also one that these rows have used up, the pack of its owner."""
    for _, kind, a, b in out.ops[: out.num[4]].tolist():
        if kind != lines.OPEN:
            pack_of[a] = pack_of[b]
    kept = np.flatnonzero(state.hole["owner"] >= 0)
    pack_of[kept] = pack_of[state.hole["owner"][kept]]


def _walk(
    cfg: CleanConfig, state: CleanState, pool: Pool, block: FrameBlock, content: NDArray[np.int64], out: lines.Result,
    start: int, *, end: bool = False,
) -> int:  # fmt: skip
    columns = lines.Columns(block.derived["slot"], block.t_ns, block.seq, block.lane, block.recv_ns, content)
    times = (cfg.lateness_s, cfg.clock_jump_s, cfg.min_time_s, cfg.max_time_s, cfg.silence_s)
    lateness, jump, low, high, silence = (int(t * _NS) for t in times)
    after, keep, settle = (int(t * _NS) for t in (cfg.copy_after_s, cfg.keep_s, cfg.settle_s))
    rules = lines.Rules(
        lateness,
        jump,
        low,
        high,
        silence,
        cfg.most_waiting,
        after,
        cfg.copy_run,
        keep,
        settle,
        cfg.most_held,
        cfg.most_pooled,
    )
    return int(order.walk(start, columns, _lines(state, pool), out, rules, end))


def _lines(state: CleanState, pool: Pool) -> lines.Lines:
    return lines.Lines(state.line, state.hole, state.ends, state.ring, pool.node, pool.ctl, pool.copies)
