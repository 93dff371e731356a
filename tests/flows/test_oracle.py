"""A trained model of life, asked about packs of the field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.oracle import TrainedOracle, oracles
from flows.prognosis import future, learn, registry, rul
from flows.prognosis.model import About, Model, save
from flows.prognosis.serve import Served
from operators.life import NO_MODEL, NOT_YET, SHORT, Life, Oracle
from schemas.checked import ConfigError
from schemas.pack import load_pack
from tests.support.charges import ending, fading, trained
from tests.support.sessions import MODEL, charges

PACK = load_pack(MODEL)
PAST = (np.arange(0.0, 80.0, 4.0), 1.0 - 0.001 * np.arange(0.0, 80.0, 4.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    lives = rul.lives(replace(ending(8), columns=("cc_q", "cc_charge_time")))
    fitted = rul.fit(lives, np.ones(len(lives.cell), np.bool_), 1)
    interval = learn.fit_interval(np.log(lives.left) + 0.1 * (lives.rows % 5 - 2), np.log(lives.left), lives.cell)
    columns = ("cc_q", "cc_charge_time")
    about = About("rul", "SET", "count", columns, future.names(lives.charge_names), 2.0, 0, fitted.fleet.eol_soh, 1, 0)
    return save(tmp_path_factory.mktemp("models"), about, fitted.blend, interval, fitted.fleet)


def say(oracle: Oracle, std: float = 0.005, n: int = 3, past: Any = PAST) -> Life:
    data = dict(charges(n, top_s=600.0, top_ah=PACK.nominal_ah / 4).data)
    heard = oracle.hear(np.zeros(n, np.int32), data)
    rows = np.arange(n)
    return oracle.say(heard, rows, data["end_ns"], np.full(n, 76.0), np.full(n, std), [past] * n)


def test_what_is_not_sure_of_the_packs_own_health_widens_the_interval(model: Model) -> None:
    sure, unsure = (say(TrainedOracle(Served(model, None), PACK), std) for std in (1e-6, 0.03))
    assert (sure.left == unsure.left).all()
    assert (unsure.low < sure.low).all()
    assert (unsure.high > sure.high).all()
    assert (unsure.soh_high - unsure.soh_low >= 2 * 1.645 * 0.03 - 1e-9).all()
    assert sure.sha.tolist() == [model.sha] * 3
    assert sure.beside_sha.tolist() == [""] * 3


def test_without_a_model_before_its_time_or_without_a_history_there_is_no_number(model: Model) -> None:
    late = replace(model, about=replace(model.about, valid_from_ns=2**62))
    cases = (
        (Oracle(), PAST, NO_MODEL),
        (TrainedOracle(Served(late, late), PACK), PAST, NOT_YET),
        (TrainedOracle(Served(model, model), PACK), (PAST[0][:1], PAST[1][:1]), SHORT),
    )
    for oracle, past, reason in cases:
        said = say(oracle, past=past)
        assert said.reason.tolist() == [reason] * 3
        assert np.isnan([said.left, said.low, said.high, said.beside]).all()
        assert (said.sha == "").all()
        assert (said.beside_sha == "").all()


def test_a_restart_goes_on_with_what_charges_said(model: Model) -> None:
    first, second = (TrainedOracle(Served(model, model), PACK) for _ in range(2))
    say(first)
    second.load(first.dump())
    for name in ("left", "low", "beside"):
        assert getattr(say(first), name).tobytes() == getattr(say(second), name).tobytes()


def test_a_model_of_health_is_none_of_life(tmp_path: Path) -> None:
    other = trained(tmp_path, fading())
    registry._write(tmp_path, {other.about.name: {"champion": other.sha, "challenger": None, "before": []}})
    with pytest.raises(ConfigError, match=r"prognostics.life must be one of cycles left"):
        oracles(tmp_path, other.about.name)
