"""Thermal requests: in proportion, without chatter, nothing heated blindly, and a thermal event cooled in any case."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import thermal
from edge.local_soc import Soc
from edge.thermal import Band, Request, fresh_state, thermal_config
from edge.words import CHARGE, DRIVE, PARK, Words
from schemas.pack import load_pack
from tests.support.frames import NS, T0_NS, frames

CFG = thermal_config(load_pack("generic-nmc@4c2t60ah"))
EVENT = ("thermal_event/MSL/over/any",)
STATES = {PARK: 0, DRIVE: 1, CHARGE: 2}


def _soc(soc: float = 0.5) -> Soc:
    return Soc(T0_NS, soc, 0.01, "ocv", np.full(4, soc), 0.001, 0.0, 0.0)


class Bus:
    def __init__(self) -> None:
        self.state, self.now_s = fresh_state(), 0.0

    def run(
        self, temp_c: Any, mode: str = DRIVE, *, seconds: float = 1.0, soc: float = 0.5, causes: tuple[str, ...] = ()
    ) -> Request:
        self.now_s += seconds
        now_ns = T0_NS + round(self.now_s * NS)
        block = frames(
            [self.now_s], cell_v=3.7, temp_c=temp_c, context={"drive_state": np.array([STATES[mode]], np.int8)}
        )
        self.state, out = thermal.step(CFG, self.state, block, (_soc(soc), Words(now_ns, "", causes)), now_ns)
        return out


@pytest.mark.parametrize("mode", [DRIVE, CHARGE])
def test_cooling_grows_from_its_begin_to_full_and_heating_likewise(mode: str) -> None:
    cool, heat = CFG.cool[mode], CFG.heat[mode]
    asked = [Bus().run(t, mode).cooling for t in np.linspace(cool.begin_c - 1, cool.full_c + 1, 30).tolist()]
    assert asked == sorted(asked)
    assert (asked[0], asked[-1]) == (0.0, 1.0)
    asked = [Bus().run(t, mode).heating for t in np.linspace(heat.begin_c + 1, heat.full_c - 1, 30).tolist()]
    assert asked == sorted(asked)
    assert (asked[0], asked[-1]) == (0.0, 1.0)


def test_the_hottest_probe_is_cooled_for_and_the_coldest_heated_for_and_cooling_wins() -> None:
    assert Bus().run([25.0, 50.0]).cooling == 1.0
    assert Bus().run([25.0, -20.0]).heating == 1.0
    both = Bus().run([-20.0, 50.0])
    assert (both.cooling, both.heating) == (1.0, 0.0)
    assert Bus().run([math.nan, 50.0]).cooling == 1.0


def test_it_ends_below_its_begin_and_not_before_its_time() -> None:
    bus, band = Bus(), CFG.cool[DRIVE]
    assert bus.run(band.begin_c + 0.1).cooling > 0
    assert bus.run(band.begin_c - band.back_c + 0.1, seconds=100).cooling > 0
    assert bus.run(band.begin_c - band.back_c - 0.1).cooling == 0.0
    assert bus.run(band.begin_c - 0.1, seconds=100).cooling == 0.0
    assert bus.run(band.begin_c + 0.1).cooling > 0
    assert bus.run(band.begin_c - 20.0, seconds=30).cooling > 0  # on for 30 s
    assert bus.run(band.begin_c - 20.0, seconds=31).cooling == 0.0


def test_a_parked_vehicle_is_not_heated_and_cooled_only_near_its_limits() -> None:
    assert Bus().run(-30.0, PARK) == Request(0.0, 0.0, "")
    assert Bus().run(CFG.cool[CHARGE].full_c, PARK).cooling == 0.0
    assert Bus().run(CFG.cool[PARK].full_c, PARK).cooling == 1.0


def test_an_empty_pack_is_not_emptied_by_its_heater_but_a_charger_may_heat() -> None:
    assert Bus().run(-20.0, DRIVE, soc=0.1) == Request(0.0, 0.0, "too little charge to heat")
    assert Bus().run(-20.0, DRIVE, soc=math.nan).heating == 0.0
    assert Bus().run(-20.0, CHARGE, soc=0.0).heating == 1.0


@pytest.mark.parametrize("mode", [PARK, DRIVE, CHARGE])
@pytest.mark.parametrize("temp_c", [-30.0, 25.0, 90.0, math.nan])
def test_a_thermal_event_is_cooled_whatever_else_holds(mode: str, temp_c: float) -> None:
    assert Bus().run(temp_c, mode, soc=0.0, causes=EVENT) == Request(1.0, 0.0, "thermal event")


def test_a_thermal_event_is_cooled_where_no_frame_comes_and_protection_fell_silent() -> None:
    words = Words(T0_NS, "open", EVENT)
    assert thermal.step(CFG, fresh_state(), None, (_soc(), words), T0_NS + 60 * NS)[1].cooling == 1.0


def test_without_a_temperature_nothing_is_heated_and_what_drives_is_cooled_moderately() -> None:
    bus = Bus()
    assert bus.run(-20.0).heating == 1.0
    assert bus.run(math.nan, seconds=10).heating == 1.0  # the last one still holds
    assert bus.run(math.nan, seconds=31) == Request(0.5, 0.0, "temperature unknown")
    assert bus.run(math.nan, PARK, seconds=31).cooling == 0.0
    silent = thermal.step(CFG, bus.state, None, (_soc(), Words()), T0_NS + round((bus.now_s + 100) * NS))[1]
    assert silent.why == "temperature unknown"


@given(
    st.lists(st.tuples(st.floats(-40, 90), st.sampled_from([PARK, DRIVE, CHARGE]), st.floats(0.1, 200)), max_size=30)
)
def test_never_both_and_always_within_bounds(steps: list[tuple[float, str, float]]) -> None:
    bus = Bus()
    for temp_c, mode, seconds in steps:
        out = bus.run(temp_c, mode, seconds=seconds)
        assert 0 <= out.cooling <= 1
        assert 0 <= out.heating <= 1
        assert not (out.cooling and out.heating)
        if temp_c >= CFG.cool[mode].full_c:
            assert out.cooling == 1.0


def test_heating_ends_above_its_begin_and_not_before_its_time() -> None:
    bus, band = Bus(), CFG.heat[DRIVE]
    assert bus.run(band.begin_c - 0.1).heating > 0
    assert bus.run(25.0, seconds=59.9).heating == 0.2
    assert bus.run(25.0, seconds=0.1).heating == 0.0
    assert bus.run(band.begin_c - 0.1).heating > 0
    assert bus.run(band.begin_c + band.back_c - 0.1, seconds=100).heating > 0
    assert bus.run(band.begin_c + band.back_c).heating > 0
    assert bus.run(band.begin_c + band.back_c + 0.1).heating == 0.0
    assert bus.run(-20.0, soc=CFG.heat_soc).heating == 1.0


def test_a_temperature_counts_for_half_a_minute_to_the_second() -> None:
    for later_s, why in ((30.0, "-20.0 °C"), (30.1, "temperature unknown")):
        bus = Bus()
        bus.run(-20.0)
        assert bus.run(math.nan, seconds=later_s).why == why


def test_where_nothing_is_asked_nothing_is_on() -> None:
    bus = Bus()
    for temp_c, mode in ((25.0, DRIVE), (math.nan, PARK)):
        bus.run(temp_c, mode, seconds=100)
        assert not bus.state.cooling
        assert not bus.state.heating


def test_bands_of_a_pack_that_charges_fully_from_20_to_45_degrees() -> None:
    assert CFG.cool == {CHARGE: Band(33, 43, 3), DRIVE: Band(37, 45, 3), PARK: Band(48, 53, 4)}
    assert CFG.heat == {CHARGE: Band(15, 5, 2), DRIVE: Band(5, -5, 3)}


def test_bands_follow_what_the_pack_takes() -> None:
    for name in ("generic-nmc", "generic-lfp", "bmw-i3-60ah", "lg-hg2"):
        cfg = thermal_config(load_pack(name))
        for mode in (DRIVE, CHARGE):
            assert cfg.heat[mode].full_c < cfg.heat[mode].begin_c < cfg.cool[mode].begin_c < cfg.cool[mode].full_c
