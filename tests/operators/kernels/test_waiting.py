"""Lists of nodes: they stay sorted, and give back what they were given."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from operators.kernels import waiting as kernel


@njit
def _play(node, ctl, ends, a, b, take):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    """Insert (a, b) into the list of slot a % 3, or take out the first of that list; give the refused twins."""
    twins = 0
    for k in range(a.size):
        s = a[k] % 3
        i = kernel.first(ends, s, 0)
        if take[k] and i >= 0:
            kernel.unlink(node, ends, s, 0, i)
            kernel.free_node(node, ctl, i)
            continue
        i = kernel.new_node(node, ctl, a[k], b[k], 7, 0)
        if kernel.link(node, ends, s, 0, i) >= 0:
            kernel.free_node(node, ctl, i)
            twins += 1
    return twins


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.booleans()), max_size=60))
def test_a_list_is_a_sorted_set_of_what_went_in_and_not_out(moves: list[tuple[int, int, bool]]) -> None:
    node, ctl = kernel.table(64)
    ends = kernel.empty_ends(3)
    a, b, take = (np.array([m[k] for m in moves], np.int64) for k in range(3))
    twins = _play(node, ctl, ends, a, b, take)
    model: list[set[tuple[int, int]]] = [set(), set(), set()]
    expected_twins = 0
    for x, y, out in moves:
        mine = model[x % 3]
        if out and mine:
            mine.remove(min(mine))
        elif (x, y) in mine:
            expected_twins += 1
        else:
            mine.add((x, y))
    assert twins == expected_twins
    used = int(ctl[kernel.USED])
    rows = kernel.members(node, ends, used, np.empty((used, 3), np.int64))
    for s in range(3):
        listed = [(int(node[i, kernel.A]), int(node[i, kernel.B])) for slot, _, i in rows.tolist() if slot == s]
        assert listed == sorted(model[s])
        assert ends[s, 0, kernel.COUNT] == len(listed)


def test_a_grown_table_keeps_its_nodes_and_a_relinked_one_its_lists() -> None:
    node, ctl = kernel.table(4)
    ends = kernel.empty_ends(3)
    a = np.array([9, 3, 6, 0], np.int64)
    _play(node, ctl, ends, a, a, np.zeros(4, np.int64))
    assert ctl.tolist() == [-1, 4]
    node, ctl = kernel.grown(node, ctl, 8)
    assert ctl.tolist() == [4, 4]
    _play(node, ctl, ends, a + 12, a, np.zeros(4, np.int64))
    rows = kernel.members(node, ends, 8, np.empty((8, 3), np.int64))
    order = node[rows[:, 2], kernel.A].tolist()
    assert order == [0, 3, 6, 9, 12, 15, 18, 21]
    again = node[rows[:, 2]].copy()
    fresh = kernel.empty_ends(3)
    kernel.relink(again, fresh, rows[:, :2].copy())
    assert kernel.members(again, fresh, 8, np.empty((8, 3), np.int64))[:, 2].tolist() == list(range(8))
