"""What a CAN message says: which source came, with which values.

Message by message, with everything prepared at the start: a column decoder (operators.assemble) needs many frames at
once to be fast, and protection waits for none.  Both give the same values; a test holds them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edge.seal import opens
from edge.sensing import Arrival, Source
from operators.assemble import Group, resolve
from operators.dbc import Dbc
from operators.kernels.can_decode import Signal
from schemas.checked import ConfigError
from schemas.signals import PROTECTED, WISHES, Entry, SignalMap

_NAMES = {"soc_bms": "soc"}  # columns that protection knows by another name
_EXT = 1 << 31
_EXACT = 1 << 53  # integers up to here are exact in a float


class Wish(NamedTuple):
    """What the vehicle wants, from one message: True, False, or None where it does not say."""

    close: bool | None
    standby: bool | None


class Frame(NamedTuple):
    """One received CAN frame; `t_ns` of the gateway's monotonic clock."""

    can_id: int
    ext: bool
    data: bytes
    t_ns: int


@dataclass(frozen=True, slots=True)
class Page:
    """What always comes together: `source` of the plan (-1: wishes), and how each value is read."""

    source: int
    on: Callable[[bytes], bool] | None
    reads: tuple[Callable[[bytes], float], ...]
    columns: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """How a bus is read: the sources, what each identifier brings, and which messages are sealed.

    `required`: the signals that are sent, by protection's names.  `resolution`: the smallest step of each.
    `wished`: which wishes the vehicle can say.  `counters` and `refused` are of the sealed messages:
    the last counter of each, and how many did not fit their seal.
    """

    sources: tuple[Source, ...]
    required: tuple[str, ...]
    pages: Mapping[int, tuple[Page, ...]]
    sealed: frozenset[int]
    wished: frozenset[str]
    resolution: Mapping[str, float]
    counters: dict[int, int] = field(default_factory=dict)
    refused: int = 0

    def decode(self, frames: Iterable[Frame]) -> tuple[list[Arrival], list[Wish]]:
        """Decode frames in their order; what is not mapped, or does not fit its seal, brings nothing."""
        arrivals: list[Arrival] = []
        wishes: list[Wish] = []
        for frame in frames:
            key = frame.can_id | _EXT if frame.ext else frame.can_id
            pages = self.pages.get(key)
            if pages is None:
                continue
            if key in self.sealed:
                counter = opens(frame.can_id, frame.data)
                if counter < 0 or counter == self.counters.get(key):
                    self.refused += 1
                    continue
                self.counters[key] = counter
            for page in pages:
                if page.on is not None and not page.on(frame.data):
                    continue
                values = tuple([read(frame.data) for read in page.reads])
                if page.source >= 0:
                    arrivals.append(Arrival(page.source, frame.t_ns, values))
                else:
                    wishes.append(_wish(page.columns, values))
        return arrivals, wishes


def _wish(columns: Sequence[str], values: Sequence[float]) -> Wish:
    said = {name: None if math.isnan(v) else v == 1.0 for name, v in zip(columns, values, strict=True)}
    return Wish(said.get(WISHES[0]), said.get(WISHES[1]))


def plan(
    maps: Sequence[tuple[SignalMap, Dbc]],
    cells: int,
    probes: int,
    *,
    absent: Iterable[str] = (),
    cycle_s: Mapping[str, float] | None = None,
) -> Plan:
    """Prepare to read a bus.

    `absent` takes back what a map declares required, `cycle_s` says how often messages come where it is not as the
    map or the DBC says.  Raises ConfigError with what is wrong and what is accepted.
    """
    left_out, cycles = frozenset(absent), cycle_s or {}
    _check_declared([m for m, _ in maps], left_out)
    unknown = sorted(set(cycles) - {e.message for m, _ in maps for e in m.entries})
    if unknown:
        msg = f"cycle_s must be of a message that a signal is taken from; got {unknown[0]}"
        raise ConfigError(msg)
    sources: list[Source] = []
    pages: dict[int, list[Page]] = {}
    sealed: set[int] = set()
    wished: set[str] = set()
    resolution: dict[str, float] = {}
    for signals, dbc in maps:
        used = (*(c for c in signals.required if c not in left_out), *WISHES)
        kept = replace(signals, entries=tuple(e for e in signals.entries if e.column in used))
        for group in resolve(kept, dbc, cells, probes):
            key = group.message.can_id | _EXT if group.message.ext else group.message.can_id
            if group.message.name in signals.sealed:
                sealed.add(key)
            wishes = group_of(group, wishes=True)
            values = group_of(group, wishes=False)
            if wishes.targets:
                wished |= {t.entry.column for t in wishes.targets}
                pages.setdefault(key, []).append(_page(wishes, -1))
            if values.targets:
                pages.setdefault(key, []).append(_page(values, len(sources)))
                sources.append(_source(values, signals, cycles))
            for t in values.targets:
                step = abs(t.signal.scale * t.entry.scale)
                resolution[t.entry.column] = max(step, resolution.get(t.entry.column, 0.0))
    required = [_NAMES.get(c, c) for m, _ in maps for c in m.required if c not in left_out]
    return Plan(
        tuple(sources),
        tuple(required),
        {k: tuple(p) for k, p in pages.items()},
        frozenset(sealed),
        frozenset(wished),
        resolution,
    )


