"""Monotone cubic interpolation, so that a table has no kinks and no false extrema."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pchip(x: Floats, y: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Interpolate rows of y (…, K) over knots x (K,) at points (Q,): values and slopes (…, Q).

    Piecewise cubic Hermite with the slopes of Fritsch & Butland (SIAM J. Sci. Stat. Comput. 5, 1984),
    which keep the data's monotony; three-point formula at the ends.  Outside the knots the
    value is that of the nearest end and the slope the end's own.
    """
    if x.size == 1:
        shape = (*y.shape[:-1], at.size)
        return np.broadcast_to(y, shape).copy(), np.zeros(shape)
    h = np.diff(x)
    secant = np.diff(y, axis=-1) / h
    d = _slopes(h, secant)
    inside = np.clip(at, x[0], x[-1])
    k = np.clip(np.searchsorted(x, inside, side="right") - 1, 0, h.size - 1)
    s = (inside - x[k]) / h[k]
    hk, y0, m = h[k], y[..., k], secant[..., k]
    c2 = 3 * m - 2 * d[..., k] - d[..., k + 1]
    c3 = d[..., k] + d[..., k + 1] - 2 * m
    value = y0 + hk * s * (d[..., k] + s * (c2 + s * c3))
    return value, d[..., k] + s * (2 * c2 + 3 * s * c3)


def _slopes(h: Floats, m: Floats) -> Floats:
    """Give the slope at every knot from interval lengths h (K-1,) and secants m (…, K-1)."""
    if h.size == 1:
        return np.concatenate([m, m], axis=-1)
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    left, right = m[..., :-1], m[..., 1:]
    same = left * right > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (w1 + w2) / (w1 / left + w2 / right)
    inner = np.where(same, mean, 0.0)
    first = _end(h[0], h[1], m[..., :1], m[..., 1:2])
    last = _end(h[-1], h[-2], m[..., -1:], m[..., -2:-1])
    return np.concatenate([first, inner, last], axis=-1)


def _end(h0: float, h1: float, m0: Floats, m1: Floats) -> Floats:
    d = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    d = np.where(d * m0 <= 0, 0.0, d)
    overshoots = (m0 * m1 < 0) & (np.abs(d) > 3 * np.abs(m0))
    return np.where(overshoots, 3 * m0, d)


def between(x: Floats, y: NDArray[Any], at: Floats) -> Floats:
    """Interpolate y (…, T, S) linearly along its T axis at points (Q,), clamped: (…, Q, S)."""
    if x.size == 1:
        return np.repeat(y, at.size, axis=-2)
    inside = np.clip(at, x[0], x[-1])
    k = np.clip(np.searchsorted(x, inside, side="right") - 1, 0, x.size - 2)
    w = ((inside - x[k]) / (x[k + 1] - x[k]))[:, None]
    low, high = y[..., k, :], y[..., k + 1, :]
    return np.asarray(low + w * (high - low), np.float64)
