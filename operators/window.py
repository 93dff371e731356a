"""Frames to windows, states and sessions."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.kernels import power, sessions, window
from operators.kernels.lines import DROP, OPEN
from operators.kernels.sessions import KINDS
from operators.session_records import full_v, record
from operators.shard import Packs, Told, shard_step
from operators.step import Slots, Step
from schemas.events import Item, Rows, Session
from schemas.frames import LIVE, FrameBlock
from schemas.ids import record_id
from schemas.pack import PackModel

PROVISIONAL = -1  # revision of what a silent pack shows before its final record


@dataclass(frozen=True, slots=True)
class WindowStepConfig:
    """Both kernels' settings, how often states are written, and what a silence shows."""

    window: window.WindowConfig = field(default_factory=window.WindowConfig)
    session: sessions.SessionConfig = field(default_factory=sessions.SessionConfig)
    state_s: float = 900.0
    idle_close_s: float = 300.0
    keep_frames: bool = False


@dataclass(slots=True)
class WindowStepState:
    """Both kernels' states, and which state was written last."""

    window: window.WindowState
    session: sessions.SessionState
    written: NDArray[np.int64]  # (S,) newest cell of the state grid that was written, -1 none

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> WindowStepState:
        """State of packs never seen."""
        return cls(
            window.WindowState.empty(slots, cells, probes),
            sessions.SessionState.empty(slots, cells, probes),
            np.full(slots, -1, np.int64),
        )


