"""Limits from outside: they only tighten, and never what opens at speed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protection import key_of
from edge.tighten import tightened
from schemas.limit_profile import default_limits
from schemas.limits import FAST, QUANTITIES, Limit

ROWS = default_limits("nmc", 96, 150, 400)
BY_KEY = {key_of(row): row for row in ROWS}
ANY = st.one_of(st.floats(), st.floats(0, 500), st.sampled_from([r.bound for r in ROWS]))


@given(st.dictionaries(st.one_of(st.sampled_from(sorted(BY_KEY)), st.text(max_size=30)), ANY))
def test_whatever_is_asked_the_final_limit_is_never_looser_than_the_local_one(bounds: dict[str, float]) -> None:
    final = tightened(ROWS, bounds)
    assert [key_of(row) for row in final] == [key_of(row) for row in ROWS]
    for local, row in zip(ROWS, final, strict=True):
        assert row.bound <= local.bound if row.over else row.bound >= local.bound
        low, high = QUANTITIES[row.quantity]
        assert low <= row.bound <= high
        assert row.quantity not in FAST or row == local
        assert row == Limit(**{f: getattr(local, f) for f in Limit.__slots__} | {"bound": row.bound})


@pytest.mark.parametrize(
    ("key", "asked", "given_"),
    [
        ("cell_v/MSL/over/any", 4.2, 4.2),
        ("cell_v/MSL/over/any", 4.25, 4.25),
        ("cell_v/MSL/over/any", 4.3, 4.25),
        ("cell_v/MSL/over/any", -0.1, 4.25),
        ("cell_v/MSL/over/any", 0.0, 0.0),
        ("cell_v/MSL/over/any", math.nan, 4.25),
        ("cell_v/MSL/over/any", -math.inf, 4.25),
        ("cell_v/MSL/under/any", 2.9, 2.9),
        ("cell_v/MSL/under/any", 2.5, 2.7),
        ("cell_v/MSL/under/any", 6.0, 6.0),
        ("cell_v/MSL/under/any", 6.1, 2.7),
        ("current_a/MSL/over/charge", 10.0, 187.5),
        ("rms_a/RSL/over/charge", 10.0, 142.5),
        ("disobeyed_a/RSL/over/charge", 10.0, 10.0),
    ],
)
def test_a_bound_moves_to_the_safe_side_or_not_at_all(key: str, asked: float, given_: float) -> None:
    final = {key_of(row): row for row in tightened(ROWS, {key: asked})}
    assert final[key].bound == given_
    assert all(final[other] == row for other, row in BY_KEY.items() if other != key)
