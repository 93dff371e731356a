"""Models that were trained on cells of the laboratory speak in the flow, of packs whose lives they never saw."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bytewax.testing import TestingSink, TestingSource, run_main

from flows.judge import _FULL_V, COLUMNS, judges
from flows.oracle import oracles
from flows.prognosis import future, learn, registry, rul, soh
from flows.prognosis.charges import Charges, gather, read_sets
from flows.prognosis.model import About, Model, save
from flows.prognostics import build
from operators.session_records import full_v
from operators.session_step import SESSIONS
from schemas.events import Item, Rows
from schemas.pack import load_pack
from tests.support.frames import T0_NS
from tests.support.sessions import MODEL, NEW_AH, charges, cut

PACK = load_pack(MODEL)
DAY_NS = 86_400 * 10**9
T0_S = T0_NS / 1e9
FIELD = (2, 6, 10)  # of the cells: lives of the protocols that the others went through too
CELLS_FIELD = len(FIELD)


@pytest.fixture(scope="module")
def lab(data_dir: Path) -> Charges:
    """Every third cell of the set XJTU, in the columns that the field has too."""
    whole = read_sets(data_dir, ["XJTU"])["XJTU"]
    columns = [k for k, name in enumerate(whole.columns) if name in COLUMNS]
    whole = replace(whole, columns=tuple(whole.columns[k] for k in columns), x=whole.x[:, columns])
    return whole.take(np.isin(whole.cell, np.arange(0, len(whole.cells), 3)))


def part(lab: Charges, cells: Any, every: int = 1) -> Charges:
    one = lab.take(np.isin(lab.cell, cells) & (lab.nth() % every == 0))
    return gather(one.set, np.array(one.cells)[one.cell], one.cycle, one.columns, one.x, one.capacity_ah)


def train(out: Path, known: Charges, seed: int) -> tuple[Model, Model]:
    """Train a model of health and one of life, their intervals on two folds where `ibms train` takes five."""
    about = partial(
        About, set=known.set, inputs="count", columns=known.columns, nominal_ah=known.nominal_ah, seed=seed,
        valid_from_ns=0,
    )  # fmt: skip
    fold = (known.cell % 2).astype(np.int64)
    job, lives = soh.task(known, "count"), rul.lives(known)
    interval = learn.fit_interval(soh.held_out(job, fold[job.rows], seed), job.soh, job.cell)
    of_health = about("soh", features=job.names, reference_every=50, eol_soh=0.0)
    health = save(out, of_health, learn.fit(job.x, job.soh, job.cell, seed), interval)
    found = rul.held_out(lives, fold[lives.rows], seed)
    fitted = rul.fit(lives, np.ones(len(lives.cell), np.bool_), seed)
    of_life = about("rul", features=future.names(lives.charge_names), reference_every=0, eol_soh=fitted.fleet.eol_soh)
    interval = learn.fit_interval(found.fused, np.log(lives.left), lives.cell)
    return health, save(out, of_life, fitted.blend, interval, fitted.fleet)


@pytest.fixture(scope="module")
def models(lab: Charges, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[Model, Model]]]:
    """Champion and challenger of each kind: the second learned from fewer cells."""
    out = tmp_path_factory.mktemp("models")
    learned = np.delete(np.unique(lab.cell), FIELD)
    first = train(out, part(lab, learned, 3), 1)
    second = train(out, part(lab, learned[::2], 4), 2)
    pairs = {one.about.name: (one, other) for one, other in zip(first, second, strict=True)}
    places: Any = {n: {"champion": a.sha, "challenger": b.sha, "before": []} for n, (a, b) in pairs.items()}
    registry._write(out, places)
    return out, pairs


def field(lab: Charges) -> tuple[Rows, np.ndarray]:
    """Give whole lives of cells that nobody learned from as charges and drives of packs, a cycle a day; and their ends.

    A pack holds what the cell held, in proportion, and each charge has the cell's curve at the pack's size.
    """
    one = part(lab, np.unique(lab.cell)[list(FIELD)])
    size, start = PACK.nominal_ah / one.nominal_ah, np.repeat(one.nth(), 2)
    shift = dict(_FULL_V)["XJTU"] - full_v(PACK)
    curve: dict[str, Any] = {"top_s": 1.0}
    for k, name in enumerate(one.columns):
        source, grows = COLUMNS[name]
        values = one.x[:, k] * (size if grows else 1.0) - (shift if name == "voltage_mean" else 0.0)
        curve[source] = np.repeat(values, 2)
    ah = np.repeat(one.soh * NEW_AH, 2)
    charging = np.arange(ah.size) % 2 == 0
    moved = 0.95 * ah
    rows = charges(
        ah.size, ah, pack=np.repeat(one.cell, 2), packs=tuple(f"P{k}" for k in range(CELLS_FIELD)),
        soc_start=np.where(charging, 0.03, 0.98), soc_end=np.where(charging, 0.98, 0.03), charge=charging,
        charge_in_ah=np.where(charging, moved, 0.0), charge_out_ah=np.where(charging, 0.0, moved), **curve,
    )  # fmt: skip
    end = rows.data["end_ns"][0] + (2 * start + ~charging) * DAY_NS // 2
    data = {**rows.data, "end_ns": end, "start_ns": end - DAY_NS // 8}
    data["id"] = np.array([f"{p}-{t}" for p, t in zip(rows.pack.tolist(), end.tolist(), strict=True)])
    order = np.lexsort((rows.pack, end))
    whole = Rows(SESSIONS, MODEL, rows.packs, rows.vehicles, rows.pack[order], {k: v[order] for k, v in data.items()})
    return whole, np.array([one.cycle[one.cell == k].max() for k in range(CELLS_FIELD)])


def run(items: list[Item], models: Path, pairs: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = {name.split("/")[0]: name for name in pairs}
    judge, of_health = judges(models, names["soh"])
    oracle, of_life = oracles(models, names["rul"])
    out: list[Any] = []
    trained = f"{of_health},{of_life}"
    run_main(build(TestingSource(items), TestingSink(out), (MODEL,), judge=judge, oracle=oracle, trained=trained))
    tables: dict[str, list[dict[str, Any]]] = {}
    for _, (table, batch) in out:
        tables.setdefault(table, []).extend(batch.to_pylist())
    return tables


@pytest.fixture(scope="module")
def told(lab: Charges, models: Any) -> tuple[dict[str, list[dict[str, Any]]], np.ndarray]:
    rows, ends = field(lab)
    return run([rows], *models), ends


def test_champion_and_challenger_of_health_speak_side_by_side_of_cells_they_never_saw(told: Any, models: Any) -> None:
    (champion, challenger), health = models[1]["soh/XJTU/count"], told[0]["health"]
    assert {row["soh_model_sha"] for row in health} == {champion.sha}
    assert {row["soh_beside_sha"] for row in health} == {challenger.sha}
    truth = np.array([row["capacity_ah"] for row in told[0]["evidence"]]) / NEW_AH
    said, beside = (np.array([row[k] for row in health]) for k in ("soh_model", "soh_beside"))
    assert np.mean(np.abs(said - truth) / truth) < 0.04
    assert np.mean(np.abs(beside - truth) / truth) < 0.05
    assert (said != beside).any()


def test_a_life_is_told_each_week_with_interval_trajectory_and_the_hash_of_who_says_it(told: Any, models: Any) -> None:
    champion, challenger = models[1]["rul/XJTU/count"]
    first = [row for row in told[0]["forecasts"] if row["left_cycles"] is None]
    assert {row["reason"] for row in first} == {"short_history"}
    assert len(first) == CELLS_FIELD
    inside, off = [], []
    for row in told[0]["forecasts"]:
        if row["left_cycles"] is None:
            continue
        assert (row["model_sha"], row["beside_sha"], row["reason"]) == (champion.sha, challenger.sha, "")
        assert row["left_low"] < row["left_cycles"] < row["left_high"]
        assert row["left_beside"] > 0
        low, middle, high = (np.array(row[k]) for k in ("soh_at_low", "soh_at", "soh_at_high"))
        assert (low <= middle).all()
        assert (middle <= high).all()
        assert len(row["at_cycles"]) == len(middle) == 11
        end = told[1][int(row["pack_id"][1:])] * row["cycles"] / max((row["t_ns"].timestamp() - T0_S) / 86_400, 1.0)
        inside.append(row["left_low"] <= end - row["cycles"] <= row["left_high"])
        if 0.3 < row["cycles"] / end < 0.8:
            off.append(abs(row["left_cycles"] + row["cycles"] - end) / end)
    assert len(inside) > 60
    assert np.mean(inside) > 0.85
    assert np.mean(off) < 0.2


@pytest.mark.parametrize("size", [37])
def test_what_models_say_does_not_depend_on_how_sessions_came(lab: Charges, models: Any, told: Any, size: int) -> None:
    rows, _ = field(lab)
    pieces = run([cut(rows, k, min(k + size, len(rows))) for k in range(0, len(rows), size)], *models)
    for table in ("health", "forecasts"):
        assert sorted(map(str, pieces[table])) == sorted(map(str, told[0][table])), table


def test_without_a_model_a_forecast_says_so_and_gives_no_number(lab: Charges) -> None:
    out: list[Any] = []
    run_main(build(TestingSource([cut(field(lab)[0], 0, 60)]), TestingSink(out), (MODEL,)))
    said = [row for _, (table, batch) in out if table == "forecasts" for row in batch.to_pylist()]
    assert {row["reason"] for row in said} == {"no_model"}
    assert all(row["left_cycles"] is None and row["model_sha"] == "" for row in said)
