"""The default schedule: seeded, contiguous, on vehicles that are awake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from replay.simulate.faults import BIT, KINDS
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.schedule import schedule

CFG = FleetConfig(vehicles=40, hours=24, models=("generic-nmc@24c8t60ah", "generic-lfp@20c6t100ah"), period_s=10)


def test_the_schedule_is_the_same_for_a_seed_and_covers_every_kind_once() -> None:
    faults = schedule(CFG, len(KINDS))
    assert faults == schedule(CFG, len(KINDS))
    assert faults != schedule(replace(CFG, seed=2), len(KINDS))
    assert {f.kind for f in faults} == set(KINDS)
    assert len({f.vehicle for f in faults}) == len(KINDS)
    assert all(0 < f.start_s < f.end_s <= CFG.hours * 3600 for f in faults)


def test_more_faults_than_vehicles_use_vehicles_again() -> None:
    assert len(schedule(replace(CFG, vehicles=2), 20)) == 20


@pytest.mark.parametrize("model", ["generic-nmc@1c0t3ah", "generic-nmc@2c1t3ah"])
def test_packs_without_wires_or_probes_get_faults_that_they_can_have(model: str) -> None:
    cfg = replace(CFG, models=(model,), vehicles=16, hours=12)
    assert len(list(simulate(replace(cfg, faults=schedule(cfg, 16))))) > 0


def test_every_scheduled_fault_meets_frames() -> None:
    faults = schedule(CFG, len(KINDS))
    seen = {f.kind: 0 for f in faults}
    sent = 0
    for block, truth in simulate(replace(CFG, faults=faults)):
        sent += len(block)
        for fault in faults:
            mine = truth.fault[block.src_part == fault.vehicle]
            seen[fault.kind] += int(((mine & np.uint32(BIT[fault.kind])) > 0).sum())
    whole = sum(len(block) for block, _ in simulate(CFG))
    assert seen.pop("dropped") == 0  # they are gone
    assert min(seen.values()) >= 10, seen
    assert sent != whole
