"""Which frames of a pack are accepted, and in what order: clock guard, repeats, sequence.

For each pack alone.  A frame with the next number is released at once; the others wait until the hole
before them is filled or the watermark (newest accepted time - lateness) has passed them, and go in order
of (time, number).  So any disorder within the lateness gives the same result.  A released frame is
remembered by a 32-bit mark of (time, number, content), by which its repeats are known.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from operators.kernels.lines import (
    FUTURE,
    NEAR,
    NOBODY,
    NONE,
    PAST,
    expected_ns,
    expel,
    follows,
    join,
    mark_of,
    place_of,
    refuse,
    was_refused,
)
from operators.kernels.release import drain, release
from operators.kernels.rewind import close, come_late, tend
from operators.kernels.waiting import (
    AHEAD,
    AT,
    COUNT,
    FREE,
    NEXT,
    PREV,
    REFUSED,
    SINCE,
    SUSPECT,
    TAIL,
    WAIT,
    A,
    B,
    first,
    inner,
    new_node,
    unlink,
)
from schemas.frames import LIVE

_YES, _NO = np.array([True, False])
_ENOUGH_SUSPECTS = 8  # so many frames ahead of a pack's line are believed, whatever their numbers


@njit(cache=True)
def walk(start, rows, st, out, rules, end):
    """Walk the rows from `start`; gives N, or the row before which the node table, or the copies, must grow.

    `end`: there are no rows, and will be none: give what waits.
    """
    if end:
        out.num[3] = 1
        for k in range(st.line.size):
            _finish(st, out, rules, k)
    for n in range(start, rows.t_ns.size):
        s, t, q, content = np.int64(rows.slot[n]), rows.t_ns[n], rows.seq[n], rows.content[n]
        r = st.line[s]
        recv = rows.recv_ns[n]
        fits = t <= (recv if recv > 0 else r.newest) + rules.jump
        held = st.ends[s, WAIT, COUNT] + st.ends[s, SUSPECT, COUNT] + st.ends[s, REFUSED, COUNT]
        held += st.ends[s, AHEAD, COUNT]
        if held == 0 and r.copy < 0 and fits and follows(r, t, q):  # by far the most frames
            r.newest = max(r.newest, t)
            release(st, out, rules, s, t, q, content, n)
            continue
        ahead = max(t, r.newest) - r.last_t if r.last_t > 0 else 0
        outage = ahead > rules.lateness and not 0 <= q - r.last_seq <= rules.copy_run
        may_copy = r.copy >= 0 or r.resending != 0 or outage or ahead > rules.copy_after
        if st.ctl[FREE] < 0 or (may_copy and st.copies[0] == 0 and st.copies[1] != 0):
            return n
        mark = mark_of(t, q, content)
        if st.ring[s, place_of(q, mark)] == mark or was_refused(st, s, t, q, content, mark):
            r.repeats += 1
            out.num[3] = 1
            continue
        i = new_node(st.node, st.ctl, t, q, content, n)
        st.node[i, AT] = r.newest
        if t < rules.min_time:
            refuse(st, out, s, i, PAST)
        elif t >= rules.max_time or (recv > 0 and not fits):
            refuse(st, out, s, i, FUTURE)
        elif t <= r.last_t:
            come_late(st, out, rules, s, i, rows.lane[n] != LIVE)
        elif rows.lane[n] != LIVE:
            join(st, out, s, AHEAD, i)  # until the line has come so far
        elif fits:
            _accept(st, out, rules, s, i)
        else:
            _suspect(st, out, rules, s, i)
        drain(st, out, rules, s, r.newest - rules.lateness)
        if st.ends[s, AHEAD, COUNT] > 0:
            _meet(st, out, rules, s)
        if r.copy >= 0:
            tend(st, out, rules, s)
        out.num[3] = 1
    return rows.t_ns.size


@inner
def _finish(st, out, rules, s):
    """Release and refuse everything that waits: no more input comes, so nothing speaks against suspects."""
    r = st.line[s]
    if st.hole[s].owner != NOBODY:
        return
    _confirm(st, out, rules, s, _YES)
    _meet(st, out, rules, s)
    while first(st.ends, s, AHEAD) >= 0:
        i = first(st.ends, s, AHEAD)
        unlink(st.node, st.ends, s, AHEAD, i)
        _take_up(st, out, s, i)
    drain(st, out, rules, s, np.iinfo(np.int64).max)
    if r.copy >= 0:
        close(st, out, rules, s)  # which may refuse frames
    while first(st.ends, s, REFUSED) >= 0:
        i = first(st.ends, s, REFUSED)
        ahead = r.last_seq >= 0 and st.node[i, A] > r.last_seq
        expel(st, out, s, i, expected_ns(r, st.node[i, A]) if ahead else st.node[i, SINCE])


@inner
def _take_up(st, out, s, i):
    """Let a re-sent frame stand on the pack's own line."""
    r = st.line[s]
    r.newest = max(r.newest, st.node[i, A])
    join(st, out, s, WAIT, i)


@inner
def _meet(st, out, rules, s):
    """Give re-sent frames that were ahead their place, now that the line has moved."""
    r = st.line[s]
    while st.ends[s, AHEAD, COUNT] > 0:
        i = first(st.ends, s, AHEAD)
        t, q = st.node[i, A], st.node[i, B]
        if t <= r.last_t:
            unlink(st.node, st.ends, s, AHEAD, i)
            come_late(st, out, rules, s, i, _YES)
        elif (follows(r, t, q) and st.ends[s, SUSPECT, COUNT] == 0) or st.ends[s, AHEAD, COUNT] > rules.most_held:
            unlink(st.node, st.ends, s, AHEAD, i)
            r.resending, st.hole[s].mark = 1, t
            _take_up(st, out, s, i)
            drain(st, out, rules, s, r.newest - rules.lateness)
        else:
            return


@inner
def _accept(st, out, rules, s, i):
    """Put a frame whose clock is believed in its place."""
    r = st.line[s]
    t, q = st.node[i, A], st.node[i, B]
    if not join(st, out, s, WAIT, i):
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
            refuse(st, out, s, x, FUTURE)
        elif fits:  # the line has come near
            unlink(st.node, st.ends, s, SUSPECT, x)
            r.newest = max(r.newest, st.node[x, A])
            join(st, out, s, WAIT, x)
        x = after


@inner
def _suspect(st, out, rules, s, i):
    """Hold a frame that is far ahead of its pack, or the first of it."""
    q = st.node[i, B]
    if not join(st, out, s, SUSPECT, i):
        return
    j = np.int64(st.ends[s, WAIT, TAIL]) if q >= 0 else NONE
    while j >= 0:  # a frame with a later number stands on the line already
        if 0 < st.node[j, B] - q <= NEAR:
            unlink(st.node, st.ends, s, SUSPECT, i)
            refuse(st, out, s, i, FUTURE)
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
            join(st, out, s, WAIT, i)
        x = first(st.ends, s, SUSPECT)
        while x >= 0:  # further ahead in time, yet counted before
            after = st.node[x, NEXT]
            if st.node[x, B] >= 0 and 0 < q - st.node[x, B] <= NEAR:
                unlink(st.node, st.ends, s, SUSPECT, x)
                refuse(st, out, s, x, FUTURE)
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
