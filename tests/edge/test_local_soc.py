"""Local SOC: a cell of its own open-circuit voltage, Ah counted from it, and what nobody saw said as such."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import local_soc
from edge.calibration import Calibration
from edge.local_soc import CLOUD, KEPT, NOTHING, OCV, VOLTAGE, Soc, State, fresh_state, local_soc_config, usable
from flows.traces import TraceOptions, trace_items
from schemas.frames import FrameBlock
from schemas.pack import PackModel, load_pack
from tests.support.frames import NS, T0_NS, frames

PACK = load_pack("generic-nmc@4c2t60ah")
LFP = load_pack("generic-lfp@4c2t60ah")
CFG = replace(local_soc_config(PACK), table_v=0.005, table_soc=0.0)  # as where the table is of this kind of cell
CELLS = np.array([0.60, 0.62, 0.65, 0.61])


def _ocv(soc: Any, pack: PackModel = PACK, temp_c: float = 25.0) -> Any:
    grid = pack.grid()
    return np.interp(soc, grid.soc, grid.ocv[int(np.flatnonzero(grid.temp_c == temp_c)[0])])


def _run(
    state: State, seconds: np.ndarray, current_a: object = 0.0, cells: object = CELLS, **more: Any
) -> tuple[State, Soc]:
    block = frames(seconds, current_a, cell_v=np.tile(_ocv(cells), (len(seconds), 1)), **more)
    return local_soc.step(CFG, state, block, None, T0_NS + round(seconds[-1] * NS))


def _rested(begin_s: float = 0.0) -> State:
    return _run(fresh_state(CFG), np.arange(begin_s, begin_s + 1801.0, 10.0))[0]


def test_rest_gives_each_cell_its_own_soc_and_the_pack_what_is_usable() -> None:
    state, soc = _run(fresh_state(CFG), np.arange(0, 1801.0, 10.0))
    assert soc.source == OCV
    assert soc.cell_soc == pytest.approx(CELLS, abs=2e-3)
    assert soc.soc == pytest.approx(0.60 / (0.60 + 1 - 0.65), abs=3e-3)
    assert soc.std < 0.02
    assert soc.rest_s == 1800.0
    assert state.anchored_ns == T0_NS + 1800 * NS


def test_before_it_has_rested_a_voltage_is_a_poor_anchor_and_says_so() -> None:
    early = _run(fresh_state(CFG), np.arange(0, 1790.0, 10.0))[1]
    late = _run(fresh_state(CFG), np.arange(0, 1801.0, 10.0))[1]
    assert (early.source, late.source) == (VOLTAGE, OCV)
    assert early.std > 2.5 * late.std


def test_a_table_of_another_kind_of_cell_is_trusted_less() -> None:
    assert local_soc_config(PACK).table_v > 10 * local_soc_config(load_pack("bmw-i3-60ah")).table_v
    block = frames(np.arange(0, 1801.0, 10.0), cell_v=np.tile(_ocv(CELLS), (181, 1)))
    borrowed = local_soc.step(local_soc_config(PACK), fresh_state(CFG), block, None, T0_NS + 1800 * NS)[1]
    assert borrowed.std > 5 * _run(fresh_state(CFG), np.arange(0, 1801.0, 10.0))[1].std


def test_the_error_that_all_voltages_share_is_told_until_the_fleet_has_spoken() -> None:
    cfg, block = replace(CFG, table_soc=0.11), frames(np.arange(0, 1801.0, 10.0), cell_v=np.tile(_ocv(CELLS), (181, 1)))
    state, own = local_soc.step(cfg, fresh_state(cfg), block, None, T0_NS + 1800 * NS)
    assert 0.11 < own.std < 0.12
    told, why = local_soc.taken(cfg, state, own.soc, 0.01, T0_NS + 1800 * NS)
    assert why == ""
    assert local_soc.told(cfg, told, T0_NS + 1800 * NS).std < 0.011


def test_without_a_frame_nothing_is_known() -> None:
    soc = local_soc.step(CFG, fresh_state(CFG), None, None, T0_NS)[1]
    assert soc.source == NOTHING
    assert math.isnan(soc.soc)
    assert math.isnan(soc.std)
    nothing = frames([0.0], np.nan, cell_v=np.nan, pack_v=np.nan)
    assert local_soc.step(CFG, fresh_state(CFG), nothing, None, T0_NS)[1].source == NOTHING


def test_an_hour_at_a_tenth_of_the_capacity_moves_every_cell_by_a_tenth() -> None:
    state = _rested()
    current = np.full(3601, 0.1 * CFG.capacity_ah)
    current[0] = current[-1] = 0.0  # ramps of a second: trapezia
    state, soc = _run(
        state, np.arange(1800.0, 5401.0), current, cells=np.full(4, 0.2)
    )  # voltages under load teach nothing
    assert soc.cell_soc - CELLS == pytest.approx(0.1 * 3599 / 3600, abs=2e-3)
    assert soc.ah == pytest.approx(0.1 * CFG.capacity_ah * 3599 / 3600, rel=1e-6)
    assert soc.rest_s == 0.0


def test_what_is_not_seen_is_said_not_guessed() -> None:
    state = _rested()
    before = local_soc.told(CFG, state, state.t_ns)
    for gap_s, least in ((50, 0.0), (600, 0.05), (7200, 0.25)):
        after = _run(state, np.array([1800.0 + gap_s]), 40.0, cells=np.full(4, np.nan), pack_v=np.nan)[1]
        assert after.std >= max(least, before.std)
        assert after.std < least + 0.15
    blind = _run(state, np.arange(1800.0, 2400.0, 1.0), np.nan)
    assert blind[1].rest_s == 0.0
    assert _run(blind[0], np.array([2401.0]), 40.0, cells=np.full(4, np.nan), pack_v=np.nan)[1].std > 0.05


def test_after_a_gap_the_voltages_are_heard_again_and_rest_begins_anew() -> None:
    soc = _run(_rested(), np.array([20_000.0]), cells=CELLS - 0.3)[1]
    assert soc.cell_soc == pytest.approx(CELLS - 0.3, abs=0.05)
    assert soc.rest_s == 0.0
    assert soc.source == VOLTAGE


def test_a_clock_that_is_set_back_counts_nothing() -> None:
    state = _rested()
    after = _run(state, np.arange(-5000.0, -4990.0), 100.0, cells=np.full(4, np.nan), pack_v=np.nan)[0]
    assert after.ah == pytest.approx(9 * 100.0 / 3600)
    assert local_soc.std_of(CFG, after) == local_soc.UNKNOWN_STD


def test_a_bleed_empties_its_own_cell_and_keeps_rest_from_being_an_anchor() -> None:
    mask = np.array([False, False, True, False])
    state = _rested()
    before = state.cell_soc
    block = frames(np.arange(1810.0, 5410.0, 10.0), 0.0, cell_v=np.tile(_ocv(CELLS - 0.1), (360, 1)))
    state, soc = local_soc.step(CFG, state, block, mask, T0_NS + 5400 * NS)
    bled = CFG.bleed_a / CFG.capacity_ah
    assert soc.cell_soc - before == pytest.approx(np.where(mask, -bled, 0.0), abs=1e-9)
    state, soc = _run(state, np.arange(5410.0, 5450.0, 10.0), cells=CELLS - 0.1)  # has bled a moment ago
    assert soc.cell_soc - before == pytest.approx(np.where(mask, -bled, 0.0), abs=1e-9)
    soc = _run(state, np.arange(5450.0, 5490.0, 10.0), cells=CELLS - 0.1)[1]
    assert (soc.cell_soc < before - 0.03).all()


def test_flat_voltages_move_what_was_counted_little_and_steep_ones_much() -> None:
    cfg = replace(local_soc_config(LFP), table_v=0.005, table_soc=0.0)
    for truth, trusts in ((0.05, True), (0.55, False)):
        state = fresh_state(cfg)._replace(
            cell_soc=np.full(4, truth + 0.1), anchor_std=0.05, spread_std=0.01, source=KEPT
        )
        block = frames(np.arange(0, 1801.0, 10.0), cell_v=np.tile(_ocv(np.full(4, truth), LFP), (181, 1)))
        soc = local_soc.step(cfg, state._replace(early=False), block, None, T0_NS + 1800 * NS)[1]
        assert (abs(soc.soc - truth) < 0.02) == trusts
        assert abs(soc.soc - truth) <= 3.0 * soc.std


@pytest.mark.parametrize("wrong_v", [0.0, 6.5, math.inf, math.nan])
def test_what_no_cell_can_have_is_no_voltage(wrong_v: float) -> None:
    seconds = np.arange(0, 1801.0, 10.0)
    volts = _ocv(CELLS)
    volts[2] = wrong_v
    block = frames(seconds, cell_v=np.tile(volts, (181, 1)), pack_v=14.8)
    state, soc = local_soc.step(CFG, fresh_state(CFG), block, None, T0_NS + 1800 * NS)
    assert np.delete(soc.cell_soc, 2) == pytest.approx(np.delete(CELLS, 2), abs=2e-3)
    assert soc.cell_soc[2] == pytest.approx(0.61, abs=0.02)  # as the others
    after = local_soc.step(CFG, state, frames([1801.0], math.inf, cell_v=3.7), None, T0_NS + 1801 * NS)[1]
    assert after.soc == soc.soc


def test_a_pack_without_cell_voltages_goes_by_its_own() -> None:
    seconds = np.arange(0, 1801.0, 10.0)
    block = frames(seconds, cell_v=np.nan, pack_v=float(_ocv(0.4)) * 4)
    soc = local_soc.step(CFG, fresh_state(CFG), block, None, T0_NS + 1800 * NS)[1]
    assert soc.soc == pytest.approx(0.4, abs=0.01)
    assert math.isnan(soc.spread_std)


def test_errors_that_every_rest_shares_do_not_average_out() -> None:
    state = _rested()
    first = local_soc.told(CFG, state, state.t_ns).std
    for k in range(1, 40):
        state, soc = _run(state, np.arange(1800.0 + 3600 * (k - 1), 1801.0 + 3600 * k, 50.0))
    assert soc.std > 0.4 * first


@settings(max_examples=25)
@given(st.lists(st.integers(1, 600), max_size=12), st.integers(0, 5))
def test_blocks_change_nothing(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds = np.cumsum(rng.choice([1.0, 5.0, 30.0, 90.0], 600, p=[0.4, 0.4, 0.19, 0.01]))
    current = np.where(seconds % 4000 < 2500, 0.0, rng.normal(0, 50, 600))
    whole = frames(seconds, current, cell_v=_ocv(CELLS)[None] + rng.normal(0, 0.001, (600, 4)))
    states = []
    for ends in ([600], [*sorted({c for c in cuts if c < 600}), 600]):
        state, at = fresh_state(CFG), 0
        for end in ends:
            state, soc = local_soc.step(CFG, state, whole.take(slice(at, end)), None, int(whole.t_ns[end - 1]))
            at = end
        states.append((soc[:4], soc[5:], soc.cell_soc.tolist(), json.dumps(local_soc.dump(state))))
    assert states[0] == states[1]
    assert 0.0 <= states[0][0][1] <= 1.0


def test_an_estimate_from_the_fleet_counts_from_its_own_time() -> None:
    state, _ = _run(_rested(), np.arange(1800.0, 5400.0), 0.1 * CFG.capacity_ah)
    half = T0_NS + 3600 * NS + 30 * NS  # between two entries of what was counted
    own = local_soc.told(CFG, state, state.t_ns)
    after, why = local_soc.taken(CFG, state, own.soc + 0.02 - 0.1 * (5399 - 3630) / 3600, 0.001, half)
    assert why == ""
    made = local_soc.told(CFG, after, state.t_ns)
    assert made.soc == pytest.approx(own.soc + 0.02, abs=5e-4)
    assert made.source == CLOUD
    assert made.std < own.std
    assert np.ptp(made.cell_soc) == pytest.approx(np.ptp(own.cell_soc))


def test_an_estimate_that_does_not_fit_or_has_no_time_here_changes_nothing() -> None:
    state = _rested()
    own = local_soc.told(CFG, state, state.t_ns).soc
    for soc, t_ns, word in (
        (own + 0.3, state.t_ns, "within"),
        (own, state.t_ns + 60 * NS + 1, "from a time"),
        (own, T0_NS - NS, "from a time"),
    ):
        after, why = local_soc.taken(CFG, state, soc, 0.01, t_ns)
        assert after is state
        assert word in why


@pytest.mark.parametrize("then_s", [20_000.0, -5000.0])
def test_an_estimate_from_before_a_gap_cannot_be_carried_over_it(then_s: float) -> None:
    state, soc = _run(_rested(), np.arange(then_s, then_s + 120.0))
    for t_ns, taken in ((T0_NS + 1700 * NS, False), (T0_NS + round((then_s + 60) * NS), True)):
        assert (local_soc.taken(CFG, state, soc.soc, 0.02, t_ns)[1] == "") == taken


def test_a_vehicle_that_knows_nothing_believes_the_fleet() -> None:
    block = frames([0.0], 0.0, cell_v=np.nan, pack_v=np.nan)
    state = local_soc.step(CFG, fresh_state(CFG), block, None, T0_NS)[0]
    after, why = local_soc.taken(CFG, state, 0.9, 0.02, T0_NS)
    assert why == ""
    soc = local_soc.told(CFG, after, T0_NS)
    assert soc.soc == pytest.approx(0.9, abs=0.01)


def test_a_poor_voltage_takes_nothing_from_what_is_known_better() -> None:
    cfg = replace(CFG, table_v=0.08)
    sensor = Calibration(offset_a=0.0, offset_std_a=0.001)
    state = _rested()._replace(anchor_std=0.005, net=0.0, counted_s=0.0, known=sensor)
    for k in range(1, 20):
        block = frames(
            np.arange(1800.0 + 3600 * (k - 1), 1801.0 + 3600 * k, 50.0), cell_v=np.tile(_ocv(np.full(4, 0.5)), (73, 1))
        )
        state, soc = local_soc.step(cfg, state, block, None, int(block.t_ns[-1]))
        assert soc.std < 0.01
    assert np.median(soc.cell_soc) == pytest.approx(np.median(CELLS), abs=0.01)


def test_a_restart_keeps_the_soc_and_what_is_torn_is_nothing() -> None:
    state = _rested()
    kept = json.loads(json.dumps(local_soc.dump(state)))
    again = local_soc.load(CFG, kept)
    after = _run(again, np.array([1830.0]), 40.0, cells=np.full(4, np.nan), pack_v=np.nan)[1]
    assert after.source == KEPT
    assert after.cell_soc == pytest.approx(CELLS, abs=5e-3)
    assert after.std < 0.03
    wrong: list[object] = [
        None,
        3,
        {},
        kept | {"version": 2},
        kept | {"cell_soc": [0.5]},
        kept | {"cell_soc": [2.0] * 4},
    ]
    wrong += [kept | {"anchor_std": "x"}, kept | {"anchor_std": 0.0}, {k: v for k, v in kept.items() if k != "net"}]
    for bad in wrong:
        assert local_soc.load(CFG, bad).source == NOTHING


def test_usable_is_what_the_emptiest_gives_and_the_fullest_takes() -> None:
    assert usable(np.array([0.5, 0.5])) == 0.5
    assert usable(np.array([0.0, 0.5])) == 0.0
    assert usable(np.array([0.5, 1.0])) == 1.0
    assert usable(np.array([-0.1, 0.2])) == 0.0


@pytest.mark.parametrize(
    ("recording", "pack", "most"),
    [
        ("bmw_i3_trips/bmw_i3_trips_10hz.parquet", "bmw-i3-60ah", 0.05),
        ("ev_faults/car1.parquet", "ev-faults-car1", 0.16),
        ("ev_faults/car2.parquet", "ev-faults-car2", 0.33),  # its display is 17 % above its borrowed curve, on average
    ],
)
def test_on_a_recorded_car_it_stays_near_the_cars_own_and_knows_its_error(
    data_dir: Path, recording: str, pack: str, most: float
) -> None:
    cfg = local_soc_config(load_pack(pack))
    state, errors, inside = fresh_state(cfg), [], []
    for item in trace_items(TraceOptions((str(data_dir / recording),), pack=pack)):
        if isinstance(item, FrameBlock):
            for at in range(0, len(item), 50):
                part = item.take(slice(at, at + 50))
                state, soc = local_soc.step(cfg, state, part, None, int(part.t_ns[-1]))
                error = abs(soc.soc - float(part.context["soc_bms"][-1]))
                errors.append(error)
                inside.append(error < 2.0 * soc.std)
        if len(errors) > 600:
            break
    assert np.nanmax(errors) < most
    assert np.mean(inside) > 0.95
