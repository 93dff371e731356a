"""Sorted lists of waiting frames, a few per pack, whose nodes share one table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# The columns of the node table.  A and B sort a list; HASH is the frame's content; SRC is its row in the
# block at hand, or -1 where its columns lie in the pool; AT its pack's newest time when it came; WHY it was refused,
# and SINCE when (in its pack's time).
A, B, HASH, PREV, NEXT, SRC, AT, WHY, SINCE = range(9)
FIELDS = 9

# The lists of a pack, and what `ends` holds of each.
# numpy's integers, since numba compiles a function anew for each constant it is called with otherwise.
WAIT, SUSPECT, REFUSED, AHEAD = np.arange(4)
LISTS = 4
HEAD, TAIL, COUNT = range(3)

# For functions that only compiled code calls: no way in from Python is made, and a call from there would crash.
_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = njit(**_INNER)

FREE, USED = range(2)  # what `ctl` holds: the first free node (-1: none), and how many are in use


def empty_ends(slots: int) -> NDArray[np.int32]:
    """Make empty lists for packs never seen: (S, lists, 3)."""
    ends = np.full((slots, LISTS, 3), -1, np.int32)
    ends[:, :, COUNT] = 0
    return ends


def table(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make a node table of `rows` free nodes, and its ctl."""
    return grown(np.zeros((0, FIELDS), np.int64), np.array([-1, 0], np.int64), rows)


def grown(node: NDArray[np.int64], ctl: NDArray[np.int64], rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give a larger table with the same nodes in use, and its ctl; no node may be free in the old one."""
    assert ctl[FREE] < 0
    new = np.zeros((rows, FIELDS), np.int64)
    new[: len(node)] = node
    new[len(node) :, SRC] = -1
    new[len(node) :, NEXT] = np.arange(len(node) + 1, rows + 1)
    new[-1:, NEXT] = -1
    return new, np.array([len(node) if rows > len(node) else -1, ctl[USED]], np.int64)


@inner
def first(ends, s, which):
    """Give the first node of a list, or -1."""
    return np.int64(ends[s, which, HEAD])


@inner
def new_node(node, ctl, a, b, content, src):
    """Take a free node; the caller has seen that there is one."""
    i = ctl[FREE]
    ctl[FREE] = node[i, NEXT]
    ctl[USED] += 1
    node[i, A], node[i, B], node[i, HASH], node[i, SRC] = a, b, content, src
    return i


@inner
def free_node(node, ctl, i):
    """Give a node back.  Its pool columns stay readable until the call ends: rows are stored after all is read."""
    node[i, NEXT], node[i, SRC] = ctl[FREE], -1
    ctl[FREE] = i
    ctl[USED] -= 1


@inner
def link(node, ends, s, which, i):
    """Insert node `i` by (A, B); where one with the same (A, B) is there, give that and insert nothing, else -1."""
    a, b = node[i, A], node[i, B]
    j = np.int64(ends[s, which, TAIL])  # frames mostly come in order
    while j >= 0 and (node[j, A] > a or (node[j, A] == a and node[j, B] > b)):
        j = node[j, PREV]
    if j >= 0 and node[j, A] == a and node[j, B] == b:
        return j
    after = np.int64(ends[s, which, HEAD]) if j < 0 else node[j, NEXT]
    node[i, PREV], node[i, NEXT] = j, after
    if j < 0:
        ends[s, which, HEAD] = i
    else:
        node[j, NEXT] = i
    if after < 0:
        ends[s, which, TAIL] = i
    else:
        node[after, PREV] = i
    ends[s, which, COUNT] += 1
    return np.int64(-1)


@inner
def unlink(node, ends, s, which, i):
    """Take node `i` out of its list."""
    before, after = node[i, PREV], node[i, NEXT]
    if before < 0:
        ends[s, which, HEAD] = after
    else:
        node[before, NEXT] = after
    if after < 0:
        ends[s, which, TAIL] = before
    else:
        node[after, PREV] = before
    ends[s, which, COUNT] -= 1


@njit(cache=True)
def members(node, ends, used, rows):
    """List all nodes as rows of (slot, list, node): (used, 3), each list in its order; fills `rows`."""
    k = 0
    for s in range(ends.shape[0]):
        for which in range(ends.shape[1]):
            i = np.int64(ends[s, which, HEAD])
            while i >= 0:
                rows[k, 0], rows[k, 1], rows[k, 2] = s, which, i
                k += 1
                i = node[i, NEXT]
    assert k == used
    return rows


@njit(cache=True)
def relink(node, ends, rows):
    """Link node k into the list rows[k] = (slot, list), for all k in order."""
    for k in range(rows.shape[0]):
        assert link(node, ends, rows[k, 0], rows[k, 1], k) < 0
