"""CAN payloads to signal values: all frames of one id at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Raw = NDArray[Any]  # (N,) int64, uint64 or float64
Words = dict[tuple[bool, int], NDArray[np.uint64]]  # (little endian, first byte) -> 64 payload bits
_STD_IDS = 0x800
_EXACT = 1 << 53  # integers up to here are exact in float64
_FLOATS = {16: (np.uint16, np.float16), 32: (np.uint32, np.float32), 64: (np.uint64, np.float64)}


@dataclass(frozen=True, slots=True)
class Signal:
    """Where one signal lies in a payload and what its bits mean, as a DBC says it.

    `start` counts bits from the first byte: for little endian of the least significant bit as DBC
    does, for big endian of the most significant bit in network order.  value = raw·scale + offset.
    `labels` is the value table; `invalid` are the raw values whose label says "no value".
    A multiplexed signal is there where `mux`, the multiplexer, has a raw value in `mux_ids`.
    """

    name: str
    start: int
    length: int
    little: bool = True
    signed: bool = False
    is_float: bool = False
    scale: float = 1
    offset: float = 0
    unit: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)
    invalid: tuple[int, ...] = ()
    mux: Signal | None = None
    mux_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Message:
    """One CAN message of a DBC: id, its length in bytes and its signals by name."""

    name: str
    can_id: int
    ext: bool
    length: int
    signals: Mapping[str, Signal]
    cycle_s: float = float("nan")


def by_message(
    messages: Sequence[Message],
    can_id: NDArray[np.uint32],
    ext: NDArray[np.bool_],
    usable: NDArray[np.bool_] | None = None,
) -> list[tuple[Message, NDArray[np.int64]]]:
    """Sort frames to messages: (message, its rows in ascending order) for each that occurs, in the order given.

    `usable` (N,) leaves rows out (remote and error frames have no payload to decode).
    """
    of_std = np.zeros(_STD_IDS + 1, np.int16)  # the last place is for all that is no 11-bit id
    for k, message in enumerate(messages, 1):
        if not message.ext:
            of_std[message.can_id] = k
    which = of_std.take(can_id, mode="clip")
    if ext.any():
        which[ext] = 0
        for k, message in enumerate(messages, 1):
            if message.ext:
                which[ext & (can_id == message.can_id)] = k
    if usable is not None:
        which[~usable] = 0
    known = np.flatnonzero(which)
    of_known = which[known]
    order = np.argsort(of_known, kind="stable")
    ends = np.cumsum(np.bincount(of_known, minlength=len(messages) + 1)[1:])
    rows = np.split(known[order], ends[:-1])
    return [(m, r) for m, r in zip(messages, rows, strict=False) if r.size]  # no messages: one empty list of rows


def decode(
    message: Message,
    data: NDArray[np.uint8],
    length: NDArray[np.uint8],
    names: Iterable[str] | None = None,
    *,
    invalid_as_nan: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Decode payloads of one message: signal name -> (N,) float64, NaN where a frame does not hold it.

    `data` (N, 8 or 64) uint8, `length` (N,) bytes per frame.  A short frame gives what lies wholly
    in it; a multiplexed signal is NaN where another page was sent.  `invalid_as_nan` turns values
    whose label says "no value" into NaN too.
    """
    words: Words = {}
    values: dict[str, NDArray[np.float64]] = {}
    for name in message.signals if names is None else names:
        signal = message.signals[name]
        raw = raw_values(signal, data, words)
        value = physical(signal, raw)
        there = held(signal, data, length, words)
        if there is not None:
            value[~there] = np.nan
        if invalid_as_nan and signal.invalid:
            value[np.isin(raw, np.array(signal.invalid, raw.dtype))] = np.nan
        values[name] = value
    return values


