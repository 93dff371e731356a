"""A card: the same data have the same hash, and what was spent is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.prognosis.card import cost_of_one, data_of, read, spending
from schemas.checked import ConfigError
from tests.support.charges import fading


def test_the_hash_of_data_is_that_of_their_contents() -> None:
    charges = fading(4, 10)
    assert data_of(charges) == data_of(fading(4, 10))
    assert data_of(charges)["cells"] == 4
    other = replace(charges, capacity_ah=charges.capacity_ah * 1.0001)
    assert data_of(charges)["hash"] != data_of(other)["hash"]


def test_work_costs_processor_time_and_memory() -> None:
    with spending() as spent:
        sum(i * i for i in range(300_000))
    assert spent["cpu_s"] > 0
    assert spent["energy_j"] > spent["cpu_s"]
    assert spent["peak_rss_mb"] > 10
    assert cost_of_one(lambda: bytearray(200_000), 3)["allocates_kb"] > 190


def test_a_model_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a model must have its card; got"):
        read(tmp_path)
    (tmp_path / "card.json").write_text('{"model": "x"}')
    with pytest.raises(ConfigError, match="a card must have name; got nothing"):
        read(tmp_path)
