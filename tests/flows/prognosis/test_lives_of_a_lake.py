"""Lives that a lake has seen to their end teach a model which tells younger packs theirs: every step as typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.prognosis import card
from schemas.events import Session
from schemas.pack import load_pack
from sinks import ducklake
from tests.flows.test_session_rows import MODEL, session
from tests.support.commands import Ibms, make_lake

_DAYS = 10  # between charges: twenty percent in some years, as packs age
_SWING = 0.5
_LIVES = (80, 200)  # charges
PACK = load_pack(MODEL)
OLD, YOUNG = 20, 4


def lives(first: int, packs: int, until: float, after: int = 0) -> Iterator[Session]:
    """Give the charges of packs that fade with a knee, up to a share of their lives, from charge `after` of all on."""
    draw = np.random.default_rng([7, first])
    for p in range(first, first + packs):
        whole = charges_of(p)
        for n in range(int(until * whole)):
            u = (n + 1) / whole
            soh = 1.0 - 0.2 * (0.45 * u**0.8 + 0.55 * np.exp(8.0 * (u - 1.0)))
            ah = soh * PACK.usable_ah
            plain: dict[str, Any] = {
                "soc_start": 0.3, "soc_end": 0.3 + _SWING, "soc_start_std": 0.01, "soc_end_std": 0.01,
                "charge_in_ah": ah * _SWING * draw.normal(1.0, 0.01), "charge_out_ah": 0.0, "capacity_ah": ah,
                "capacity_low_ah": ah, "temp_mean_c": 25.0, "gap_max_s": 30.0, "soc_jump": 0.001, "r0_rel": 1.0,
                "current_offset_a": 0.0, "current_offset_std_a": 0.0, "top_s": 600.0,
                "top_ah": PACK.usable_ah * (np.exp(5.0 * (soh - 1.0)) + draw.normal(0, 0.02)),
            }  # fmt: skip
            yield session((after + n) * 24 * _DAYS, f"P{p:02d}", **plain)


def charges_of(pack: int) -> int:
    """Say how long a pack lives, in charges."""
    return int(np.random.default_rng([3, pack]).integers(*_LIVES))


def test_lives_in_a_lake_are_learned_promoted_and_told_to_younger_packs(
    tmp_path: Path, ibms: Ibms, *, thorough: bool
) -> None:
    if not thorough:
        pytest.skip("half a minute: just lives, or --thorough")
    old, young, models = tmp_path / "old", tmp_path / "young", tmp_path / "models"
    make_lake(old, list(lives(0, OLD, 1.0)))
    assert f"{OLD} packs" in ibms("run", "prognostics", "--lake", str(old)).out
    ran = ibms("train", "rul", "--lake", str(old), "--out", str(models))
    assert ran.code == 0, ran.err
    (sha,) = (folder.name for folder in models.iterdir() if folder.is_dir())
    said = card.read(models / sha)
    assert said["data"]["source"] == "lake"
    assert said["metrics"]["lives"] == OLD
    assert said["metrics"]["mape_pct"] < 10 < said["metrics"]["linear_mape_pct"]
    ran = ibms("models", "promote", sha, "--models", str(models))
    assert ran.code == 0, ran.err
    # what a model learned ends with the newest life: it speaks of what comes after
    make_lake(young, list(lives(OLD, YOUNG, 0.6, after=_LIVES[1])))
    ibms("run", "prognostics", "--lake", str(young), "--models", str(models), "--life", f"rul/{MODEL}/count")
    with ducklake.attach(young) as con:
        told = con.execute(
            "SELECT pack_id, cycles, left_cycles, left_low, left_high, model_sha FROM forecast_latest ORDER BY 1"
        ).fetchall()
    assert [row[0] for row in told] == [f"P{p}" for p in range(OLD, OLD + YOUNG)]
    assert {row[5] for row in told} == {sha}
    for pack, cycles, left, low, high, _ in told:
        # charges move less as a pack fades: SOH is 0.95 to here and 0.89 from here on, in the mean
        whole = charges_of(int(pack[1:]))
        true = cycles / int(0.6 * whole) * (whole - int(0.6 * whole)) * 0.89 / 0.95
        assert low < true < high
        assert left == pytest.approx(true, rel=0.35)
