"""Times of a telemetry table: any format to ns since 1970 UTC, or since the beginning of a stretch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from replay.tabular import numbers, plain
from schemas.mapping import TimeMap

NS = 10**9
_UNITS = {"s": NS, "ms": 10**6, "us": 10**3, "ns": 1}
_LAST = 9_000_000_000 * NS  # int64 ns end in 2262
_QUARTER = 900 * NS  # zones change their offset at such times
_HMS = r"^\s*(?P<h>\d+):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d(?:\.\d*)?)\s*$"

Times = tuple[NDArray[np.int64], NDArray[np.bool_]]


def times(column: pa.Array, how: TimeMap) -> Times:
    """Give t_ns (N,) and which of them are times; relative formats count from the beginning of their stretch."""
    column = plain(column)
    kind = column.type
    if how.format == "relative_hms":
        t_ns, good = _hms(column)
    elif how.format.startswith(("epoch_", "relative_")):
        t_ns, good = _counted(column, _UNITS[how.format.rpartition("_")[2]])
    elif pa.types.is_timestamp(kind):
        t_ns, good = _stamps(column)
        if kind.tz is None:
            t_ns = to_utc(t_ns, how.zone)
    elif pa.types.is_date(kind):
        t_ns, good = _stamps(column.cast(pa.timestamp("s")))
        t_ns = to_utc(t_ns, how.zone)
    elif not pa.types.is_string(kind):
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    elif "%" in how.format:
        stamps = pc.strptime(pc.utf8_trim_whitespace(column), format=how.format, unit="us", error_is_null=True)
        t_ns, good = _stamps(stamps)
        t_ns = to_utc(t_ns, how.zone)
    else:
        t_ns, good = _iso(column, how.zone)
    step = max(round(how.step_s * NS), 1)
    t_ns = (t_ns + step // 2) // step * step
    return np.where(good, t_ns, 0), good


def _counted(column: pa.Array, unit: int) -> Times:
    """Read numbers of a unit (in ns), whole ones without rounding."""
    if pa.types.is_string(column.type):
        try:
            column = pc.utf8_trim_whitespace(column).cast(pa.int64())
        except pa.ArrowInvalid:
            column = pa.array(numbers(column), from_pandas=True)
    if pa.types.is_integer(column.type):
        good = np.array(column.is_valid())
        try:
            value = np.array(column.fill_null(0).cast(pa.int64()))
        except pa.ArrowInvalid:  # beyond int64
            return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
        good &= (value <= _LAST // unit) & (value >= -_LAST // unit)
        return np.where(good, value, 0) * unit, good
    value = numbers(column)
    good = np.abs(value) <= _LAST / unit  # NaN is not
    value = np.where(good, value, 0.0)
    whole = np.floor(value)
    return whole.astype(np.int64) * unit + np.rint((value - whole) * unit).astype(np.int64), good


def _stamps(column: pa.Array) -> Times:
    value = np.array(column.fill_null(0).cast(pa.timestamp(column.type.unit)).view(pa.int64()))
    unit = _UNITS[column.type.unit]
    good = np.array(column.is_valid()) & (np.abs(value) <= _LAST // unit)
    return np.where(good, value, 0) * unit, good


def _hms(column: pa.Array) -> Times:
    """Read hours:minutes:seconds, hours as many as there are."""
    if not pa.types.is_string(column.type):
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    parts = pc.extract_regex(column, _HMS)
    value = [numbers(parts.field(name)) for name in ("h", "m", "s")]
    seconds = value[0] * 3600 + value[1] * 60 + value[2]
    return _counted(pa.array(seconds, from_pandas=True), NS)


def _iso(column: pa.Array, zone: str) -> Times:
    """Read ISO 8601; a time with an offset of its own keeps it."""
    t_ns, good = np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    local = np.zeros(len(column), np.bool_)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for i, text in enumerate(column.to_pylist()):
        try:
            stamp = datetime.fromisoformat(text.strip())
        except (ValueError, AttributeError):
            continue
        local[i] = stamp.tzinfo is None
        since = (stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp) - epoch
        ns = since // timedelta(microseconds=1) * 1000
        good[i] = abs(ns) <= _LAST
        t_ns[i] = ns if good[i] else 0
    t_ns[local] = to_utc(t_ns[local], zone)
    return t_ns, good


def to_utc(local_ns: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    """Turn local times into UTC; of an hour that comes twice in autumn the first is taken."""
    if zone == "UTC" or not local_ns.size:
        return local_ns
    if zone[0] in "+-":
        sign = -1 if zone[0] == "-" else 1
        return local_ns - sign * (int(zone[1:3]) * 60 + int(zone[4:6])) * 60 * NS
    place = ZoneInfo(zone)
    quarters, which = np.unique(local_ns // _QUARTER, return_inverse=True)
    epoch = datetime(1970, 1, 1)  # noqa: DTZ001 - local time of that zone
    offsets = [place.utcoffset(epoch + timedelta(seconds=q * 900)) or timedelta() for q in quarters.tolist()]
    return local_ns - np.array([o // timedelta(seconds=1) for o in offsets], np.int64)[which.reshape(-1)] * NS
