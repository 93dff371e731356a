"""Pass on each pack's frames once, in order and plausible; refused frames become dead letters, holes become gaps."""

from __future__ import annotations

from dataclasses import astuple, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream

from operators.kernels import clean as kernel
from operators.kernels.clean import CleanConfig, CleanState
from operators.kernels.lines import ADOPT, OPEN
from operators.kernels.pool import Pool
from operators.shard import COPY, Packs, Told, shard_step
from operators.step import Slots, Step
from schemas.events import DeadLetter, Gap, Item, Rows
from schemas.frames import FrameBlock, make_block
from schemas.ids import dead_letter_id, record_id
from schemas.pack import PackModel, load_pack
from schemas.wire_json import JSON, row_json


class CleanStep(Step):
    """The accepted lines of one shard's packs, and the frames that wait for their turn."""

    def __init__(self, pack: PackModel, slots: Slots, cfg: CleanConfig, source: str) -> None:
        """Take the pack model, the shard's slots, the settings and the source's name; no pack is known yet."""
        self._pack = pack
        self._slots = slots
        self._cfg = cfg
        self._source = source
        self._pool = Pool()
        self._gaps: dict[int, dict[str, Gap]] = {}  # by copy and id: gaps told of since it was made
        self.state: CleanState = CleanState.empty(0, pack.series, pack.probes)

    def block(self, block: FrameBlock) -> list[Item]:
        """Pass on the frames whose turn has come, then gaps and dead letters."""
        had = len(self._slots.copies)
        room = max(self._cfg.copies_least, int(self._cfg.copies_share * (len(self._slots) - had)))
        copies = kernel.Copies(room - had, self._make_copies)
        return self._items(kernel.step(self._cfg, self.state, self._pool, self._pack.nominal_ah, block, copies))

    def _make_copies(self, count: int) -> tuple[CleanState, np.ndarray[Any, np.dtype[np.int32]]]:
        made = self.more_slots(count)
        return self.state, made

    def eof(self) -> list[Item]:
        """Pass on all that waits."""
        if not self._pool.waiting and not any(of >= 0 for of, _ in self._slots.copies.values()):
            return []
        packs = [p if s not in self._slots.copies else f"{s}" for s, p in enumerate(self._slots.packs)]
        nothing = make_block(
            self._pack.name, packs, vehicles=self._slots.vehicles, pack=[], t_ns=[],
            cell_v=np.empty((0, self._pack.series)), temp_c=np.empty((0, self._pack.probes)),
        )  # fmt: skip
        released = kernel.finish(self._cfg, self.state, self._pool, self._pack.nominal_ah, nothing)
        more = tuple((ops, frames.pruned()) for ops, frames in released.more)
        return self._items(replace(released, frames=released.frames.pruned(), more=more))

    def last_t_ns(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Give each pack's newest time."""
        return kernel.last_t_ns(self.state)[: len(self._slots)]

    def repeats(self) -> int:
        """Count the frames that came again."""
        return int(self.state.line["repeats"].sum())

    def dump(self) -> dict[str, Any]:
        """Copy the frames that wait, and the gaps that may be filled."""
        gaps = [[h, [astuple(g) for g in gaps.values()]] for h, gaps in self._gaps.items()]
        return self._pool.dump(self.state.ends) | {"gaps": gaps}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._pool.load(data, self.state.ends)
        self._pool.find_copies(self.state.hole)
        self._gaps = {h: {g[0]: Gap(*g) for g in gaps} for h, gaps in data["gaps"]}

    def keep(self, kept: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Name the slots of copies anew."""
        place = np.full(int(kept.max(initial=-1)) + 1, -1, np.int32)
        place[kept] = np.arange(kept.size)
        for column in (self.state.line["copy"], self.state.hole["owner"]):
            column[column >= 0] = place[column[column >= 0]]
        self._pool.find_copies(self.state.hole)
        self._gaps = {int(place[h]): g for h, g in self._gaps.items() if h < place.size and place[h] >= 0}

    def _items(self, released: kernel.Released) -> list[Item]:
        for ops, _ in released.more:
            for _, kind, a, b in ops.tolist():
                self._slots.do(kind, a, b)
        items: list[Item] = self._frames(released.frames)
        for ops, frames in released.more:
            items.append(Rows(COPY, self._pack.name, (), (), ops["a"], {k: ops[k].copy() for k in ("kind", "a", "b")}))
            items += self._frames(frames)
        items += [self._gap(*row) for row in released.gaps.tolist()]
        if released.refused is not None:
            for row, (_, _, why, expected_ns) in enumerate(released.refusals.tolist()):
                items.append(self._dead_letter(released.refused, row, kernel.REASONS[why], expected_ns))
        for ops, _ in released.more:
            for _, kind, a, _ in ops.tolist():
                told = self._gaps.pop(a, {}) if kind != OPEN else {}
                # The gaps that a copy has not found any more are filled.
                items += [replace(g, revision=g.revision + 1, missing=0) for g in told.values() if kind == ADOPT]
        return items

    def _frames(self, frames: FrameBlock) -> list[Item]:
        if not len(frames):
            return []
        if "pack_hash" not in frames.derived:
            frames = frames.with_derived(pack_hash=self._slots.pack_hash[frames.derived["slot"]])
        return [frames]

    def _gap(self, slot: int, first: int, last: int, from_ns: int, to_ns: int, copy: int) -> Gap:
        pack = self._slots.packs[slot]
        kind, missing = ("sequence", last - first + 1) if first >= 0 else ("time", -1)
        name = record_id(pack, "gap", f"{kind} {first}", from_ns)
        before = self._gaps.get(slot, {}).pop(name, None)
        gap = Gap(
            name, 0 if before is None else before.revision + 1, self._pack.name, pack, self._slots.vehicles[slot],
            kind, from_ns, to_ns, first, last, missing,
        )  # fmt: skip
        if copy >= 0:
            self._gaps.setdefault(copy, {})[name] = gap
        return gap

    def _dead_letter(self, refused: FrameBlock, row: int, reason: str, expected_ns: int) -> DeadLetter:
        part, offset, at = (int(x[row]) for x in (refused.src_part, refused.src_offset, refused.src_row))
        t_ns, seq = int(refused.t_ns[row]), int(refused.seq[row])
        line = f"its pack's line has {_utc(expected_ns)}" if expected_ns else "its pack has no line yet"
        return DeadLetter(
            id=dead_letter_id(self._source, part, offset, at),
            source=self._source,
            partition=part,
            offset=offset,
            row=at,
            reason=reason,
            detail=f"{_MEANING[reason]}: frame {seq} is stamped {_utc(t_ns)}, {line}",
            pack_id=refused.packs[refused.pack[row]],
            t_ns=t_ns,
            expected_ns=expected_ns,
            content_type=JSON,
            payload=row_json(refused, row),
        )


_REPAIR = " (`ibms repair` puts it in its place)"
_MEANING = {
    "clock_past": "the clock was not set",
    "clock_future": "the clock was ahead",
    "late": f"later frames had been passed on{_REPAIR}",
    "seq_conflict": "another frame has this number",
    "time_conflict": "another frame has this time",
    "backfill_no_copy": f"no copy of the pack's state before this time is kept{_REPAIR}",
    "backfill_overflow": f"there was no room to keep the pack's state before this time{_REPAIR}",
}


def _utc(t_ns: int) -> str:
    try:
        return datetime.fromtimestamp(t_ns // 10**9, UTC).isoformat()
    except (OverflowError, ValueError):  # a year beyond 9999
        return f"{t_ns} ns"


def clean(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs = load_pack,
    cfg: CleanConfig | None = None,
    *,
    source: str = "frames",
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Clean frames over shards; gives each pack its slot.  `source` names where the frames came from."""
    settings = cfg or CleanConfig()

    def build(pack: PackModel, slots: Slots) -> Step:
        return CleanStep(pack, slots, settings, source)

    return shard_step(step_id, up, build, packs, assigns=True, files=files, told=told)
