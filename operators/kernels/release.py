"""In what order accepted frames of a pack go, and which of its numbers are missing."""

from __future__ import annotations

import numpy as np

from operators.kernels.lines import (
    FULL,
    MARKS,
    NEAR,
    NOBODY,
    NONE,
    OPEN,
    TIME_CONFLICT,
    emit,
    expected_ns,
    expel,
    follows,
    gap,
    mark_of,
    note,
    period_s,
    place_of,
    refuse,
    source,
)
from operators.kernels.waiting import (
    AT,
    COUNT,
    HASH,
    LISTS,
    NEXT,
    REFUSED,
    SINCE,
    WAIT,
    WHY,
    A,
    B,
    first,
    free_node,
    inner,
    link,
    unlink,
)
from schemas.quality import BOOT, GAP_BEFORE


@inner
def drain(st, out, rules, s, watermark):
    """Release what is next in number or has been passed by the watermark."""
    r = st.line[s]
    while True:
        _settle(st, out, rules, s)
        i = first(st.ends, s, WAIT)
        if i < 0:
            return
        t, q = st.node[i, A], st.node[i, B]
        passed = t < watermark or st.ends[s, WAIT, COUNT] > rules.most_waiting
        if not (passed or t <= r.last_t or follows(r, t, q)):
            return
        pass_on(st, out, rules, s, i, t, q)


@inner
def pass_on(st, out, rules, s, i, t, q):
    """Take a frame off those that wait: it is released, or refused where its time is none after the one before."""
    unlink(st.node, st.ends, s, WAIT, i)
    if t <= st.line[s].last_t:
        refuse(st, out, s, i, TIME_CONFLICT)
    else:
        release(st, out, rules, s, t, q, st.node[i, HASH], source(st.node, i))
        hold(st, s, i)


@inner
def hold(st, s, i):
    """Keep a released frame for the copy that its line has, if any: it goes there when the gap has been filled."""
    h = st.line[s].copy
    st.node[i, WHY] = NONE
    if h < 0 or link(st.node, st.ends, h, WAIT, i) >= 0:
        free_node(st.node, st.ctl, i)


@inner
def _silent(r, rules, dt_s):
    """Say whether uncounted frames are missing in the time before a frame."""
    return dt_s * 1e9 > max(10e9 * period_s(r), rules.silence)


@inner
def _copy(st, out, rules, s, t, q, dt_s):
    """Copy what is known of a pack before a gap that ends at `t` with number `q`, if there is one."""
    r = st.line[s]
    if (q == r.last_seq + 1) if q >= 0 else not _silent(r, rules, dt_s):
        return
    g = st.hole[s]
    if g.owner != NOBODY and r.last_t < g.edge:
        return  # within a gap that is being filled no other is looked for
    owner = s if g.owner == NOBODY else np.int64(g.owner)
    if st.copies[0] == 0:
        r.copy = FULL
        return
    h = st.copies[1 + st.copies[0]]
    st.copies[0] -= 1
    st.line[h] = st.line[s]
    for k in range(MARKS):
        st.ring[h, k] = st.ring[s, k]
    for k in range(LISTS):
        st.ends[h, k, 0], st.ends[h, k, 1], st.ends[h, k, 2] = -1, -1, 0
    x, hole = st.line[h], st.hole[h]
    x.copy, x.repeats, x.resending, x.newest = NOBODY, 0, 0, r.last_t
    hole.owner, hole.resent, hole.edge, hole.mark = owner, 0, t, max(st.line[owner].last_t, t)
    hole.run_t, hole.run_seq, hole.run_end = r.last_t + 1, r.last_seq + 1 if q >= 0 else -1, q - 1
    r.copy = h
    note(out, OPEN, s, h)


@inner
def release(st, out, rules, s, t, q, content, src):
    """Let a frame go, and account for the numbers or the time between."""
    r = st.line[s]
    flags, steps, boot = 0, 1, False
    dt_s = (t - r.last_t) / 1e9 if r.last_t > 0 else np.nan
    # What is missing beside re-sent frames is likely to be on its way too, however little it is.
    resent = r.resending != 0 and r.last_t - st.hole[s].mark <= rules.copy_after
    outage = q - r.last_seq > rules.copy_run and dt_s * 1e9 > rules.lateness
    if r.copy < 0 and (outage or dt_s * 1e9 > rules.copy_after or resent):
        _copy(st, out, rules, s, t, q, dt_s)
    if q < 0:
        if _silent(r, rules, dt_s):
            gap(out, s, NONE, NONE, r.last_t, t, r.copy)
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
    mark = mark_of(t, q, content)
    st.ring[s, place_of(q, mark)] = mark
    if q >= 0:
        r.real_seq = q
    if dt_s == dt_s and not boot:
        r.period2, r.period1, r.period = r.period1, r.period, np.float32(dt_s / steps)
    # What waits for its number may belong to the line behind a silence; a pack's own pace is none, however slow.
    if dt_s * 1e9 > rules.lateness and not dt_s <= 2 * steps * period_s(r):
        i = first(st.ends, s, REFUSED)
        while i >= 0:
            st.node[i, SINCE] = max(st.node[i, SINCE], t)
            i = st.node[i, NEXT]
    r.last_t = t
    emit(out, src, s, content, dt_s, flags)


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
                gap(out, s, r.last_seq + 1, k - 1, r.last_t, t, r.copy)
                missing = True
            _place_refused(st, out, s, i, min(expected_ns(r, k), t))
        i = after
    if q > r.last_seq + 1:
        gap(out, s, r.last_seq + 1, q - 1, r.last_t, t, r.copy)
        missing = True
    if missing:
        _begin_run(st, s, t, q)
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
            expel(st, out, s, i, min(expected_ns(r, k), t))
        elif 0 < q - k <= NEAR:
            expel(st, out, s, i, t)
        else:
            st.node[i, SINCE] = max(st.node[i, SINCE], t)
        i = after
    r.last_seq, r.seen = q, 1
    _begin_run(st, s, t, q)


@inner
def _begin_run(st, s, t, q):
    """Note, in a copy, that nothing is missing from here on in the gap that is being filled."""
    hole = st.hole[s]
    if hole.owner != NOBODY and t < hole.edge:
        hole.run_seq, hole.run_t = q, t


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
        expected = expected_ns(r, k)
        head = first(st.ends, s, WAIT)
        taken = head >= 0 and st.node[head, B] == k
        if k == r.last_seq + 1 and not taken and st.node[i, AT] <= expected + rules.lateness:
            _place_refused(st, out, s, i, expected)
        elif st.node[i, SINCE] + rules.jump < r.last_t:
            expel(st, out, s, i, st.node[i, SINCE])
        i = after


@inner
def _place_refused(st, out, s, i, expected):
    """Count a refused frame's number as seen."""
    k, t, content = st.node[i, A], st.node[i, B], st.node[i, HASH]
    mark = mark_of(t, k, content)
    _advance(st.line[s], k)
    st.ring[s, place_of(k, mark)] = mark
    expel(st, out, s, i, expected)


@inner
def _advance(r, q):
    """Move the count on to `q`; the numbers between were missed."""
    ahead = q - r.last_seq
    r.seen = (r.seen << ahead) | 1 if ahead < NEAR else 1
    r.last_seq = q
