"""A model of life carried to cells of which few lives are known."""

from __future__ import annotations

import numpy as np

from flows.prognosis import rul
from flows.prognosis.soh import mape_pct
from flows.prognosis.transfer import FEW, carry, gain, nearest, say
from tests.support.charges import ending


def test_what_is_carried_bends_to_lives_that_are_known() -> None:
    target, source = rul.lives(ending(10, seed=2, name="NEW")), rul.lives(ending(12, seed=3))
    known = np.isin(target.cell, np.unique(target.cell)[:FEW])
    model = carry(target, known, "SET", source, 1)
    assert model.source == "SET"
    off = mape_pct(np.exp(say(model, target))[~known], target.left[~known])
    dummy = np.exp(np.log(target.left[known]).mean())
    assert off < 0.5 * mape_pct(np.full((~known).sum(), dummy), target.left[~known])


def test_the_nearest_set_is_the_one_of_like_histories() -> None:
    target = rul.lives(ending(6, seed=2))
    like, faint = rul.lives(ending(6, seed=3)), rul.lives(ending(6, seed=4))
    faint = type(faint)(**{
        **{k: getattr(faint, k) for k in faint.__dataclass_fields__},
        "histories": {c: (n * 5.0, soh) for c, (n, soh) in faint.histories.items()},
        "cycle": faint.cycle * 5.0,
    })  # fmt: skip
    assert nearest(target, target.cell >= 0, {"faint": faint, "like": like}) == "like"


def test_the_gain_is_told_for_each_set_that_has_another() -> None:
    found = gain({"A-1": ending(7, seed=1, name="A-1"), "B": ending(7, seed=5, name="B")}, 1)
    assert set(found) == {f"{s}_rul_of_4_lives_{k}_pct" for s in ("a_1", "b") for k in ("alone", "carried")}
    assert all(0 < v < 100 for v in found.values())
    assert gain({"A": ending(7)}, 1) == {}
