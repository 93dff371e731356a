"""A pack's history in few points, and when its life is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels.life import POINTS, TOLD_NS, Due, LifeState, follow
from tests.support.frames import T0_NS

DAY_NS = TOLD_NS // 7


def _charges(n: int, every_ns: int = DAY_NS, packs: int = 1, **more: Any) -> dict[str, Any]:
    at = np.arange(n)
    plain = {"slot": (at % packs).astype(np.int32), "t_ns": T0_NS + at * every_ns, "counted": np.ones(n, np.bool_)}
    return plain | {"cycles": at * 0.5, "soh": 1.0 - at * 1e-3} | more


def test_a_life_is_told_at_the_first_charge_and_then_once_a_week() -> None:
    due = follow(LifeState.empty(1, 1, 1), **_charges(30))
    assert due.rows.tolist() == [0, 7, 14, 21, 28]
    assert due.days.tolist() == [0, 7, 14, 21, 28]
    assert [len(c) for c, _ in due.past] == [1, 8, 15, 22, 29]
    rare = follow(LifeState.empty(1, 1, 1), **_charges(4, every_ns=30 * DAY_NS))
    assert rare.rows.tolist() == [0, 1, 2, 3]


def test_only_charges_that_counted_are_history() -> None:
    counted = np.arange(15) % 5 == 0
    due = follow(LifeState.empty(1, 1, 1), **_charges(15, counted=counted))
    assert due.past[-1][0].tolist() == [0.0, 2.5, 5.0]
    assert due.past[-1][1] == pytest.approx([1.0, 0.995, 0.99])


def test_a_long_history_keeps_its_first_point_and_thins_evenly() -> None:
    n = 2000
    due = follow(LifeState.empty(1, 1, 1), **_charges(n))
    cycles, soh = due.past[-1]
    assert POINTS // 2 <= len(cycles) <= POINTS
    assert cycles[0] == 0.0
    apart = np.diff(cycles)
    assert apart.max() <= 2 * apart.min()
    assert soh == pytest.approx(1.0 - 2e-3 * cycles, abs=1e-6)
    assert cycles[-1] > 0.5 * n - 32


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 399), max_size=8), st.integers(1, 4))
def test_cuts_change_nothing(cuts: list[int], packs: int) -> None:
    given_ = _charges(400, packs=packs)
    said = []
    for ends in ([400], [*sorted(set(cuts)), 400]):
        state, at, told = LifeState.empty(packs, 1, 1), 0, []
        for end in ends:
            due: Due = follow(state, **{k: v[at:end] for k, v in given_.items()})
            told += [
                (at + r, c.tolist(), s.tolist(), d)
                for r, (c, s), d in zip(due.rows.tolist(), due.past, due.days.tolist(), strict=True)
            ]
            at = end
        said.append(told)
    assert said[0] == said[1]
