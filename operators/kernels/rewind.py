"""How a gap is filled afterwards: its frames go through a copy of what was known before it, and the copy catches up.

When a gap opens, `release` copies the pack's line, and every step its state, into a slot of their own.  The frames that
the pack goes on to send are released as always and held for the copy as well; frames of the gap, in whatever lane, go
to the copy in order.  Once the last of them has come, the held ones follow at once, and the copy, which then
knows what it would know had nothing been late, takes the place of the pack's own state.

All of this follows from the pack's own frames in the order in which they came, save one thing: how many copies and held
frames a shard has room for.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from operators.kernels.lines import (
    ADOPT,
    DROP,
    FREE_COPY,
    FULL,
    LATE,
    NEAR,
    NO_COPY,
    NOBODY,
    OVERFLOW,
    RING,
    SEQ_CONFLICT,
    TIME_CONFLICT,
    expected_ns,
    expel,
    follows,
    join,
    mark_of,
    note,
    place_of,
    refuse,
)
from operators.kernels.release import pass_on
from operators.kernels.waiting import (
    COUNT,
    HASH,
    REFUSED,
    USED,
    WAIT,
    WHY,
    A,
    B,
    first,
    free_node,
    inner,
    unlink,
)

_YES, _NO = np.array([True, False])


@inner
def come_late(st, out, rules, s, i, resent):
    """Take a frame that is no newer than its pack's last one; `resent` says that it came as re-sent history."""
    r = st.line[s]
    t, q = st.node[i, A], st.node[i, B]
    h = r.copy
    if h >= 0 and t > st.line[h].last_t:
        st.node[i, WHY] = LATE
        if join(st, out, h, WAIT, i):
            x, hole = st.line[h], st.hole[h]
            if t < hole.edge:
                hole.resent += 1
                hole.mark, x.newest = r.last_t, max(x.newest, t)
            _advance(st, out, rules, h, _NO)
            if x.last_t >= hole.edge and first(st.ends, h, WAIT) < 0:
                _adopt(st, out, s, h)
        return
    if _passed_on(st, s, i):
        r.repeats += 1
        free_node(st.node, st.ctl, i)
        return
    behind = r.last_seq - q
    if q >= 0 and 0 <= behind < NEAR and (r.seen >> behind) & 1:
        refuse(st, out, s, i, SEQ_CONFLICT)
    elif t == r.last_t:
        refuse(st, out, s, i, TIME_CONFLICT)
    elif h == FULL:
        refuse(st, out, s, i, OVERFLOW)
    else:
        refuse(st, out, s, i, NO_COPY if resent else LATE)


@inner
def _passed_on(st, s, i):
    """Say whether a late frame has been passed on before, as far as that is remembered."""
    t, q = st.node[i, A], st.node[i, B]
    k = st.line[s].copy if st.line[s].copy >= 0 else s
    mark = mark_of(t, q, st.node[i, HASH])
    if st.ring[k, place_of(q, mark)] == mark:
        return True
    hole = st.hole[k]
    last = min(hole.run_end, st.line[k].last_seq) if k != s else hole.run_end
    return 0 <= hole.run_seq <= q <= last and hole.run_t <= t < hole.edge


@inner
def _advance(st, out, rules, h, everything):
    """Release what is next in a copy: frames of the gap as on a live line, and what is held once they are all there."""
    x, edge = st.line[h], st.hole[h].edge
    while True:
        i = first(st.ends, h, WAIT)
        if i < 0:
            return
        t, q = st.node[i, A], st.node[i, B]
        passed = everything or x.last_t >= edge or (t < edge and t < x.newest - rules.lateness)
        if not (passed or t <= x.last_t or follows(x, t, q)):
            return
        pass_on(st, out, rules, h, i, t, q)


@inner
def _adopt(st, out, s, h):
    """Put a copy that has caught up in the place of its pack's line."""
    while first(st.ends, h, REFUSED) >= 0:
        i = first(st.ends, h, REFUSED)
        expel(st, out, h, i, expected_ns(st.line[h], st.node[i, A]))
    r, x = st.line[s], st.line[h]
    newest, repeats, last_seq, seen = r.newest, r.repeats + x.repeats, r.last_seq, r.seen
    counted_on = last_seq > x.last_seq  # a refused frame's number stands behind the last released one
    st.line[s], st.hole[s] = st.line[h], st.hole[h]
    r.newest, r.repeats, r.resending = newest, repeats, 0
    st.hole[s].owner = NOBODY
    if counted_on:
        r.last_seq, r.seen = last_seq, seen
    for k in range(RING):
        st.ring[s, k] = st.ring[h, k]
    st.hole[h].owner, x.copy = FREE_COPY, NOBODY
    note(out, ADOPT, h, s)


@inner
def _drop(st, out, s, h, full):
    """Give up a copy of which nothing has been released; `full`: for want of room."""
    r, x = st.line[s], st.line[h]
    while first(st.ends, h, WAIT) >= 0:
        i = first(st.ends, h, WAIT)
        unlink(st.node, st.ends, h, WAIT, i)
        if st.node[i, WHY] == LATE:
            refuse(st, out, s, i, LATE)
        else:
            free_node(st.node, st.ctl, i)
    r.repeats += x.repeats
    r.copy = FULL if full else NOBODY
    st.hole[h].owner, x.copy = FREE_COPY, NOBODY
    note(out, DROP, h, s)


@inner
def tend(st, out, rules, s):
    """Stop waiting for a gap's frames where that has lasted too long or takes too much room."""
    r = st.line[s]
    hole = st.hole[r.copy]
    full = st.ends[r.copy, WAIT, COUNT] > rules.most_held or st.ctl[USED] > rules.most_pooled
    if not full and r.last_t - hole.mark <= (rules.settle if hole.resent > 0 else rules.keep):
        return
    _end(st, out, rules, s, full)


@inner
def close(st, out, rules, s):
    """End all waiting for gaps of a pack: no more input comes."""
    while st.line[s].copy >= 0:
        _end(st, out, rules, s, _NO)


@inner
def _end(st, out, rules, s, full):
    r = st.line[s]
    h = r.copy
    if st.hole[h].resent == 0:
        _drop(st, out, s, h, full)
        return
    _advance(st, out, rules, h, _YES)
    _adopt(st, out, s, h)
    if full and r.copy == NOBODY:
        r.copy = FULL


@njit(cache=True)
def shed(st, out, count):
    """Give up the `count` copies that have waited longest for the first frame of their gap: room for newer ones."""
    for _ in range(count):
        found = np.int64(-1)
        for h in range(st.hole.size):
            x = st.hole[h]
            if x.owner >= 0 and x.resent == 0 and (found < 0 or x.mark < st.hole[found].mark):
                found = np.int64(h)
        if found < 0:
            return
        _drop(st, out, np.int64(st.hole[found].owner), found, _YES)
