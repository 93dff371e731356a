"""What a stream step is: its work on one shard, and the slots of that shard's packs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels.lines import OPEN
from schemas.events import Item, Rows
from schemas.frames import FrameBlock
from schemas.ids import hash64


@dataclass(slots=True)
class Slots:
    """Which pack owns which slot of a shard; the same in every step of a flow."""

    packs: list[str] = field(default_factory=list)
    vehicles: list[str] = field(default_factory=list)
    pack_hash: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    # Slots for copies of a pack's state: the slot that was copied, -1 while it is free; and the revision of its records
    copies: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the slots in use."""
        return len(self.packs)

    def add(self, packs: Iterable[str], vehicles: Iterable[str]) -> None:
        """Give each pack the next slot."""
        self.packs.extend(packs)
        self.vehicles.extend(vehicles)
        new = [hash64(p) for p in self.packs[len(self.pack_hash) :]]
        self.pack_hash = np.concatenate([self.pack_hash, np.array(new, np.int64)])

    @property
    def holding(self) -> bool:
        """Say whether any copy is held."""
        return any(of >= 0 for of, _ in self.copies.values())

    def revision(self, slot: int) -> int:
        """Give the revision of what a slot says of its pack's windows and states: 0, or more in a copy."""
        return self.copies.get(slot, (-1, 0))[1]

    def copy_of(self, slot: int) -> int:
        """Give the copy that was made of a slot, -1 where none is held."""
        return next((h for h, (of, _) in self.copies.items() if of == slot), -1)

    def do(self, kind: int, a: int, b: int) -> None:
        """Follow what clean does to a copy (lines.OP)."""
        if kind == OPEN:
            if b >= len(self):
                self.add([""] * (b + 1 - len(self)), [""] * (b + 1 - len(self)))
            self.packs[b], self.vehicles[b], self.pack_hash[b] = self.packs[a], self.vehicles[a], self.pack_hash[a]
            self.copies[b] = (a, self.revision(a) + 1)
            return
        for h, (of, revision) in self.copies.items():
            if of == a:  # what was copied from this copy belongs to its place
                self.copies[h] = (b, revision)
        self.copies[a] = (-1, 0)

    def fill(self, packs: Iterable[str], vehicles: Iterable[str], pack_hash: NDArray[np.int64]) -> None:
        """Take the slots of a snapshot."""
        self.packs[:], self.vehicles[:] = packs, vehicles
        self.pack_hash = pack_hash.astype(np.int64)

    def keep(self, kept: NDArray[np.int64]) -> None:
        """Drop every slot but `kept`, which become 0, 1 and so on."""
        self.packs = [self.packs[s] for s in kept.tolist()]
        self.vehicles = [self.vehicles[s] for s in kept.tolist()]
        self.pack_hash = self.pack_hash[kept]
        place = {s: i for i, s in enumerate(kept.tolist())}
        self.copies = {place[h]: (place.get(of, -1), r) for h, (of, r) in self.copies.items() if h in place}


def _no_slots(_count: int) -> NDArray[np.int32]:
    return np.zeros(0, np.int32)


class Step:
    """One step's work on one shard.  `state` holds its arrays; ShardLogic grows, dumps and restores them.

    Override what the step handles: each method returns what to emit, in order.  Final outputs must
    depend on each pack's own rows only, never on how they were cut into blocks.
    """

    state: Any
    more_slots: Callable[[int], NDArray[np.int32]] = staticmethod(_no_slots)  # ShardLogic's: makes some for copies

    def block(self, block: FrameBlock) -> list[Item]:
        """Handle frames; `block.derived` has slot and pack_hash."""
        return [block]

    def rows(self, rows: Rows) -> list[Item]:
        """Handle records in columns; where they have a slot column it is checked."""
        return [rows]

    def tick(self, now_ns: int) -> list[Item]:
        """Handle wall time."""
        return []

    def eof(self) -> list[Item]:
        """Handle the end of input; must empty what it emits, since it fires again after a resumed end."""
        return []

    def copying(self, kind: int, a: int, b: int) -> list[Item]:
        """Follow what becomes of a copy (lines.OP), before the arrays do; gives what to emit for it."""
        return []

    def last_t_ns(self) -> NDArray[np.int64] | None:
        """Give each slot's newest time, in the step that decides on eviction (clean); else None."""
        return None

    def repeats(self) -> int:
        """Count the frames that came again, in the step that knows them (clean); else 0."""
        return 0

    def keep(self, kept: NDArray[np.int64]) -> None:
        """Follow an eviction in state beside the arrays."""

    def dump(self) -> dict[str, Any]:
        """Give plain values of state beside the arrays, never written into afterwards."""
        return {}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
