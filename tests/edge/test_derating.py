"""Derating: what is allowed for 2, 10 and 30 s, what binds, and how it comes and goes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.derating import HORIZONS_S, NO_CAPS, Allowed, Caps, DeratingConfig, Load, State, limits
from edge.protection import DERATE, FREE, ZERO, Verdict
from schemas.limits import RMS_TAU_S
from tests.support.samples import NAN, S, sample, scalar

# 1, 2 and 4 mΩ at −20 °C and twice to half of it above: flat in SOC below, so that sums can be done in one's head
CFG = DeratingConfig(
    series=4,
    charge_max_a=100.0,
    discharge_max_a=200.0,
    charge_rms_a=95.0,
    discharge_rms_a=190.0,
    high_v=4.2,
    low_v=3.0,
    temp_c=(-20.0, 0.0, 10.0, 50.0, 60.0),
    charge_share=(0.0, 0.0, 1.0, 1.0, 0.0),
    discharge_share=(0.0, 0.5, 1.0, 1.0, 0.0),
    r_temp_c=(-20.0, 0.0, 25.0, 50.0),
    r_soc=(0.0, 0.5, 1.0),
    r_ohm=tuple(
        tuple(tuple(k * f * r for r in (0.004, 0.002, 0.001)) for f in (4.0, 2.0, 1.0, 0.5)) for k in (1.0, 2.0, 4.0)
    ),
    r_factor=1.0,
)
FREELY = Verdict(False, False, False, FREE, FREE, False, True, ())
NO_LOAD = Load(0.0, 0.0)
SETTLED = State(100.0, 200.0, 100.0, 200.0, 0)
MID = (3.6, 3.6, 3.6, 3.6)


def allowed(
    cells: tuple[float, ...] = MID,
    temps: tuple[float, ...] = (25.0, 25.0, 25.0),
    current_a: float = 0.0,
    soc: float = 0.5,
    *,
    t_s: float = 100.0,
    state: State = SETTLED,
    verdict: Verdict = FREELY,
    load: Load = NO_LOAD,
    caps: Caps = NO_CAPS,
    cfg: DeratingConfig = CFG,
) -> Allowed:
    now = sample(t_s, cells, temps, current_a=scalar(current_a), soc=scalar(soc))
    return limits(cfg, state, now, load, verdict, caps)[1]


def bound(side: tuple[Any, ...], k: int = 1) -> tuple[float, str, int]:
    return pytest.approx(side[k].current_a), side[k].limit, side[k].at  # type: ignore[return-value]


# -- what binds


def test_a_pack_in_the_middle_of_everything_may_take_its_largest_current() -> None:
    got = allowed()
    assert [bound(got.charge, k) for k in range(2)] == [(100.0, "largest current", 0)] * 2
    assert bound(got.discharge, 0) == (200.0, "largest current", 0)
    assert bound(got.discharge, 1) == (150.0, "cell voltage", 1), "0.6 V over 4 mΩ"
    assert (got.charge_a, got.discharge_a) == pytest.approx((100.0, 150.0)), "what is commanded holds for 10 s"
    assert HORIZONS_S == (2.0, 10.0, 30.0)


def test_charging_ends_where_the_highest_cell_would_reach_its_limit_within_the_horizon() -> None:
    got = allowed((3.6, 3.6, 4.1, 3.6))
    assert [bound(got.charge, k) for k in range(3)] == [(50.0, "cell voltage", 3), (25.0, "cell voltage", 3),
        (12.5, "cell voltage", 3)]  # fmt: skip
    assert bound(got.discharge, 0)[1] == "largest current"
    at_work = allowed((3.6, 3.6, 4.2, 3.6), current_a=30.0)
    assert bound(at_work.charge) == (30.0, "cell voltage", 3), "it may go on as it is"
    assert bound(allowed((3.6, 3.6, 4.4, 3.6)).charge) == (0.0, "cell voltage", 3)


def test_discharging_ends_where_the_lowest_cell_would_reach_its_limit_within_the_horizon() -> None:
    got = allowed((3.6, 3.2, 3.6, 3.6))
    assert [bound(got.discharge, k) for k in range(3)] == [(100.0, "cell voltage", 2), (50.0, "cell voltage", 2),
        (25.0, "cell voltage", 2)]  # fmt: skip
    assert bound(allowed((3.6, 3.2, 3.6, 3.6), current_a=-30.0).discharge) == (80.0, "cell voltage", 2)
    assert bound(allowed((3.6, 2.9, 3.6, 3.6)).discharge) == (0.0, "cell voltage", 2)


def test_resistance_follows_the_coldest_probe_and_the_state_of_charge() -> None:
    cells = (3.6, 3.6, 4.1, 3.6)
    assert bound(allowed(cells, soc=1.0, cfg=replace(CFG, end_share=1.0)).charge)[0] == 50.0
    assert bound(allowed(cells, soc=0.25).charge)[0] == pytest.approx(100 / 6)
    assert bound(allowed(cells, soc=NAN).charge)[0] == 12.5, "the largest of any state of charge"
    warm = replace(CFG, charge_share=(1.0,) * 5)
    for temps, current_a in (((50.0, 50.0, 50.0), 50.0), ((90.0, 90.0, 90.0), 50.0), ((0.0, 50.0, 50.0), 12.5)):
        assert bound(allowed(cells, temps, cfg=warm).charge)[0] == current_a
    assert bound(allowed(cells, (-40.0, 50.0, 50.0), cfg=warm).charge)[0] == 6.25
    assert bound(allowed(cells, (37.5, 50.0, 50.0), cfg=warm).charge)[0] == pytest.approx(100 / 3)
    assert bound(allowed(cells, (12.5, 12.5, 12.5), cfg=replace(warm, r_factor=2.0)).charge)[0] == pytest.approx(25 / 3)
    assert bound(allowed(cells, (NAN, NAN, NAN), cfg=replace(warm, probes=False)).charge)[0] == 25.0


@pytest.mark.parametrize(
    ("temps", "charge", "discharge"),
    [
        ((5.0, 20.0, 25.0), (50.0, "temperature", 1), (150.0, "temperature", 1)),
        ((20.0, 57.5, 25.0), (25.0, "temperature", 2), (50.0, "temperature", 2)),
        ((20.0, 25.0, 61.0), (0.0, "temperature", 3), (0.0, "temperature", 3)),
        ((-5.0, 20.0, 58.0), (0.0, "temperature", 1), (40.0, "temperature", 3)),
    ],
)
def test_the_coldest_and_the_hottest_probe_take_current_back(
    temps: tuple[float, ...], charge: tuple[float, str, int], discharge: tuple[float, str, int]
) -> None:
    thin = replace(CFG, r_factor=0.01)
    got = allowed(temps=temps, cfg=thin)
    assert (bound(got.charge), bound(got.discharge)) == (charge, discharge)


@pytest.mark.parametrize(
    ("soc", "charge_a", "discharge_a"),
    [(0.95, 100, 200), (0.975, 52.5, 200), (1.0, 5, 200), (0.04, 100, 105), (0, 100, 10)],
)
def test_a_full_or_empty_pack_keeps_a_little(soc: float, charge_a: float, discharge_a: float) -> None:
    got = allowed(soc=soc, cfg=replace(CFG, r_factor=0.01))
    assert bound(got.charge) == (charge_a, "SOC" if charge_a < 100 else "largest current", 0)
    assert bound(got.discharge) == (discharge_a, "SOC" if discharge_a < 200 else "largest current", 0)


def test_the_load_of_the_last_minute_leaves_what_takes_it_to_its_bound() -> None:
    got = allowed(load=Load(90.0**2, 180.0**2), cfg=replace(CFG, charge_max_a=500.0, r_factor=0.001))
    for k, seconds in enumerate(HORIZONS_S):
        assert bound(got.charge, k)[1:] == ("load of the last minute", 0)
        keep = math.exp(-seconds / RMS_TAU_S)
        end_a2 = 90.0**2 * keep + got.charge[k].current_a ** 2 * (1 - keep)
        assert math.sqrt(end_a2) == pytest.approx(95.0)
    over = allowed(load=Load(1e6, 1e6))
    assert bound(over.charge) == (0.0, "load of the last minute", 0)
    assert bound(over.discharge) == (0.0, "load of the last minute", 0)


def test_power_is_the_current_at_the_voltage_that_it_leads_to() -> None:
    got = allowed((3.6, 3.6, 4.1, 3.6), current_a=-10.0)  # 3.725 V on average
    current_a = got.charge[1].current_a
    assert current_a == pytest.approx(15.0)
    assert got.charge[1].power_w == pytest.approx(15.0 * 4 * (3.725 + 25.0 * 0.004))
    out = got.discharge[1]
    assert out.power_w == pytest.approx(out.current_a * 4 * (3.725 + (10.0 - out.current_a) * 0.004))
    low = allowed((3.01, 3.6, 3.6, 3.6), cfg=replace(CFG, cells=False))
    assert low.discharge[2].power_w == pytest.approx(low.discharge[2].current_a * 4 * 3.0), "not below the limit"
    high = allowed((4.19, 4.19, 4.19, 4.19), cfg=replace(CFG, cells=False))
    assert high.charge[2].power_w == pytest.approx(100.0 * 4 * 4.2)


# -- what is not known


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"cells": (NAN,) * 4}, "voltage or current unknown"),
        ({"current_a": NAN}, "voltage or current unknown"),
        ({"temps": (NAN,) * 3}, "temperature unknown"),
    ],
)
def test_what_is_not_known_holds_what_was_allowed(more: dict[str, Any], name: str) -> None:
    got = allowed(state=State(30.0, 60.0, 100.0, 200.0, 0), **more)
    assert (bound(got.charge), bound(got.discharge)) == ((30.0, name, 0), (60.0, name, 0))
    assert got.charge[1].power_w == pytest.approx(30.0 * 4 * (3.0 if "temps" not in more else 3.72))


def test_signals_that_are_absent_bind_nothing() -> None:
    got = allowed((), (), soc=NAN, cfg=replace(CFG, cells=False, probes=False))
    assert (bound(got.charge)[0], bound(got.discharge)[0]) == (100.0, 200.0)


# -- ramps, broken limits, caps


def asks(charge: int, discharge: int, blind: bool = False) -> Verdict:
    return FREELY._replace(charge=charge, discharge=discharge, blind=blind, causes=("why/MSL/over/any", "other"))


def ramped(verdict: Verdict, *times_s: float, state: State = SETTLED, **more: Any) -> list[tuple[float, float]]:
    out = []
    for t_s in times_s:
        now = sample(t_s, MID, (25.0,) * 3, current_a=scalar(0.0), soc=scalar(0.5))
        state, got = limits(CFG, state, now, NO_LOAD, verdict, **more)
        out.append((round(got.charge_a, 6), round(got.discharge_a, 6)))
    return out


def test_a_broken_limit_takes_the_current_back_within_a_second_and_names_itself() -> None:
    assert ramped(asks(ZERO, FREE), 0.25, 0.5, 1.0, 2.0) == [(75.0, 150.0), (50.0, 150.0), (0.0, 150.0), (0.0, 150.0)]
    assert ramped(asks(DERATE, ZERO), 0.25, 0.75, 1.0) == [(75.0, 150.0), (50.0, 50.0), (50.0, 0.0)]
    got = allowed(t_s=1.0, verdict=asks(ZERO, DERATE))
    assert (bound(got.charge), bound(got.discharge)) == ((0.0, "why/MSL/over/any", 0), (100.0, "why/MSL/over/any", 0))
    assert got.charge[1].power_w == 0.0


def test_want_of_knowledge_takes_it_back_within_five_seconds() -> None:
    assert ramped(asks(ZERO, ZERO, blind=True), 1.0, 4.0, 5.0)[1:] == [(20.0, 40.0), (0.0, 0.0)]


def test_it_comes_back_within_ten_seconds() -> None:
    start = State(0.0, 0.0, 0.0, 0.0, 0)
    assert ramped(FREELY, 1.0, 5.0, 7.5, 10.0, 20.0, state=start) == [
        (10.0, 20.0), (50.0, 100.0), (75.0, 150.0), (100.0, 150.0), (100.0, 150.0),
    ]  # fmt: skip
    assert ramped(asks(DERATE, FREE), 6.0, state=start) == [(50.0, 120.0)]
    assert ramped(FREELY, 0.0, state=State()) == [(0.0, 0.0)], "nothing at the start"
    assert ramped(FREELY, 3.0, state=State()) == [(0.0, 0.0)], "no time is known to have passed"


def test_knowledge_takes_it_back_at_once() -> None:
    now = sample(0.01, (3.6, 3.6, 4.19, 3.6), (25.0,) * 3, current_a=scalar(0.0), soc=scalar(0.5))
    assert limits(CFG, SETTLED, now, NO_LOAD, FREELY)[1].charge_a == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("caps", "charge", "discharge"),
    [
        (Caps(40.0, NAN), (40.0, "cap from outside", 0), (150.0, "cell voltage", 1)),
        (Caps(NAN, 0.0), (100.0, "largest current", 0), (0.0, "cap from outside", 0)),
        (Caps(-5.0, -math.inf), (0.0, "cap from outside", 0), (0.0, "cap from outside", 0)),
        (Caps(100.0, 160.0), (100.0, "largest current", 0), (150.0, "cell voltage", 1)),
        (Caps(math.inf, 1e9), (100.0, "largest current", 0), (150.0, "cell voltage", 1)),
    ],
)
def test_a_cap_from_outside_only_tightens(caps: Caps, charge: tuple[Any, ...], discharge: tuple[Any, ...]) -> None:
    got = allowed(caps=caps)
    assert (bound(got.charge), bound(got.discharge)) == (charge, discharge)


def test_power_shrinks_with_the_current_that_a_cap_leaves() -> None:
    whole, half = allowed(), allowed(caps=Caps(50.0, NAN))
    assert half.charge[1].power_w == pytest.approx(whole.charge[1].power_w / 2)
    nothing = allowed((3.6, 3.6, 4.3, 3.6), caps=Caps(-1.0, NAN))
    assert (nothing.charge[1].current_a, nothing.charge[1].power_w) == (0.0, 0.0)


ANY = st.one_of(st.just(NAN), st.floats(-2000, 2000))
VOLTS = st.one_of(st.just(NAN), st.floats(0.5, 6.0))
LEVEL = st.sampled_from([FREE, DERATE, ZERO])


@given(
    st.lists(st.tuples(VOLTS, ANY, ANY, st.floats(0, 1), LEVEL, LEVEL, st.booleans()), min_size=1, max_size=10),
    st.floats(allow_nan=True), st.floats(allow_nan=True),
)  # fmt: skip
def test_whatever_comes_the_final_limit_is_no_number_out_of_range_and_no_larger_than_without_the_cap(
    ticks: list[tuple[Any, ...]], cap_a: float, out_a: float
) -> None:
    with_cap, local = State(), State()
    for k, (cell_v, temp_c, current_a, soc, charge, discharge, blind) in enumerate(ticks):
        now = sample(k / 3, (3.6, cell_v, 3.5, 3.5), (temp_c, 25.0, 25.0), current_a=scalar(current_a), soc=scalar(soc))
        word = asks(charge, discharge, blind)
        with_cap, capped = limits(CFG, with_cap, now, NO_LOAD, word, Caps(cap_a, out_a))
        local, free = limits(CFG, local, now, NO_LOAD, word)
        assert 0 <= capped.charge_a <= free.charge_a <= 100
        assert 0 <= capped.discharge_a <= free.discharge_a <= 200
        assert math.isnan(cap_a) or capped.charge_a <= max(cap_a, 0)
        for one, other in zip(capped.charge + capped.discharge, free.charge + free.discharge, strict=True):
            assert 0 <= one.current_a <= other.current_a
            assert 0 <= one.power_w <= other.power_w + 1e-9
    assert local.t_ns == round((len(ticks) - 1) / 3 * S)


_SOME = st.sampled_from([NAN, 3.5, 3.6, 3.61, 4.1])


@given(
    st.lists(
        st.tuples(
            st.tuples(_SOME, _SOME), st.sampled_from([NAN, -5.0, 25.0]), st.sampled_from([NAN, 0.0, -30.0]),
            st.sampled_from([NAN, 0.5, 0.99]), st.sampled_from([NO_LOAD, Load(100.0, 900.0)]),
            st.sampled_from([FREELY, FREELY._replace(charge=ZERO)]),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_what_is_kept_from_tick_to_tick_changes_nothing(
    ticks: list[tuple[tuple[float, float], float, float, float, Load, Verdict]],
) -> None:
    kept = anew = State()
    cells, temps = (3.6, 3.6), (25.0,)
    for k, (cell_v, temp_c, current_a, soc, load, verdict) in enumerate(ticks):
        cells = cells if cell_v == cells else cell_v  # as sensing does: what did not come stays the same object
        temps = temps if temps == (temp_c,) else (temp_c,)
        now = sample(0.1 * k, cells, temps, current_a=scalar(current_a), soc=scalar(soc))
        kept, one = limits(CFG, kept, now, load, verdict)
        anew, other = limits(CFG, anew._replace(view=None, whole=None, load=None, rows=()), now, load, verdict)
        assert one == other
