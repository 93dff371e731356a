"""Trained models that speak of field charges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.judge import FOREIGN_STD, TrainedJudge, judges, lab_columns
from flows.prognosis import registry
from flows.prognosis.model import Model
from flows.prognosis.serve import Served
from operators.session_records import full_v
from schemas.checked import ConfigError
from schemas.pack import load_pack
from tests.support.charges import fading, trained
from tests.support.sessions import MODEL, charges

PACK = load_pack(MODEL)
HALF = PACK.nominal_ah / 2.0 * 0.5  # of a pack whose laboratory cell of 2 Ah would take 0.5 Ah


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    lab = replace(fading(), columns=("cc_q", "cc_charge_time"))
    return trained(tmp_path_factory.mktemp("models"), lab)


def curve(n: int, **more: Any) -> dict[str, Any]:
    return dict(charges(n, top_s=600.0, top_ah=np.linspace(HALF, HALF * 0.8, n), **more).data)


def said(judge: TrainedJudge, data: dict[str, Any], start: int = 0, end: int | None = None) -> Any:
    part = {k: v[start:end] for k, v in data.items()}
    n = len(part["top_s"])
    return judge.judge(np.zeros(n, np.int32), part["end_ns"], part, np.arange(n, dtype=np.float64) * 0.5)


def test_field_charges_are_of_the_size_and_at_the_voltage_of_the_laboratory(model: Model) -> None:
    lab = lab_columns(model, PACK, curve(2))
    assert lab[0].tolist() == pytest.approx([0.5, 600.0])
    about = replace(model.about, set="XJTU", columns=("voltage_mean",))
    volts = lab_columns(replace(model, about=about), PACK, curve(1, top_v_mean=full_v(PACK) - 0.1))
    assert volts[0, 0] == pytest.approx(4.1)


def test_a_model_speaks_of_charges_that_came_near_full_and_is_less_sure_than_in_the_laboratory(model: Model) -> None:
    data = curve(6)
    data["top_s"][3] = 0.0
    got = said(TrainedJudge(Served(model, None), PACK), data)
    assert np.isnan(got.soh).tolist() == [False, False, False, True, False, False]
    assert (got.std[[0, 1, 2, 4, 5]] >= FOREIGN_STD).all()
    assert got.sha.tolist() == [model.sha] * 3 + [""] + [model.sha] * 2


def test_what_a_model_says_does_not_depend_on_cuts_or_restarts(model: Model) -> None:
    data = curve(40)
    whole = said(TrainedJudge(Served(model, model), PACK), data)
    first, second = (TrainedJudge(Served(model, model), PACK) for _ in range(2))
    parts = [said(first, data, 0, 13)]
    second.load(first.dump())
    parts.append(said(second, data, 13))
    for name in ("soh", "std", "beside"):
        joined = np.concatenate([getattr(p, name) for p in parts])
        assert joined.tobytes() == getattr(whole, name).tobytes(), name


def test_before_its_time_a_model_is_silent(model: Model) -> None:
    data = curve(4)
    late = replace(model, about=replace(model.about, valid_from_ns=int(data["end_ns"][1])))
    got = said(TrainedJudge(Served(late, None), PACK), data)
    assert np.isnan(got.soh).tolist() == [True, True, False, False]


def test_a_name_that_nobody_speaks_for_and_a_model_of_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a model must be promoted before it speaks"):
        judges(tmp_path, "soh/SET/count")
    other = trained(tmp_path, fading())
    registry._write(tmp_path, {other.about.name: {"champion": other.sha, "challenger": None, "before": []}})
    with pytest.raises(ConfigError, match="must have one of the columns voltage_mean"):
        judges(tmp_path, other.about.name)
