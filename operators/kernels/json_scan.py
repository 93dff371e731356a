"""What numbers do these JSON frames hold?  One pass over the bytes of many messages, without an object per value.

Takes what is surely a message of `schemas.wire_json` and has exactly one reading: known keys, each once, plain ASCII
ids, lists as long as the pack has cells and probes.  Of anything else it says "not mine", and the whole message is
read by `wire_json`, which also says what is wrong with it.  Numbers are exact: a decimal of up to 15 digits and a
power of ten up to 22 are both whole in float64, so one division rounds correctly (Clinger, PLDI 1990); longer ones are
named for Python to read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

HEAD = (b"schema", b"model", b"pack", b"vehicle", b"frames")
_SCHEMA, _MODEL, _PACK, _VEHICLE, _FRAMES = range(5)
WHOLE, NUMBER, CELLS, PROBES = range(4)  # what the value of a key of a frame is
_ID_MAX = 128
_ALIKE = 100  # frames of a message
_EXACT = np.uint64(1 << 53)
_POWERS = np.array([10.0**i for i in range(23)])
_INT64_MAX = np.uint64(2**63 - 1)

_njit = njit(cache=True, nogil=True)


@_njit
def _space(buf, at, end):
    while at < end and (buf[at] == 0x20 or buf[at] == 0x0A or buf[at] == 0x0D or buf[at] == 0x09):
        at += 1
    return at


@_njit
def _text(buf, at, end):
    """Give where a plain string that begins at its quote ends (its second quote), -1 where it is not plain."""
    if at >= end or buf[at] != 0x22:
        return -1
    at += 1
    while at < end and buf[at] != 0x22:
        if buf[at] < 0x20 or buf[at] >= 0x7F or buf[at] == 0x5C:
            return -1
        at += 1
    return at if at < end else -1


@_njit
def _key(buf, begin, end, names, ends, guess):
    """Give the number of a key, -1 where it is unknown; keys come in the same order again and again."""
    n = end - begin
    for i in range(ends.size):
        k = (guess + i) % ends.size
        first = ends[k - 1] if k else 0
        if ends[k] - first != n:
            continue
        same = True
        for j in range(n):
            if buf[begin + j] != names[first + j]:
                same = False
                break
        if same:
            return k
    return -1


@_njit
def _number(buf, at, end):
    """Read a JSON number: (where it ends, its digits as a whole number, power of ten, negative, kind).

    kind: 0 whole, 1 with a point or exponent, 2 more digits than a whole number here holds, -1 none.
    """
    negative = False
    if at < end and buf[at] == 0x2D:
        negative = True
        at += 1
    digits, power, kind, count = np.uint64(0), 0, 0, 0
    if at >= end or buf[at] < 0x30 or buf[at] > 0x39:
        return at, digits, power, negative, -1
    zero = buf[at] == 0x30
    first = at
    while at < end and 0x30 <= buf[at] <= 0x39:
        if count < 19:
            digits = digits * np.uint64(10) + np.uint64(buf[at] - 0x30)
            count += 1
        else:
            kind = 2
        at += 1
    if zero and at - first > 1:
        return at, digits, power, negative, -1
    if zero:
        count = 0  # leading zeros take no place
    if at < end and buf[at] == 0x2E:
        at += 1
        first = at
        kind = max(kind, 1)
        while at < end and 0x30 <= buf[at] <= 0x39:
            if count < 19:
                digits = digits * np.uint64(10) + np.uint64(buf[at] - 0x30)
                count += 1 if digits else 0
                power -= 1
            else:
                kind = 2
            at += 1
        if at == first:
            return at, digits, power, negative, -1
    if at < end and (buf[at] == 0x65 or buf[at] == 0x45):
        return at, digits, power, negative, -1  # with an exponent: rare, and not ours
    return at, digits, power, negative, kind


@_njit
def _null(buf, at, end):
    return at + 4 <= end and buf[at] == 0x6E and buf[at + 1] == 0x75 and buf[at + 2] == 0x6C and buf[at + 3] == 0x6C


@_njit
def _list(buf, at, end, into):
    """Read a list of as many numbers and nulls as `into` has places; gives where it ends, -1 where it is another.

    Numbers as most are, up to 15 digits with no zero before others, are read in place; digits end before the bytes do.
    """
    n = into.size
    for i in range(n):
        at += 1  # past the bracket, or the comma
        if at < end and buf[at] <= 0x20:
            at = _space(buf, at, end)
        minus = at < end and buf[at] == 0x2D
        first = at + 1 if minus else at
        place = first
        whole = np.int64(0)
        while 0x30 <= buf[place] <= 0x39:
            whole = whole * 10 + np.int64(buf[place] - 0x30)
            place += 1
        point = place
        if buf[place] == 0x2E:
            place += 1
            while 0x30 <= buf[place] <= 0x39:
                whole = whole * 10 + np.int64(buf[place] - 0x30)
                place += 1
        after = place - point - 1  # digits behind the point; -1: there is none
        good = point > first and after != 0 and place - first <= 15 and place < end
        if good and (buf[first] != 0x30 or point == first + 1) and buf[place] != 0x65 and buf[place] != 0x45:
            at = place
            value = np.float64(whole) / _POWERS[max(after, 0)]
            into[i] = np.float32(-value if minus and (after > 0 or whole) else value)
        elif _null(buf, at, end):
            into[i] = np.nan
            at += 4
        else:
            at, digits, power, negative, kind = _number(buf, at, end)
            if kind < 0 or kind > 1 or digits > _EXACT or power < -22:
                return -1
            value = np.float64(digits) / _POWERS[-power]
            if negative and (kind or digits):
                value = -value
            into[i] = np.float32(value)
        if at < end and buf[at] <= 0x20:
            at = _space(buf, at, end)
        if at >= end or buf[at] != (0x2C if i + 1 < n else 0x5D):
            return -1
    return at + 1 if n else -1


@_njit
def _frame(  # noqa: PLR0911 - each return is a form that is not ours
    buf, at, end, names, ends, kinds, places, low, high, row, whole, number, cells, probes, late, lates
):
    """Read one frame into a row; gives (where it ends or -1, the keys that it has as bits, numbers read late)."""
    seen = 0
    guess = 0
    while True:
        at = _space(buf, at + 1, end)  # past the brace, or the comma
        stop = _text(buf, at, end)
        if stop < 0:
            return -1, seen, lates
        k = _key(buf, at + 1, stop, names, ends, guess)
        if k < 0 or seen >> k & 1:
            return -1, seen, lates
        seen |= 1 << k
        guess = k + 1
        at = _space(buf, stop + 1, end)
        if at >= end or buf[at] != 0x3A:
            return -1, seen, lates
        at = _space(buf, at + 1, end)
        kind, place = kinds[k], places[k]
        if _null(buf, at, end):
            at += 4
            if k == 0:  # the time
                return -1, seen, lates
        elif kind >= CELLS:  # or probes
            if at >= end or buf[at] != 0x5B:
                return -1, seen, lates
            at = _list(buf, at, end, cells[row] if kind == CELLS else probes[row])
            if at < 0:
                return -1, seen, lates
        else:
            first = at
            at, digits, power, negative, form = _number(buf, at, end)
            if form < 0:
                return -1, seen, lates
            if kind == WHOLE:
                if form or digits > _INT64_MAX:
                    return -1, seen, lates
                value = -np.int64(digits) if negative else np.int64(digits)
                if value < low[place] or value > high[place]:
                    return -1, seen, lates
                whole[row, place] = value
            elif form <= 1 and digits <= _EXACT and power >= -22:
                real = np.float64(digits) / _POWERS[-power]
                number[row, place] = -real if negative and (form or digits) else real
            elif form == 0 or at - first > 40 or lates >= late.shape[0]:
                return -1, seen, lates  # a whole number may be beyond what JSON's reader takes
            else:
                late[lates, 0], late[lates, 1], late[lates, 2], late[lates, 3] = row, place, first, at
                lates += 1
        at = _space(buf, at, end)
        if at >= end:
            return -1, seen, lates
        if buf[at] == 0x7D:
            break
        if buf[at] != 0x2C:
            return -1, seen, lates
    return (at + 1 if seen & 1 else -1), seen, lates


@_njit
def walk(
    buf, begins, stops, head, head_ends, model, names, ends, kinds, places, low, high, missing,
    whole, number, cells, probes, ids, rows_of, late,
):  # fmt: skip
    """Read messages [begins, stops) of `buf` into rows, one after another.

    `rows_of` (M,) becomes the number of rows of each message, 0 where it is not ours; `ids` (M, 4) where pack and
    vehicle begin and end.  Gives (rows, all keys seen as bits, late numbers).
    """
    row, seen_all, lates = 0, 0, 0
    for m in range(begins.size):
        end = stops[m]
        at = _space(buf, begins[m], end)
        first_row, first_late, seen_here = row, lates, 0
        rows_of[m] = 0
        ids[m, 2] = ids[m, 3] = 0
        if at >= end or buf[at] != 0x7B:
            continue
        seen, guess, good = 0, 0, False
        while True:
            at = _space(buf, at + 1, end)
            stop = _text(buf, at, end)
            if stop < 0:
                break
            k = _key(buf, at + 1, stop, head, head_ends, guess)
            if k < 0 or seen >> k & 1:
                break
            seen |= 1 << k
            guess = k + 1
            at = _space(buf, stop + 1, end)
            if at >= end or buf[at] != 0x3A:
                break
            at = _space(buf, at + 1, end)
            if k == _SCHEMA:
                at, digits, _, negative, kind = _number(buf, at, end)
                if kind != 0 or negative or digits != 1:
                    break
            elif k == _FRAMES:
                if at >= end or buf[at] != 0x5B:
                    break
                closed = False
                while True:
                    at = _space(buf, at + 1, end)
                    if at >= end or buf[at] != 0x7B:
                        break
                    if row >= whole.shape[0]:
                        return row, seen_all, lates, True
                    whole[row] = missing
                    number[row] = np.nan
                    cells[row] = np.nan
                    probes[row] = np.nan
                    at, has, lates = _frame(
                        buf, at, end, names, ends, kinds, places, low, high, row, whole, number, cells, probes, late,
                        lates,
                    )  # fmt: skip
                    if at < 0:
                        break
                    seen_here |= has
                    row += 1
                    at = _space(buf, at, end)
                    if at >= end or buf[at] != 0x2C:
                        closed = at < end and buf[at] == 0x5D
                        break
                if not closed:
                    break
                at += 1
            else:
                stop = _text(buf, at, end)
                if stop < 0 or not 0 < stop - at - 1 <= _ID_MAX:
                    break
                if k == _MODEL:
                    same = stop - at - 1 == model.size
                    for j in range(model.size):
                        same = same and buf[at + 1 + j] == model[j]
                    if not same:
                        break
                elif k == _PACK:
                    ids[m, 0], ids[m, 1] = at + 1, stop
                else:
                    ids[m, 2], ids[m, 3] = at + 1, stop
                at = stop + 1
            at = _space(buf, at, end)
            if at >= end:
                break
            if buf[at] == 0x7D:
                needed = 1 << _SCHEMA | 1 << _MODEL | 1 << _PACK | 1 << _FRAMES
                good = seen & needed == needed and _space(buf, at + 1, end) == end
                break
            if buf[at] != 0x2C:
                break
        if good:
            rows_of[m] = row - first_row
            seen_all |= seen_here
        else:
            row, lates = first_row, first_late
    return row, seen_all, lates, False


def _joined(parts: list[bytes]) -> tuple[bytes, NDArray[np.int64]]:
    """Lay texts end to end, with a byte behind that is no digit; gives the bytes and where each text ends."""
    return b"".join([*parts, b"\0"]), np.cumsum(np.array([len(p) for p in parts], np.int64))


def _bytes(raw: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(raw, np.uint8)


def scan(
    texts: list[bytes], model: bytes, keys: dict[bytes, tuple[int, Any]], widths: tuple[int, int]
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], dict[bytes, NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]
]:
    """Read messages of one pack model.

    `keys` of a frame → (WHOLE, (least, most, missing)), (NUMBER, None), (CELLS, None) or (PROBES, None); the first is
    the time.  `widths` are the model's cells and probes.  Gives for each message its number of frames, 0 where it is
    not for here; where pack and vehicle begin and end in it, (M, 4); the values of each key that occurred: whole ones
    as int64, others as float64; and cells and probes, (N, C) and (N, P) float32.
    """
    raw, stops = _joined(texts)
    begins = stops - np.array([len(t) for t in texts], np.int64)
    first = next(iter(keys))
    name = b'"' + first + b'"'
    # Most messages are alike: to count in all of them takes long.
    rows = min(texts[0].count(name), _ALIKE) * len(texts) if texts else 0
    names, ends = _joined(list(keys))
    head, head_ends = _joined(list(HEAD))
    kinds = np.array([kind for kind, _ in keys.values()], np.int64)
    places = np.array([int((kinds[:i] == kind).sum()) for i, kind in enumerate(kinds)], np.int64)
    bounds = [about for kind, about in keys.values() if kind == WHOLE]
    low, high, missing = (np.array(part, np.int64) for part in zip(*bounds, strict=True))
    ids, rows_of = np.zeros((len(texts), 4), np.int64), np.zeros(len(texts), np.int64)
    while True:
        whole = np.empty((rows, len(bounds)), np.int64)
        number = np.empty((rows, int((kinds == NUMBER).sum())))
        cells, probes = (np.empty((rows, width), np.float32) for width in widths)
        late = np.empty((4 * rows, 4), np.int64)
        n, seen, lates, short = walk(
            _bytes(raw), begins, stops, _bytes(head), head_ends, _bytes(model), _bytes(names), ends, kinds, places,
            low, high, missing, whole, number, cells, probes, ids, rows_of, late,
        )  # fmt: skip
        if not short:
            break
        rows = raw.count(name) + 1  # no frame without a time is kept, so one more is never needed
    for row, place, begin, end in late[:lates].tolist():
        number[row, place] = float(raw[begin:end])
    found = {
        key: (whole if kind == WHOLE else number)[:n, place].copy()
        for i, (key, kind, place) in enumerate(zip(keys, kinds.tolist(), places.tolist(), strict=True))
        if seen >> i & 1 and kind in {WHOLE, NUMBER}
    }
    ids -= begins[:, None]
    return rows_of, ids, found, (cells[:n], probes[:n])
