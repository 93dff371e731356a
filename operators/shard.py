"""How a step keeps the packs of one shard: slots, growth, eviction and snapshots; and how blocks get to shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import bytewax.operators as op
import numpy as np
from bytewax.operators import KeyedStream, StatefulBatchLogic
from numpy.typing import NDArray

from operators import state_files
from operators.kernels import slots as kernel
from operators.kernels.lines import DROP, OPEN
from operators.step import Slots, Step
from schemas.events import Item, Rows, Tick
from schemas.frames import FrameBlock
from schemas.ids import hash64
from schemas.pack import PackModel

VERSION = 3  # of the snapshot format
EVICT_AFTER_NS = 30 * 86_400 * 10**9
EVICT = "evict"  # a Rows table: the slots that clean kept at start-up, in their new order
COPY = "copy"  # a Rows table: what clean did to copies of packs' state, in order: columns kind, a, b (lines.OP)

Packs = Callable[[str], PackModel]
_U64 = 2**64 - 1
_TABLES = 64  # pack tables that a shard remembers


Build = Callable[[PackModel, Slots], Step]


class Kept(NamedTuple):
    """What a step keeps of one shard, told at each snapshot; `pack` is one of its packs, by which it is known."""

    step: str
    model: str
    pack: str
    packs: int
    bytes: int
    repeats: int  # frames that came again, since the shard began


Told = Callable[[Kept], None]


class ShardLogic(StatefulBatchLogic[Item, Item, dict[str, Any]]):
    """Run a Step on one shard of one pack model."""

    def __init__(
        self,
        build: Build,
        packs: Packs,
        resume: dict[str, Any] | None,
        *,
        assigns: bool,
        admits: str = "",
        files: Path | None = None,
        told: Callable[[str, str, int, int, int], None] | None = None,
    ) -> None:
        """Start empty, or from a snapshot; `assigns`: it gives new packs their slots, in rows of table `admits` too.

        With `files`, a path that begins the names of this step's files, snapshots lie there and hold only their name.
        `told` hears at each snapshot what is kept: a Kept without its step.
        """
        self._build, self._packs, self._assigns, self._admits = build, packs, assigns, admits
        self._files, self._file, self._turn = files, "", 0
        self._written = 0  # files, since the start
        self._told = told
        self._slots = Slots()
        self._slot_of: dict[str, int] = {}
        self._model: PackModel | None = None
        self._step: Step | None = None
        self._room = 0  # slots that the step's arrays have room for
        # Pack tables that came, by identity, with the slot of each of their packs: most sources keep their tables.
        self._tables: dict[int, tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int32]]] = {}
        self._moved = False  # some pack is or was in a vehicle of another name
        self._evict: Rows | None = None
        if resume is not None:
            self._restore(resume)

    @property
    def state(self) -> Any:  # noqa: ANN401 - each step has its own
        """Give the step's arrays; None before its first frame."""
        return None if self._step is None else self._step.state

    def on_batch(self, values: list[Item]) -> tuple[Iterable[Item], bool]:
        """Pass items through the step; what it does not handle passes unchanged."""
        out = self._evicted()
        for item in values:
            if isinstance(item, FrameBlock):
                block = self._admit(item)
                step = self._ready(block.model)
                out += step.block(block)
            elif isinstance(item, Rows):
                out += self._on_rows(item)
            elif isinstance(item, Tick):
                if self._step is not None:
                    out += self._step.tick(item.now_ns)
                out.append(item)
            else:
                out.append(item)
        return out, StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[Item], bool]:
        """Emit what only the end of input completes."""
        return [*self._evicted(), *(self._step.eof() if self._step is not None else [])], StatefulBatchLogic.RETAIN

    def _evicted(self) -> list[Item]:
        """Tell later steps once, before anything else, which slots this one kept at start-up."""
        told, self._evict = self._evict, None
        return [] if told is None else [told]

    def snapshot(self) -> dict[str, Any]:
        """Keep the state: a version, plain values, and the arrays, copied or in a file that is named."""
        if self._step is None or self._model is None:
            return {"version": VERSION, "model": ""}
        used, slots = len(self._slots), self._slots
        about = {"version": VERSION, "model": self._model.name, "more": self._step.dump(), "copies": dict(slots.copies)}
        first = next(filter(None, slots.packs), "")  # a pack belongs to one shard: no other file has this name
        if self._told is not None and first:
            size = slots.pack_hash.nbytes + sum(a[:used].nbytes for a in kernel.arrays(self._step.state).values())
            self._told(self._model.name, first, used, size, self._step.repeats())
        if self._files is None or not first:
            arrays = kernel.dump(self._step.state, used)
            owners = {"packs": tuple(slots.packs), "vehicles": tuple(slots.vehicles), "pack_hash": slots.pack_hash}
            return about | owners | {"arrays": arrays}
        self._file = self._file or f"{self._files.name}-{hash64(f'{self._model.name}/{first}') & _U64:016x}"
        self._turn += 1
        header = {
            "packs": slots.packs,
            "vehicles": slots.vehicles if slots.vehicles != slots.packs else None,
            "layout": kernel.layout(self._step.state),
        }
        parts = [slots.pack_hash, *(a[:used] for a in kernel.arrays(self._step.state).values())]
        state_files.write(self._files.parent, self._file, self._turn, header, parts, again=self._written > 1)
        self._written += 1
        return about | {"file": self._file, "turn": self._turn}

    def _restore(self, resume: dict[str, Any]) -> None:
        if resume["version"] != VERSION:
            msg = f"snapshot version must be {VERSION}; got {resume['version']}"
            raise ValueError(msg)
        if not resume["model"]:
            return
        step = self._ready(resume["model"])
        model = self._model
        assert model is not None
        if "file" in resume:
            self._file, self._turn = resume["file"], resume["turn"]
            step.state = self._read(type(step.state), model)
        else:
            self._slots.fill(resume["packs"], resume["vehicles"], resume["pack_hash"])
            step.state = kernel.restore(
                type(step.state), resume["arrays"], len(self._slots), model.series, model.probes
            )
        self._slots.copies = dict(resume["copies"])
        self._moved = self._slots.packs != self._slots.vehicles
        if self._assigns:
            self._slot_of = self._owners()
        self._room = len(self._slots)
        step.load(resume["more"])
        last = step.last_t_ns() if self._assigns else None
        if last is not None and len(last):
            stays = last >= last.max() - EVICT_AFTER_NS
            for h, (of, _) in self._slots.copies.items():
                stays[h] = of < 0 or stays[of]
            if not stays.all():  # moving costs time: free slots go with the first pack that does, and not alone
                stays[[h for h, (of, _) in self._slots.copies.items() if of < 0]] = False
                kept = np.flatnonzero(stays)
                self._keep(kept)
                self._evict = Rows(EVICT, model.name, (), (), kept.astype(np.int32), {})

    def _read(self, kind: type[kernel.S], model: PackModel) -> kernel.S:
        """Take slots and state from the file of this turn."""
        assert self._files is not None, "a snapshot in files needs the directory they lie in"
        header, file = state_files.open_turn(self._files.parent, self._file, self._turn)
        with file:
            given = {name: (dtype, tuple(shape)) for name, (dtype, shape) in header["layout"].items()}
            kernel.check(kind, given, model.series, model.probes)
            used = len(header["packs"])
            state, pack_hash = kernel.blank(kind, used, model.series, model.probes), np.empty(used, np.int64)
            for array in (pack_hash, *kernel.arrays(state).values()):
                state_files.read_into(file, array)
        self._slots.fill(header["packs"], header["vehicles"] or header["packs"], pack_hash)
        return state

    def _ready(self, model: str) -> Step:
        if self._step is None:
            self._model = self._packs(model)
            self._step = self._build(self._model, self._slots)
            self._step.more_slots = self._more_slots
        self._make_room()
        return self._step

    def _more_slots(self, count: int) -> NDArray[np.int32]:
        new = range(len(self._slots), len(self._slots) + count)
        self._slots.add([""] * count, [""] * count)
        self._slots.copies.update(dict.fromkeys(new, (-1, 0)))
        self._make_room()
        return np.array(new, np.int32)

    def _make_room(self) -> None:
        """Let the step's arrays grow by a quarter, or by what is missing."""
        if self._room < len(self._slots):
            self._move(slice(None), max(len(self._slots), self._room + self._room // 4))

    def _owners(self) -> dict[str, int]:
        copies = self._slots.copies
        return {p: s for s, p in enumerate(self._slots.packs) if s not in copies}

    def _move(self, slots: NDArray[np.int64] | slice, room: int) -> None:
        assert self._step is not None
        assert self._model is not None
        self._step.state = kernel.moved(self._step.state, slots, room, self._model.series, self._model.probes)
        self._room = room

    def _admit(self, block: FrameBlock) -> FrameBlock:
        if not self._assigns:
            self._check(block.derived["slot"], block.derived["pack_hash"], block.pack, block.packs, block.vehicles)
            return block
        slot = self._assigned(block.packs, block.vehicles)[block.pack]
        return block.with_derived(slot=slot, pack_hash=self._slots.pack_hash[slot])

    def _assigned(self, packs: tuple[str, ...], vehicles: tuple[str, ...]) -> NDArray[np.int32]:
        """Give the slot of each pack of a table, a new one to a pack never seen."""
        known = self._slot_of
        table = self._tables.get(id(packs))
        if table is None or packs is not table[0] or vehicles is not table[1]:
            new = [i for i, p in enumerate(packs) if p not in known]
            if new:
                for s, i in enumerate(new, len(self._slots)):
                    known[packs[i]] = s
                self._slots.add([packs[i] for i in new], [vehicles[i] for i in new])
            of_pack = np.fromiter((known[p] for p in packs), np.int32, len(packs))
            self._note_vehicles(of_pack.tolist(), packs, vehicles)
            table = (packs, vehicles, of_pack)
            if len(self._tables) == _TABLES:
                self._tables.clear()
            self._tables[id(packs)] = table
        return table[2]

    def _on_rows(self, rows: Rows) -> list[Item]:
        if rows.table == EVICT:
            self._keep(rows.pack.astype(np.int64))
            return [rows]
        if rows.table == COPY:
            return self._on_copies(rows)
        if rows.table == self._admits and len(rows):
            slot = self._assigned(rows.packs, rows.vehicles)[rows.pack]
            rows = replace(rows, data={**rows.data, "slot": slot, "pack_hash": self._slots.pack_hash[slot]})
        if "slot" in rows.data and len(rows):
            self._check(rows.data["slot"], rows.data["pack_hash"], rows.pack, rows.packs, rows.vehicles)
            return self._ready(rows.model).rows(rows)
        return [rows]

    def _on_copies(self, rows: Rows) -> list[Item]:
        """Do to this step's state what clean did to its own."""
        out: list[Item] = []
        step = self._ready(rows.model)
        assert self._model is not None
        for kind, a, b in zip(*(rows.data[k].tolist() for k in ("kind", "a", "b")), strict=True):
            out += step.copying(kind, a, b)
            self._slots.do(kind, a, b)
            self._ready(rows.model)
            if kind != DROP:
                kernel.copy(step.state, a, b)
            if kind != OPEN:
                kernel.reset(step.state, a, self._model.series, self._model.probes)
        return [rows, *out]

    def _check(
        self,
        slot: NDArray[np.int32],
        pack_hash: NDArray[np.int64],
        pack: NDArray[np.int32],
        packs: tuple[str, ...],
        vehicles: tuple[str, ...],
    ) -> None:
        """Follow the slots that clean assigned; a pack in another's slot is a broken invariant."""
        if not slot.size:
            return
        top = int(slot.max()) + 1
        if top > len(self._slots):
            first = np.full(top - len(self._slots), -1, np.int64)
            fresh = np.flatnonzero(slot >= len(self._slots))
            first[slot[fresh[::-1]] - len(self._slots)] = pack[fresh[::-1]]
            # A slot whose frames all wait in clean has no name here yet: its place is kept empty.
            self._slots.add(
                [packs[i] if i >= 0 else "" for i in first.tolist()],
                [vehicles[i] if i >= 0 else "" for i in first.tolist()],
            )
        if not np.array_equal(self._slots.pack_hash[slot], pack_hash):
            for row in np.flatnonzero(self._slots.pack_hash[slot] != pack_hash).tolist():
                s = int(slot[row])
                assert self._slots.packs[s] in {"", packs[pack[row]]}, (
                    f"slot {s} belongs to pack {self._slots.packs[s]}, not to {packs[pack[row]]}"
                )
                self._slots.packs[s], self._slots.vehicles[s] = packs[pack[row]], vehicles[pack[row]]
                self._slots.pack_hash[s] = pack_hash[row]
        if self._moved or vehicles != packs:
            of_pack = np.full(len(packs), -1, np.int64)
            of_pack[pack] = slot
            self._note_vehicles(of_pack.tolist(), packs, vehicles)

    def _note_vehicles(self, of_pack: list[int], packs: tuple[str, ...], vehicles: tuple[str, ...]) -> None:
        self._moved = self._moved or vehicles != packs
        for s, vehicle in zip(of_pack, vehicles, strict=True):
            if s >= 0 and self._moved:
                self._slots.vehicles[s] = vehicle  # the newest owner of a pack that moved

    def _keep(self, kept: NDArray[np.int64]) -> None:
        kept = kept[kept < len(self._slots)]
        self._slots.keep(kept)
        self._slot_of = self._owners()
        self._tables.clear()
        if self._step is not None:
            self._move(kept, len(kept))
            self._step.keep(kept)


def shard_step(
    step_id: str,
    up: KeyedStream[Item],
    build: Build,
    packs: Packs,
    *,
    assigns: bool = False,
    admits: str = "",
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Add a step over shards to a flow: `build(pack model, slots)` makes its Step per shard.

    Snapshots go to files in the directory `files`, beside the recovery store; without one they are in it.  `told`
    hears of each.
    """

    def tell(model: str, pack: str, packs: int, size: int, repeats: int) -> None:
        assert told is not None
        told(Kept(step_id, model, pack, packs, size, repeats))

    def logic(resume: dict[str, Any] | None) -> ShardLogic:
        where = files and files / step_id
        return ShardLogic(build, packs, resume, assigns=assigns, admits=admits, files=where, told=told and tell)

    return op.stateful_batch(step_id, up, logic)


def to_shards(shards: int, packs: Packs) -> Callable[[Item], list[tuple[str, Item]]]:
    """Cut blocks by pack into keyed shards; sources must give frames that fit their pack model."""

    def cut(item: Item) -> list[tuple[str, Item]]:
        if not isinstance(item, FrameBlock):
            return [("-", item)]
        model = packs(item.model)
        assert (item.cells, item.probes) == (model.series, model.probes), (
            f"{item.model} has {model.series} cells and {model.probes} probes; "
            f"the frames have {item.cells} and {item.probes}"
        )
        return list(item.by_shard(shards))

    return cut
