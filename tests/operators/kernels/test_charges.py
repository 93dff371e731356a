"""What charges say: levels, changes and trends, from the past only, the same however rows are cut."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from operators.kernels import slots
from operators.kernels.charges import ChargeConfig, ChargeState, follow, names

CFG = ChargeConfig(first=4)
COLUMNS = ("cc_q", "cv_q")
NAMES = names(COLUMNS)
Floats = NDArray[np.float64]


def run(x: Floats, reference: Floats | None = None, slot: NDArray[np.int32] | None = None) -> dict[str, Floats]:
    slot = np.zeros(len(x), np.int32) if slot is None else slot
    reference = np.full(len(x), np.nan) if reference is None else reference
    out = follow(CFG, ChargeState.empty(int(slot.max(initial=0)) + 1, x.shape[1], CFG.first), slot, x, reference)
    return dict(zip(NAMES, out.T, strict=True))


def drawn(n: int, packs: int = 3) -> tuple[NDArray[np.int32], Floats, Floats]:
    draw = np.random.default_rng(5)
    x = draw.normal(1, 0.1, (n, 2))
    x[draw.random((n, 2)) < 0.1] = np.nan
    reference = np.where(draw.random(n) < 0.1, draw.random(n), np.nan)
    return draw.integers(0, packs, n).astype(np.int32), x, reference


def test_charges_that_are_all_alike_change_nothing() -> None:
    got = run(np.full((50, 2), 0.7))
    assert_array_equal(got["cc_q.level"], 0.7)
    for what in (".change", ".trend"):
        assert_array_equal(got["cv_q" + what], 0.0)


def test_a_change_is_counted_from_the_median_of_the_first_charges() -> None:
    x = np.column_stack([np.r_[1.0, 3.0, 2.0, 2.0, np.full(400, 5.0)], np.zeros(404)])
    got = run(x)
    assert got["cc_q.first"][-1] == 2.0
    assert got["cc_q.change"][-1] == pytest.approx(3.0, abs=1e-6)


def test_one_odd_charge_does_not_move_a_level() -> None:
    x = np.ones((20, 2))
    x[10, 0] = 99.0
    got = run(x)
    assert got["cc_q"][10] == 99.0
    assert_array_equal(got["cc_q.level"], 1.0)


def test_a_steady_fade_has_a_trend_of_its_sign() -> None:
    x = np.column_stack([np.linspace(1, 0.5, 200), np.linspace(0.5, 1, 200)])
    got = run(x)
    assert (got["cc_q.trend"][20:] < 0).all()
    assert (got["cv_q.trend"][20:] > 0).all()


def test_a_capacity_speaks_from_the_next_charge_on() -> None:
    x = np.column_stack([np.linspace(1, 0, 11), np.ones(11)])
    reference = np.full(11, np.nan)
    reference[[0, 6]] = 1.0, 0.7
    got = run(x, reference)
    assert_array_equal(got["reference"], [np.nan, *[1.0] * 6, *[0.7] * 4])
    assert_array_equal(got["since_reference"], [np.nan, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4])
    assert got["reference_slope"][7] == pytest.approx(-0.3 / 6)
    assert got["first_reference"][-1] == 1.0
    assert got["cc_q.since"][7] == pytest.approx(-0.1)


def test_a_missing_value_leaves_the_level_where_it_was() -> None:
    x = np.ones((6, 2))
    x[3:] = np.nan
    got = run(x)
    assert np.isnan(got["cc_q"][3:]).all()
    assert_array_equal(got["cc_q.level"], 1.0)


def test_any_cut_and_any_order_of_slots_gives_the_same_bits() -> None:
    slot, x, reference = drawn(300)
    whole_state = ChargeState.empty(3, 2, CFG.first)
    whole = follow(CFG, whole_state, slot, x, reference)
    state, moved = ChargeState.empty(3, 2, CFG.first), ChargeState.empty(5, 2, CFG.first)
    cut = [follow(CFG, state, slot[a:b], x[a:b], reference[a:b]) for a, b in ((0, 0), (0, 1), (1, 77), (77, 300))]
    assert_array_equal(whole, np.concatenate(cut))
    to = np.array([4, 0, 2], np.int32)
    assert_array_equal(whole, follow(CFG, moved, to[slot], x, reference))
    for name, array in slots.arrays(whole_state).items():
        assert_array_equal(array, slots.arrays(state)[name])
        assert_array_equal(array, slots.arrays(moved)[name][to])


def test_a_pack_alone_gives_what_it_gives_among_others() -> None:
    slot, x, reference = drawn(300)
    among = follow(CFG, ChargeState.empty(3, 2, CFG.first), slot, x, reference)
    mine = slot == 1
    alone = follow(CFG, ChargeState.empty(2, 2, CFG.first), slot[mine], x[mine], reference[mine])
    assert_array_equal(among[mine], alone)


def test_inputs_are_not_written_into() -> None:
    slot, x, reference = drawn(50)
    before = x.copy(), reference.copy()
    follow(CFG, ChargeState.empty(3, 2, CFG.first), slot, x, reference)
    assert_array_equal(before[0], x)
    assert_array_equal(before[1], reference)


@pytest.mark.parametrize(("key", "value"), [("quick", 0.0), ("level", 1.1), ("slow", float("nan")), ("first", 0)])
def test_weights_outside_their_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be "):
        ChargeConfig(**{key: value})  # type: ignore[arg-type]
