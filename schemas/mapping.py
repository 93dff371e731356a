"""Which column of a telemetry table means what: mappings, from `mappings/<name>.toml` or a file of one's own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.checked import ConfigError, Table, parse_toml, read_bytes, shown
from schemas.frames import CONTEXT

MAPPINGS_DIR = Path(__file__).parent / "mappings"
RELATIVE = ("relative_s", "relative_hms")  # since the beginning of a stretch
EPOCH = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
TEXT_TIMES = ("timestamp", "iso")
SIGNED = ("current_a", "current2_a")  # columns whose sign a mapping must state
MATRICES = ("cell_v", "temp_c")
TARGETS = ("seq", "current_a", "pack_v", *MATRICES, *CONTEXT)

_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_LARGE = 1e12  # beyond any scale or offset


class MappingError(ConfigError):
    """A mapping that cannot be used: one line with file, key, value and what is accepted."""


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Where time is: `format` is timestamp, iso, epoch_*, relative_* or a strptime pattern.

    `zone` is "UTC", an offset (+08:00) or a name of the IANA data base; "" where the format needs none.  Times
    are rounded to `step_s`.
    """

    column: str
    format: str
    zone: str
    step_s: float


@dataclass(frozen=True, slots=True)
class Split:
    """A column whose values are stretches of one pack's time, or packs of their own.

    `gap_s` lies between two stretches of relative time; `by_time`: read stretches by their first time, whatever
    their order in the file.
    """

    column: str
    packs: bool
    gap_s: float
    by_time: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """What is added after scaling, and which values (as in the file) mean "not available"."""

    offset: float
    invalid: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Where a column of a FrameBlock comes from: value · scale + offset, times −1 where `negate`.

    `columns` names one or more columns, or `pattern` numbers them from `first` ("cell_mv_{n:03}").  Results outside
    `low`..`high` are not available; `values` translates codes (others are not available).  Where there are several
    choices, that one is taken by which the largest of the columns comes nearest to the column `reference`.
    """

    target: str
    columns: tuple[str, ...]
    pattern: str
    first: int
    scale: float
    negate: bool
    choices: tuple[Choice, ...]
    reference: str
    low: float
    high: float
    values: Mapping[float, float] | None
    optional: bool


@dataclass(frozen=True, slots=True)
class TableMap:
    """How a table becomes frames.  `nominal_ah` sizes a generic pack, 0 where it is not known."""

    name: str
    file: str
    model: str
    nominal_ah: float
    time: TimeMap
    vehicle: str  # column, "" where there is none
    split: Split | None
    columns: tuple[ColumnMap, ...]

    def get(self, target: str) -> ColumnMap | None:
        """Give the map of one column of a FrameBlock."""
        return next((c for c in self.columns if c.target == target), None)


def mapping_names() -> list[str]:
    """Name the mappings that are shipped."""
    return sorted(p.stem for p in MAPPINGS_DIR.glob("*.toml"))


@lru_cache(maxsize=64)
def load_mapping(name: str) -> TableMap:
    """Load a mapping by name, or from a path to a .toml, once.  Raises MappingError."""
    path = Path(name) if name.endswith(".toml") else MAPPINGS_DIR / f"{name}.toml"
    if not name.endswith(".toml") and name not in mapping_names():
        msg = f"map must be one of {', '.join(mapping_names())}, or a path to a .toml; got {shown(name)}"
        raise MappingError(msg)
    data = read_bytes(path, "map must be a readable .toml", MappingError)
    return parse_mapping(data, path.stem, f"mappings/{path.name}" if path.parent == MAPPINGS_DIR else str(path))


def parse_mapping(data: bytes, name: str, file: str) -> TableMap:
    """Build a mapping from the bytes of a TOML file; `file` is what errors call it."""
    top = Table(parse_toml(data, file, MappingError), file, error=MappingError)
    time = _time(top.table("time"))
    columns = top.table("columns")
    for key in columns.keys:
        if key not in TARGETS:
            columns.refuse(key, f"one of {', '.join(TARGETS)}", key)
    table = TableMap(
        name=name,
        file=file,
        model=top.text("model"),
        nominal_ah=top.number("nominal_ah", 0, 10_000, default=0),
        time=time,
        vehicle=_column(top, "vehicle"),
        split=_split(top.table("split"), time) if "split" in top.keys else None,
        columns=tuple(_columns(columns.table(key), key) for key in columns.keys),
    )
    if not table.columns:
        top.refuse("columns", "a table of one or more columns", {})
    columns.done()
    top.done()
    return table


def _column(top: Table, key: str) -> str:
    if key not in top.keys:
        return ""
    table = top.table(key)
    column = table.text("column")
    table.done()
    return column


def _time(t: Table) -> TimeMap:
    accepted = f"one of {', '.join((*TEXT_TIMES, *EPOCH, *RELATIVE))}, or a pattern such as %Y-%m-%d %H:%M:%S"
    column, how = t.text("column"), t.text("format")
    if how not in (*TEXT_TIMES, *EPOCH, *RELATIVE) and ("%" not in how or "%z" in how):
        t.refuse("format", accepted, how)
    local = how in TEXT_TIMES or "%" in how
    zone = t.text("zone") if local else ""
    if local and zone != "UTC" and not _OFFSET.fullmatch(zone):
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            t.refuse("zone", 'the zone of the file: "UTC", an offset such as "+08:00", or an IANA name', zone)
    step_s = t.number("step_s", 0, 60, above=True, default=1e-6)
    t.done()
    return TimeMap(column, how, zone, step_s)


def _split(t: Table, time: TimeMap) -> Split:
    packs = t.text("into", ("packs", "stretches")) == "packs"
    relative = time.format in RELATIVE
    by_time = t.text("order", ("file", "time"), "file") == "time"
    if by_time and relative:
        t.refuse("order", f'"file" where time is {time.format}', "time")
    split = Split(t.text("column"), packs, t.number("gap_s", 0, 1e7, default=3600.0), by_time)
    if "gap_s" in t.keys and (packs or not relative):
        t.refuse("gap_s", "left out unless stretches have relative times", split.gap_s)
    if not packs and not relative and not by_time:
        t.refuse("into", '"packs", or order = "time", where times are absolute', "stretches")
    t.done()
    return split


def _columns(t: Table, target: str) -> ColumnMap:
    keys = t.keys
    columns: tuple[str, ...] = ()
    pattern = ""
    if sum(k in keys for k in ("column", "columns", "pattern")) != 1:
        t.refuse("column", 'there, or "columns" or "pattern" instead, just one of the three', shown(keys))
    if "column" in keys:
        columns = (t.text("column"),)
    elif target not in MATRICES:
        t.refuse("columns", f'left out for {target}, which has a single "column"', "columns")
    elif "columns" in keys:
        columns = tuple(_texts(t, "columns"))
    else:
        pattern = t.text("pattern")
        _check_pattern(t, pattern)
    choices, reference = _choices(t)
    found = ColumnMap(
        target=target,
        columns=columns,
        pattern=pattern,
        first=t.integer("first", 0, 10_000) if pattern and "first" in t.keys else 1,
        scale=t.number("scale", -_LARGE, _LARGE, default=1.0),
        negate=target in SIGNED and t.text("positive", ("charge", "discharge")) == "discharge",
        choices=choices,
        reference=reference,
        low=t.number("low", -_LARGE, _LARGE) if "low" in t.keys else -math.inf,
        high=t.number("high", -_LARGE, _LARGE) if "high" in t.keys else math.inf,
        values=_codes(t) if "values" in keys else None,
        optional=t.truth("optional", default=False),
    )
    if found.scale == 0:
        t.refuse("scale", "a number other than 0", 0)
    t.done()
    return found


def _check_pattern(t: Table, pattern: str) -> None:
    try:
        good = pattern.format(n=1) != pattern.format(n=2)
    except (IndexError, KeyError, ValueError, AttributeError, TypeError):
        good = False
    if not good:
        t.refuse("pattern", "a name with a number in it, such as cell_mv_{n:03}", pattern)


def _choices(t: Table) -> tuple[tuple[Choice, ...], str]:
    if "either" not in t.keys:
        return (_choice(t),), ""
    found = []
    for table in t.tables("either"):
        found.append(_choice(table))
        table.done()
    return tuple(found), t.text("reference")


def _choice(t: Table) -> Choice:
    invalid = t.raw("invalid")
    listed = tuple(t.numbers("invalid", -_LARGE, _LARGE)) if invalid not in (None, []) else ()
    return Choice(t.number("offset", -_LARGE, _LARGE, default=0.0), listed)


def _texts(t: Table, key: str) -> list[str]:
    value = t.raw(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        t.refuse(key, "a list of column names", value)
    return list(value)


def _codes(t: Table) -> dict[float, float]:
    table = t.table("values")
    codes: dict[float, float] = {}
    for key in table.keys:
        try:
            codes[float(key)] = table.number(key, -_LARGE, _LARGE)
        except MappingError:
            raise
        except ValueError:
            table.refuse(key, "a number as in the file", key)
    return codes