def _check_declared(maps: Sequence[SignalMap], left_out: frozenset[str]) -> None:
    """Refuse a signal that nobody declared, or that two maps bring."""
    asked = {c: [m.file for m in maps if c in m.required] for c in PROTECTED if c not in left_out}
    for column, by in asked.items():
        if len(by) > 1:
            msg = f"{column} must be required by one map; got {', '.join(by)}"
            raise ConfigError(msg)
    for column, by in asked.items():
        if not by and not any(column in m.absent for m in maps):
            files = ", ".join(m.file for m in maps)
            msg = f"{column} must be declared required or absent under [gateway] of a map; got nothing ({files})"
            raise ConfigError(msg)
    unknown = sorted(left_out - {*PROTECTED})
    if unknown:
        msg = f"absent must be out of {', '.join(PROTECTED)}; got {unknown[0]}"
        raise ConfigError(msg)


def group_of(group: Group, *, wishes: bool) -> Group:
    """Give the part of a group that is wishes, or the part that is not."""
    return replace(group, targets=tuple(t for t in group.targets if (t.entry.column in WISHES) == wishes))


def _source(group: Group, signals: SignalMap, cycles: Mapping[str, float]) -> Source:
    name = group.message.name
    period_s = cycles.get(name, signals.cycle_s.get(name, group.message.cycle_s))
    if math.isnan(period_s):
        msg = (
            f"gateway.cycle_s.{name} must be a number > 0, since the DBC does not say it; got nothing ({signals.file})"
        )
        raise ConfigError(msg)
    page = group.targets[0].signal
    label = name if page.mux is None else f"{name} page {min(page.mux_ids)}"
    fills = tuple((_NAMES.get(t.entry.column, t.entry.column), t.place) for t in group.targets)
    return Source(label, period_s, fills)


def _page(group: Group, source: int) -> Page:
    mux = group.targets[0].signal
    return Page(
        source=source,
        on=_on_page(mux) if mux.mux is not None else None,
        reads=tuple(_reader(t.signal, t.entry, t.valid) for t in group.targets),
        columns=tuple(t.entry.column for t in group.targets),
    )


def _on_page(signal: Signal) -> Callable[[bytes], bool]:
    """Make the test whether the multiplexers select a signal."""
    assert signal.mux is not None
    mux, ids, least = _raw(signal.mux), signal.mux_ids, _least_bytes(signal.mux)
    above = _on_page(signal.mux) if signal.mux.mux is not None else None

    def on(data: bytes) -> bool:
        return len(data) >= least and mux(data) in ids and (above is None or above(data))

    return on


def _least_bytes(signal: Signal) -> int:
    return -(-(signal.start + signal.length) // 8)


def _raw(signal: Signal) -> Callable[[bytes], float]:
    """Make the reader of a signal's raw value; the frame must be long enough."""
    first, last = signal.start // 8, _least_bytes(signal)
    order = "little" if signal.little else "big"
    within = signal.start - 8 * first
    shift = within if signal.little else 8 * (last - first) - within - signal.length
    mask = (1 << signal.length) - 1
    sign = 1 << (signal.length - 1) if signal.signed else 0
    if signal.is_float:
        return _raw_float(signal, first, last)

    def raw(data: bytes) -> int:
        value = int.from_bytes(data[first:last], order) >> shift & mask  # type: ignore[arg-type]
        return value - 2 * sign if value & sign else value

    return raw


def _raw_float(signal: Signal, first: int, last: int) -> Callable[[bytes], float]:
    import struct  # noqa: PLC0415 - few buses have such signals

    code = {16: "e", 32: "f", 64: "d"}[signal.length]
    bits = _raw(replace(signal, is_float=False, signed=False))
    assert first < last
    return lambda data: float(struct.unpack(f"<{code}", int(bits(data)).to_bytes(signal.length // 8, "little"))[0])


def _reader(signal: Signal, entry: Entry, flag: Signal | None) -> Callable[[bytes], float]:
    """Make the reader of a column's value: NaN where the frame is too short or says "not available"."""
    raw_of, least = _raw(signal), _least_bytes(signal)
    flag_of = _raw(flag) if flag is not None else None
    flag_least = _least_bytes(flag) if flag is not None else 0
    unit = signal.scale == 1 and signal.offset == 0
    whole = float(signal.scale).is_integer() and float(signal.offset).is_integer() and not signal.is_float
    exact = whole and (abs(int(signal.scale)) << signal.length) + abs(int(signal.offset)) >= _EXACT
    by_raw = {float(k): v for k, v in entry.values.items()}
    missing = frozenset(float(k) for k in {*entry.invalid_raw, *signal.invalid})
    scale, offset, low, high = entry.scale, entry.offset, entry.low, entry.high
    bounded = math.isfinite(low) or math.isfinite(high)

    def read(data: bytes) -> float:
        if len(data) < least:
            return math.nan
        if flag_of is not None and flag_of(data.ljust(flag_least, b"\0")) != entry.valid_raw:
            return math.nan
        raw = raw_of(data)
        if by_raw:
            value = by_raw.get(raw, math.nan)
        elif raw in missing:
            return math.nan
        elif unit:
            value = float(raw)
        elif exact:
            value = float(int(raw) * int(signal.scale) + int(signal.offset))
        else:
            value = raw * signal.scale + signal.offset
        value = value * scale + offset
        return value if not bounded or low <= value <= high else math.nan

    return read
