"""Which CAN signals become which column: one mapping file for each DBC, found by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from schemas.checked import ConfigError, Table, parse_toml, read_bytes, shown
from schemas.frames import CONTEXT

SIGNALS_DIR = Path(__file__).parent / "signals"
DBC_DIR = Path(__file__).parent / "dbc"
SINGLE, MANY = ("pack_v", "current_a"), ("cell_v", "temp_c")  # columns beside CONTEXT: one value, one for each place
SIGNED = ("current_a", "current2_a")  # columns whose sign must be stated
FEEDBACK = ("plus_closed", "minus_closed", "precharge_closed")  # 1 is closed
WISHES = ("close_request", "standby_request")  # what the vehicle wants of the contactors: 1 is yes
GATEWAY = (*FEEDBACK, "crash", *WISHES)  # columns for a gateway alone: frames do not hold them
# What protection looks at: each must be declared `required` or `absent` before a gateway starts.
PROTECTED = (
    *MANY, *SINGLE, "current2_a", "link_v", "isolation_ohm", "hvil", "crash", "speed_kmh", "drive_state",
    "charge_type", "soc_bms", *FEEDBACK,
)  # fmt: skip
_COLUMN = re.compile(r"(?P<name>\w+?)(?:\[(?P<place>\d+)\])?")
_SOURCE = re.compile(r"(?P<message>\w+)\.(?P<signal>(?:\w|\{n(?::0\d+)?\})+)")
_FOREVER_S = 1e6


class SignalsError(ConfigError):
    """A signal mapping that cannot be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How one column is filled.

    `signals` names the signal of `message`; `{n}` in it stands for the place counted from `first`,
    and the entry then fills every place of the column; else it fills `place`.  Two signals are the low
    and the high 32 bits of a mask.  column = value·scale + offset, NaN where the raw value is one of
    `invalid_raw`, the column is outside low..high, `values` (raw -> column) does not name the raw value,
    or the signal `valid` has not the raw value `valid_raw`; `max_age_s` is how long a value is held.
    """

    key: str
    column: str
    place: int
    message: str
    signals: tuple[str, ...]
    first: int
    scale: float
    offset: float
    low: float
    high: float
    invalid_raw: tuple[int, ...]
    values: Mapping[int, float]
    valid: str
    valid_raw: int
    max_age_s: float

    @property
    def repeated(self) -> bool:
        """Say whether the entry fills every place of its column."""
        return "{n" in self.signals[0]

    def named(self, place: int) -> tuple[str, ...]:
        """Name the signals for one place."""
        return tuple(s.format(n=place + self.first) for s in self.signals)


@dataclass(frozen=True, slots=True)
class SignalMap:
    """A mapping file: its entries, the period of frames, which messages make a frame, which bus counts.

    `period_s` 0 means a frame at each driving message; `drives` () means that all mapped messages
    drive, `bus` "" that all buses count.  For a gateway: `required` and `absent` columns, `cycle_s` of each message
    (of each page of a multiplexed one), and the `sealed` messages, which carry a counter and a checksum.
    """

    file: str
    period_s: float
    drives: tuple[str, ...]
    bus: str
    entries: tuple[Entry, ...]
    required: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    cycle_s: Mapping[str, float] = field(default_factory=dict)
    sealed: tuple[str, ...] = ()


def signals_for(dbc: str | Path) -> Path:
    """Find the mapping that ships for a DBC, by the name of its file; raises SignalsError."""
    path = SIGNALS_DIR / f"{Path(dbc).stem}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SIGNALS_DIR.glob("*.toml")))
        msg = f"dbc must be named as one that has a mapping ({known}), or a mapping given; got {shown(str(dbc))}"
        raise SignalsError(msg)
    return path


def load_signals(path: str | Path) -> SignalMap:
    """Read a mapping file; raises SignalsError with file, key, value and what is accepted."""
    path = Path(path)
    file = f"signals/{path.name}" if path.parent == SIGNALS_DIR else str(path)
    return parse_signals(read_bytes(path, "signals must be a readable .toml", SignalsError), file)


def parse_signals(data: bytes, file: str) -> SignalMap:
    """Build a mapping from the bytes of a TOML file; `file` is what errors call it."""
    top = Table(parse_toml(data, file, SignalsError), file, error=SignalsError)
    period_s = top.number("period_s", 0, 3600)
    max_age_s = top.number("max_age_s", 0, _FOREVER_S, above=True)
    drives = top.raw("drives") or []
    if not isinstance(drives, list) or not all(isinstance(d, str) for d in drives):
        top.refuse("drives", "a list of message names", drives)
    bus = top.raw("bus") or ""
    if not isinstance(bus, str):
        top.refuse("bus", "the name of a bus", bus)
    table = top.table("signal")
    entries = tuple(_entry(key, table, max_age_s) for key in table.keys)
    if not entries:
        top.refuse("signal", "a table of one or more columns", {})
    unmapped = [d for d in drives if d not in {e.message for e in entries}]
    if unmapped:
        top.refuse("drives", "messages that a signal is taken from", unmapped[0])
    declared = _gateway(top, entries)
    top.done()
    return SignalMap(file, period_s, tuple(drives), bus, entries, *declared)


def _gateway(
    top: Table, entries: tuple[Entry, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, float], tuple[str, ...]]:
    """Read the table `gateway`, which a mapping may leave out."""
    if "gateway" not in top.keys:
        return (), (), {}, ()
    t = top.table("gateway")
    mapped = {e.column for e in entries}
    messages = sorted({e.message for e in entries})
    required = t.names("required", [c for c in PROTECTED if c in mapped])
    absent = t.names("absent", [c for c in PROTECTED if c not in required])
    cycles = t.table("cycle_s") if "cycle_s" in t.keys else None
    cycle_s = {m: cycles.number(m, 0, 3600, above=True) for m in messages if m in cycles.keys} if cycles else {}
    if cycles is not None:
        unknown = [k for k in cycles.keys if k not in messages]
        if unknown:
            cycles.refuse(unknown[0], f"a message that a signal is taken from ({', '.join(messages)})", unknown[0])
    sealed = t.names("sealed", messages)
    t.done()
    return required, absent, cycle_s, sealed


def _entry(key: str, table: Table, max_age_s: float) -> Entry:
    column, place = _column(key, table)
    t = table.table(key)
    message, names = _sources(t, column)
    repeated = "{n" in names[0]
    if repeated and (column not in MANY or place is not None):
        t.refuse("from", f"one signal; {{n}} is for {' and '.join(MANY)}", names[0])
    if column in MANY and not repeated and place is None:
        t.refuse("from", f"a pattern with {{n}}, or the key {column}[0]", names[0])
    sign = 1.0
    if column in SIGNED:
        sign = 1.0 if t.text("positive", ("charge", "discharge")) == "charge" else -1.0
    bits = len(names) > 1
    valid = t.text("valid", default="-")
    if valid != "-":
        match = _SOURCE.fullmatch(valid)
        if match is None or match["message"] != message:
            t.refuse("valid", f"Message.Signal of the same message ({message})", valid)
        valid = match["signal"]
    entry = Entry(
        key=key,
        column=column,
        place=place or 0,
        message=message,
        signals=names,
        first=t.integer("first", 0, 10_000) if "first" in t.keys else 1,
        scale=sign * t.number("scale", -1e12, 1e12, default=1.0),
        offset=sign * t.number("offset", -1e12, 1e12, default=0.0),
        low=_bound(t, "low", -math.inf),
        high=_bound(t, "high", math.inf),
        invalid_raw=_raws(t),
        values=_values(t),
        valid="" if valid == "-" else valid,
        valid_raw=t.integer("valid_raw", -(2**63), 2**63) if "valid_raw" in t.keys else 1,
        max_age_s=t.number("max_age_s", 0, _FOREVER_S, above=True, default=max_age_s),
    )
    if entry.scale == 0:
        t.refuse("scale", "a number other than 0", 0)
    if bits and (entry.scale, entry.offset) != (1.0, 0.0):
        t.refuse("scale", "left out where a mask is made of two signals", entry.scale)
    t.done()
    return entry


def _column(key: str, table: Table) -> tuple[str, int | None]:
    match = _COLUMN.fullmatch(key)
    name = match["name"] if match else ""
    place = int(match["place"]) if match and match["place"] else None
    if name not in {*SINGLE, *MANY, *CONTEXT, *GATEWAY} or (place is not None and name not in MANY):
        accepted = f"a column: {', '.join([*SINGLE, *MANY, *(f'{m}[0]' for m in MANY), *CONTEXT, *GATEWAY])}"
        table.refuse(key, accepted, key)
    return name, place


def _sources(t: Table, column: str) -> tuple[str, tuple[str, ...]]:
    """Read `from`: "Message.Signal", or two of them for a mask."""
    value = t.raw("from")
    masked = column in CONTEXT and np.dtype(CONTEXT[column]).kind == "u"
    parts = value if isinstance(value, list) and masked and len(value) == 2 else [value]  # noqa: PLR2004 - low, high
    matches = [_SOURCE.fullmatch(p) if isinstance(p, str) else None for p in parts]
    messages = {m["message"] for m in matches if m is not None}
    if None in matches or len(messages) != 1:
        t.refuse("from", "Message.Signal" + (", or a list of the low and the high half" if masked else ""), value)
    return messages.pop(), tuple(m["signal"] for m in matches if m is not None)


def _bound(t: Table, key: str, default: float) -> float:
    return t.number(key, -1e12, 1e12) if key in t.keys else default


def _raws(t: Table) -> tuple[int, ...]:
    value = t.raw("invalid_raw") or []
    if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        t.refuse("invalid_raw", "a list of whole numbers", value)
    return tuple(value)


def _values(t: Table) -> dict[int, float]:
    value = t.raw("values") or {}
    good = isinstance(value, dict) and all(
        re.fullmatch(r"-?\d+", k) and isinstance(v, int | float) and not isinstance(v, bool) for k, v in value.items()
    )
    if not good:
        t.refuse("values", 'a table of raw value to column value, as { "0" = 0, "2" = 1 }', value)
    return {int(k): float(v) for k, v in value.items()}
