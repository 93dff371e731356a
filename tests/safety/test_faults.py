"""Faults on recordings: each is decided within its row's time, and nothing but the listed causes opens at speed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from edge.protection import STANDSTILL_KMH, key_of
from schemas.limits import FAST
from tests.safety.faults import CASES, Case, due
from tests.safety.replayed import drive, gateway
from tests.safety.stream_faults import PHYSICAL, SPOILED, Physical, Spoiled, play_physical, play_spoiled
from tests.safety.tape import settled

FUSE_S, MOVES_S = 3.0, 0.15  # the wait for the fuse; command, junction box and contactor


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take a few cases by default and all of them where the run is thorough."""
    thorough = metafunc.config.getoption("--thorough")
    chosen: dict[str, dict[str, Any]] = {
        "case": {f"{c.name}-{c.scene}": c for c in CASES if thorough or c.quick},
        "spoiled": {f"{c.stretch}: {c.says}": c for c in SPOILED if thorough or c.quick},
        "physical": {c.says: c for c in PHYSICAL if thorough or c.quick},
    }
    for name, cases in chosen.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, cases.values(), ids=cases.keys())


def test_a_fault_on_a_recorded_car_is_decided_within_its_rows_time(case: Case, data_dir: Path) -> None:
    with settled():
        out = drive(data_dir, case.scene, case.seconds, case.change)
    for key, (reached_s, latest_s) in due(case, data_dir).items():
        decided_s = out.decided_s(key)
        assert 0 <= decided_s <= latest_s, (key, decided_s, latest_s)
        assert decided_s >= case.earliest * reached_s, (key, decided_s, reached_s)
    if not case.rows:
        assert out.tape.decisions == []
        assert math.isnan(out.opened_s)
    opens = [(t_s - out.from_ns / 1e9, d) for t_s, d in out.tape.decisions if d["active"] and d["opens"]]
    fast = [t_s for t_s, d in opens if d["quantity"] in FAST]
    if case.scene == "drive" and case.name != "_feedback":  # its contactor opens by itself: that is the fault
        assert math.isnan(out.opened_s) == (not fast)
        assert math.isnan(out.opened_s) or out.speed_kmh > STANDSTILL_KMH
    told = fast if case.scene == "drive" else [t_s for t_s, _ in opens]
    if told and case.scene != "stand":
        assert out.opened_s <= told[0] + FUSE_S + MOVES_S


def test_the_cases_break_every_row() -> None:
    rows = {key_of(row) for row in gateway()[0].guard.config.table.rows}
    assert {key for case in CASES for key in case.rows} == rows
    assert gateway()[0].guard.not_evaluated == ()
    assert {case.scene for case in CASES if not case.rows} == {"drive", "charge"}


def test_the_simulators_faults_on_a_recording_are_decided_in_time_or_open_nothing(
    spoiled: Spoiled, data_dir: Path
) -> None:
    out = play_spoiled(data_dir, spoiled)
    for key, (decided_s, latest_s) in out.rows.items():
        assert 0 <= decided_s <= latest_s, (key, decided_s, latest_s)
    if not any("/MSL/" in key for key in spoiled.rows) and "pack sensor repeats" not in spoiled.says:
        assert out.grave == []
        assert math.isnan(out.opened_s)


def test_a_fault_in_the_cells_of_a_simulated_car_is_decided_in_time_or_opens_nothing(physical: Physical) -> None:
    out = play_physical(physical)
    for key, (decided_s, latest_s) in out.rows.items():
        assert 0 <= decided_s <= latest_s, (key, decided_s, latest_s)
    assert bool(out.grave) == bool(physical.rows)


def test_every_kind_of_fault_that_the_simulator_knows_is_among_them() -> None:
    from replay.simulate.faults import KINDS

    assert {case.fault["kind"] for case in (*SPOILED, *PHYSICAL)} == set(KINDS)
