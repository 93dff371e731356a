"""Which pack is this? By its id where the vehicle gives one, else by the fingerprint of its cells.

All packs of a model go through one key, since a pack may come back in any vehicle.  A pack whose vehicle names it keeps
that name whatever happens; what a vehicle without pack ids carries is named after it, "V#2" the second.  A match is
looked for among packs that have not been seen elsewhere since, in the order in which sessions come: of a lake that is
the order of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.kernels.fingerprint import FingerprintConfig, agreement, pattern
from operators.session_step import SESSIONS, session_step
from operators.shard import Packs
from operators.step import Step
from schemas.events import Incident, Item, Rows
from schemas.ids import record_id
from schemas.pack import PackModel

FIRST, MOVED, RECOGNISED, REPLACED = KINDS = ("first_seen", "moved", "recognised", "replaced")


@dataclass(slots=True)
class IdentityState:
    """One slot per id that a vehicle reports."""

    now: NDArray[np.int64]  # (S,) the pack that it is: a place in Known, -1 none yet
    strikes: NDArray[np.int64]  # (S,) patterns in a row that are another pack's
    doubtful: NDArray[np.int64]  # (S,) patterns since it was taken for a new one

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> IdentityState:  # noqa: ARG003 - as every state
        """State of ids never seen."""
        return cls(np.full(slots, -1, np.int64), np.zeros(slots, np.int64), np.zeros(slots, np.int64))


@dataclass(slots=True)
class Known:
    """K packs: their names, where and when each was last, and what it is known by."""

    names: list[str] = field(default_factory=list)
    vehicles: list[str] = field(default_factory=list)
    seen_ns: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)  # patterns
    levels: list[tuple[float, float]] = field(default_factory=list)  # capacity Ah, R0 over the file's
    pattern: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (room, 2C)

    def add(self, name: str, vehicle: str, t_ns: int, width: int) -> int:
        """Take in a pack; gives its place."""
        k = len(self.names)
        if k >= len(self.pattern):
            grown = np.zeros((max(16, k + k // 4), width), np.float32)
            if k:
                grown[:k] = self.pattern[:k]
            self.pattern = grown
        self.names.append(name)
        self.vehicles.append(vehicle)
        self.seen_ns.append(t_ns)
        self.seen.append(0)
        self.levels.append((float("nan"), float("nan")))
        self.pattern[k] = 0.0
        return k


class IdentityStep(Step):
    """Packs of one model.  Sessions pass on under the name of the pack that they are of."""

    def __init__(self, pack: PackModel, cfg: FingerprintConfig) -> None:
        """Start with no pack."""
        self.state = IdentityState.empty(0, pack.series, pack.probes)
        self._pack, self._cfg = pack, cfg
        self._known = Known()
        self._out: list[tuple[int, dict[str, Any]]] = []
        self._incidents: list[Item] = []

    def dump(self) -> dict[str, Any]:
        """Give what is known of packs."""
        k, n = self._known, len(self._known.names)
        lists = {name: list(getattr(k, name)) for name in ("names", "vehicles", "seen_ns", "seen", "levels")}
        return {**lists, "pattern": k.pattern[:n].copy()}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        kept = {k: list(v) for k, v in data.items() if k != "pattern"}
        self._known = Known(**kept, pattern=data["pattern"].copy())

    def rows(self, rows: Rows) -> list[Item]:
        """Name the pack of each session; records of what is new, moved, recognised and replaced go before them."""
        if rows.table != SESSIONS:
            return [rows]
        self._out, self._incidents = [], []
        d = rows.data
        slot, t_ns, start_ns = d["slot"].tolist(), d["end_ns"].tolist(), d["start_ns"].tolist()
        place = np.empty(len(rows), np.int64)
        for n, (s, p) in enumerate(zip(slot, rows.pack.tolist(), strict=True)):
            place[n] = self._place(n, s, rows.packs[p], rows.vehicles[p], start_ns[n], t_ns[n], d)
        return [*self._records(), *self._incidents, *self._renamed(rows, place)]

    def _place(self, n: int, s: int, pack: str, vehicle: str, start_ns: int, t_ns: int, d: Any) -> int:  # noqa: ANN401 - columns
        known, state, cfg = self._known, self.state, self._cfg
        k = int(state.now[s])
        if k < 0:
            k = known.add(pack, vehicle, t_ns, 2 * self._pack.series)
            state.now[s] = k
            self._note(k, FIRST, t_ns, vehicle, "", float("nan"))
        elif pack != vehicle and known.vehicles[k] != vehicle:
            self._note(k, MOVED, t_ns, vehicle, known.vehicles[k], float("nan"))
        if d["charge"][n] and self._pack.series >= cfg.cells:
            seen = pattern(d["d_r0_cell"][n], d["d_q_cell"][n])
            if seen is not None and seen.any():
                level = float(d["capacity_low_ah"][n]), float(d["r0_rel"][n])
                k = self._by_pattern(s, k, seen, level, pack, vehicle, start_ns, t_ns)
        if not state.strikes[s]:  # else it may be elsewhere
            known.vehicles[k], known.seen_ns[k] = vehicle, max(known.seen_ns[k], t_ns)
        return k

    def _by_pattern(
        self, s: int, k: int, seen: Any, level: tuple[float, float], pack: str, vehicle: str, start_ns: int, t_ns: int  # noqa: ANN401 - (2C,)
    ) -> int:  # fmt: skip
        """Compare with the pack that it should be; gives the place of the pack that it is."""
        known, state, cfg = self._known, self.state, self._cfg
        if known.seen[k] < cfg.learned:
            if state.doubtful[s]:  # taken for new a short while ago: it may be one that is known
                found = self._match(k, seen, level, start_ns)
                if found >= 0:
                    return self._take(s, found, RECOGNISED, t_ns, vehicle, seen)
            self._learn(k, seen, level)
            return k
        r = float(agreement(known.pattern[k][None], seen)[0])
        if r >= cfg.same:
            state.strikes[s] = state.doubtful[s] = 0
            if r >= cfg.sure or known.seen[k] < cfg.settled:  # an estimator takes some charges to follow other cells
                self._learn(k, seen, level)
            return k
        state.strikes[s] = state.strikes[s] + 1 if r < cfg.other else 0
        if state.strikes[s] < cfg.strikes:
            return k
        found = self._match(k, seen, level, start_ns)
        self._alarm(k, t_ns, vehicle, known.names[found] if found >= 0 else "", r)
        if found >= 0:
            return self._take(s, found, RECOGNISED, t_ns, vehicle, seen)
        name = next(f"{pack}#{i}" for i in range(2, len(known.names) + 3) if f"{pack}#{i}" not in known.names)
        new = known.add(name, vehicle, t_ns, seen.size)
        state.now[s], state.strikes[s], state.doubtful[s] = new, 0, 1
        self._note(new, REPLACED, t_ns, vehicle, known.names[k], r)
        self._learn(new, seen, level)
        return new

    def _match(self, k: int, seen: Any, level: tuple[float, float], start_ns: int) -> int:  # noqa: ANN401 - (2C,)
        """Find the pack that this is, among those not seen since; -1 where none is clearly it."""
        known, cfg, n = self._known, self._cfg, len(self._known.names)
        levels, now = np.array(known.levels), np.array(level)
        near = np.abs(levels / now - 1.0)
        free = (np.array(known.seen) >= cfg.learned) & (np.array(known.seen_ns) <= start_ns)
        free &= ~(near > 3.0 * cfg.level).any(axis=1)  # what is unknown does not exclude
        free[k] = False
        if not free.any():
            return -1
        r = np.where(free, agreement(known.pattern[:n], seen), -1.0)
        best = int(np.argmax(r))
        second = float(np.max(np.delete(r, best))) if n > 1 else -1.0
        return best if r[best] >= cfg.same and r[best] - second >= cfg.margin else -1

    def _take(self, s: int, found: int, kind: str, t_ns: int, vehicle: str, seen: Any) -> int:  # noqa: ANN401 - (2C,)
        known, state = self._known, self.state
        r = float(agreement(known.pattern[found][None], seen)[0])
        self._note(found, kind, t_ns, vehicle, known.vehicles[found], r)
        state.now[s], state.strikes[s], state.doubtful[s] = found, 0, 0
        return found

    def _learn(self, k: int, seen: Any, level: tuple[float, float]) -> None:  # noqa: ANN401 - (2C,)
        known = self._known
        weight = max(self._cfg.weight, 1.0 / (known.seen[k] + 1))
        known.pattern[k] += weight * (seen - known.pattern[k])
        known.seen[k] += 1
        known.levels[k] = level

    def _note(self, k: int, kind: str, t_ns: int, vehicle: str, before: str, r: float) -> None:
        row = {"t_ns": t_ns, "kind": kind, "vehicle_before": before, "agreement": r, "patterns": self._known.seen[k]}
        row |= dict(zip(("capacity_ah", "r0_rel"), self._known.levels[k], strict=True))
        self._out.append((k, {**row, "vehicle": vehicle}))

    def _alarm(self, k: int, t_ns: int, vehicle: str, match: str, r: float) -> None:
        """Raise that the cells are others than before, though nobody said so."""
        name = self._known.names[k]
        are = f"they are those of {match}" if match else "they are of no pack that is known"
        text = f"the cells are not those of {name} any more (agreement {r:.2f}): {are}. Ask what was exchanged."
        self._incidents.append(
            Incident(
                id=record_id(name, "pack_replaced", "pack", t_ns),
                revision=0,
                model=self._pack.name,
                pack_id=name,
                vehicle_id=vehicle,
                kind="pack_replaced",
                subject="pack",
                severity=2,
                status="open",
                opened_ns=t_ns,
                updated_ns=t_ns,
                cleared_ns=0,
                text=text,
                evidence={"agreement": r},
            )
        )

    def _records(self) -> list[Item]:
        if not self._out:
            return []
        names = [self._known.names[k] for k, _ in self._out]
        rows = [row for _, row in self._out]
        columns: dict[str, NDArray[Any]] = {
            "t_ns": np.array([row["t_ns"] for row in rows], np.int64),
            "kind": np.array([row["kind"] for row in rows]),
            "vehicle_before": np.array([row["vehicle_before"] for row in rows]),
            **{k: np.array([row[k] for row in rows], np.float64) for k in ("agreement", "capacity_ah", "r0_rel")},
            "patterns": np.array([row["patterns"] for row in rows], np.int32),
            "revision": np.zeros(len(rows), np.int32),
        }
        ids = [record_id(n, "identity", r["kind"], r["t_ns"]) for n, r in zip(names, rows, strict=True)]
        columns["id"] = np.array(ids)
        at = np.arange(len(rows), dtype=np.int32)
        return [Rows("identity", self._pack.name, tuple(names), tuple(r["vehicle"] for r in rows), at, columns)]

    def _renamed(self, rows: Rows, place: NDArray[np.int64]) -> list[Item]:
        """Give the sessions under their packs' names; a pack that moved meanwhile begins new rows."""
        out: list[Item] = []
        data = {k: v for k, v in rows.data.items() if k not in {"slot", "pack_hash"}}
        start, table, owner = 0, dict[int, int](), dict[int, str]()
        index = np.empty(len(rows), np.int32)

        def close(end: int) -> None:
            names = tuple(self._known.names[k] for k in table)
            part = {k: v[start:end] for k, v in data.items()}
            out.append(Rows(SESSIONS, rows.model, names, tuple(owner[k] for k in table), index[start:end].copy(), part))

        for n, (k, p) in enumerate(zip(place.tolist(), rows.pack.tolist(), strict=True)):
            vehicle = rows.vehicles[p]
            if owner.setdefault(k, vehicle) != vehicle:
                close(n)
                start, table, owner = n, {}, {k: vehicle}
            index[n] = table.setdefault(k, len(table))
        if len(rows) > start:
            close(len(rows))
        return out


def identity(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs,
    cfg: FingerprintConfig | None = None,
    *,
    files: Path | None = None,
) -> KeyedStream[Item]:
    """Add the step: sessions get the names of their packs, keyed by pack model alone."""
    config = cfg or FingerprintConfig()
    return session_step(step_id, up, lambda pack: IdentityStep(pack, config), packs, files)
