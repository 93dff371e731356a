"""What a flow asks of trained models: who speaks, what charges say, and a pack's health and life, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.prognosis import blend, future, history
from flows.prognosis.charges import Floats
from flows.prognosis.features import CONFIG, chosen, feature_names
from flows.prognosis.model import Model, Prediction, load, predict
from flows.prognosis.registry import champion_and_challenger, places
from operators.kernels.charges import OF_REFERENCE, ChargeState, follow, names
from schemas.checked import ConfigError

_STEPS = 50  # of a trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """The model that speaks of a name, and the one that runs beside it."""

    champion: Model
    challenger: Model | None


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What a model says of N packs' futures, and which model said it; NaN where it cannot."""

    sha: str
    left: Floats  # (N,) cycles to the end of life
    low: Floats  # of the 90 % interval
    high: Floats
    at_cycle: Floats  # (N, T) from now to the interval's end
    soh: Floats  # (N, T) the middle of what particles say there
    soh_low: Floats  # 5 %
    soh_high: Floats  # 95 %


def served(models: Path, name: str) -> Served:
    """Load who speaks of a name, e.g. soh/XJTU/count, and who runs beside; raises ConfigError where nobody speaks."""
    champion, challenger = champion_and_challenger(models, name)
    if champion is None:
        known = ", ".join(n for n, place in places(models).items() if place["champion"]) or "none yet"
        msg = f"a model must be promoted before it speaks: got {name}, champions are {known} ({models})"
        raise ConfigError(msg)
    return Served(champion, challenger)


def served_by_hash(models: Path, sha: str) -> Model:
    """Load exactly one model; raises ConfigError."""
    return load(str(models / sha))


def new_state(model: Model, slots: int) -> ChargeState:
    """Give the state of packs never seen, for a model and every other of the same columns."""
    return ChargeState.empty(slots, len(model.about.columns), CONFIG.first)


def follow_charges(model: Model, state: ChargeState, slot: NDArray[np.int32], x: Floats, reference: Floats) -> Floats:
    """Advance `state` over charges and give what they say (N, M), for every model of the same columns.

    `slot` (N,) says whose charge a row is, rows of a pack in order of time; x (N, K) has the model's columns, NaN = not
    available; `reference` (N,) is the SOH measured right after the charge, NaN = none: known from the next charge on.
    """
    assert x.shape[1] == len(model.about.columns)
    return follow(CONFIG, state, slot, x, reference)


def predict_soh(model: Model, followed: Floats, cycle: Floats) -> Prediction:
    """Say SOH (N,) with its 90 % interval, at charges whose number of cycles so far is `cycle` (N,)."""
    about = model.about
    x = chosen(about.columns, about.inputs, followed, cycle)
    if about.inputs != "reference":
        return predict(model, x, np.zeros(len(x)))
    start = followed[:, names(about.columns).index(OF_REFERENCE[0])]
    return predict(model, x, start)  # NaN before the first reference


def predict_rul(model: Model, followed: Floats, cycle: Floats, past: Sequence[tuple[Floats, Floats]]) -> Forecast:
    """Say the cycles left (N,) with interval and trajectory, at charges after `cycle` (N,) cycles.

    `past` holds for each row the cycles and SOH of its pack so far (NaN is said of a pack of fewer than two).
    """
    of_charge = chosen(model.about.columns, model.about.inputs, followed, cycle)
    return foretell(model, of_charge, cycle, past)


def foretell(model: Model, of_charge: Floats, cycle: Floats, past: Sequence[tuple[Floats, Floats]]) -> Forecast:
    """Say the same from features of charges (N, K) that were chosen already."""
    about, fleet = model.about, model.fleet
    assert fleet is not None, f"{about.name} is no model of life"
    kept = feature_names(about.columns, about.inputs)
    steady = [(c, history.steady(s)) for c, s in past]
    known = np.array([len(c) > 1 for c, _ in steady], np.bool_)
    of_past = np.full((len(steady), len(history.NAMES)), np.nan)
    for k in np.flatnonzero(known):
        of_past[k] = history.of_history(*steady[k], fleet.eol_soh)
    prior = blend.predict(model.blend, future.inputs(fleet, kept, of_charge, cycle, of_past))
    log_left = np.full(len(steady), np.nan)
    at, middle, low_soh, high_soh = (np.full((len(steady), _STEPS), np.nan) for _ in range(4))
    low, high = np.full(len(steady), np.nan), np.full(len(steady), np.nan)
    for k in np.flatnonzero(known):
        cycles, soh = steady[k]
        ahead = future.foresee(fleet, model.interval, float(prior[k]), cycles, soh, about.seed)
        log_left[k] = ahead.log_left
        low[k : k + 1], high[k : k + 1] = blend.bounds(model.interval, log_left[k : k + 1])
        at[k] = cycles[-1] + np.exp(high[k]) * np.linspace(0.0, 1.0, _STEPS)
        middle[k], low_soh[k], high_soh[k] = future.trajectory(fleet, ahead.particles, cycles, soh, at[k])
    return Forecast(model.sha, np.exp(log_left), np.exp(low), np.exp(high), at, middle, low_soh, high_soh)
