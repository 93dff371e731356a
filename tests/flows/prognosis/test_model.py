"""A model's files: plain, named by their hash, and read as they were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flows.prognosis import learn
from flows.prognosis.blend import predict as predict_blend
from flows.prognosis.charges import Charges
from flows.prognosis.features import features
from flows.prognosis.future import Fleet
from flows.prognosis.model import FILES, load, matching, predict, save
from schemas.checked import ConfigError
from tests.support.charges import fading, trained

CHARGES = fading(6, 40)


def test_a_model_that_was_read_says_what_was_trained(tmp_path: Path) -> None:
    model = trained(tmp_path, CHARGES)
    load.cache_clear()
    read = load(str(tmp_path / model.sha))
    assert read is not model
    assert read.about == model.about
    x = features(CHARGES, "charge")
    said, again = (predict(m, x, np.zeros(len(x))) for m in (model, read))
    assert said.sha == read.sha == model.sha
    assert_array_equal(said.value, again.value)
    assert_array_equal(said.low, again.low)
    assert (said.low < said.value).all()
    assert (said.value < said.high).all()


def test_a_model_of_life_that_was_read_has_all_of_its_trees(tmp_path: Path) -> None:
    model, x = trained(tmp_path, CHARGES), features(CHARGES, "charge")
    x = np.nan_to_num(x)
    fleet = Fleet(np.zeros((2, 3)), 0.8, np.ones(1))
    blend = learn.fit_life(x, x[:, 0] + CHARGES.soh, CHARGES.cell, 1)
    read = save(tmp_path, replace(model.about, kind="rul"), blend, model.interval, fleet)
    assert read.blend.over_first is not None
    assert_array_equal(predict_blend(read.blend, x), predict_blend(blend, x))


def test_the_same_data_and_seed_make_the_same_hash_and_others_another(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", CHARGES).sha
    assert first == trained(tmp_path / "b", CHARGES).sha
    assert first != trained(tmp_path / "a", CHARGES, seed=2).sha
    assert first != trained(tmp_path / "a", fading(6, 40, seed=9)).sha


def test_a_row_is_predicted_as_it_is_among_others(tmp_path: Path) -> None:
    model, x = trained(tmp_path, CHARGES), features(CHARGES, "charge")
    together = predict(model, x, np.zeros(len(x)))
    for row in (0, 77):
        alone = predict(model, x[row : row + 1], np.zeros(1))
        assert (alone.value[0], alone.high[0]) == (together.value[row], together.high[row])


def test_charges_are_brought_into_the_order_of_the_models_columns(tmp_path: Path) -> None:
    model = trained(tmp_path, CHARGES)
    c = CHARGES
    other = Charges(
        c.set, c.nominal_ah, c.cells, c.protocols, c.cell, c.cycle, ("more", "q"), c.x[:, [1, 0]], c.capacity_ah
    )
    got = matching(model, other)
    assert got.columns == c.columns
    assert_array_equal(got.x[:, 0], c.x[:, 0])
    assert np.isnan(got.x[:, 1]).all()
    with pytest.raises(ConfigError, match="charges must have one of q, noise; got nothing"):
        matching(
            model, Charges("S", 1, ("a",), ("p",), c.cell[:1], c.cycle[:1], ("nothing",), c.x[:1, :1], c.cycle[:1])
        )


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_or_lost_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / trained(tmp_path, CHARGES).sha / name
    load.cache_clear()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="must have the hash of its name; got"):
        load(str(file.parent))
    file.unlink()
    with pytest.raises(ConfigError, match=rf"made by `ibms train`; got No such file or directory \(.*{name}\)"):
        load(str(file.parent))
