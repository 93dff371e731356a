"""Packs change vehicles: from frames through the estimator and both flows, history goes along and a swap is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows import fleet, prognostics
from flows.run import run_flow
from flows.session_rows import LakeSessions
from flows.settings import FleetSettings, RecoverySettings
from replay.simulate.fleet import FleetConfig, simulate, vehicle_id
from replay.source import ReplaySource, gather
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks import ducklake
from sinks.lake import LakeSink

MODEL = "generic-nmc@24c1t60ah"
DAYS, SWAP_DAY = 46.0, 22.0
DAY_NS = 86_400 * 10**9
ONE, TWO = vehicle_id(1), vehicle_id(2)


def swapped(blocks: list[FrameBlock], at_ns: int) -> list[FrameBlock]:
    """Give the frames with vehicles 1 and 2 carrying each other's packs from a time on; nobody says so."""
    out = []
    for block in blocks:
        late = block.t_ns >= at_ns
        for rows, names in ((~late, block.packs), (late, tuple({ONE: TWO, TWO: ONE}.get(p, p) for p in block.packs))):
            if rows.any():
                part = block.take(np.flatnonzero(rows))
                out.append(renamed(part, names))
    return out


def replaced(blocks: list[FrameBlock], at_ns: int) -> list[FrameBlock]:
    """Give vehicle 1 alone, which from a time on carries a pack that nobody has seen: that of vehicle 2."""
    out = []
    for block in swapped(blocks, at_ns):
        rows = np.array(block.packs)[block.pack] == ONE
        if rows.any():
            out.append(block.take(np.flatnonzero(rows)))
    return out


def renamed(block: FrameBlock, names: tuple[str, ...]) -> FrameBlock:
    """Give the same frames as those of other vehicles, whose packs have no ids of their own."""
    return replace(block, packs=names, vehicles=names)


def told(lake: Path, blocks: list[FrameBlock]) -> None:
    """Run both flows from frames to health."""
    sink, settings = LakeSink(lake, "fleet", recovery=False), FleetSettings(shards=2)
    run_flow(fleet.build(settings, ReplaySource(lambda: gather(blocks)), sink, (MODEL,)), RecoverySettings(), 2)
    sink = LakeSink(lake, "prognostics", recovery=False)
    run_flow(prognostics.build(LakeSessions(lake, load_pack), sink, (MODEL,)), RecoverySettings(), 16)


@pytest.fixture(scope="module")
def fleet_of_two() -> tuple[list[FrameBlock], int]:
    cfg = FleetConfig(2, 24.0 * DAYS, 30.0, (MODEL,), first=1)
    return [block for block, _ in simulate(cfg)], cfg.start_ns + round(SWAP_DAY * DAY_NS)


def test_two_packs_that_change_vehicles_take_their_history_along(
    fleet_of_two: tuple[list[FrameBlock], int], tmp_path: Path
) -> None:
    blocks, at_ns = fleet_of_two
    told(tmp_path, swapped(blocks, at_ns))
    with ducklake.attach(tmp_path) as con:
        found = con.execute(
            "SELECT pack_id, vehicle_id FROM identity WHERE kind = 'recognised' AND epoch_ns(t_ns) > ? ORDER BY 1",
            [at_ns],
        ).fetchall()
        alarms = con.execute("SELECT vehicle_id FROM incidents WHERE kind = 'pack_replaced' ORDER BY 1").fetchall()
        counted = con.execute(
            "SELECT pack_id, accepted + rejected, vehicle_id FROM health ORDER BY pack_id, t_ns"
        ).fetchall()
    assert found == [(ONE, TWO), (TWO, ONE)]
    assert alarms == [(ONE,), (TWO,)], "nobody said so: it is asked about"
    for pack in (ONE, TWO):
        mine = [(n, vehicle) for name, n, vehicle in counted if name == pack]
        assert [n for n, _ in mine] == list(range(1, len(mine) + 1)), "its charges are counted on"
        assert {vehicle for _, vehicle in mine} == {ONE, TWO}


def test_a_pack_that_is_replaced_silently_is_flagged_and_begins_a_history_of_its_own(
    fleet_of_two: tuple[list[FrameBlock], int], tmp_path: Path
) -> None:
    blocks, at_ns = fleet_of_two
    told(tmp_path, replaced(blocks, at_ns))
    with ducklake.attach(tmp_path) as con:
        kinds = con.execute("SELECT kind, pack_id, vehicle_before FROM identity ORDER BY t_ns").fetchall()
        text = con.execute("SELECT text FROM incidents WHERE kind = 'pack_replaced'").fetchall()
    assert kinds == [("first_seen", ONE, ""), ("replaced", f"{ONE}#2", ONE)]
    assert len(text) == 1
    assert "they are of no pack that is known" in text[0][0]
