"""Which frames of a pack are accepted, and in what order: clock guard, repeats, sequence.

For each pack alone.  A frame with the next number is released at once; the others wait until the hole
before them is filled or the watermark (newest accepted time - lateness) has passed them, and go in order
of (time, number).  So any disorder within the lateness gives the same result.  A released frame is
remembered by a 32-bit mark of (time, number, content), by which its repeats are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.waiting import (
    AT, COUNT, FREE, HASH, NEXT, PREV, REFUSED, SINCE, SRC, SUSPECT, TAIL, WAIT, WHY, A, B, first, free_node, inner, link,
    new_node, unlink,
)  # fmt: skip
from schemas.frames import LIVE
from schemas.quality import BOOT, GAP_BEFORE

REASONS = ("clock_past", "clock_future", "late", "seq_conflict", "time_conflict")
_PAST, _FUTURE, _LATE, _SEQ_CONFLICT, _TIME_CONFLICT = np.arange(5)
_NONE = np.int64(-1)
_YES, _NO = np.array([True, False])

RING = 64  # marks of released frames remembered per pack, by number; a power of two
MARKS = RING + 4  # and of the last refused ones
_NEAR = 64  # numbers this close are of one count, not of a boot
_MOST_REFUSED = 64  # refused frames whose place in the count is waited for
_ENOUGH_SUSPECTS = 8  # so many frames ahead of a pack's line are believed, whatever their numbers

LINE = np.dtype(
    [
        ("last_t", "i8"),  # time of the last released frame, 0 before the first
        ("last_seq", "i8"),  # last number accounted for, -1 before the first
        ("real_seq", "i8"),  # number of the last released frame
        ("newest", "i8"),  # newest accepted time, 0 before the first
        ("seen", "i8"),  # bit i: the number last_seq - i was accepted or refused, not missed
        ("period", "f4"),  # the last three times between numbers, s
        ("period1", "f4"),
        ("period2", "f4"),
        ("repeats", "i4"),
    ],
    align=True,
)
RELEASE = np.dtype([("src", "i8"), ("content", "i8"), ("dt_s", "f8"), ("slot", "i4"), ("flags", "u4")], align=True)
REFUSAL = np.dtype([("src", "i8"), ("slot", "i4"), ("why", "i4"), ("expected", "i8")], align=True)
GAP = np.dtype([("slot", "i8"), ("first", "i8"), ("last", "i8"), ("from_ns", "i8"), ("to_ns", "i8")], align=True)


class Rules(NamedTuple):
    """Bounds of the walk, in ns and rows."""

    lateness: int
    jump: int
    min_time: int
    silence: int
    most_waiting: int


class Lines(NamedTuple):
    """The state of all packs of a shard: S slots, R nodes."""

    line: NDArray[Any]  # (S,) LINE
    ends: NDArray[np.int32]  # (S, lists, 3)
    ring: NDArray[np.uint32]  # (S, MARKS)
    node: NDArray[np.int64]  # (R, fields)
    ctl: NDArray[np.int64]  # (2,)


class Columns(NamedTuple):
    """The columns of a block that decide."""

    slot: NDArray[np.int32]
    t_ns: NDArray[np.int64]
    seq: NDArray[np.int64]
    lane: NDArray[np.uint8]
    recv_ns: NDArray[np.int64]
    content: NDArray[np.int64]


class Result(NamedTuple):
    """What is released, refused and missing, in order; `num` counts them."""

    released: NDArray[Any]  # RELEASE
    refused: NDArray[Any]  # REFUSAL
    gaps: NDArray[Any]  # GAP
    num: NDArray[np.int64]  # released, refused, gaps, 1 where the released are not simply the block's rows


def fresh(slots: int) -> NDArray[Any]:
    """Make lines of packs never seen."""
    line = np.zeros(slots, LINE)
    line["last_seq"] = line["real_seq"] = -1
    line["period"] = line["period1"] = line["period2"] = np.nan
    return line


def room(rows: int) -> Result:
    """Make room for what becomes of `rows` frames, new or waiting."""
    return Result(
        np.empty(rows, RELEASE), np.empty(rows, REFUSAL), np.empty(2 * rows, GAP), np.zeros(4, np.int64)
    )


@njit(cache=True)
def walk(start, rows, st, out, rules, end):
    """Walk the rows from `start`; gives N, or the row before which the node table must grow.

    `end`: there are no rows, and will be none: give what waits.
    """
    if end:
        out.num[3] = 1
        for s in range(st.line.size):
            _finish(st, out, rules, s)
    for n in range(start, rows.t_ns.size):
        s, t, q, content = np.int64(rows.slot[n]), rows.t_ns[n], rows.seq[n], rows.content[n]
        if rows.lane[n] != LIVE:
            _emit(out, n, s, content, np.nan, np.int64(0))
            continue
        r = st.line[s]
        recv = rows.recv_ns[n]
        fits = t <= (recv if recv > 0 else r.newest) + rules.jump
        held = st.ends[s, WAIT, COUNT] + st.ends[s, SUSPECT, COUNT] + st.ends[s, REFUSED, COUNT]
        if held == 0 and fits and _follows(r, t, q):  # by far the most frames
            r.newest = max(r.newest, t)
            _release(st, out, rules, s, t, q, content, n)
            continue
        if st.ctl[FREE] < 0:
            return n
        mark = _mark(t, q, content)
        if st.ring[s, _place(q, mark)] == mark or _was_refused(st, s, t, q, content, mark):
            r.repeats += 1
            out.num[3] = 1
            continue
        i = new_node(st.node, st.ctl, t, q, content, n)
        st.node[i, AT] = r.newest
        if t < rules.min_time:
            _refuse(st, out, s, i, _PAST)
        elif fits:
            _accept(st, out, rules, s, i)
        elif recv > 0:
            _refuse(st, out, s, i, _FUTURE)
        else:
            _suspect(st, out, rules, s, i)
        _drain(st, out, rules, s, r.newest - rules.lateness)
        out.num[3] = 1
    return rows.t_ns.size


# -- one frame


@inner
def _finish(st, out, rules, s):
    """Release and refuse everything that waits: no more input comes, so nothing speaks against suspects."""
    r = st.line[s]
    _confirm(st, out, rules, s, _YES)
    _drain(st, out, rules, s, np.iinfo(np.int64).max)
    while first(st.ends, s, REFUSED) >= 0:
        i = first(st.ends, s, REFUSED)
        ahead = r.last_seq >= 0 and st.node[i, A] > r.last_seq
        _expel(st, out, s, i, _expected(r, st.node[i, A]) if ahead else st.node[i, SINCE])


@inner
def _follows(r, t, q):
    """Say whether this is the next frame, so close that no other of a restarted counter can lie between."""
    return r.last_seq >= 0 and q == r.last_seq + 1 and 0 < t - r.last_t < (q - r.real_seq + 1) * 1e9 * _period(r)


@inner
def _accept(st, out, rules, s, i):
    """Put a frame whose clock is believed in its place."""
    r = st.line[s]
    t, q = st.node[i, A], st.node[i, B]
    if t <= r.last_t:
        # Here a re-sent frame of a given-up hole will turn into the backfill lane.
        behind = r.last_seq - q
        if 0 <= q and 0 <= behind < _NEAR and (r.seen >> behind) & 1:
            _refuse(st, out, s, i, _SEQ_CONFLICT)
        else:
            _refuse(st, out, s, i, _TIME_CONFLICT if t == r.last_t else _LATE)
        return
    if not _join(st, out, s, WAIT, i):
        return
    on_line = t > r.newest - rules.lateness
    r.newest = max(r.newest, t)
    x = first(st.ends, s, SUSPECT) if on_line else np.int64(-1)
    while x >= 0:
        after = st.node[x, NEXT]
        counted = st.node[x, B] >= 0 and q >= 0
        fits = st.node[x, A] <= r.newest + rules.jump
        if (counted and st.node[x, B] < q) or not (counted or fits):
            # The pack is back on its old line: what counted before this frame had a wrong time.
            unlink(st.node, st.ends, s, SUSPECT, x)
            _refuse(st, out, s, x, _FUTURE)
        elif fits:  # the line has come near
            unlink(st.node, st.ends, s, SUSPECT, x)
            r.newest = max(r.newest, st.node[x, A])
            _join(st, out, s, WAIT, x)
        x = after


@inner
def _join(st, out, s, which, i):
    """Link a frame into a list, unless the same is there; of two contents one is refused."""
    j = link(st.node, st.ends, s, which, i)
    if j < 0:
        return True
    if st.node[j, HASH] == st.node[i, HASH]:
        st.line[s].repeats += 1
        free_node(st.node, st.ctl, i)
    elif st.node[i, B] >= 0:
        _refuse(st, out, s, i, _SEQ_CONFLICT)
    else:
        if st.node[i, HASH] < st.node[j, HASH]:  # not by arrival: it may differ from run to run
            unlink(st.node, st.ends, s, which, j)
            link(st.node, st.ends, s, which, i)
            i = j
        _refuse(st, out, s, i, _TIME_CONFLICT)
    return False


@inner
def _suspect(st, out, rules, s, i):
    """Hold a frame that is far ahead of its pack, or the first of it."""
    q = st.node[i, B]
    if not _join(st, out, s, SUSPECT, i):
        return
    r = st.line[s]
    j = np.int64(st.ends[s, WAIT, TAIL]) if q >= 0 else -1
    while j >= 0:  # a frame with a later number stands on the line already
        if 0 < st.node[j, B] - q <= _NEAR:
            unlink(st.node, st.ends, s, SUSPECT, i)
            _refuse(st, out, s, i, _FUTURE)
            return
        j = st.node[j, PREV]
    _confirm(st, out, rules, s, _NO)


@inner
def _confirm(st, out, rules, s, everything):
    """Believe the earliest suspects once two more frames continue them; `everything`: the input has ended."""
    r = st.line[s]
    while st.ends[s, SUSPECT, COUNT] > 0 and (everything or _continued(st, s)):
        edge = st.node[first(st.ends, s, SUSPECT), A]
        q = np.int64(-1)
        while first(st.ends, s, SUSPECT) >= 0 and st.node[first(st.ends, s, SUSPECT), A] <= edge + rules.jump:
            i = first(st.ends, s, SUSPECT)
            unlink(st.node, st.ends, s, SUSPECT, i)
            edge, q = st.node[i, A], st.node[i, B]
            r.newest = max(r.newest, edge)
            _join(st, out, s, WAIT, i)
        x = first(st.ends, s, SUSPECT)
        while x >= 0:  # further ahead in time, yet counted before
            after = st.node[x, NEXT]
            if st.node[x, B] >= 0 and 0 < q - st.node[x, B] <= _NEAR:
                unlink(st.node, st.ends, s, SUSPECT, x)
                _refuse(st, out, s, x, _FUTURE)
            x = after


@inner
def _continued(st, s):
    """Say whether the suspects hold three frames in a row, by number where they are counted."""
    count = st.ends[s, SUSPECT, COUNT]
    i = first(st.ends, s, SUSPECT)
    if count < 3 or count >= _ENOUGH_SUSPECTS or st.node[i, B] < 0:
        return count >= 3
    run = 1
    while st.node[i, NEXT] >= 0:
        j = st.node[i, NEXT]
        run = run + 1 if st.node[j, B] == st.node[i, B] + 1 else 1
        if run == 3:
            return True
        i = j
    return False


# -- release


@inner
def _drain(st, out, rules, s, watermark):
    """Release what is next in number or has been passed by the watermark."""
    r = st.line[s]
    while True:
        _settle(st, out, rules, s)
        i = first(st.ends, s, WAIT)
        if i < 0:
            return
        t, q = st.node[i, A], st.node[i, B]
        passed = t < watermark or st.ends[s, WAIT, COUNT] > rules.most_waiting
        if not (passed or t <= r.last_t or _follows(r, t, q)):
            return
        unlink(st.node, st.ends, s, WAIT, i)
        if t <= r.last_t:
            _refuse(st, out, s, i, _TIME_CONFLICT)
        else:
            _release(st, out, rules, s, t, q, st.node[i, HASH], _src(st.node, i))
            free_node(st.node, st.ctl, i)


@inner
def _release(st, out, rules, s, t, q, content, src):
    """Let a frame go, and account for the numbers or the time between."""
    r = st.line[s]
    flags, steps, boot = np.int64(0), np.int64(1), False
    dt_s = (t - r.last_t) / 1e9 if r.last_t > 0 else np.nan
    if q < 0:
        if dt_s * 1e9 > max(10e9 * _period(r), rules.silence):
            _gap(out, s, _NONE, _NONE, r.last_t, t)
            flags = GAP_BEFORE
    elif r.last_seq < 0 or q <= r.last_seq:
        boot = r.last_seq >= 0
        flags = BOOT if boot else 0
        _restart(st, out, rules, s, t, q)
    else:
        if q > r.last_seq + 1:
            flags = GAP_BEFORE if _account(st, out, rules, s, t, q) else 0
        steps = q - r.real_seq
        _advance(r, q)
    mark = _mark(t, q, content)
    st.ring[s, _place(q, mark)] = mark
    if q >= 0:
        r.real_seq = q
    if dt_s == dt_s and not boot:
        r.period2, r.period1, r.period = r.period1, r.period, np.float32(dt_s / steps)
    if dt_s * 1e9 > rules.lateness:  # what waits for its number may belong to the line behind the silence
        i = first(st.ends, s, REFUSED)
        while i >= 0:
            st.node[i, SINCE] = max(st.node[i, SINCE], t)
            i = st.node[i, NEXT]
    r.last_t = t
    _emit(out, src, s, content, dt_s, flags)


@inner
def _account(st, out, rules, s, t, q):
    """Write the numbers before `q` into the gap ledger, except those of refused frames; say whether any is missing."""
    r = st.line[s]
    missing = False
    i = first(st.ends, s, REFUSED)
    while i >= 0 and st.node[i, A] < q:
        after = st.node[i, NEXT]
        k = st.node[i, A]
        if k > r.last_seq and st.node[i, AT] <= t + rules.lateness:
            if k > r.last_seq + 1:
                _gap(out, s, r.last_seq + 1, k - 1, r.last_t, t)
                missing = True
            _place_refused(st, out, s, i, min(_expected(r, k), t))
        i = after
    if q > r.last_seq + 1:
        _gap(out, s, r.last_seq + 1, q - 1, r.last_t, t)
        missing = True
    return missing


@inner
def _restart(st, out, rules, s, t, q):
    """Begin a count at `q`: refused frames of the old one or before `q` go, those after `q` wait for their place."""
    r = st.line[s]
    i = first(st.ends, s, REFUSED)
    while i >= 0:
        after = st.node[i, NEXT]
        k = st.node[i, A]
        if st.node[i, AT] > t + rules.lateness:
            pass  # it came too late to be of the time before
        elif r.last_seq >= 0 and k > r.last_seq and (st.node[i, AT] < t or k < q):
            _expel(st, out, s, i, min(_expected(r, k), t))
        elif 0 < q - k <= _NEAR:
            _expel(st, out, s, i, t)
        else:
            st.node[i, SINCE] = max(st.node[i, SINCE], t)
        i = after
    r.last_seq, r.seen = q, 1


@inner
def _settle(st, out, rules, s):
    """Count refused frames that are next as seen, and give up those whose place has not come up.

    A frame of time t came before the pack's line was further than t + lateness.
    """
    r = st.line[s]
    i = first(st.ends, s, REFUSED) if r.last_seq >= 0 else -1
    while i >= 0:
        after = st.node[i, NEXT]
        k = st.node[i, A]
        expected = _expected(r, k)
        head = first(st.ends, s, WAIT)
        taken = head >= 0 and st.node[head, B] == k
        if k == r.last_seq + 1 and not taken and st.node[i, AT] <= expected + rules.lateness:
            _place_refused(st, out, s, i, expected)
        elif st.node[i, SINCE] + rules.jump < r.last_t:
            _expel(st, out, s, i, st.node[i, SINCE])
        i = after


@inner
def _place_refused(st, out, s, i, expected):
    """Count a refused frame's number as seen."""
    k, t, content = st.node[i, A], st.node[i, B], st.node[i, HASH]
    mark = _mark(t, k, content)
    _advance(st.line[s], k)
    st.ring[s, _place(k, mark)] = mark
    _expel(st, out, s, i, expected)


