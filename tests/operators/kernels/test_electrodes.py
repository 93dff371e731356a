"""Electrodes read from a slow charge: exact on curves of the model itself, and never outside what can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.kernels.electrodes import Electrodes, Halves, curve_v, fit, losses, resting_at

AT = np.linspace(0.002, 0.998, 500)
# Two half cells with steps at places of their own, as graphite and a layered oxide have.
UN_V = 0.1 + 0.8 * np.exp(-30 * AT) + 0.04 * np.tanh((0.5 - AT) / 0.03) + 0.03 * np.tanh((0.2 - AT) / 0.03)
UP_V = 4.4 - 0.9 * AT + 0.05 * np.tanh((0.6 - AT) / 0.08) - 0.3 * np.exp(-40 * (1 - AT))
HALVES = Halves(AT, UN_V, AT, UP_V)
QN, QP, LITHIUM = 5.8, 6.6, 6.4
NEW = resting_at(HALVES, QN, QP, LITHIUM, 3.0)


def aged(lithium: float, negative: float, positive: float) -> tuple[Electrodes, Any]:
    """A cell with these shares lost, empty, and the charges of a curve up to 4.15 V."""
    sizes = (QN * (1 - negative), QP * (1 - positive), LITHIUM * (1 - lithium))
    cell, full = (resting_at(HALVES, *sizes, v) for v in (3.0, 4.15))
    return cell, np.linspace(0.0, (full.x0 - cell.x0) * cell.qn_ah, 200)


@pytest.mark.parametrize("lost", [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1), (0.2, 0.1, 0.05)])
def test_losses_are_read_from_a_curve_of_the_model_itself(lost: tuple[float, float, float]) -> None:
    cell, q_ah = aged(*lost)
    v = curve_v(HALVES, cell, q_ah, 0.25) + 0.25 * 0.02
    found = fit(HALVES, resting_at(HALVES, QN, QP, LITHIUM, float(v[0])), q_ah, v, 0.25)
    assert losses(NEW, found.electrodes) == pytest.approx(lost, abs=0.005)
    assert found.rmse_v < 6e-4


def test_a_cell_rests_where_it_is_put() -> None:
    for v in (3.0, 3.7, 4.15):
        cell = resting_at(HALVES, QN, QP, LITHIUM, v)
        assert curve_v(HALVES, cell, np.zeros(1), 0.0)[0] == pytest.approx(v, abs=1e-6)
        assert cell.lithium_ah == pytest.approx(LITHIUM)


def test_less_of_a_curve_is_told_with_larger_deviations() -> None:
    cell, q_ah = aged(0.1, 0.05, 0.05)
    v = curve_v(HALVES, cell, q_ah, 0.0)
    start = resting_at(HALVES, QN, QP, LITHIUM, float(v[0]))
    whole, part = (fit(HALVES, start, q_ah[:n], v[:n], 0.0).std for n in (200, 110))
    assert all(p > 1.2 * w for p, w in zip(part, whole, strict=True))


def test_a_curve_of_another_cell_does_not_empty_an_electrode_beyond_itself() -> None:
    cell, q_ah = aged(0.0, 0.0, 0.0)
    v = 0.9 * curve_v(HALVES, cell, q_ah, 0.0) + 0.4
    found = fit(HALVES, NEW, q_ah, v, 0.0).electrodes
    ends = (found.x0, found.x0 + q_ah[-1] / found.qn_ah, found.y0, found.y0 - q_ah[-1] / found.qp_ah)
    assert all(-0.02 < end < 1.02 for end in ends)
