"""Champion and challenger: who may be promoted, what a rollback gives back, and what the files keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.prognosis import card
from flows.prognosis.registry import challenge, champion_and_challenger, places, promote, rollback, run_list
from schemas.checked import ConfigError
from tests.support.charges import fading, trained

NAME = "soh/SET/charge"


def candidate(models: Path, seed: int, error: float, gate: tuple[str, ...] = (), data: str = "d") -> str:
    sha = trained(models, fading(6, 40), seed=seed).sha
    contents: dict[str, Any] = {
        "model": sha,
        "name": NAME,
        "data": {"hash": data},
        "metrics": {"error_pct": error, "interval_90_covers_mean_of_cells_pct": 90.0},
        "gate": list(gate),
    }
    card.write(models / sha, contents)
    challenge(models, NAME, sha)
    return sha


def test_a_challenger_runs_beside_the_champion_until_it_is_promoted(tmp_path: Path) -> None:
    first, second = candidate(tmp_path, 1, 1.0), candidate(tmp_path, 2, 0.9)
    assert promote(tmp_path, first) == f"{first} is now the champion of {NAME}"
    challenge(tmp_path, NAME, second)
    assert [m.sha for m in champion_and_challenger(tmp_path, NAME) if m] == [first, second]
    promote(tmp_path, second)
    champion, challenger = champion_and_challenger(tmp_path, NAME)
    assert champion is not None
    assert champion.sha == second
    assert challenger is None


def test_a_rollback_gives_the_place_to_the_champion_before(tmp_path: Path) -> None:
    first, second = candidate(tmp_path, 1, 1.0), candidate(tmp_path, 2, 0.9)
    promote(tmp_path, first)
    with pytest.raises(ConfigError, match="must have had a champion before this one; got none"):
        rollback(tmp_path, NAME)
    promote(tmp_path, second)
    assert rollback(tmp_path, NAME) == f"{first} is the champion of {NAME} again"
    assert places(tmp_path)[NAME] == {"champion": first, "challenger": second, "before": []}
    with pytest.raises(ConfigError, match=f"NAME must be one of {NAME}; got soh/X"):
        rollback(tmp_path, "soh/X")


def test_a_model_whose_gate_is_shut_is_refused(tmp_path: Path) -> None:
    sha = candidate(tmp_path, 1, 1.0, gate=("linear is as good: 1.0 against 1.0 % MAPE",))
    with pytest.raises(ConfigError, match="must pass its gate; got linear is as good"):
        promote(tmp_path, sha)
    assert champion_and_challenger(tmp_path, NAME)[0] is None


def test_a_model_worse_than_its_champion_on_the_same_cells_is_refused(tmp_path: Path) -> None:
    first, worse, elsewhere = (candidate(tmp_path, i, e, data=d) for i, e, d in ((1, 1, "d"), (2, 2, "d"), (3, 2, "e")))
    promote(tmp_path, first)
    with pytest.raises(ConfigError, match=r"must not be worse than its champion; got 2\.000 against 1\.000 %"):
        promote(tmp_path, worse)
    promote(tmp_path, elsewhere)  # judged on other cells: nothing to compare


def test_promoting_twice_changes_nothing(tmp_path: Path) -> None:
    sha = candidate(tmp_path, 1, 1.0)
    promote(tmp_path, sha)
    was = places(tmp_path)
    assert "already" in promote(tmp_path, sha)
    assert places(tmp_path) == was


def test_the_list_says_every_models_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = candidate(tmp_path, 1, 1.0), candidate(tmp_path, 2, 0.9)
    promote(tmp_path, first)
    challenge(tmp_path, NAME, second)
    run_list(tmp_path, as_json=True)
    assert {c["model"]: c["place"] for c in json.loads(capsys.readouterr().out)} == {
        first: "champion",
        second: "challenger",
    }
    run_list(tmp_path, as_json=False)
    assert "open" in capsys.readouterr().out


def test_what_is_no_directory_of_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--models must be a directory"):
        places(tmp_path / "none")
    (tmp_path / "champions.json").write_text('{"a": 1}')
    with pytest.raises(ConfigError, match="places must be as"):
        places(tmp_path)
    with pytest.raises(ConfigError, match="a model must be a folder made by"):
        promote(tmp_path, "0123")
