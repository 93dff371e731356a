"""SOC of the median cell against charge that is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from operators.kernels.estimate import EstimateConfig, EstimateState
from schemas.pack import PackModel
from schemas.quality import FROZEN
from tests.support.circuit import drive, one_branch_pack, run, simulate

PACK = one_branch_pack(cells=1, probes=1)
CFG = EstimateConfig()


def test_at_rest_the_first_frame_gives_the_soc_of_its_voltage() -> None:
    for soc in (0.1, 0.5, 0.9):
        truth = simulate(PACK, np.zeros(1), 1.0, soc)
        out = run(PACK, CFG, truth.cell_v, np.zeros(1))
        assert out["z_med"][0] == pytest.approx(soc, abs=0.01)
        assert abs(out["z_med"][0] - soc) < 0.5 * out["soc_std"][0] < 0.15


def test_where_the_first_voltage_says_little_the_vehicles_own_soc_is_asked_once() -> None:
    lfp = one_branch_pack(cells=1, probes=1, chemistry="lfp")
    v, current = np.full((3, 1), 3.292), np.zeros(3)
    bms = np.array([0.42, 0.9, 0.9], np.float32)
    alone, told = run(lfp, CFG, v, current), run(lfp, CFG, v, current, soc_bms=bms)
    assert told["soc_std"][0] < 0.8 * alone["soc_std"][0]
    assert abs(told["z_med"][0] - 0.42) < 0.7 * abs(alone["z_med"][0] - 0.42)
    later = run(lfp, CFG, v, current, soc_bms=np.array([0.42, 0.1, np.nan], np.float32))
    np.testing.assert_array_equal(later["z_med"], told["z_med"])


@pytest.mark.parametrize("bms", [0.1, np.nan, 7.0, -1.0])
def test_the_vehicles_own_soc_moves_little_where_the_voltage_tells(bms: float) -> None:
    v, current = np.full((1, 1), 3.95), np.zeros(1)
    alone = run(PACK, CFG, v, current)
    told = run(PACK, CFG, v, current, soc_bms=np.array([bms], np.float32))
    assert told["z_med"][0] == pytest.approx(alone["z_med"][0], abs=0.03)


def test_a_first_frame_under_load_is_less_certain_than_one_at_rest() -> None:
    rest = run(PACK, CFG, np.full((1, 1), 3.8), np.zeros(1))
    load = run(PACK, CFG, np.full((1, 1), 3.8), np.full(1, -100.0))
    assert load["soc_std"][0] > 1.5 * rest["soc_std"][0]


def test_constant_current_counts_its_charge() -> None:
    current = np.full(1801, 25.0)
    truth = simulate(PACK, current, 1.0, 0.3)
    blind = np.full_like(truth.cell_v, np.nan)  # no voltage after the first frame: only the current tells
    blind[0] = truth.cell_v[0] - 25e-3
    out = run(PACK, CFG, blind, np.concatenate([[0.0], current[1:]]))
    counted = out["z_med"][-1] - out["z_med"][0]
    assert counted == pytest.approx((25.0 * 1799 + 12.5) / 3600 / 50.0, rel=1e-6)  # the first interval is a ramp


@pytest.mark.parametrize("wrong", [-0.2, 0.2])
def test_a_start_that_is_20_percent_wrong_is_forgotten(wrong: float) -> None:
    current = drive(3600, seed=1)
    truth = simulate(PACK, current, 1.0, 0.7)
    cfg = EstimateConfig(initial_soc=0.7 + wrong)
    out = run(PACK, cfg, truth.cell_v, current)
    assert np.abs(out["z_med"] - truth.soc[:, 0])[600:].max() < 0.01


def test_an_offset_of_the_current_sensor_stays_bounded() -> None:
    current = drive(20_000, seed=2, amps=20.0)
    truth = simulate(PACK, current - current.mean(), 1.0, 0.6)
    out = run(PACK, CFG, truth.cell_v, current - current.mean() + 0.5)  # 1 % C: counts 5.6 % too much in that time
    assert np.abs(out["z_med"] - truth.soc[:, 0]).max() < 0.02


def test_resistance_off_the_table_is_learnt() -> None:
    current = drive(7200, seed=3)
    truth = simulate(PACK, current, 1.0, 0.7)
    resting = simulate(PACK, np.zeros(1), 1.0, 0.5).cell_v[0, 0]
    assert resting > 3.0
    base = np.interp(truth.soc, PACK.grid().soc, PACK.grid().ocv[11])
    out = run(PACK, CFG, base + 1.3 * (truth.cell_v - base), current)
    assert out["r0_ohm"][-1] == pytest.approx(1.3e-3, rel=0.05)
    assert abs(out["r0_ohm"][-1] - 1.3e-3) < 2 * out["r0_std_ohm"][-1] < out["r0_std_ohm"][1]
    assert np.abs(out["z_med"] - truth.soc[:, 0])[1200:].max() < 0.01


def test_a_frozen_frame_changes_nothing_but_the_uncertainty() -> None:
    current = drive(400, seed=4)
    truth = simulate(PACK, current, 1.0, 0.7)
    quality = np.zeros(400, np.uint32)
    quality[300:] = FROZEN
    v = truth.cell_v.copy()
    v[300:] -= 0.3  # whatever it shows
    out = run(PACK, CFG, v, current, quality=quality)
    assert np.all(out["z_med"][300:] == out["z_med"][299])
    assert np.all(np.diff(out["soc_std"][299:]) > 0)


def test_without_current_the_soc_is_held_and_less_certain() -> None:
    current = drive(400, seed=5)
    truth = simulate(PACK, current, 1.0, 0.7)
    missing = current.copy()
    missing[300:] = np.nan
    out = run(PACK, CFG, truth.cell_v, missing)
    assert np.all(out["z_med"][300:] == out["z_med"][299])
    assert np.all(np.diff(out["soc_std"][299:]) > 0)
    # 100 s at up to 0.3 C may have passed
    assert out["soc_std"][-1] ** 2 - out["soc_std"][299] ** 2 == pytest.approx((0.3 * 100 / 3600) ** 2, rel=0.1)


def test_uncertainty_over_a_silence_does_not_depend_on_how_it_was_cut() -> None:
    cfg = EstimateConfig()
    ends = []
    for parts in (1, 4):
        state = EstimateState.empty(1, 1, 1)
        run(PACK, cfg, np.full((5, 1), 3.8), np.zeros(5), state=state)
        run(PACK, cfg, np.full((parts, 1), np.nan), np.full(parts, np.nan), 3600.0 / parts, state=state)
        ends.append(run(PACK, cfg, np.full((1, 1), np.nan), np.full(1, np.nan), 0.0, state=state)["soc_std"][0])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_charge_that_passed_in_a_silence_is_found_after_it() -> None:
    state = EstimateState.empty(1, 1, 1)
    rest = simulate(PACK, np.zeros(600), 1.0, 0.4)
    run(PACK, CFG, rest.cell_v, np.zeros(600), state=state)
    later = simulate(PACK, np.zeros(600), 1.0, 0.8)  # charged overnight while nothing was sent
    dt = np.ones(600)
    dt[0] = 8 * 3600.0
    out = run(PACK, CFG, later.cell_v, np.zeros(600), state=state, dt_s=dt)
    assert np.all(np.abs(np.diff(out["z_med"])) < 0.45)
    assert out["z_med"][-1] == pytest.approx(0.8, abs=0.02)


def test_the_interval_of_90_percent_holds_what_it_should() -> None:
    inside = []
    for seed in range(12):
        current = drive(3000, seed=10 + seed)
        truth = simulate(PACK, current, 1.0, 0.75)
        noisy = truth.cell_v + np.random.default_rng(seed).normal(0, 5e-3, truth.cell_v.shape)
        out = run(PACK, EstimateConfig(initial_soc=0.6), noisy, current)
        inside.append(np.abs(out["z_med"] - truth.soc[:, 0]) < 1.645 * out["soc_std"])
    assert np.mean(inside) > 0.85


@pytest.mark.parametrize("dt_s", [20, 30, 60])
def test_what_frames_miss_of_a_current_between_them_is_as_much_as_it_is_believed_to_be(dt_s: int) -> None:
    """Four hours of a current that changes each ten seconds, counted from one frame in so many seconds."""
    at, off = np.arange(0, 14_400, dt_s), []
    blind = np.full((at.size, 1), np.nan, np.float32)
    blind[0] = 3.7
    cfg = EstimateConfig(initial_soc=0.5, initial_soc_std=1e-3, offset=1e-9)
    for seed in range(60):
        current = np.repeat(np.random.default_rng(seed).normal(0.0, 30.0, 1_441), 10)
        true = np.concatenate([[0.0], np.cumsum(current[:-1])]) / 3600.0 / PACK.usable_ah
        out = run(PACK, cfg, blind, current[at], float(dt_s))
        off.append((out["z_med"][-1] - out["z_med"][0] - true[at[-1]]) / out["soc_std"][-1])
    assert 0.4 < np.sqrt(np.mean(np.square(off))) < 1.2


@pytest.mark.parametrize("error_v", [-5e-3, 5e-3])
def test_on_the_lfp_plateau_no_number_of_frames_makes_up_for_a_few_millivolts_in_the_table(error_v: float) -> None:
    lfp = one_branch_pack(cells=1, probes=1, chemistry="lfp")
    n = 8640
    v = simulate(lfp, np.zeros(n), 10.0, 0.5).cell_v + error_v
    out = run(lfp, EstimateConfig(initial_soc=0.5, initial_soc_std=0.1), v, np.zeros(n), 10.0)
    assert out["soc_std"][-1] > 0.05
    assert np.all(np.abs(out["z_med"] - 0.5) < 1.645 * out["soc_std"])


def test_at_the_foot_of_the_lfp_plateau_soc_is_off_to_both_sides_alike() -> None:
    """Where SOC may lie on the knee or beside it, the voltage to expect is the mean of both, not that of the middle."""
    lfp, draw, off = one_branch_pack(cells=1, probes=1, chemistry="lfp"), np.random.default_rng(0), []
    for truth in np.clip(0.08 + 0.04 * draw.standard_normal(200), 0.0, 1.0):
        v = simulate(lfp, np.zeros(60), 10.0, truth).cell_v + 3e-3 * draw.standard_normal()
        out = run(lfp, EstimateConfig(initial_soc=0.08, initial_soc_std=0.04), v, np.zeros(60), 10.0)
        off.append((out["z_med"][-1] - truth) / out["soc_std"][-1])
    assert abs(np.mean(off)) < 0.2
    assert np.std(off) < 1.0


def test_uncertainty_grows_on_the_lfp_plateau_and_not_where_the_curve_tells() -> None:
    hours, dt = 10, 10.0
    n = round(hours * 3600 / dt)
    current = 5.0 * np.sign(np.sin(np.arange(n) * dt / 600.0))  # to and fro by 1 %
    stds = {}
    for chemistry in ("lfp", "nmc"):
        pack = one_branch_pack(cells=1, probes=1, chemistry=chemistry)
        truth = simulate(pack, current, dt, 0.5)
        start = EstimateConfig(initial_soc=0.5, initial_soc_std=0.01)
        out = run(pack, start, truth.cell_v, current + 0.003 * 50.0, dt)  # an offset of .3 % of capacity per hour
        assert np.all(np.abs(out["z_med"] - truth.soc[:, 0])[1:] < 2.0 * out["soc_std"][1:])
        stds[chemistry] = np.sqrt(out["soc_std"] ** 2 - out["d_soc_std"] ** 2)[[360, n // 2, n - 1]]
    assert stds["lfp"][0] + 0.005 < stds["lfp"][1] < stds["lfp"][2] - 0.005
    assert stds["nmc"][2] < 0.5 * stds["lfp"][2]


def test_no_frame_resets_the_soc_whatever_the_vehicle_or_a_voltage_says() -> None:
    n, rng = 3000, np.random.default_rng(5)
    current = drive(n, seed=6)
    truth = simulate(PACK, current, 1.0, 0.6)
    v = truth.cell_v.copy()
    v[rng.choice(n, 30)] += rng.normal(0.0, 0.5, (30, 1))
    v[1000:1200] = np.nan
    v[2000:] += 0.1  # a sensor that steps
    bms = np.where(np.arange(n) % 500 < 250, 1.0, 0.0).astype(np.float32)
    out = run(PACK, CFG, v, current, soc_bms=bms)
    counted = 0.5 * (current[1:] + current[:-1]) / 3600.0 / 50.0
    moved = np.abs(np.diff(out["z_med"]) - counted)
    known = np.sqrt(np.maximum(out["soc_std"] ** 2 - out["d_soc_std"] ** 2, 0.0))[:-1]
    known = np.where(np.isnan(known), out["soc_std"][:-1], known)
    assert np.all(moved <= CFG.outlier * known + 5e-4)
    assert moved.max() < 0.05


def test_frames_ten_times_as_often_make_no_one_surer() -> None:
    ends = []
    for dt in (1.0, 10.0):
        n = int(7200 / dt)
        out = run(PACK, EstimateConfig(initial_soc=0.5), np.full((n, 1), 3.7), np.zeros(n), dt)
        ends.append(out["soc_std"][-1])
    assert ends[0] == pytest.approx(ends[1], rel=0.1)


def test_a_full_charge_pulls_lfp_in_from_any_start() -> None:
    lfp = one_branch_pack(cells=1, probes=1, chemistry="lfp")
    hours = np.arange(0, 3, 10 / 3600)
    current = np.where(hours < 0.95, 20.0, np.maximum(20.0 * np.exp(-(hours - 0.95) / 0.03), 0.5))
    truth = simulate(lfp, current, 10.0, 0.6)
    soc = np.minimum(truth.soc, 1.0)
    v = truth.cell_v + 0.12 * np.clip((soc - 0.97) / 0.03, 0, 1)  # to 3.5 V and above, as chargers do
    assert v.max() > 3.45
    for wrong in (-0.3, -0.15, 0.15):
        out = run(lfp, EstimateConfig(initial_soc=0.6 + wrong), v, current, 10.0)
        assert abs(out["z_med"][-1] - 1.0) < 0.01
        assert out["soc_std"][-1] < 0.01


def test_missing_capacity_and_an_offset_of_the_sensor_are_found_in_time() -> None:
    cycle = np.concatenate([np.zeros(360), np.full(1080, -8.0), np.zeros(360), np.full(1080, 8.0)])
    current = np.tile(cycle, 6)
    truth = simulate(PACK, current, 10.0, 0.9, 0.0, 0.0, -0.15)
    out = run(PACK, CFG, truth.cell_v, current + 0.1, 10.0)
    assert out["capacity_ah"][-1] == pytest.approx(0.85 * 50.0, rel=0.03)
    assert abs(out["capacity_ah"][-1] - 0.85 * 50.0) < 2 * out["capacity_std_ah"][-1] < out["capacity_std_ah"][1]
    assert np.abs(out["z_med"] - truth.soc[:, 0])[-2880:].max() < 0.01


def test_a_night_asleep_costs_little_certainty_unless_the_voltage_says_that_charge_has_passed() -> None:
    def morning(volts: float) -> tuple[float, float]:
        state = EstimateState.empty(1, 1, 1)
        run(PACK, CFG, np.full((360, 1), 3.7), np.zeros(360), 10.0, state=state)
        v, dt_s = np.array([[np.nan], [volts]]), np.array([0.0, 28_800.0])
        out = run(PACK, CFG, v, np.zeros(2), dt_s, state=state)
        return float(out["z_med"][1] - out["z_med"][0]), float(out["soc_std"][1])

    moved, std = morning(3.7)
    assert abs(moved) < 2e-3
    assert std < 0.02
    moved, std = morning(4.0)
    assert moved > 0.1
    assert std > 0.03


_DAY = (("drive", 2), ("rest", 3), ("drive", 2), ("rest", 3), ("charge", 4), ("rest", 10))  # hours
_OFFSET_A = 0.7


def _days(days: int, capacity: float, seed: int) -> tuple[PackModel, dict[str, Any]]:
    """Simulate days of a 60 Ah pack whose sensor shows 0.7 A too much, asleep at rest but for a frame every 2 h."""
    rng, dt_s = np.random.default_rng(seed), 10.0
    pack = replace(PACK, usable_ah=60.0)
    current, awake = [], []
    for _ in range(days):
        used_ah = 0.0
        for what, hours in _DAY:
            n = int(hours * 3600 / dt_s)
            i = np.zeros(n)
            if what == "drive":
                i = np.repeat(rng.normal(-9.0, 25.0, n // 6), 6)
                used_ah -= i.sum() * dt_s / 3600
            elif what == "charge":
                i[:] = used_ah / hours
            current.append(i)
            awake.append((np.arange(n) % 720 == 0) | (what != "rest"))
    i, rows = np.concatenate(current), np.flatnonzero(np.concatenate(awake))
    truth = simulate(replace(pack, usable_ah=60.0 * capacity), i, dt_s, 0.8)
    columns = {
        "cell_v": truth.cell_v[rows],
        "current_a": i[rows] + _OFFSET_A,
        "dt_s": np.concatenate([[np.nan], np.diff(rows * dt_s)]),
        "contactor_state": np.where(i[rows] == 0, 0, 2).astype(np.int8),
    }
    return pack, columns


@pytest.mark.parametrize("capacity", [0.98, 1.0, 1.02])
def test_a_current_offset_is_found_within_three_rests_where_open_contactors_show_it(capacity: float) -> None:
    pack, columns = _days(1, capacity, seed=1)
    out = run(pack, CFG, **columns)
    assert out["current_offset_a"][-1] == pytest.approx(_OFFSET_A, abs=0.1)
    assert out["current_offset_std_a"][-1] <= 0.1


@pytest.mark.parametrize("capacity", [0.98, 1.0, 1.02])
def test_and_within_seven_from_the_voltage_alone(capacity: float) -> None:
    pack, columns = _days(3, capacity, seed=2)
    del columns["contactor_state"]
    out = run(pack, CFG, **columns)
    seventh = int(
        np.flatnonzero(columns["dt_s"] > 3600)[6 * 2]
    )  # two of them in a day's short rests, four in its long one: this is the seventh rest
    assert out["current_offset_a"][seventh] == pytest.approx(_OFFSET_A, abs=0.2)
    assert abs(out["current_offset_a"][seventh] - _OFFSET_A) < 3 * out["current_offset_std_a"][seventh]


def test_open_contactors_with_a_current_beyond_any_offset_teach_nothing() -> None:
    v, current = np.full((50, 1), 3.8), np.full(50, -30.0)
    one = run(PACK, CFG, v, current, contactor_state=np.zeros(50, np.int8))
    two = run(PACK, CFG, v, current)
    np.testing.assert_array_equal(one["current_offset_a"], two["current_offset_a"])
