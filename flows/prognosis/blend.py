"""What a trained model is when it speaks: trees beside smooth functions, and an interval around their mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flows.prognosis.charges import Floats
from operators.kernels import smooth, trees
from operators.kernels.smooth import Smooth
from operators.kernels.trees import Trees

_SHARE_OF_TREES, _SHARE_OF_TWO = 0.34, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Fitted trees and smooth functions; its value is their weighted mean."""

    trees: Trees
    smooth: tuple[Smooth, ...]
    over_first: Trees | None = None  # further trees, of the target less the first input


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """How far the truth lies from a prediction, learned on cells that the prediction did not know."""

    at: Floats  # (B,) predictions
    scale: Floats  # (B,) typical error there
    low: float  # quantile of (truth − prediction) / scale
    high: float


def predict(blend: Blend, x: Floats) -> Floats:
    """Give the blend's value at inputs (N, F); each row for itself."""
    mean = sum((smooth.value(one, x) for one in blend.smooth), np.zeros(len(x))) / len(blend.smooth)
    stepped, share = trees.value(blend.trees, x), _SHARE_OF_TREES
    if blend.over_first is not None:
        stepped, share = 0.5 * (stepped + trees.value(blend.over_first, x) + x[:, 0]), _SHARE_OF_TWO
    return share * stepped + (1.0 - share) * mean


def bounds(interval: Interval, predicted: Floats) -> tuple[Floats, Floats]:
    """Give the lower and the upper end (N,) of the interval around predictions (N,)."""
    scale = np.interp(predicted, interval.at, interval.scale)
    return predicted + interval.low * scale, predicted + interval.high * scale
