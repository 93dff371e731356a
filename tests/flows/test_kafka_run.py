"""A run's sinks are named after its recovery store, and only declared pack models come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.kafka_run import only, store_name
from schemas.pack import PackError


def test_a_store_keeps_its_name_and_shares_it_with_no_other(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert store_name(a) == store_name(a)
    assert store_name(a) != store_name(b)
    assert [p.name for p in a.iterdir()] == ["store-id"]


def test_without_a_store_the_name_is_fixed() -> None:
    assert store_name(None) == store_name(None)


def test_only_declared_models_are_loaded() -> None:
    load = only(["generic-nmc@4c2t60ah"])
    assert load("generic-nmc@4c2t60ah").series == 4
    with pytest.raises(PackError, match=r"one of source\.models \(generic-nmc@4c2t60ah\); got 'generic-lfp@4c2t60ah'"):
        load("generic-lfp@4c2t60ah")
