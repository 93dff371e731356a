"""How the fleet's anomaly model is trained, written and read: river's half-space trees as a file of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.kernels.anomaly import FEATURES, FleetTrees, fleet_score
from schemas.checked import ConfigError
from schemas.ids import file_hash

if TYPE_CHECKING:
    from river.anomaly import HalfSpaceTrees

_FORMAT = 1
_TREES, _HEIGHT, _WINDOW = 25, 7, 250
_TAILS = (0.001, 0.999)  # of a feature, between which the trees split
_ODD = 0.999  # a score above this quantile of the training windows votes odd


@dataclass(frozen=True, slots=True, eq=False)
class FleetModel:
    """A trained model: its trees, from when it may speak, and above which score a window is odd."""

    sha: str
    valid_from_ns: int
    odd_score: float
    windows: int  # that it was trained on
    trees: FleetTrees


def train(x: NDArray[np.float64], seed: int) -> tuple[FleetTrees, HalfSpaceTrees]:
    """Train on windows (M, F) in the order given, without those that miss a feature; gives river's object too.

    Raises ValueError where there are fewer windows than the trees need.
    """
    from river.anomaly import HalfSpaceTrees  # noqa: PLC0415 - a second to import, and only training needs it

    x = x[~np.isnan(x).any(axis=1)]
    if len(x) < 2 * _WINDOW:
        msg = f"training needs ≥ {2 * _WINDOW} complete windows; got {len(x)}"
        raise ValueError(msg)
    low, high = np.quantile(x, _TAILS, axis=0)
    high = np.where(high > low, high, low + 1.0)
    forest = HalfSpaceTrees(n_trees=_TREES, height=_HEIGHT, window_size=_WINDOW, seed=seed)
    for row in np.clip((x - low) / (high - low), 0, 1).tolist():
        forest.learn_one(dict(enumerate(row)))
    inner, nodes = 2**_HEIGHT - 1, 2 ** (_HEIGHT + 1) - 1
    feature = np.zeros((_TREES, inner), np.int64)
    threshold = np.zeros((_TREES, inner))
    mass = np.zeros((_TREES, nodes))
    for t, root in enumerate(forest.trees):
        level: list[Any] = [root]
        for at in range(nodes):  # breadth first: node k has its children at 2k + 1 and 2k + 2
            node = level[at]
            mass[t, at] = node.r_mass
            if at < inner:
                feature[t, at], threshold[t, at] = node.feature, node.threshold
                level += node.children
    return FleetTrees(low, high, feature, threshold, mass, _WINDOW), forest


def save(path: Path, x: NDArray[np.float64], valid_from_ns: int, seed: int) -> FleetModel:
    """Train on windows (M, F) in order, and write the model; it speaks about windows that end after `valid_from_ns`."""
    trees, _ = train(x, seed)
    known = x[~np.isnan(x).any(axis=1)]
    text = {
        "format": _FORMAT,
        "made_by": f"river {version('river')}, HalfSpaceTrees, seed {seed}",
        "features": FEATURES,
        "valid_from_ns": valid_from_ns,
        "windows": len(known),
        "odd_score": float(np.quantile(fleet_score(trees, known), _ODD)),
        "window_size": trees.window_size,
        "low": trees.low,
        "high": trees.high,
        "feature": trees.feature,
        "threshold": trees.threshold,
        "mass": trees.mass,
    }
    path.write_bytes(orjson.dumps(text, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2))
    return load_model(str(path))


@lru_cache(maxsize=8)
def load_model(path: str) -> FleetModel:
    """Read a model file; raises ConfigError with file, key, value and what is accepted."""
    try:
        data = Path(path).read_bytes()
        text = orjson.loads(data)
    except OSError as error:
        msg = f"anomaly_model must be a file made by `ibms train anomaly`; got {error.strerror} ({path})"
        raise ConfigError(msg) from None
    except orjson.JSONDecodeError as error:
        msg = f"anomaly_model must be JSON; got {error} ({path})"
        raise ConfigError(msg) from None
    for key, accepted in (("format", _FORMAT), ("features", list(FEATURES))):
        if not isinstance(text, dict) or text.get(key) != accepted:
            got = text.get(key) if isinstance(text, dict) else type(text).__name__
            msg = f"{key} must be {accepted}; got {got} ({path})"
            raise ConfigError(msg)
    try:
        trees = FleetTrees(
            np.array(text["low"], np.float64),
            np.array(text["high"], np.float64),
            np.array(text["feature"], np.int64),
            np.array(text["threshold"], np.float64),
            np.array(text["mass"], np.float64),
            int(text["window_size"]),
        )
        model = FleetModel(
            file_hash(data), int(text["valid_from_ns"]), float(text["odd_score"]), int(text["windows"]), trees
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"anomaly_model must be as `ibms train anomaly` writes it; got {type(error).__name__} {error} ({path})"
        raise ConfigError(msg) from None
    shapes = (trees.feature.shape, trees.threshold.shape, trees.mass.shape)
    if trees.mass.ndim != 2 or shapes[0] != shapes[1] or shapes[2][1] != 2 * shapes[0][1] + 1:  # noqa: PLR2004 - rows and columns
        msg = f"trees must be perfect and binary; got shapes {shapes} ({path})"
        raise ConfigError(msg)
    return model
