"""How long a cell lives: what beats doing without a model, what an unfinished record says, what a law gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.prognosis import history, rul, soh
from flows.prognosis.charges import Charges
from flows.prognosis.features import LeakError
from flows.prognosis.split import by_cell
from schemas.checked import ConfigError
from tests.support.charges import ending


@pytest.fixture(scope="module")
def charges() -> Charges:
    return ending(18)


@pytest.fixture(scope="module")
def job(charges: Charges) -> rul.Lives:
    return rul.lives(charges)


def test_a_model_of_life_beats_doing_without_one(charges: Charges, job: rul.Lives) -> None:
    fold = by_cell(charges, 1)[job.rows]
    found = rul.metrics(job, fold, rul.held_out(job, fold, 1))
    assert found["mape_pct"] < 12 < found["linear_mape_pct"]
    assert found["end_at_mid_life_error_pct"] < 6 < found["linear_end_at_mid_life_error_pct"]
    assert found["interval_90_covers_pct"] >= 80, "of 18 cells"
    assert not [why for why in soh.gate(found) if "as good" in why]


def test_what_is_said_of_a_life_does_not_depend_on_what_comes_later(charges: Charges, job: rul.Lives) -> None:
    fleet = rul.fleet_of(job, job.cell > 2)
    at = int(np.flatnonzero(job.cell == 0)[10])
    later = (charges.cell == 0) & (charges.cycle > job.cycle[at])
    bent = charges.capacity_ah.copy()
    bent[later] *= 0.97
    other = rul.lives(replace(charges, capacity_ah=bent))
    cycle, soh_ = other.histories[0]
    past = np.flatnonzero(cycle <= job.cycle[at])
    assert np.array_equal(soh_[past], job.past(at)[1])
    said = [history.of_history(h[0][past], h[1][past], fleet.eol_soh) for h in (other.histories[0], job.histories[0])]
    assert np.array_equal(said[0], said[1])


def test_a_record_that_was_broken_off_is_no_life(charges: Charges) -> None:
    short = charges.take(np.flatnonzero((charges.cell != 0) | (charges.nth() < 60)))
    found = rul.lives(short)
    assert found.censored == 1
    assert 0 not in found.histories


def test_without_two_lives_nothing_is_learned(charges: Charges) -> None:
    with pytest.raises(LeakError, match="two or more that reach"):
        rul.lives(charges.take(np.flatnonzero(charges.nth() < 60)))


def test_models_of_life_are_trained_served_and_named(tmp_path: Path, charges: Charges) -> None:
    from flows.prognosis.serve import follow_charges, new_state, predict_rul, served, served_by_hash
    from flows.prognosis.train import TrainOptions, train_rul

    card = train_rul(charges, TrainOptions(tmp_path, tmp_path, (), "count", 1, 0))
    assert card["name"] == "rul/SET/count"
    assert card["metrics"]["censored"] == 0
    with pytest.raises(ConfigError, match="got rul/SET/count, champions are none yet"):
        served(tmp_path, "rul/SET/count")
    model = served_by_hash(tmp_path, card["model"])
    rows = np.flatnonzero((charges.cell < 2) & (charges.nth() < 100))
    seen = charges.take(rows)
    state = new_state(model, 2)
    followed = follow_charges(model, state, seen.cell, seen.x, np.full(len(seen), np.nan))
    last = np.array([99, 199])
    past = [(seen.cycle[:100], seen.soh[:100]), (seen.cycle[100:101], seen.soh[100:101])]
    said = predict_rul(model, followed[last], seen.cycle[last], past)
    assert said.sha == card["model"]
    assert said.low[0] < said.left[0] < said.high[0]
    assert np.isnan(said.left[1]), "one charge is no history"
    again = predict_rul(model, followed[last[:1]], seen.cycle[last[:1]], past[:1])
    assert again.left[0] == said.left[0], "a row does not depend on the rows beside it"
    assert np.array_equal(again.soh[0], said.soh[0])
