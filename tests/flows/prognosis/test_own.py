"""A lake's own history as a set: what is read of it, when it is too short, and a model of it that speaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.judge import judges
from flows.prognosis import card, own, registry
from flows.prognosis.features import features
from flows.prognosis.own import carried, read_lake, too_short
from schemas.arrow import SCHEMAS
from schemas.checked import ConfigError
from schemas.pack import load_pack
from sinks.lake import LakeSink
from tests.support.charges import ending, fading
from tests.support.commands import Ibms
from tests.support.frames import NS, T0_NS

MODEL = "generic-nmc@4c2t60ah"
PACK = load_pack(MODEL)
DAY_NS = 86_400 * NS


def _batch(table: str, columns: dict[str, Any], n: int) -> pa.RecordBatch:
    every = {
        name: [value] * n if isinstance(value, str | int | float | bool) else value for name, value in columns.items()
    }
    made = [pa.array(every[f.name]).cast(f.type) if f.name in every else pa.nulls(n, f.type) for f in SCHEMAS[table]]
    return pa.RecordBatch.from_arrays(made, schema=SCHEMAS[table])


def _lake(folder: Path, packs: int, n: int) -> Path:
    """Write charges of packs that fade, every other of them counted, the first five not yet sure."""
    lab = fading(packs, n, noise=0.0005)
    nth, who = lab.nth(), [f"car-{c}" for c in lab.cell.tolist()]
    end = T0_NS + nth * DAY_NS
    session = [f"{w}-{k}" for w, k in zip(who, nth.tolist(), strict=True)]
    plain = {"pack_id": who, "vehicle_id": who, "model": MODEL, "revision": 0}
    sessions = {"id": session, "kind": "charge", "start_ns": end - DAY_NS // 8, "end_ns": end, "frames": 100}
    sessions |= {"provisional": False, "withdrawn": False, "top_s": 600.0, "top_ah": lab.x[:, 0] * PACK.nominal_ah}
    health = {"session_id": session, "t_ns": end, "cycles": lab.cycle, "soh_capacity": lab.soh, "pack_hash": 1}
    health |= {"soh_capacity_std": np.where(nth < 5, 0.1, 0.02)}
    evidence = {"session_id": session, "t_ns": end, "accepted": nth % 2 == 0, "pack_hash": 1, "reason": ""}
    part = LakeSink(folder, "made", recovery=False).build_part("lake", "lake", None)
    for table, more in (("sessions", sessions), ("health", health), ("evidence", evidence)):
        part.write_batch([(table, _batch(table, plain | more, len(lab)))])
    part.snapshot()
    part.close()
    return folder


def test_packs_are_cells_and_only_what_counted_and_is_sure_is_a_capacity(tmp_path: Path) -> None:
    found = read_lake(_lake(tmp_path / "lake", own.PACKS, 40), "soh")
    assert list(found) == [MODEL]
    charges = found[MODEL].charges
    assert found[MODEL].until_ns == T0_NS + 39 * DAY_NS
    assert (len(charges.cells), len(charges), charges.columns) == (
        own.PACKS,
        own.PACKS * 40,
        ("cc_q", "cc_charge_time"),
    )
    nth = charges.nth()
    assert (np.isfinite(charges.soh) == ((nth % 2 == 0) & (nth >= 5))).all()
    lab = fading(own.PACKS, 40, noise=0.0005)
    order = np.argsort([f"car-{k}" for k in range(own.PACKS)])
    mine = lab.soh[lab.cell == order[3]]
    known = np.isfinite(charges.soh[charges.cell == 3])
    assert charges.soh[charges.cell == 3][known] == pytest.approx(mine[known], abs=1e-6)
    assert features(charges, "count").shape[0] == len(charges)


def test_a_history_that_is_too_short_says_how_much_there_is_and_how_much_is_needed(tmp_path: Path, ibms: Ibms) -> None:
    lake = _lake(tmp_path / "lake", 4, 35)
    ran = ibms("train", "soh", "--lake", str(lake), "--out", str(tmp_path / "models"))
    assert ran.code == 2
    assert "10 packs with 30 charges and 10 capacities known to 0.04 each are needed, there are 4 of 4" in ran.error
    assert "the most that one has are 35 and 15" in ran.error
    ran = ibms("train", "rul", "--lake", str(lake), "--out", str(tmp_path / "models"))
    assert "5 packs with 50 charges down to an SOH of 0.87 are needed, there are 0 of 4" in ran.error
    assert (
        "--set must be a pack model with charges in the lake"
        in ibms("train", "soh", "--lake", str(lake), "--set", "leaf").error
    )
    assert "one of --data and --lake must be given; got neither" in ibms("train", "soh").error
    assert (
        "must be charge or count with --lake"
        in ibms("train", "soh", "--lake", str(lake), "--inputs", "reference").error
    )


def test_lives_are_long_enough_where_they_reached_their_end_and_capacities_are_carried_on() -> None:
    lives = ending(own.LIVES)
    assert too_short(lives, "rul") == ""
    assert "4 of 4" in too_short(ending(4), "rul")
    holes = lives.capacity_ah.copy()
    holes[(lives.nth() % 3 != 1)] = np.nan
    filled = carried(replace(lives, capacity_ah=holes))
    assert np.isfinite(filled.capacity_ah).all()
    assert len(filled) == len(lives) - own.LIVES, "the first charge of each pack has no capacity before it"
    assert filled.capacity_ah[:3].tolist() == [lives.capacity_ah[1]] * 3


def test_a_model_of_own_history_has_its_source_on_its_card_and_speaks_of_what_comes_after(
    tmp_path: Path, ibms: Ibms
) -> None:
    lake, models = _lake(tmp_path / "lake", own.PACKS, own.CHARGES), tmp_path / "models"
    ran = ibms("train", "soh", "--lake", str(lake), "--out", str(models))
    assert ran.code == 0, ran.err
    (folder,) = (f for f in models.iterdir() if f.is_dir())
    said = card.read(folder)
    assert said["data"]["source"] == "lake"
    assert said["data"]["cells"] == own.PACKS
    assert said["split"]["by"] == "pack"
    assert said["metrics"]["mape_pct"] < said["metrics"]["dummy_mean_mape_pct"]
    name = f"soh/{MODEL}/count"
    registry._write(models, {name: {"champion": said["model"], "challenger": None, "before": []}})
    make, sha = judges(models, name)
    assert sha == said["model"]
    judge = make(PACK)
    assert judge is not None
    assert registry.champion_and_challenger(models, name)[0].about.valid_from_ns == T0_NS + 29 * DAY_NS  # type: ignore[union-attr] # is there


def test_a_lake_without_judged_charges_is_refused(tmp_path: Path) -> None:
    LakeSink(tmp_path / "lake", "made", recovery=False).build_part("lake", "lake", None).close()
    with pytest.raises(ConfigError, match="charges that `ibms run prognostics` has judged; got none"):
        read_lake(tmp_path / "lake", "soh")
