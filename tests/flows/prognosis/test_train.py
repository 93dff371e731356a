"""Training by command: models with cards, as challengers; what leaks or lacks data is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.prognosis.model import load
from flows.prognosis.registry import places
from tests.support.charges import fading, write
from tests.support.commands import Ibms


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(fading(15, 120), folder / "soh_features")
    return folder


def test_a_trained_model_has_a_card_and_can_be_promoted(ibms: Ibms, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    ran = ibms("train", "soh", "--data", data, "--out", out, "--inputs", "charge")
    assert (ran.code, ran.err.strip()) == (0, "")
    sha = places(out)["soh/SET/charge"]["challenger"]
    assert sha in ran.out
    card = json.loads((out / sha / "card.json").read_text())
    assert card["gate"] == []
    assert card["metrics"]["error_pct"] < card["metrics"]["linear_mape_pct"]
    assert card["metrics"]["new_protocol_mape_pct"] > 0
    assert card["split"] == {"by": "cell, and protocol", "folds": 5, "seed": 1}
    assert card["data"]["cells"] == 15
    assert card["cost"]["training"]["cpu_s"] > card["cost"]["prediction"]["cpu_s"] > 0
    assert list(load(str(out / sha)).about.features) == card["features"]
    ran = ibms("models", "promote", sha, "--models", out)
    assert ran.out == f"{sha} is now the champion of soh/SET/charge\n"
    assert "champion" in ibms("models", "list", "--models", out).out
    ran = ibms("models", "rollback", "soh/SET/charge", "--models", out)
    assert (ran.code, ran.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--data", "nowhere"], "--data must be a directory with Parquet or CSV files of charges"),
        (["--data", "{data}", "--set", "XJTU"], "--set must be one of SET; got XJTU"),
        (["--data", "{data}", "--inputs", "all"], "must be one of charge, count, reference; got all"),
    ],
)
def test_a_wrong_argument_is_one_line(ibms: Ibms, data: Path, tmp_path: Path, typed: list[str], said: str) -> None:
    ran = ibms("train", "soh", "--out", tmp_path, *(t.format(data=data) for t in typed))
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_one_history_under_two_names_is_not_trained_on(ibms: Ibms, tmp_path: Path) -> None:
    charges = fading(10, 30)
    charges.x[30:60], charges.capacity_ah[30:60] = charges.x[:30], charges.capacity_ah[:30]
    write(charges, tmp_path)
    ran = ibms("train", "soh", "--data", tmp_path, "--out", tmp_path / "models")
    assert ran.code == 2
    assert "a history must lie in one fold" in ran.err
