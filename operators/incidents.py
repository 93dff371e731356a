"""Findings to incidents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.diagnose import FINDINGS
from operators.kernels import incidents as kernel
from operators.kernels import revise
from operators.kernels.lines import DROP, OPEN
from operators.kernels.revise import Copy, settle
from operators.shard import Packs, Told, shard_step
from operators.step import Slots, Step
from schemas.events import Incident, Item, Rows
from schemas.pack import PackModel, load_pack


@dataclass
class IncidentsState:
    """One slot per pack: what is counted of it; the few incidents themselves are plain values beside."""

    opened: NDArray[np.int32]  # (S,) incidents so far

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> IncidentsState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(np.zeros(slots, np.int32))


class IncidentsStep(Step):
    """The open incidents of one shard's packs."""

    def __init__(self, pack: PackModel, slots: Slots, cfg: kernel.IncidentsConfig) -> None:
        """Start with no incident."""
        self._model, self._slots, self._cfg = pack.name, slots, cfg
        self.state = IncidentsState.empty(0, pack.series, pack.probes)
        self._known: dict[str, list[kernel.Open]] = {}
        self._copies: dict[int, Copy] = {}  # by slot

    def rows(self, rows: Rows) -> list[Item]:
        """Consume findings: those of one pack, or of its copy, at one time together."""
        if rows.table != FINDINGS:
            return [rows]
        out: list[Item] = []
        d = rows.data
        names = ("t_ns", "kind", "subject", "subject_kind", "level", "value", "normal", "sigma", "since_ns")
        every = [kernel.Finding(*values) for values in zip(*(d[n].tolist() for n in names), strict=True)]
        packs, slots = rows.pack.tolist(), d["slot"].tolist()
        start = 0
        for end in range(1, len(every) + 1):
            same = end < len(every) and (slots[end], every[end].t_ns) == (slots[start], every[start].t_ns)
            if not same:
                out += self._of_one(rows, packs[start], slots[start], every[start:end])
                start = end
        return out

    def _of_one(self, rows: Rows, pack: int, slot: int, found: list[kernel.Finding]) -> list[Item]:
        pack_id, vehicle_id = rows.packs[pack], rows.vehicles[pack]
        copy = self._copies.get(slot)
        known = self._known.setdefault(pack_id, []) if copy is None else copy.known
        later = self._copies.get(self._slots.copy_of(slot)) if self._copies else None
        out: list[Item] = []
        for c in kernel.step(self._cfg, known, pack_id, found):
            if later is not None:
                later.told[c.id] = c
            if copy is not None:
                copy.found[c.id] = c
                continue
            self.state.opened[slot] += c.revision == 0
            out.append(self._incident(c, pack_id, vehicle_id))
        if copy is None and not known:
            del self._known[pack_id]
        return out

    def _incident(self, c: kernel.Change, pack_id: str, vehicle_id: str, *, withdrawn: bool = False) -> Incident:
        return Incident(
            id=c.id,
            revision=c.revision,
            model=self._model,
            pack_id=pack_id,
            vehicle_id=vehicle_id,
            kind=c.kind,
            subject=c.subject,
            severity=c.severity,
            status=c.status,
            opened_ns=c.opened_ns,
            updated_ns=c.updated_ns,
            cleared_ns=c.cleared_ns,
            text=c.text,
            evidence=c.evidence,
            since_ns=c.since_ns,
            causes=c.causes,
            withdrawn=withdrawn,
        )

    def copying(self, kind: int, a: int, b: int) -> list[Item]:
        """Keep a copy's incidents back until it takes its pack's place, and tell then what is new or otherwise."""
        pack_id = self._slots.packs[a]
        if kind == OPEN:
            known = self._copies[a].known if a in self._copies else self._known.get(pack_id, [])
            self._copies[b] = Copy(kernel.load(kernel.dump(known)), {o.id: o.revision for o in known})
            return []
        copy = self._copies.pop(a)
        if kind == DROP:
            return []
        out: list[Item] = [
            self._incident(c, pack_id, self._slots.vehicles[b], withdrawn=gone) for c, gone in settle(copy)
        ]
        later = self._copies.get(self._slots.copy_of(a))
        if later is not None:
            revise.follow(later, copy)
        self._known.pop(pack_id, None)
        if copy.known:
            self._known[pack_id] = copy.known
        return out

    def keep(self, kept: NDArray[np.int64]) -> None:
        """Forget the incidents of evicted packs."""
        left = set(self._slots.packs)
        self._known = {p: o for p, o in self._known.items() if p in left}
        place = {s: i for i, s in enumerate(kept.tolist())}
        self._copies = {place[h]: c for h, c in self._copies.items() if h in place}

    def dump(self) -> dict[str, Any]:
        """Give the incidents as plain values."""
        return {
            "known": [[p, kernel.dump(o)] for p, o in self._known.items()],
            "copies": [[h, revise.dump(c)] for h, c in self._copies.items()],
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._known = {p: kernel.load(o) for p, o in data["known"]}
        self._copies = {h: revise.load(c) for h, c in data["copies"]}


def incidents(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs = load_pack,
    cfg: kernel.IncidentsConfig | None = None,
    *,
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Turn findings into incidents; everything else passes."""
    settings = cfg or kernel.IncidentsConfig()

    def build(pack: PackModel, slots: Slots) -> Step:
        return IncidentsStep(pack, slots, settings)

    return shard_step(step_id, up, build, packs, files=files, told=told)