@inner
def _advance(r, q):
    """Move the count on to `q`; the numbers between were missed."""
    ahead = q - r.last_seq
    r.seen = (r.seen << ahead) | 1 if ahead < _NEAR else 1
    r.last_seq = q


# -- refusal


@inner
def _refuse(st, out, s, i, why):
    """Refuse a frame that is in no list; where its number is still to come, it waits for that: it counts as seen."""
    r = st.line[s]
    t, q = st.node[i, A], st.node[i, B]
    st.node[i, WHY], st.node[i, SINCE] = why, r.newest
    to_come = why <= _FUTURE or (q > r.last_seq and why != _SEQ_CONFLICT)
    if q >= 0 and to_come and st.ends[s, REFUSED, COUNT] < _MOST_REFUSED:
        st.node[i, A], st.node[i, B] = q, t
        j = link(st.node, st.ends, s, REFUSED, i)
        if j < 0:
            return
    else:
        _remember(st, s, t, q, st.node[i, HASH])
    _letter(st, out, s, i, r.newest if why <= _FUTURE else _expected(r, q))


@inner
def _was_refused(st, s, t, q, content, mark):
    """Say whether the same frame was refused lately, or waits among the refused."""
    for k in range(RING, MARKS):
        if st.ring[s, k] == mark:
            return True
    i = first(st.ends, s, REFUSED)
    while i >= 0 and (st.node[i, A] != q or st.node[i, B] != t or st.node[i, HASH] != content):
        i = st.node[i, NEXT]
    return i >= 0


