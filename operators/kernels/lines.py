"""What is known of a pack's line of frames, and how a frame is given or refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.kernels.waiting import (
    COUNT,
    HASH,
    NEXT,
    REFUSED,
    SINCE,
    SRC,
    WHY,
    A,
    B,
    first,
    free_node,
    inner,
    link,
    unlink,
)

REASONS = (
    "clock_past", "clock_future", "late", "seq_conflict", "time_conflict", "backfill_no_copy", "backfill_overflow",
)  # fmt: skip
PAST, FUTURE, LATE, SEQ_CONFLICT, TIME_CONFLICT, NO_COPY, OVERFLOW = np.arange(7)
NONE = np.int64(-1)

# Values of `copy` of a line and `owner` of a hole that name no slot.
NOBODY, FULL, FREE_COPY = np.arange(-1, -4, -1)

RING = 64  # marks of released frames remembered per pack, by number; a power of two
MARKS = RING + 4  # and of the last refused ones
NEAR = 64  # numbers this close are of one count, not of a boot
_MOST_REFUSED = 64  # refused frames whose place in the count is waited for

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
        ("copy", "i4"),  # slot of the copy made before the pack's gap; NOBODY none, FULL there was no room for one
        ("resending", "i4"),  # 1: re-sent frames have stood on this line, the last at HOLE's mark
    ],
    align=True,
)
# The gap that a copy is for; of a pack itself the last one that was filled.  Not in LINE, which every frame reads.
HOLE = np.dtype(
    [
        ("owner", "i4"),  # of a copy: the pack's own slot; NOBODY this is one, FREE_COPY a copy that is not in use
        ("resent", "i4"),  # of a copy: frames of the gap that have come
        ("edge", "i8"),  # time of the first frame after it
        ("run_t", "i8"),  # since this time no frame is missing in it: the numbers
        ("run_seq", "i8"),  # from this
        ("run_end", "i8"),  # to this; -1 where none are known
        ("mark", "i8"),  # of a copy: the pack's newest released time when a frame of the gap came last
    ],
    align=True,
)
RELEASE = np.dtype([("src", "i8"), ("content", "i8"), ("dt_s", "f8"), ("slot", "i4"), ("flags", "u4")], align=True)
REFUSAL = np.dtype([("src", "i8"), ("slot", "i4"), ("why", "i4"), ("expected", "i8")], align=True)
GAP = np.dtype(
    [("slot", "i8"), ("first", "i8"), ("last", "i8"), ("from_ns", "i8"), ("to_ns", "i8"), ("copy", "i8")], align=True
)
# What becomes of copies, each before the released row `at`: OPEN copies the state of slot `a` into `b`, ADOPT puts the
# copy `a` in the place of `b`, DROP gives up the copy `a`.
OP = np.dtype([("at", "i8"), ("kind", "i4"), ("a", "i4"), ("b", "i4")], align=True)
OPEN, ADOPT, DROP = np.arange(3)


class Rules(NamedTuple):
    """Bounds of the walk, in ns and rows."""

    lateness: int
    jump: int
    min_time: int
    max_time: int
    silence: int
    most_waiting: int
    copy_after: int  # a gap this long is worth a copy, or one beyond the lateness that lacks so many
    copy_run: int  # numbers in a row: single losses are never sent again
    keep: int  # for how long a copy waits for the first frame of its gap
    settle: int  # and for the next one
    most_held: int  # frames that one pack may hold for its gap, and
    most_pooled: int  # all packs of the shard together


class Lines(NamedTuple):
    """The state of all packs of a shard: S slots, R nodes."""

    line: NDArray[Any]  # (S,) LINE
    hole: NDArray[Any]  # (S,) HOLE
    ends: NDArray[np.int32]  # (S, lists, 3)
    ring: NDArray[np.uint32]  # (S, MARKS)
    node: NDArray[np.int64]  # (R, fields)
    ctl: NDArray[np.int64]  # (2,)
    copies: NDArray[np.int32]  # number of free copies, whether more could be made, then their slots


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
    ops: NDArray[Any]  # OP
    num: NDArray[np.int64]  # released, refused, gaps, 1 where the released are not simply the block's rows, ops


def fresh(slots: int) -> NDArray[Any]:
    """Make lines of packs never seen."""
    line = np.zeros(slots, LINE)
    line["last_seq"] = line["real_seq"] = -1
    line["copy"] = NOBODY
    line["period"] = line["period1"] = line["period2"] = np.nan
    return line


def no_holes(slots: int) -> NDArray[Any]:
    """Make holes of packs that never had a gap."""
    hole = np.zeros(slots, HOLE)
    hole["owner"] = NOBODY
    hole["run_seq"] = hole["run_end"] = -1
    return hole


def room(rows: int) -> Result:
    """Make room for what becomes of `rows` frames, new or waiting: each may be released twice, live and in a copy."""
    return Result(
        np.empty(2 * rows, RELEASE), np.empty(rows, REFUSAL), np.empty(4 * rows, GAP), np.empty(4 * rows + 1, OP),
        np.zeros(5, np.int64),
    )  # fmt: skip


@inner
def follows(r, t, q):
    """Say whether this is the next frame, so close that no other of a restarted counter can lie between."""
    return r.last_seq >= 0 and q == r.last_seq + 1 and 0 < t - r.last_t < (q - r.real_seq + 1) * 1e9 * period_s(r)


@inner
def emit(out, src, s, content, dt_s, flags):
    """Release a frame."""
    row = out.released[out.num[0]]
    row.src, row.slot, row.content, row.dt_s, row.flags = src, s, content, dt_s, flags
    out.num[0] += 1


@inner
def gap(out, s, low, high, from_ns, to_ns, copy):
    """Write into the gap ledger; `copy` is that of the line's state, which the missing frames may fill."""
    row = out.gaps[out.num[2]]
    row.slot, row.first, row.last, row.from_ns, row.to_ns, row.copy = s, low, high, from_ns, to_ns, copy
    out.num[2] += 1


