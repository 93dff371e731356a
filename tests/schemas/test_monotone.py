import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.monotone import Floats, between, pchip

gaps = st.lists(st.floats(0.01, 10), min_size=2, max_size=20)
rises = st.lists(st.floats(1e-3, 5), min_size=20, max_size=20)


def knots(gap: list[float], rise: list[float]) -> tuple[Floats, Floats]:
    return np.cumsum([0.0, *gap]), np.cumsum([2.0, *rise[: len(gap)]])


@given(gaps, st.lists(st.floats(-5, 5), min_size=21, max_size=21))
def test_equals_scipys_pchip(gap: list[float], values: list[float]) -> None:
    reference = pytest.importorskip("scipy.interpolate", reason="scipy comes with the extra cloud").PchipInterpolator
    x = np.cumsum([0.0, *gap])
    y = np.array(values[: x.size])
    at = np.linspace(x[0], x[-1], 57)
    value, slope = pchip(x, y, at)
    np.testing.assert_allclose(value, reference(x, y)(at), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope, reference(x, y).derivative()(at), rtol=1e-6, atol=1e-6)


@given(gaps, rises)
def test_rising_knots_give_a_rising_curve_between_them(gap: list[float], rise: list[float]) -> None:
    x, y = knots(gap, rise)
    value, slope = pchip(x, y, np.linspace(x[0], x[-1], 301))
    assert (np.diff(value) > -1e-12).all()
    assert (slope > -1e-9).all()
    assert value.min() == pytest.approx(y[0])
    assert value.max() == pytest.approx(y[-1])


@given(gaps, rises)
def test_goes_through_the_knots_and_holds_the_end_values_outside(gap: list[float], rise: list[float]) -> None:
    x, y = knots(gap, rise)
    np.testing.assert_allclose(pchip(x, y, x)[0], y, rtol=1e-12)
    assert pchip(x, y, np.array([x[0] - 1, x[-1] + 1]))[0].tolist() == pytest.approx([y[0], y[-1]])


def test_a_straight_line_stays_one_with_two_knots_and_with_many() -> None:
    at = np.linspace(0, 1, 11)
    for x in (np.array([0.0, 1.0]), np.linspace(0, 1, 6)):
        value, slope = pchip(x, 3 + 2 * x, at)
        np.testing.assert_allclose(value, 3 + 2 * at)
        np.testing.assert_allclose(slope, 2)


def test_rows_are_interpolated_apart() -> None:
    x, at = np.array([0.0, 0.3, 1.0]), np.linspace(0, 1, 7)
    rows = np.array([[1.0, 2.0, 3.0], [4.0, 4.5, 9.0]])
    both = pchip(x, rows, at)[0]
    for k in range(2):
        np.testing.assert_array_equal(both[k], pchip(x, rows[k], at)[0])


def test_between_temperatures_values_lie_on_the_chord_and_outside_on_the_edge() -> None:
    y = np.array([[1.0, 2.0], [3.0, 6.0]])
    at = np.array([-50.0, 0.0, 5.0, 10.0, 99.0])
    expected = [[1, 2], [1, 2], [2, 4], [3, 6], [3, 6]]
    np.testing.assert_allclose(between(np.array([0.0, 10.0]), y, at), expected)
    np.testing.assert_allclose(between(np.array([25.0]), y[:1], at), np.repeat(y[:1], 5, axis=0))
