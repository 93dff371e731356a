"""The Transformer: it learns, sees no later charge, and one seed gives one answer."""

from __future__ import annotations

import numpy as np
import pytest

from flows.prognosis.split import by_cell
from tests.support.charges import fading

pytest.importorskip("jax", reason="the extra `jax` is not installed")
from flows.prognosis import sequence

SMALL = sequence.SequenceConfig(tokens=4, apart=3, width=16, heads=2, layers=1, steps=120, batch=64)


def test_it_says_more_of_other_cells_than_their_mean() -> None:
    charges = fading(8, 60)
    fold = by_cell(charges, 1, folds=2)
    said, model = sequence.out_of_fold(SMALL, charges, fold, 1)
    assert np.abs(said - charges.soh).mean() < 0.5 * np.abs(charges.soh - charges.soh.mean()).mean()
    x, tokens = sequence.inputs(charges), sequence.tokens_of(SMALL, charges)
    some = np.array([70, 10])
    both = sequence.predict(model, x, tokens, some)
    assert sequence.predict(model, x, tokens, some[:1])[0] == pytest.approx(both[0], abs=1e-6)
    test = np.flatnonzero(fold == fold.max())  # of the fold that was the last to be tested
    again = sequence.fit(SMALL, x, tokens, charges.soh, np.flatnonzero(fold != fold.max()), 1)
    assert np.array_equal(said[test], sequence.predict(again, x, tokens, test))
    assert sequence.bytes_of(model) > 0


def test_a_token_is_of_the_same_cell_and_no_later() -> None:
    charges = fading(3, 20)
    tokens = sequence.tokens_of(SMALL, charges)
    assert tokens[0].tolist() == [-1, -1, -1, 0]
    assert tokens[25].tolist() == [-1, -1, 22, 25], "its cell begins at row 20"
    assert (tokens <= np.arange(60)[:, None]).all()


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"rate": -1.0}, {"width": 10, "heads": 4}])
def test_a_network_of_impossible_size_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        sequence.SequenceConfig(**wrong)  # type: ignore[arg-type]
