"""Healthy recordings through the protection flow: nothing grave is decided, and what cannot be judged is listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.check import lines
from schemas.frames import FrameBlock
from tests.safety.recordings import HEALTHY, Played, can_of, frames_of, play_can, play_table, table_setup
from tests.support.can_data import dbc_path, logs

DBC = {"bmw_i3": "bmw_i3_lim", "hyundai_kona": "hyundai_kona_pcan"}
LOGS = {"bmw_i3": 11, "hyundai_kona": 9}
QUICK = ("2019_Circontrol_end", "4.ptcan_fully-chrgd", "2014i3 AC start", "bms_diagnostics")
PERIOD_S = {"car1": 1.0, "car2": 30.0}
NO_CELLS = {
    "cell_v", "deep_discharge_v", "overcharge_share", "overdischarge_share", "thermal_event", "cell_dev_v",
    "sum_mismatch_v", "cells_missing",
}  # fmt: skip
NO_PROBES = {"temp_c", "temp_rate_c_per_s", "temp_spread_c", "temp_dev_c", "thermal_event", "probes_missing"}
NO_LOOPS = {"current_mismatch_a", "interlock_open", "crash"}
NO_ISOLATION = {"isolation_ohm_per_v"}


@pytest.mark.parametrize("car", sorted(HEALTHY))
def test_charges_and_precharges_of_real_cars_open_nothing(car: str, data_dir: Path, thorough: bool) -> None:
    found = 0
    for name, block in logs(car):
        if HEALTHY[car] not in name:
            continue
        found += 1
        if thorough or any(part in name for part in QUICK):
            tape = play_can(block, can_of(car, name, dbc_path(DBC[car])))
            assert tape.grave() == [], name
            assert tape.beat["frames"] > 0.9 * len(block), name  # the last beat is up to 0.1 s old
            assert tape.beat["values"]["pack_v"] > 300, name
    assert found == LOGS[car]


@pytest.mark.parametrize(
    ("car", "lacking"),
    [
        ("bmw_i3", NO_CELLS | NO_PROBES | NO_LOOPS | NO_ISOLATION | {"feedback_mismatch"}),
        ("hyundai_kona", NO_CELLS | NO_LOOPS | NO_ISOLATION | {"feedback_mismatch", "precharge_failures", "weld"}),
    ],
)
def test_an_observer_of_a_recorded_bus_lists_the_rows_that_lack_a_signal(
    car: str, lacking: set[str], data_dir: Path
) -> None:
    setup = can_of(car, "2019", dbc_path(DBC[car]))
    assert {row.quantity for row in setup.guard.not_evaluated} == lacking
    assert setup.guard.config.observer
    said = [line for line in lines(setup) if line.startswith("not evaluated")]
    assert len(said) == len(setup.guard.not_evaluated)


@pytest.mark.parametrize(("car", "lacking"), [("car1", NO_LOOPS | NO_ISOLATION), ("car2", NO_LOOPS)])
def test_a_recorded_table_lists_the_rows_that_lack_a_signal_and_those_that_come_too_late(
    car: str, lacking: set[str], data_dir: Path
) -> None:
    setup = table_setup(table(car, data_dir), PERIOD_S[car])
    assert {row.quantity for row in setup.guard.not_evaluated} == lacking
    assert not setup.guard.config.observer
    assert any(line.startswith("cell_v MSL (any, over 4.25)") for line in setup.guard.too_slow)


def table(car: str, data_dir: Path) -> FrameBlock:
    return frames_of(data_dir / f"ev_faults/{car}.parquet", f"ev-faults-{car}")


def played(car: str, block: FrameBlock) -> Played:
    return play_table(block, table_setup(block, PERIOD_S[car]))


def test_13_bad_rows_in_a_row_take_the_current_to_zero_and_open_nothing(data_dir: Path) -> None:
    block = table("car1", data_dir)
    bad = np.any((block.cell_v > 6.0) | (block.cell_v < 0.5), axis=1).tolist()
    assert not bad[0]
    edges = np.flatnonzero(np.diff(bad)) + 1  # good and bad rows take turns
    first, last = max(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True), key=lambda run: run[1] - run[0])
    assert last - first == 13
    out = played("car1", block.take(slice(first - 60, last + 60)))
    assert out.grave() == []
    assert out.opened == []
    ((at_s, text),) = [(t_s, d["text"]) for t_s, d in out.said() if d["active"] and d["quantity"] == "cells_missing"]
    assert "cells without a value" in text
    assert text.endswith("current to zero")
    tape = next(tape for tape in out.tapes if tape.fired())
    zero = [t_s for t_s, charge_a, discharge_a in tape.allowed if charge_a == discharge_a == 0]
    assert [t_s for t_s in zero if at_s + 5.0 <= t_s < at_s + 10.0] == [at_s + k for k in range(5, 10)]
    _, charge_a, discharge_a = tape.allowed[-1]
    assert min(charge_a, discharge_a) > 0, "and it comes back"


def test_a_pack_sensor_that_is_3_67_v_off_warns_of_nothing_and_a_larger_error_warns_and_opens_nothing(
    data_dir: Path,
) -> None:
    block = table("car2", data_dir).take(slice(11_855, 12_055))
    setup = table_setup(block, PERIOD_S["car2"])
    off_v = block.pack_v - block.cell_v.astype(float).sum(1)
    assert abs(np.median(off_v) - 3.67) < 0.5
    assert play_table(block, setup).said() == []
    unaware = table_setup(block, PERIOD_S["car2"], replace(setup.pack, sum_offset_v=0.0))
    assert play_table(block, unaware).said() == [], "nor where nobody has told it of the error"
    worse = play_table(replace(block, pack_v=block.pack_v + 12.0), setup)
    assert worse.grave() == []
    assert {(d["quantity"], d["action"]) for _, d in worse.said()} == {("sum_mismatch_v", "noted")}


@pytest.mark.parametrize("car", ["car1", "car2"])
def test_days_of_a_car_open_nothing_and_bad_rows_only_take_the_current_back(
    car: str, data_dir: Path, thorough: bool
) -> None:
    block = table(car, data_dir)
    block = block if thorough else block.take(slice(0, 600))
    out = played(car, block)
    assert sum(len(tape.allowed) for tape in out.tapes) >= len(block) * 0.9
    assert out.grave() == []
    assert out.opened == []
    assert {d["quantity"] for _, d in out.said()} <= {"cells_missing", "silence", "disobeyed_a"}
    if thorough and car == "car1":
        assert sum(d["active"] and d["quantity"] == "cells_missing" for _, d in out.said()) == 7