@inner
def _expel(st, out, s, i, expected):
    """Send a refused frame that waited for its number to the dead letters."""
    _remember(st, s, st.node[i, B], st.node[i, A], st.node[i, HASH])
    unlink(st.node, st.ends, s, REFUSED, i)
    _letter(st, out, s, i, expected)


@inner
def _remember(st, s, t, q, content):
    """Know a refused frame again."""
    mark = _mark(t, q, content)
    if q < 0:
        st.ring[s, _place(q, mark)] = mark
    for k in range(RING, MARKS - 1):
        st.ring[s, k] = st.ring[s, k + 1]
    st.ring[s, MARKS - 1] = mark


@inner
def _letter(st, out, s, i, expected):
    row = out.refused[out.num[1]]
    row.src, row.slot, row.why, row.expected = _src(st.node, i), s, st.node[i, WHY], expected
    out.num[1] += 1
    free_node(st.node, st.ctl, i)


# -- small things


@inner
def _emit(out, src, s, content, dt_s, flags):
    row = out.released[out.num[0]]
    row.src, row.slot, row.content, row.dt_s, row.flags = src, s, content, dt_s, flags
    out.num[0] += 1


@inner
def _gap(out, s, low, high, from_ns, to_ns):
    row = out.gaps[out.num[2]]
    row.slot, row.first, row.last, row.from_ns, row.to_ns = s, low, high, from_ns, to_ns
    out.num[2] += 1


@inner
def _src(node, i):
    return node[i, SRC] if node[i, SRC] >= 0 else -1 - np.int64(i)


@inner
def _period(r):
    """Give the median of the last three times between numbers, s; NaN before there is one."""
    a, b, c = r.period, r.period1, r.period2
    if np.isnan(b):
        return a
    if np.isnan(c):
        return min(a, b)
    return max(min(a, b), min(max(a, b), c))


@inner
def _expected(r, q):
    """Say when the pack's line would have had number `q`: on from its last frame by its period."""
    ahead = q - r.real_seq
    period = _period(r)
    if q < 0 or r.real_seq < 0 or abs(ahead) > 4096 or np.isnan(period):
        return r.last_t
    return r.last_t + np.int64(ahead * 1e9 * period)


@inner
def _mark(t, q, content):
    h = (content ^ (t * -7046029254386353131)) + q * -4417276706812531889
    h = (h ^ (h >> 29)) * -4658895280553007687
    return np.uint32(((h >> 32) & 0xFFFFFFFF) | 1)  # never 0, which stands for none


@inner
def _place(q, mark):
    return (q if q >= 0 else np.int64(mark)) & (RING - 1)
