"""How replayed items enter a flow: one partition that resumes by position, at a chosen pace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from replay.pace import Pace
from schemas.events import Item
from schemas.frames import FrameBlock, concat

ROWS = 16_384  # a shard call should get at least 250 rows


class ReplaySource(FixedPartitionedSource[Item, int]):
    """Items that can be made again from their beginning, the same each time (files, simulation)."""

    def __init__(self, make: Callable[[], Iterable[Item]], pace: Pace | None = None) -> None:
        """Take what makes the items, and a pace unless as fast as possible."""
        self._make, self._pace = make, pace

    def list_parts(self) -> list[str]:
        """Name the only partition."""
        return ["replay"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Partition:
        """Start over, or after the items that were already taken."""
        return _Partition(self._make(), self._pace, resume_state or 0)


class _Partition(StatefulSourcePartition[Item, int]):
    def __init__(self, items: Iterable[Item], pace: Pace | None, done: int) -> None:
        # What can be reached by number is not read again from its beginning.
        self._items = (
            (items[i] for i in range(done, len(items)))
            if isinstance(items, Sequence)
            else islice(iter(items), done, None)
        )
        self._pace, self._done = pace, done
        self._next: Item | None = None
        self._awake: datetime | None = None

    def next_batch(self) -> list[Item]:
        if self._next is None:
            self._next = next(self._items)  # its StopIteration is the end of input
        if self._pace is not None and isinstance(self._next, FrameBlock) and len(self._next):
            self._awake = self._pace.due(int(self._next.t_ns[0]))
            if self._awake is not None:
                return []
        item, self._next = self._next, None
        self._done += 1
        return [item]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        return self._done


def gather(items: Iterable[Item], rows: int = ROWS) -> Iterator[Item]:
    """Join neighbouring blocks of one model into blocks of about `rows` frames.

    A block names one vehicle per pack: where a pack has moved to another, a new block begins.
    """
    held: list[FrameBlock] = []
    owner: dict[str, str] = {}  # of the packs in `held`
    for item in items:
        fits = isinstance(item, FrameBlock) and (not held or _alike(item, held[-1], owner))
        if held and (not fits or sum(map(len, held)) >= rows):
            yield concat(held)
            held, owner = [], {}
        if isinstance(item, FrameBlock):
            if not held or item.packs is not held[-1].packs or item.vehicles is not held[-1].vehicles:
                owner.update(zip(item.packs, item.vehicles, strict=True))
            held.append(item)
        else:
            yield item
    if held:
        yield concat(held)


def _alike(block: FrameBlock, last: FrameBlock, owner: dict[str, str]) -> bool:
    """Say whether a block may be joined to those before it."""
    if (block.model, block.cells, block.probes) != (last.model, last.cells, last.probes):
        return False
    if block.packs is last.packs and block.vehicles is last.vehicles:
        return True
    return all(owner.get(p, v) == v for p, v in zip(block.packs, block.vehicles, strict=True))


def between(items: Iterable[Item], from_ns: int | None, to_ns: int | None) -> Iterator[Item]:
    """Keep the frames with from_ns <= t < to_ns."""
    for item in items:
        if not isinstance(item, FrameBlock):
            yield item
            continue
        keep = np.ones(len(item), np.bool_)
        if from_ns is not None:
            keep &= item.t_ns >= from_ns
        if to_ns is not None:
            keep &= item.t_ns < to_ns
        if keep.all():
            yield item
        elif keep.any():
            yield item.take(np.flatnonzero(keep))
