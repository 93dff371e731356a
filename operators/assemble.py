"""CAN frames of one pack to battery frames: decode what is mapped, hold it, read it period by period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from operators.dbc import Dbc
from operators.kernels.assemble import NEVER, closings, event_time, period_of, read_held
from operators.kernels.can_decode import (
    Message,
    Signal,
    Words,
    by_message,
    on_page,
    physical,
    raw_values,
    reaches,
)
from schemas.can import ERROR, REMOTE, CanBlock
from schemas.frames import CONTEXT, FrameBlock, make_block
from schemas.signals import GATEWAY, Entry, SignalMap, SignalsError

_HALF = np.uint64(32)
_VERSION = 1  # of dump


@dataclass(frozen=True, slots=True)
class Target:
    """One signal on its way to one place of one column; `part` counts the halves of a mask."""

    entry: Entry
    place: int
    part: int
    signal: Signal
    valid: Signal | None


@dataclass(frozen=True, slots=True)
class Group:
    """Signals that arrive together: one message, one multiplexer page."""

    message: Message
    targets: tuple[Target, ...]
    drives: bool
    max_age_ns: NDArray[np.int64]


class Assembler:
    """Makes FrameBlocks of one pack from its CAN frames; results do not depend on how those are cut into blocks.

    A frame stands at the end of each period in which a driving message arrived, k·`period_s`, and holds
    the value of each signal that arrived last, NaN where that is older than its `max_age_s`.  With period 0
    a frame stands at each driving message.  `seq` counts the frames.
    """

    def __init__(
        self,
        signals: SignalMap,
        dbc: Dbc,
        *,
        model: str,
        cells: int,
        probes: int,
        pack_id: str,
        vehicle_id: str | None = None,
        period_s: float | None = None,
    ) -> None:
        """Take the mapping, the DBC, and what the pack is; `period_s` None is the mapping's.

        Raises SignalsError where the mapping does not fit the DBC.
        """
        self._model, self._shape = model, (cells, probes)
        self._pack, self._vehicle = pack_id, pack_id if vehicle_id is None else vehicle_id
        self._period_ns = round((signals.period_s if period_s is None else period_s) * 1e9)
        self._bus = signals.bus
        framed = tuple(e for e in signals.entries if e.column not in GATEWAY)
        self._groups = resolve(replace(signals, entries=framed), dbc, cells, probes)
        self._messages = list({g.message.name: g.message for g in self._groups}.values())
        self._context = sorted({t.entry.column for g in self._groups for t in g.targets} & set(CONTEXT))
        self._held = [np.full(len(g.targets), np.nan) for g in self._groups]
        self._held_ns = [NEVER] * len(self._groups)
        self._last_ns = self._event_ns = self._open = NEVER
        self._driven, self._record, self._seq = False, 0, 0

    def push(self, block: CanBlock) -> FrameBlock | None:
        """Take CAN frames in arrival order; gives the frames that they complete, None where there are none."""
        if not len(block):
            return None
        event = event_time(block.t_ns, self._last_ns, self._event_ns)
        samples = self._decode(block)
        driving = _union([rows for g, (rows, _) in zip(self._groups, samples, strict=True) if g.drives])
        if self._period_ns:
            period = period_of(event, self._period_ns)
            ends, which, driven = closings(period, driving, self._open, open_driven=self._driven)
            at_ns = which * self._period_ns
            self._open, self._driven = int(period[-1]), driven
        else:
            ends, at_ns = driving, event[driving]
        out = self._read(samples, event, ends, at_ns, self._records(block, driving, ends))
        for i, (rows, values) in enumerate(samples):
            if rows.size:
                self._held[i], self._held_ns[i] = values[-1], int(event[rows[-1]])
        self._last_ns, self._event_ns = int(block.t_ns[-1]), int(event[-1])
        self._record = int(block.record[driving[-1]]) if driving.size else self._record
        return out

    def flush(self) -> FrameBlock | None:
        """End the input: gives the frame of the period that is still open, if one was driven."""
        if not self._period_ns or not self._driven:
            return None
        nothing = [(np.zeros(0, np.int64), np.zeros((0, len(g.targets)))) for g in self._groups]
        at_ns = np.array([self._open * self._period_ns])
        self._driven = False
        return self._read(nothing, at_ns[:0], np.array([-1]), at_ns, np.array([self._record]))

    def dump(self) -> dict[str, Any]:
        """Give the state as plain values and fresh arrays."""
        return {
            "version": _VERSION,
            "held": np.concatenate([np.zeros(0), *self._held]),
            "held_ns": np.array(self._held_ns, np.int64),
            "now": [self._last_ns, self._event_ns, self._open, int(self._driven), self._record, self._seq],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a dumped state; raises ValueError where mapping or pack have changed since."""
        sizes = [len(g.targets) for g in self._groups]
        if state["version"] != _VERSION or len(state["held_ns"]) != len(sizes) or len(state["held"]) != sum(sizes):
            msg = f"state must be of the same mapping and pack ({sum(sizes)} signals); got {len(state['held'])}"
            raise ValueError(msg)
        self._held = [part.copy() for part in np.split(np.asarray(state["held"], np.float64), np.cumsum(sizes)[:-1])]
        self._held_ns = [int(t) for t in state["held_ns"]]
        self._last_ns, self._event_ns, self._open, driven, self._record, self._seq = state["now"]
        self._driven = bool(driven)

    def _decode(self, block: CanBlock) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Give each group's samples: rows (n,) and column values (n, signals)."""
        usable = (block.flags & (REMOTE | ERROR)) == 0
        if self._bus:
            usable &= block.bus == (block.buses.index(self._bus) if self._bus in block.buses else -1)
        arrived = dict.fromkeys((m.name for m in self._messages), np.zeros(0, np.int64))
        for message, rows in by_message(self._messages, block.can_id, block.ext, None if usable.all() else usable):
            arrived[message.name] = rows
        payload: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8], Words]] = {
            name: (block.data[rows], block.length[rows], {}) for name, rows in arrived.items()
        }
        samples = []
        for group in self._groups:
            rows = arrived[group.message.name]
            data, length, words = payload[group.message.name]
            page = on_page(group.targets[0].signal, data, length, words)
            if page is not None:
                rows, data, length, words = rows[page], data[page], length[page], {}
            samples.append((rows, _values(group, data, length, words)))
        return samples

    def _records(self, block: CanBlock, driving: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Name the CAN frame that drove each frame: the last driving one up to its end."""
        known = np.concatenate([np.array([self._record]), block.record[driving]])
        out: NDArray[np.int64] = known[np.searchsorted(driving, ends, side="right")]
        return out

    def _read(
        self,
        samples: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
        event: NDArray[np.int64],
        ends: NDArray[np.int64],
        at_ns: NDArray[np.int64],
        records: NDArray[np.int64],
    ) -> FrameBlock | None:
        n = ends.size
        if not n:
            return None
        cells, probes = self._shape
        columns: dict[str, NDArray[Any]] = {
            "cell_v": np.full((n, cells), np.nan),
            "temp_c": np.full((n, probes), np.nan),
            "pack_v": np.full((n, 1), np.nan),
            "current_a": np.full((n, 1), np.nan),
            **{name: np.full((n, 2), np.nan) for name in self._context},
        }
        for i, (group, (rows, values)) in enumerate(zip(self._groups, samples, strict=True)):
            sample_ns = np.concatenate([np.array([self._held_ns[i]]), event[rows]])
            known = np.concatenate([self._held[i][None], values])
            now = read_held(rows, sample_ns, known, ends, at_ns, group.max_age_ns)
            for s, target in enumerate(group.targets):
                columns[target.entry.column][:, target.place + target.part] = now[:, s]
        seq = np.arange(self._seq, self._seq + n)
        self._seq += n
        return make_block(
            self._model,
            [self._pack],
            vehicles=[self._vehicle],
            pack=0,
            t_ns=at_ns,
            seq=seq,
            cell_v=columns["cell_v"],
            temp_c=columns["temp_c"],
            pack_v=columns["pack_v"][:, 0],
            current_a=columns["current_a"][:, 0],
            src_offset=records,
            context={name: _context(name, columns[name]) for name in self._context},
        )


def resolve(signals: SignalMap, dbc: Dbc, cells: int, probes: int) -> list[Group]:
    """Find each mapped signal in the DBC and gather what arrives together; raises SignalsError."""
    groups: dict[tuple[str, str, frozenset[int]], list[Target]] = {}
    for entry in signals.entries:
        if entry.message not in dbc.by_name:
            _refuse(signals, entry, "from", f"of a message of {dbc.path.name}", entry.message)
        known = dbc.by_name[entry.message].signals
        room = {"cell_v": cells, "temp_c": probes}.get(entry.column, 1)
        places = range(room) if entry.repeated else [entry.place] if entry.place < room else []
        for place in places:
            for part, name in enumerate(entry.named(place)):
                if name not in known:
                    # also a pack with more cells than the bus carries: it would never be complete
                    _refuse(signals, entry, "from", f"signals of {dbc.path.name}, one for each of {room} places", name)
                signal, valid = known[name], None
                if entry.valid:
                    flag = entry.valid.format(n=place + entry.first)
                    valid = known.get(flag)
                    if valid is None or (valid.mux_ids, valid.mux) != (signal.mux_ids, signal.mux):
                        _refuse(signals, entry, "valid", f"a signal on the page of {name}", flag)
                key = (entry.message, signal.mux.name if signal.mux else "", signal.mux_ids)
                groups.setdefault(key, []).append(Target(entry, place, part, signal, valid))
    return [
        Group(
            dbc.by_name[key[0]],
            tuple(targets),
            not signals.drives or key[0] in signals.drives,
            np.array([round(t.entry.max_age_s * 1e9) for t in targets], np.int64),
        )
        for key, targets in groups.items()
    ]


def _refuse(signals: SignalMap, entry: Entry, key: str, accepted: str, got: str) -> NoReturn:
    msg = f"signal.{entry.key}.{key} must be {accepted}; got {got} ({signals.file})"
    raise SignalsError(msg)


def _values(group: Group, data: NDArray[np.uint8], length: NDArray[np.uint8], words: Words) -> NDArray[np.float64]:
    """Decode a group's frames to column values (n, signals), NaN where one says or means "not available"."""
    out = np.empty((len(data), len(group.targets)))
    for s, target in enumerate(group.targets):
        entry, signal = target.entry, target.signal
        raw = raw_values(signal, data, words)
        if entry.values:
            value = np.full(len(raw), np.nan)
            for k, v in entry.values.items():
                value[raw == k] = v
        else:
            value = physical(signal, raw)
            for k in {*entry.invalid_raw, *signal.invalid}:
                value[raw == k] = np.nan
        value = value * entry.scale + entry.offset
        if np.isfinite(entry.low) or np.isfinite(entry.high):
            value[~((value >= entry.low) & (value <= entry.high))] = np.nan
        if target.valid is not None:
            value[raw_values(target.valid, data, words) != entry.valid_raw] = np.nan
        there = reaches(signal, length)
        if there is not None:
            value[~there] = np.nan
        out[:, s] = value
    return out


def _union(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join row numbers in ascending order."""
    return rows[0] if len(rows) == 1 else np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))


def _context(name: str, parts: NDArray[np.float64]) -> NDArray[Any]:
    """Give a context column its dtype and its own "not available"."""
    dtype = np.dtype(CONTEXT[name])
    if dtype.kind == "f":
        return parts[:, 0].astype(dtype)
    if dtype.kind == "u":
        low, high = np.nan_to_num(parts).astype(np.uint64).T
        mask: NDArray[Any] = (high << _HALF | low).astype(dtype)
        return mask
    whole: NDArray[Any] = np.where(np.isnan(parts[:, 0]), -1, parts[:, 0]).astype(dtype)
    return whole
