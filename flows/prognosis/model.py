"""How a trained model is written and read: plain files in a folder that is named by their hash."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import orjson

from flows.prognosis import blend as blended
from flows.prognosis.blend import Blend, Interval
from flows.prognosis.charges import Charges, Floats
from flows.prognosis.future import Fleet
from operators.kernels.smooth import Smooth
from operators.kernels.trees import Trees
from schemas.checked import ConfigError
from schemas.ids import file_hash

_FORMAT = 5
_TEXT, _ARRAYS = FILES = ("model.json", "arrays.npz")
_FLEET = ("shapes", "least")
_TREES, _OVER_FIRST = "trees", "over_first"  # a life has both
_SMOOTH = ("middle", "width", "relevance", "centres", "weight", "slope")


@dataclass(frozen=True, slots=True)
class About:
    """What a model is of, and what it needs."""

    kind: str  # soh | rul
    set: str
    inputs: str  # one of features.INPUTS
    columns: tuple[str, ...]  # of the charges
    features: tuple[str, ...]
    nominal_ah: float
    reference_every: int  # charges
    eol_soh: float  # rul: where the lives that it learned from ended
    seed: int
    valid_from_ns: int  # it speaks of charges that end after this time

    @property
    def name(self) -> str:
        """Name the place that models of this kind compete for."""
        return f"{self.kind}/{self.set}/{self.inputs}"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A trained model and its hash."""

    sha: str
    about: About
    blend: Blend
    interval: Interval  # rul: of log cycles left
    fleet: Fleet | None = None  # rul only


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of rows (N,), and which model said it; NaN where it cannot."""

    sha: str
    value: Floats
    low: Floats  # of the 90 % interval
    high: Floats


def save(out: Path, about: About, blend: Blend, interval: Interval, fleet: Fleet | None = None) -> Model:
    """Write a model into `out`/<hash>/ and give it back as it will be read."""
    text = {
        "format": _FORMAT,
        "made_by": f"xgboost {version('xgboost-cpu')}",
        **asdict(about),
        "smooth": [{"length": one.length, "offset": one.offset} for one in blend.smooth],
        "interval": asdict(interval),
    }
    arrays = BytesIO()
    named = {f"{k}_{i}": getattr(one, k) for i, one in enumerate(blend.smooth) for k in _SMOOTH}
    named |= {k: getattr(fleet, k) for k in _FLEET} if fleet is not None else {}
    named |= _named(_TREES, blend.trees)
    if blend.over_first is not None:
        named |= _named(_OVER_FIRST, blend.over_first)
    np.savez(arrays, **named)  # no date in it: the same arrays, the same bytes
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2
    parts = (orjson.dumps(text, option=option), arrays.getvalue())
    folder = out / file_hash(b"".join(parts))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in zip(FILES, parts, strict=True):
        (folder / name).write_bytes(data)
    return load(str(folder))


@lru_cache(maxsize=32)
def load(folder: str) -> Model:
    """Read a model's folder; raises ConfigError with file, value and what is accepted."""
    try:
        parts = [(Path(folder) / name).read_bytes() for name in FILES]
    except OSError as error:
        msg = f"a model must be a folder made by `ibms train`; got {error.strerror} ({error.filename})"
        raise ConfigError(msg) from None
    sha = file_hash(b"".join(parts))
    if sha != Path(folder).name:
        msg = f"a model's files must have the hash of its name; got {sha} ({folder})"
        raise ConfigError(msg)
    try:
        text: dict[str, Any] = orjson.loads(parts[0])
        if text.get("format") != _FORMAT:
            msg = f"format must be {_FORMAT}; got {text.get('format')} ({folder}/{_TEXT})"
            raise ConfigError(msg)
        with np.load(BytesIO(parts[1]), allow_pickle=False) as file:
            smooth = tuple(_smooth(file, i, one) for i, one in enumerate(text["smooth"]))
            trees = _trees(file, _TREES)
            over_first = _trees(file, _OVER_FIRST) if f"{_OVER_FIRST}_root" in file else None
            shapes, least = (np.ascontiguousarray(file[k], np.float64) if k in file else None for k in _FLEET)
        said: dict[str, Any] = {
            k: tuple(text[k]) if isinstance(text[k], list) else text[k] for k in About.__dataclass_fields__
        }
        of = text["interval"]
        interval = Interval(np.array(of["at"]), np.array(of["scale"]), float(of["low"]), float(of["high"]))
        fleet = None if shapes is None or least is None else Fleet(shapes, float(text["eol_soh"]), least)
        return Model(sha, About(**said), Blend(trees, smooth, over_first), interval, fleet)
    except (KeyError, TypeError, ValueError, BadZipFile) as error:
        if isinstance(error, ConfigError):
            raise
        msg = f"a model must be as `ibms train` writes it; got {type(error).__name__} {error} ({folder})"
        raise ConfigError(msg) from None


def _named(which: str, trees: Trees) -> dict[str, Any]:
    return {f"{which}_{k}": getattr(trees, k) for k in Trees.__dataclass_fields__}


def _trees(file: Any, which: str) -> Trees:  # noqa: ANN401 - numpy's open file of arrays
    arrays = {k: file[f"{which}_{k}"] for k in Trees.__dataclass_fields__}
    return Trees(**arrays | {"base": float(arrays["base"])})


def _smooth(file: Any, at: int, said: dict[str, float]) -> Smooth:  # noqa: ANN401 - numpy's open file of arrays
    arrays = {k: np.ascontiguousarray(file[f"{k}_{at}"], np.float64) for k in _SMOOTH}
    return Smooth(**arrays, length=float(said["length"]), offset=float(said["offset"]))


def matching(model: Model, charges: Charges) -> Charges:
    """Give charges with the columns that a model needs, in its order, NaN where there is none.

    Raises ConfigError where they have none of them.
    """
    have = {name: at for at, name in enumerate(charges.columns)}
    if not any(name in have for name in model.about.columns):
        msg = f"charges must have one of {', '.join(model.about.columns)}; got {', '.join(charges.columns)}"
        raise ConfigError(msg)
    x = np.full((len(charges), len(model.about.columns)), np.nan)
    for at, name in enumerate(model.about.columns):
        if name in have:
            x[:, at] = charges.x[:, have[name]]
    return Charges(
        charges.set, charges.nominal_ah, charges.cells, charges.protocols, charges.cell, charges.cycle,
        model.about.columns, x, charges.capacity_ah,
    )  # fmt: skip


def predict(model: Model, x: Floats, start: Floats) -> Prediction:
    """Say what a model says at features (N, F), counted from `start` (N,), with its 90 % interval."""
    value = start + blended.predict(model.blend, x)
    low, high = blended.bounds(model.interval, value)
    return Prediction(model.sha, value, low, high)
