"""The prognostics flow as a whole: what comes out does not depend on how sessions came in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

from flows.prognostics import build, take
from schemas.events import Item, Rows
from tests.support.sessions import CELLS, MODEL, charges, cut


@pytest.fixture(scope="module")
def sessions() -> list[Rows]:
    """Three vehicles; the pack of the first goes into the second halfway, the third's pack has an id and moves on."""
    draw = np.random.default_rng(3)
    own = draw.normal(0, 0.03, (3, CELLS))
    packs, n = ("V1", "V2", "P9"), 60
    pack = np.arange(n) % 3
    cells = own[pack] + draw.normal(0, 0.004, (n, CELLS))
    moved = (np.arange(n) >= 30) & (pack == 1)
    cells[moved] = own[0] + draw.normal(0, 0.004, (moved.sum(), CELLS))
    rows = charges(n, 54 * draw.normal(1, 0.02, n), pack=pack, packs=packs, vehicles=("V1", "V2", "V3"), cells=cells,
                   gap_max_s=draw.choice([30.0, 900.0], n))  # fmt: skip
    keep = np.flatnonzero(~((np.arange(n) >= 30) & (pack == 0)))  # the first vehicle falls silent
    rows = take(rows, keep)
    half = int((keep < 30).sum())
    second = cut(rows, half, len(rows))
    return [
        cut(rows, 0, half),
        Rows(second.table, second.model, second.packs, ("V1", "V2", "V4"), second.pack, second.data),
    ]


def records(items: list[Item], shards: int, *, workers: int = 1) -> list[str]:
    out: list[Any] = []
    flow = build(TestingSource(items), TestingSink(out), (MODEL,), shards=shards)
    if workers == 1:
        run_main(flow)
    else:
        cluster_main(flow, [], 0, worker_count_per_proc=workers)
    return sorted(f"{table} {row}" for _, (table, batch) in out for row in batch.to_pylist())


def pieces(sessions: list[Rows], size: int) -> Iterator[Item]:
    for rows in sessions:
        for k in range(0, len(rows), size):
            yield cut(rows, k, min(k + size, len(rows)))


@pytest.mark.parametrize(("size", "shards", "workers"), [(1, 16, 1), (7, 1, 1), (100, 4, 2)])
def test_records_do_not_depend_on_cuts_shards_or_workers(
    sessions: list[Rows], size: int, shards: int, workers: int
) -> None:
    expected = records(list(sessions), 16)
    assert len(expected) > 80
    assert records(list(pieces(sessions, size)), shards, workers=workers) == expected


def test_a_packs_history_goes_with_it_by_its_id_and_by_its_cells(sessions: list[Rows]) -> None:
    out: list[Any] = []
    run_main(build(TestingSource(list(sessions)), TestingSink(out), (MODEL,)))
    health = [row for _, (table, batch) in out if table == "health" for row in batch.to_pylist()]
    for pack, vehicles in {"P9": {"V3", "V4"}, "V1": {"V1", "V2"}}.items():
        mine = [row for row in health if row["pack_id"] == pack]
        assert {row["vehicle_id"] for row in mine} == vehicles
        counted = [row["accepted"] + row["rejected"] for row in mine]
        assert counted == list(range(1, len(mine) + 1)), "its charges are counted on, not from the beginning"


def test_every_record_says_what_made_it(sessions: list[Rows]) -> None:
    out: list[Any] = []
    run_main(build(TestingSource(list(sessions)), TestingSink(out), (MODEL,), trained="abc"))
    assert {table for _, (table, _) in out} == {"evidence", "forecasts", "health", "identity", "incidents", "twins"}
    for _, (_, batch) in out:
        made = {tuple(row[k] for k in ("params", "models")) for row in batch.to_pylist()}
        assert made == {("prognostics-4", "abc")}
        assert all(row["pack_file"] and row["code_version"] for row in batch.to_pylist())
