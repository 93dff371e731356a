import itertools

import numpy as np
import pytest

from schemas.limit_profile import default_limits
from schemas.limits import ACTIONS, FAST, NEEDS, QUANTITIES, TIERS, Limit, slowest, too_slow, worst_detection_s
from schemas.pack import load_pack, pack_names

ROW = Limit("cell_v", "MSL", 4.25, True, "any", 0.5, 3, 2.0, 0.02, "open_at_standstill", True, "standby")


def test_worst_detection_counts_the_sample_that_was_just_missed() -> None:
    assert worst_detection_s(ROW, 0.1, 0.2) == pytest.approx(0.5 + 4 * 0.1 + 0.2)


def test_a_row_is_too_slow_only_beyond_its_own_limit() -> None:
    longest_period = (ROW.max_detect_s - ROW.for_s) / (ROW.min_samples + 1)
    assert too_slow([ROW], {"cell_v": longest_period}, 0.01) == []
    [text] = too_slow([ROW], {"cell_v": longest_period * 1.01}, 0.01)
    assert "cell_v MSL" in text
    assert "≤ 2 s" in text
    assert "\n" not in text


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_tiers_of_the_default_profile_come_in_order_of_danger(chemistry: str) -> None:
    tiers: dict[tuple[str, bool, str], list[Limit]] = {}
    for row in default_limits(chemistry, 96, 150, 400):
        tiers.setdefault((row.quantity, row.over, row.direction), []).append(row)
    for rows in tiers.values():
        rows.sort(key=lambda r: TIERS.index(r.tier))
        for low, high in itertools.pairwise(rows):
            further = high.bound - low.bound if high.over else low.bound - high.bound
            assert further > 0 or (further == 0 and high.for_s > low.for_s)


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_only_the_highest_tier_opens_and_at_speed_only_for_over_current_and_a_crash(chemistry: str) -> None:
    fast = set()
    for row in default_limits(chemistry, 96, 150, 400):
        assert row.action in ACTIONS
        assert row.quantity in QUANTITIES
        assert row.action.startswith("open") == (row.tier == "MSL")
        assert row.latch == (row.tier == "MSL")
        if row.action == "open_now":
            fast.add(row.quantity)
    assert fast == FAST == {"current_a", "rms_a", "short_a", "crash"}


def test_every_quantity_states_its_range_its_signals_and_has_a_row() -> None:
    assert set(QUANTITIES) == set(NEEDS)
    assert {row.quantity for row in default_limits("nmc", 96, 150, 400)} == set(QUANTITIES)


@pytest.mark.parametrize(
    ("quantity", "sent", "slow"),
    [
        ("cell_v", {"cell_v": 0.5, "temp_c": 2.0}, 0.5),
        ("sum_mismatch_v", {"cell_v": 0.5, "pack_v": 0.1, "current_a": 0.01}, 0.5),
        ("sum_mismatch_v", {"cell_v": 0.5, "current_a": 0.01}, None),
        ("feedback_mismatch", {"plus_closed": 0.1, "minus_closed": 0.2}, 0.2),
        ("feedback_mismatch", {"cell_v": 0.1}, None),
        ("silence", {}, 0.0),
    ],
)
def test_a_row_waits_for_the_slowest_signal_it_needs(quantity: str, sent: dict[str, float], slow: float | None) -> None:
    assert slowest(quantity, sent) == slow


def test_rows_judged_at_ticks_and_rows_without_a_signal_are_not_too_slow() -> None:
    rows = [r for r in default_limits("nmc", 96, 150, 400) if r.quantity in {"silence", "temp_c"}]
    assert too_slow(rows, {"cell_v": 0.1}, 0.01) == []
    assert {text.split()[0] for text in too_slow(rows, {}, 10.0)} == {"silence"}


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_cold_takes_current_to_zero_and_never_opens(chemistry: str) -> None:
    cold = [r for r in default_limits(chemistry, 96, 150, 400) if r.quantity == "temp_c" and not r.over]
    assert {(r.direction, r.bound, r.action) for r in cold} == {
        ("charge", 0.0, "zero_current"),
        ("discharge", -20.0, "zero_current"),
    }


@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_every_row_of_the_default_profile_can_be_met_on_a_100_ms_bus_with_100_ms_to_open(chemistry: str) -> None:
    sent = {name: 0.1 for needs in NEEDS.values() for names in needs for name in names}
    assert too_slow(default_limits(chemistry, 96, 150, 400), sent, 0.01, 0.1) == []


def test_what_healthy_recorded_packs_reached_trips_nothing_above_mol() -> None:
    reached = {"cell_v": 4.209, "temp_c": 54.4}  # a road trip with fast charging
    for row in default_limits("nmc", 96, 150, 400):
        if row.quantity in reached and row.over and row.tier != "MOL":
            assert reached[row.quantity] < row.bound


@pytest.mark.parametrize("name", pack_names())
def test_shipped_packs_carry_the_default_profile(name: str) -> None:
    pack = load_pack(name)
    assert pack.limits == default_limits(pack.chemistry, pack.series, pack.charge_max_a, pack.discharge_max_a)


def test_limits_of_a_generic_pack_follow_its_size() -> None:
    own, small = load_pack("generic-nmc"), load_pack("generic-nmc@48c4t30ah")
    for a, b in zip(own.limits, small.limits, strict=True):
        sized = a.quantity in {"pack_v", "sum_mismatch_v"} or a.quantity.endswith("_a")
        factor = 0.5 if sized else 1.0
        np.testing.assert_allclose([b.bound, b.hysteresis], [a.bound * factor, a.hysteresis * factor])