class WindowStep(Step):
    """Windows, states and sessions of one shard."""

    def __init__(self, cfg: WindowStepConfig, pack: PackModel, slots: Slots) -> None:
        """Start with no pack."""
        self.state = WindowStepState.empty(0, pack.series, pack.probes)
        self._cfg, self._pack, self._slots = cfg, pack, slots
        # By slot of a copy: what has been told since it was made, and the copy may tell otherwise.
        self._told_states: dict[int, set[int]] = {}  # times
        self._told: dict[int, dict[str, Session]] = {}  # sessions by id; also by a pack's slot: the open one's

    def block(self, block: FrameBlock) -> list[Item]:
        """Emit the windows and sessions that these frames closed, and states where one is due."""
        nominal_ah = self._pack.nominal_ah
        ended, mode = sessions.step(self._cfg.session, self.state.session, block, nominal_ah, full_v(self._pack))
        closed = window.step(self._cfg.window, self.state.window, block.with_derived(mode=mode))
        return [
            *([block.with_derived(revision=self._revisions(block.derived["slot"]))] if self._cfg.keep_frames else []),
            *self._windows(closed),
            *self._states(block),
            *self._sessions(ended, block),
        ]

    def tick(self, now_ns: int) -> list[Item]:
        """Show what silent packs have open, once per silence, as provisional records."""
        w = self.state.window
        silent = (w.start_ns >= 0) & (w.t_ns < now_ns - int(self._cfg.idle_close_s * 1e9)) & (w.shown_ns < w.t_ns)
        silent[list(self._slots.copies)] = False
        slots = np.flatnonzero(silent)
        if not slots.size:
            return []
        w.shown_ns[slots] = w.t_ns[slots]
        return [
            *self._windows(window.open_windows(w, slots), provisional=True),
            *self._sessions(sessions.open_sessions(self.state.session, slots), provisional=True),
        ]

    def eof(self) -> list[Item]:
        """Close everything that is open."""
        return [
            *self._windows(window.close_all(self.state.window)),
            *self._sessions(sessions.end_all(self.state.session)),
        ]

    def _windows(self, closed: window.Closed, *, provisional: bool = False) -> list[Item]:
        if not closed.slot.size:
            return []
        n = closed.slot.size
        get = closed.column
        last = dict(zip(window.LAST, closed.last.T, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            covered_s = get("covered_s")
            data: dict[str, NDArray[Any]] = {
                "slot": closed.slot,
                "pack_hash": self._slots.pack_hash[closed.slot],
                "start_ns": closed.start_ns,
                "end_ns": closed.start_ns + int(self._cfg.window.window_s * 1e9),
                "revision": np.full(n, PROVISIONAL, np.int32) if provisional else self._revisions(closed.slot),
                "provisional": np.full(n, provisional, np.bool_),
                "coverage": np.minimum(covered_s / self._cfg.window.window_s, 1.0),
                "quality": get("quality").astype(np.uint32),
                "current_mean_a": get("current_as") / covered_s,
                "pack_v_mean": get("pack_v_s") / get("pack_v_covered_s"),
                "cell_v_mean": get("v_med_sum") / get("v_med_n"),
                "temp_mean_c": get("temp_sum") / get("temp_n"),
                "speed_mean_kmh": get("speed_sum") / get("speed_n"),
                "charge_in_ah": get("charge_in_as") / 3600,
                "charge_out_ah": get("charge_out_as") / 3600,
                "energy_in_kwh": get("energy_in_ws") / 3.6e6,
                "energy_out_kwh": get("energy_out_ws") / 3.6e6,
                "soc_end": last.pop("soc"),
            }
        for name in ("current_min_a", "current_max_a", "pack_v_min", "pack_v_max", "cell_v_min", "cell_v_max",
                     "spread_max_v", "temp_min_c", "temp_max_c", "soc_start", "spread_soc", "spread_r0",
                     "spread_capacity", "spread_soc_std", "spread_r0_std", "spread_capacity_std"):  # fmt: skip
            data[name] = get(name)
        for name in ("frames", "complete_frames"):
            data[name] = get(name).astype(np.int32)
        for name in ("cell_min", "cell_max", "temp_max_probe", "r0_high_cell", "capacity_low_cell"):
            data[name] = _numbered(get(name))
        for name in ("soc_low_cell", "soc_high_cell", "sop_discharge_cell", "sop_charge_cell"):
            data[name] = _numbered(last.pop(name))
        for name in ("mode", "soc_source", *power.LIMIT_NAMES):
            data[name] = np.nan_to_num(last.pop(name), nan=-1).astype(np.int8)
        data |= last
        return [self._rows("windows", closed.slot, data)]

    def _states(self, block: FrameBlock) -> list[Item]:
        """Give per-cell states where a frame is its pack's first on the state grid."""
        d = block.derived
        rows = _first_on_grid(d["slot"], block.t_ns, block.lane, int(self._cfg.state_s * 1e9), self.state.written)
        withdrawn = np.zeros(rows.size, np.bool_)
        if self._slots.holding:
            rows, withdrawn = self._told_otherwise(d["slot"], block.t_ns, rows)
        if not rows.size:
            return []
        slot = d["slot"][rows]
        r0 = d["r0_ohm"][rows, None] * (1 + d["d_r0"][rows])
        capacity = d["q_med_ah"][rows, None] * (1 + d["d_q"][rows])
        soc_cell = np.clip(d["z_med"][rows, None].astype(np.float32) + d["d_soc"][rows], 0, 1)
        n = rows.size
        data = {
            "slot": slot,
            "pack_hash": d["pack_hash"][rows],
            "t_ns": block.t_ns[rows],
            "revision": self._revisions(slot),
            "soc": d["soc"][rows],
            "soc_std": d["soc_std"][rows],
            "soc_source": d["soc_source"][rows],
            "ocv_borrowed": np.full(n, self._pack.ocv_source == "borrowed"),
            "soe_kwh": d["soe_kwh"][rows],
            "soe_std_kwh": d["soe_std_kwh"][rows],
            "capacity_ah": d["capacity_ah"][rows],
            "capacity_std_ah": d["capacity_std_ah"][rows],
            "r0_std_ohm": d["r0_std_ohm"][rows],
            "soc_cell": soc_cell,
            "r0_cell_ohm": r0,
            "capacity_cell_ah": capacity,
            "soc_cell_std": d["d_soc_std"][rows],
            "r0_cell_std_ohm": d["r0_ohm"][rows] * d["d_r0_std"][rows],
            "capacity_cell_std_ah": d["q_med_ah"][rows] * d["d_q_std"][rows],
            "temp_c": block.temp_c[rows],
            "withdrawn": withdrawn,
        }
        return [Rows("states", block.model, block.packs, block.vehicles, block.pack[rows], data)]

    def _sessions(
        self, ended: sessions.Ended, block: FrameBlock | None = None, *, provisional: bool = False
    ) -> list[Item]:
        out: list[Item] = []
        for i, s in enumerate(ended.slot.tolist()):
            name = record_id(self._slots.packs[s], "session", KINDS[int(ended.mode[i])], int(ended.begin_ns[i]))
            revision = PROVISIONAL if provisional else self._next(s, name)
            made = record(ended, i, block, self._pack, self._slots, name, revision)
            out.append(made)
            copy = self._slots.copy_of(s) if self._slots.holding and not provisional else -1
            if copy >= 0:
                self._told.setdefault(copy, {})[name] = made
        return out

    def _next(self, slot: int, name: str) -> int:
        """Give a session's revision: 0 where none of it has been told."""
        before = self._told.get(slot, {}).pop(name, None)
        return 0 if before is None else before.revision + 1

    def copying(self, kind: int, a: int, b: int) -> list[Item]:
        """Withdraw what a copy that takes its pack's place has not found."""
        if kind == OPEN:
            self._told[b], self._told_states[b] = dict(self._told.get(a, {})), set()
            return []
        left = self._told.pop(a, {})
        self._told_states.pop(a, None)
        if kind == DROP:
            return []
        now = self.state.session
        going_on = {
            (KINDS[m], t) for m, t in zip(now.mode[a].tolist(), now.begin_ns[a].tolist(), strict=True) if m >= 0
        }
        self._told[b] = {name: s for name, s in left.items() if (s.kind, s.start_ns) in going_on}
        gone = [s for name, s in left.items() if name not in self._told[b]]
        return [replace(s, revision=s.revision + 1, withdrawn=True) for s in gone]

    def _revisions(self, slot: NDArray[np.int32]) -> NDArray[np.int32]:
        """Give the revision of what each slot says: 0, or more where it is a copy's."""
        if not self._slots.holding:
            return np.zeros(slot.size, np.int32)
        return np.array([self._slots.revision(s) for s in slot.tolist()], np.int32)

    def _told_otherwise(
        self, slot: NDArray[np.int32], t_ns: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Add to the rows whose states are due those of copies that the pack had told, and the copy withdraws."""
        for row in rows.tolist():
            copy = self._slots.copy_of(int(slot[row]))
            if copy >= 0:
                self._told_states.setdefault(copy, set()).add(int(t_ns[row]))
        gone: list[int] = []
        for copy, told in self._told_states.items():
            if told:  # a frame goes to the copy after the pack has had it
                again = np.flatnonzero((slot == copy) & np.isin(t_ns, list(told)))
                told.difference_update(t_ns[again].tolist())
                gone += np.setdiff1d(again, rows).tolist()
        every = np.sort(np.concatenate([rows, np.array(gone, np.int64)]))
        return every, np.isin(every, gone)

    def dump(self) -> dict[str, Any]:
        """Give what has been told since copies were made, as plain values."""
        return {
            "states": [[h, sorted(times)] for h, times in self._told_states.items()],
            "sessions": [[h, [astuple(s) for s in told.values()]] for h, told in self._told.items()],
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._told_states = {h: set(times) for h, times in data["states"]}
        self._told = {h: {s[0]: Session(*s) for s in told} for h, told in data["sessions"]}

    def keep(self, kept: NDArray[np.int64]) -> None:
        """Name slots anew."""
        place = {s: i for i, s in enumerate(kept.tolist())}
        self._told_states = {place[h]: times for h, times in self._told_states.items() if h in place}
        self._told = {place[h]: told for h, told in self._told.items() if h in place}

    def _rows(self, table: str, slot: NDArray[np.int32], data: dict[str, NDArray[Any]]) -> Rows:
        """Name each row's pack by its slot."""
        used, pack = np.unique(slot, return_inverse=True)
        return Rows(
            table,
            self._pack.name,
            tuple(self._slots.packs[s] for s in used.tolist()),
            tuple(self._slots.vehicles[s] for s in used.tolist()),
            pack.astype(np.int32),
            data,
        )


def _numbered(index: NDArray[np.float64]) -> NDArray[np.int16]:
    """Count cells and probes from 1, as people and their manuals do; -1 where there is none."""
    known = index >= 0
    return np.where(known, np.where(known, index, 0) + 1, -1).astype(np.int16)


def _first_on_grid(
    slot: NDArray[np.int32], t_ns: NDArray[np.int64], lane: NDArray[np.uint8], step_ns: int, newest: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find the rows that are their pack's first in a new cell of the time grid, and note them in `newest`."""
    grid = t_ns // step_ns
    candidates = np.flatnonzero((grid > newest[slot]) & (lane == LIVE))
    if not candidates.size:
        return candidates
    keys = np.stack([slot[candidates].astype(np.int64), grid[candidates]])
    _, first = np.unique(keys, axis=1, return_index=True)
    rows = candidates[np.sort(first)]
    np.maximum.at(newest, slot[rows], grid[rows])
    return rows


def windows(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs,
    cfg: WindowStepConfig | None = None,
    *,
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Add the step: enriched frames become windows, states and sessions; other items pass."""
    config = cfg or WindowStepConfig()
    return shard_step(step_id, up, lambda pack, slots: WindowStep(config, pack, slots), packs, files=files, told=told)