def raw_values(signal: Signal, data: NDArray[np.uint8], words: Words | None = None) -> Raw:
    """Cut a signal's bits out of payloads (N, 8 or 64): (N,) int64 if signed, float64 if float, else uint64.

    `words` keeps payload words between signals of the same rows.  Bits beyond the array read as 0.
    """
    words = {} if words is None else words
    width = data.shape[1]
    first = min(signal.start // 8, width - 8)
    within = signal.start - 8 * first
    if within >= 64:
        bits = np.zeros(len(data), np.uint64)
        left = within % 64  # outside: `held` says so
    else:
        bits = _word(data, signal.little, first, words)
        left = 64 - within - signal.length if signal.little else within
        if left < 0 or within + signal.length > 64:  # spans nine bytes
            bits, left = _across(bits, data, signal, first, within)
    shifted = bits << np.uint64(left) if left else bits
    right = 64 - signal.length
    if signal.is_float:
        unsigned, floating = _FLOATS[signal.length]
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            return (shifted >> np.uint64(right)).astype(unsigned).view(floating).astype(np.float64)
    if signal.signed:
        return shifted.view(np.int64) >> np.int64(right)  # arithmetic shift extends the sign
    return shifted >> np.uint64(right)


def _word(data: NDArray[np.uint8], little: bool, first: int, words: Words) -> NDArray[np.uint64]:  # noqa: FBT001
    """Read 8 bytes from `first` on as one number, in the byte order asked for."""
    key = (little, first)
    if key not in words:
        eight = np.ascontiguousarray(data[:, first : first + 8])
        words[key] = eight.view("<u8" if little else ">u8")[:, 0].astype(np.uint64)
    return words[key]


def _across(
    word: NDArray[np.uint64], data: NDArray[np.uint8], signal: Signal, first: int, within: int
) -> tuple[NDArray[np.uint64], int]:
    """Join a word with the byte after it; gives the bits, left-aligned as far as needed, and the shift still to do."""
    if first + 8 < data.shape[1]:
        ninth = data[:, first + 8].astype(np.uint64)
        ninth = ninth << np.uint64(64 - within) if signal.little else ninth >> np.uint64(8 - within)
    else:
        ninth = np.zeros(len(data), np.uint64)  # beyond what a frame can hold
    if signal.little:
        return (word >> np.uint64(within)) | ninth, 64 - signal.length
    return (word << np.uint64(within)) | ninth, 0


def physical(signal: Signal, raw: Raw) -> NDArray[np.float64]:
    """Scale raw values: float64 raw·scale + offset, rounded as exact integers are where all are integers."""
    if signal.scale == 1 and signal.offset == 0:
        return raw.astype(np.float64)
    whole = float(signal.scale).is_integer() and float(signal.offset).is_integer() and not signal.is_float
    if whole and (abs(int(signal.scale)) << signal.length) + abs(int(signal.offset)) >= _EXACT:
        exact = raw.astype(object) * int(signal.scale) + int(signal.offset)
        return exact.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # a float signal may hold anything
        return raw.astype(np.float64) * signal.scale + signal.offset


def held(
    signal: Signal, data: NDArray[np.uint8], length: NDArray[np.uint8], words: Words | None = None
) -> NDArray[np.bool_] | None:
    """Say which frames hold a signal: long enough, and with the right multiplexer page; None = all."""
    there = reaches(signal, length)
    page = on_page(signal, data, length, words)
    return page if there is None else there if page is None else there & page


def reaches(signal: Signal, length: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Say which frames are long enough for a signal; None = all."""
    needed = -(-(signal.start + signal.length) // 8)
    return None if not length.size or int(length.min()) >= needed else length >= needed


def on_page(
    signal: Signal, data: NDArray[np.uint8], length: NDArray[np.uint8], words: Words | None = None
) -> NDArray[np.bool_] | None:
    """Say in which frames the multiplexers select a signal; None = all."""
    if signal.mux is None:
        return None
    page = raw_values(signal.mux, data, words)
    ids = [page.dtype.type(i) for i in sorted(signal.mux_ids)]
    right = page == ids[0] if len(ids) == 1 else np.isin(page, np.array(ids, page.dtype))
    more = held(signal.mux, data, length, words)
    return right if more is None else right & more