@inner
def note(out, kind, a, b):
    """Say what becomes of a copy before the next released row."""
    row = out.ops[out.num[4]]
    row.at, row.kind, row.a, row.b = out.num[0], kind, a, b
    out.num[4] += 1
    out.num[3] = 1


@inner
def source(node, i):
    """Say where a node's columns are: a row of the block, or -1 - place in the pool."""
    return node[i, SRC] if node[i, SRC] >= 0 else -1 - np.int64(i)


@inner
def period_s(r):
    """Give the median of the last three times between numbers, s; NaN before there is one."""
    a, b, c = r.period, r.period1, r.period2
    if np.isnan(b):
        return a
    if np.isnan(c):
        return min(a, b)
    return max(min(a, b), min(max(a, b), c))


@inner
def expected_ns(r, q):
    """Say when the pack's line would have had number `q`: on from its last frame by its period."""
    ahead = q - r.real_seq
    period = period_s(r)
    if q < 0 or r.real_seq < 0 or abs(ahead) > 4096 or np.isnan(period):
        return r.last_t
    return r.last_t + np.int64(ahead * 1e9 * period)


@inner
def mark_of(t, q, content):
    """Hash a frame to the 32 bits that are remembered of it."""
    h = (content ^ (t * -7046029254386353131)) + q * -4417276706812531889
    h = (h ^ (h >> 29)) * -4658895280553007687
    return np.uint32(((h >> 32) & 0xFFFFFFFF) | 1)  # never 0, which stands for none


@inner
def place_of(q, mark):
    """Say where in the ring a frame is remembered: by number, or by its mark where it has none."""
    return (q if q >= 0 else np.int64(mark)) & (RING - 1)


@inner
def refuse(st, out, s, i, why):
    """Refuse a frame that is in no list; where its number is still to come, it waits for that: it counts as seen."""
    r = st.line[s]
    t, q = st.node[i, A], st.node[i, B]
    st.node[i, WHY], st.node[i, SINCE] = why, r.newest
    to_come = why <= FUTURE or (q > r.last_seq and why != SEQ_CONFLICT and why < NO_COPY)
    if q >= 0 and to_come and st.ends[s, REFUSED, COUNT] < _MOST_REFUSED:
        st.node[i, A], st.node[i, B] = q, t
        j = link(st.node, st.ends, s, REFUSED, i)
        if j < 0:
            return
    else:
        remember(st, s, t, q, st.node[i, HASH])
    _letter(st, out, s, i, r.newest if why <= FUTURE else expected_ns(r, q))


@inner
def was_refused(st, s, t, q, content, mark):
    """Say whether the same frame was refused lately, or waits among the refused."""
    for k in range(RING, MARKS):
        if st.ring[s, k] == mark:
            return True
    i = first(st.ends, s, REFUSED)
    while i >= 0 and (st.node[i, A] != q or st.node[i, B] != t or st.node[i, HASH] != content):
        i = st.node[i, NEXT]
    return i >= 0


@inner
def expel(st, out, s, i, expected):
    """Send a refused frame that waited for its number to the dead letters."""
    remember(st, s, st.node[i, B], st.node[i, A], st.node[i, HASH])
    unlink(st.node, st.ends, s, REFUSED, i)
    _letter(st, out, s, i, expected)


@inner
def remember(st, s, t, q, content):
    """Know a refused frame again."""
    mark = mark_of(t, q, content)
    if q < 0:
        st.ring[s, place_of(q, mark)] = mark
    for k in range(RING, MARKS - 1):
        st.ring[s, k] = st.ring[s, k + 1]
    st.ring[s, MARKS - 1] = mark


@inner
def _letter(st, out, s, i, expected):
    row = out.refused[out.num[1]]
    row.src, row.slot, row.why, row.expected = source(st.node, i), s, st.node[i, WHY], expected
    out.num[1] += 1
    free_node(st.node, st.ctl, i)


@inner
def join(st, out, s, which, i):
    """Link a frame into a list, unless the same is there; of two contents one is refused."""
    j = link(st.node, st.ends, s, which, i)
    if j < 0:
        return True
    if st.node[j, HASH] == st.node[i, HASH]:
        st.line[s].repeats += 1
        free_node(st.node, st.ctl, i)
    elif st.node[i, B] >= 0:
        refuse(st, out, s, i, SEQ_CONFLICT)
    else:
        if st.node[i, HASH] < st.node[j, HASH]:  # not by arrival: it may differ from run to run
            unlink(st.node, st.ends, s, which, j)
            link(st.node, st.ends, s, which, i)
            i = j
        refuse(st, out, s, i, TIME_CONFLICT)
    return False
