"""Balancing: only where it is allowed, the fullest first, within its heat, from one difference to a smaller one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import balancing
from edge.balancing import Balance, BalancingConfig, State, balancing_config, fresh_state
from edge.commands import balancing_pages
from edge.local_soc import Soc
from edge.words import Words
from schemas.pack import load_pack
from tests.support.frames import NS, T0_NS, frames

NMC = replace(balancing_config(load_pack("generic-nmc@4c2t60ah")), budget_w=100.0)
LFP = replace(balancing_config(load_pack("generic-lfp@4c2t60ah")), budget_w=100.0)
CELLS = np.array([3.700, 3.725, 3.707, 3.713])
PARKED = {"drive_state": 0}
AC = {"drive_state": 2}


class Bus:
    """Feeds seconds of frames, and keeps what was asked for."""

    def __init__(self, cfg: BalancingConfig) -> None:
        self.cfg, self.state, self.now_s = cfg, fresh_state(cfg), 0.0
        self.out = Balance(np.zeros(4, np.bool_), 0.0, "")

    def run(
        self,
        seconds: float,
        cell_v: Any = CELLS,
        *,
        said: dict[str, int] = PARKED,
        rest_s: float = 1e5,
        words: Words | None = None,
        cell_soc: Any = (0.5, 0.5, 0.5, 0.5),
        spread_std: float = 0.001,
        **more: Any,
    ) -> list[tuple[bool, ...]]:
        """Give each second's mask."""
        masks = []
        for _ in range(round(seconds)):
            self.now_s += 1.0
            now_ns = T0_NS + round(self.now_s * NS)
            context = {k: np.array([v], np.int8) for k, v in said.items()}
            block = frames([self.now_s], more.get("current_a", 0.0), cell_v=np.array([cell_v], np.float32),
                           cells=self.cfg.series, temp_c=more.get("temp_c", 25.0), context=context)  # fmt: skip
            soc = Soc(now_ns, 0.5, 0.01, "ocv", np.array(cell_soc, np.float64), spread_std, rest_s, 0.0)
            told = (soc, Words(now_ns) if words is None else words)
            self.state, self.out = balancing.step(self.cfg, self.state, block, told, now_ns)
            masks.append(tuple(bool(on) for on in self.out.mask))
        return masks


def test_cells_over_the_start_bleed_in_cycles_with_pauses_to_measure() -> None:
    bus = Bus(NMC)
    masks = bus.run(131)
    assert masks[:10] == [(False,) * 4] * 10  # measures first
    on = (False, True, False, True)
    assert masks[10:60] == [on] * 50
    assert masks[60:70] == [(False,) * 4] * 10
    assert masks[70:120] == [on] * 50


def test_a_cell_bleeds_from_the_start_down_to_the_stop() -> None:
    bus = Bus(NMC)
    cells = CELLS.copy()
    for over, bleeds in (
        (0.009, False),
        (0.0101, True),
        (0.008, True),
        (0.0042, True),
        (0.0039, False),
        (0.009, False),
    ):
        cells[:] = 3.7
        cells[1] += over
        masks = bus.run(60, cells)
        assert any(m[1] for m in masks[-45:]) == bleeds, over
    assert bus.out.why == "balanced"


def test_exactly_the_start_bleeds() -> None:
    cfg = replace(NMC, start=0.25, stop=0.125)
    for over, bleeds in ((0.25, True), (0.2499, False)):
        assert any(m[1] for m in Bus(cfg).run(30, np.array([3.5, 3.5 + over, 3.5, 3.5]))) == bleeds


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"said": {"drive_state": 1}}, "neither at rest nor charging"),
        ({"rest_s": 299.0}, "neither at rest nor charging"),
        ({"said": AC, "current_a": 20.0}, "charging current too large to compare voltages"),
        ({"temp_c": 56.0}, "too hot"),
        ({"temp_c": -11.0}, "too cold"),
        ({"temp_c": math.nan}, "temperature unknown"),
        ({"cell_v": np.array([3.7, math.nan, 3.7, 3.72])}, "not every cell is seen"),
        ({"words": Words(causes=("cell_v/MSL/over/any",), heard_ns=T0_NS + 100 * NS)}, "protection does not speak"),
        ({"words": Words(), "said": AC}, "protection does not speak"),
    ],
)
def test_nothing_bleeds_where_it_is_not_allowed_and_the_reason_is_said(more: dict[str, Any], why: str) -> None:
    bus = Bus(NMC)
    assert any(any(m) for m in bus.run(40))
    assert bus.run(90, **more) == [(False,) * 4] * 90
    assert bus.out.why == why
    assert bus.out.heat_w == 0.0


def test_a_hard_limit_that_is_broken_stops_it_and_a_soft_one_does_not() -> None:
    for key, stops in (("cell_v/MSL/over/any", True), ("cell_v/RSL/over/any", False)):
        bus = Bus(NMC)
        for _ in range(40):
            masks = bus.run(1, words=Words(T0_NS + round((bus.now_s + 1) * NS), "closed", (key,)))
        assert any(masks[-1]) != stops
        assert (key in bus.out.why) == stops


def test_it_goes_on_while_charging_with_little_current() -> None:
    assert any(any(m) for m in Bus(NMC).run(30, said=AC, current_a=5.0, rest_s=0.0))


def test_too_hot_ends_only_well_below() -> None:
    bus = Bus(NMC)
    assert not any(any(m) for m in bus.run(30, temp_c=56.0))
    assert not any(any(m) for m in bus.run(30, temp_c=51.0))
    assert any(any(m) for m in bus.run(30, temp_c=44.0))


def test_the_heat_budget_lets_the_fullest_bleed_and_shrinks_with_warmth() -> None:
    one = 3.725 * NMC.bleed_a
    cases = ((20, 25.0, 2), (1.5, 25.0, 1), (4.2, 50.0, 2), (2.2, 50.0, 1), (1.5, 50.0, 0))
    for cells, temp_c, count in cases:
        budget_w = cells * one
        bus = Bus(replace(NMC, budget_w=budget_w))
        masks = bus.run(30, temp_c=temp_c)
        assert sum(masks[-1]) == count
        assert bus.out.heat_w <= budget_w
        if count == 1:
            assert masks[-1][1]  # the fullest
            assert bus.out.why == "heat budget"


def test_empty_cells_are_not_bled() -> None:
    for over, bleeds in ((0.001, True), (-0.001, False)):
        bus = Bus(NMC)
        assert any(any(m) for m in bus.run(30, NMC.floor_v + over + np.array([0.0, 0.05, 0.0, 0.0]))) == bleeds
        assert (bus.out.why == "too empty") != bleeds


def test_a_cell_that_is_far_from_the_others_is_a_fault_and_nobody_bleeds_for_it() -> None:
    for far, bleeds in ((0.29, True), (0.31, False)):
        bus = Bus(NMC)
        assert any(any(m) for m in bus.run(30, 3.7 + np.array([0.0, far, far, far]))) == bleeds
    assert bus.out.why == "a cell is too far from the others to be bled for"


def test_noise_of_a_single_frame_starts_nothing() -> None:
    bus = Bus(NMC)
    flat = np.full(4, 3.7)
    for _ in range(30):
        masks = bus.run(9, flat) + bus.run(1, flat + np.array([0.0, 0.05, 0.0, 0.0]))
        assert not any(any(m) for m in masks)


def test_by_charge_needs_differences_that_are_known_and_goes_by_them() -> None:
    assert LFP.by == "charge"
    flat = np.full(4, 3.3)
    bus = Bus(LFP)
    cells = (0.5, 0.509, 0.511, 0.5)
    assert not any(any(m) for m in bus.run(30, flat, cell_soc=cells, spread_std=0.004))
    assert bus.out.why == "differences of charge not known well enough"
    assert not any(any(m) for m in bus.run(30, flat, cell_soc=cells, spread_std=math.nan))
    assert bus.run(30, flat, cell_soc=cells)[-1] == (False, False, True, False)
    assert bus.run(60, flat, cell_soc=(0.5, 0.5, 0.5041, 0.5))[-1] == (False, False, True, False)
    assert bus.run(60, flat, cell_soc=(0.5, 0.5, 0.5039, 0.5))[-1] == (False,) * 4


def test_by_charge_any_charging_current_is_good() -> None:
    masks = Bus(LFP).run(30, np.full(4, 3.4), said=AC, current_a=100.0, rest_s=0.0, cell_soc=(0.5, 0.6, 0.5, 0.5))
    assert masks[-1] == (False, True, False, False)


def test_bleeding_by_charge_ends_with_the_cells_alike() -> None:
    bus, cells = Bus(replace(LFP, bleed_a=10.0)), np.array([0.50, 0.53, 0.515, 0.502])
    for _ in range(900):
        mask = np.array(bus.run(5, np.full(4, 3.3), cell_soc=cells)[-1])
        cells = cells - mask * 10.0 * 5.0 / 3600.0 / LFP.capacity_ah
    assert np.ptp(cells) <= LFP.stop / LFP.capacity_ah + 1e-3
    assert cells.min() == 0.50
    assert not bus.out.mask.any()


def test_bleeding_by_voltage_ends_with_the_cells_alike_though_a_bleed_pulls_its_own_voltage_down() -> None:
    pack = load_pack("generic-nmc@4c2t60ah")
    grid, bleed_a = pack.grid(), 6.0
    bus = Bus(replace(NMC, bleed_a=bleed_a))
    charge, rng = np.array([0.50, 0.56, 0.53, 0.505]), np.random.default_rng(1)
    mask = np.zeros(4, np.bool_)
    for _ in range(3600):
        volts = np.interp(charge, grid.soc, grid.ocv[11]) - 0.02 * mask + rng.normal(0, 0.001, 4)
        mask = np.array(bus.run(1, volts)[0])
        charge = charge - mask * bleed_a / 3600.0 / pack.usable_ah
    assert np.ptp(np.interp(charge, grid.soc, grid.ocv[11])) < NMC.start
    assert charge[0] == 0.50, "the emptiest gives nothing"
    assert not mask.any()


def test_without_frames_the_bleeds_end() -> None:
    bus = Bus(NMC)
    bus.run(30)
    soc = Soc(T0_NS, 0.5, 0.01, "ocv", np.full(4, 0.5), 0.001, 1e5, 0.0)
    for later_s, on in ((1, True), (80, False)):
        now_ns = T0_NS + round((bus.now_s + later_s) * NS)
        out = balancing.step(bus.cfg, bus.state, None, (soc, Words(now_ns)), now_ns)[1]
        assert out.mask.any() == on


def test_a_clock_that_is_set_back_begins_anew() -> None:
    bus = Bus(NMC)
    assert any(bus.run(30)[-1])
    bus.now_s = -1000.0
    masks = bus.run(12)
    assert not any(any(m) for m in masks[:10])
    assert any(masks[-1])


def test_a_step_leaves_its_state_and_its_mask_reaches_the_bus() -> None:
    bus = Bus(NMC)
    bus.run(11)
    before = bus.state
    kept = State(before.tops.copy(), before.on.copy(), *before[2:])
    bus.run(60)
    assert (kept.on == before.on).all()
    assert (kept.tops == before.tops).all()
    assert list(balancing_pages([False, True, False, True])) == [{"Page": 0, "Bleed": 0b1010}]


def test_a_pack_says_how_it_is_balanced_unless_told() -> None:
    nmc, lfp = load_pack("generic-nmc"), load_pack("generic-lfp")
    assert (balancing_config(nmc).by, balancing_config(lfp).by) == ("voltage", "charge")
    assert balancing_config(nmc, by="charge").start == pytest.approx(0.01 * nmc.usable_ah)
    assert balancing_config(lfp, by="voltage").start == 0.03
    assert balancing_config(nmc).floor_v == pytest.approx(3.3)
    assert balancing_config(nmc, bleed_a=0.2).budget_w == pytest.approx(nmc.series / 4 * 4.25 * 0.2), "full cells"
    assert balancing_config(nmc, budget_w=3.0).budget_w == 3.0


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 5, 6, 13])
@pytest.mark.parametrize("chemistry", ["nmc", "lfp"])
def test_in_a_pack_of_few_cells_the_fullest_bleeds_even_where_it_is_full(cells: int, chemistry: str) -> None:
    cfg = balancing_config(load_pack(f"generic-{chemistry}@{cells}c1t60ah"))
    high_v = {"nmc": 4.2, "lfp": 3.62}[chemistry]
    bus = Bus(cfg)
    charges = (1.0, *[0.9] * (cells - 1))
    masks = bus.run(30, np.array([high_v, *[high_v - 0.05] * (cells - 1)]), cell_soc=charges)
    assert any(m[0] for m in masks) == (cells > 1)
    assert not any(any(m[1:]) for m in masks)


@pytest.mark.parametrize(("first", "why"), [(290, "neither at rest nor charging"), (300, "measuring")])
def test_rest_is_that_of_each_frame_and_not_of_the_blocks_end(first: int, why: str) -> None:
    block = frames(np.arange(0.0, 400.0), cell_v=3.7, context={"drive_state": np.zeros(400, np.int8)})
    soc = Soc(int(block.t_ns[399]), 0.5, 0.01, "ocv", np.full(4, 0.5), 0.001, 399.0, 0.0)  # rests since the first frame
    part = block.take(slice(first, first + 1))
    t_ns = int(part.t_ns[0])
    assert balancing.step(NMC, fresh_state(NMC), part, (soc, Words(t_ns)), t_ns)[1].why == why


@pytest.mark.parametrize(
    ("temp_c", "bleeds"), [(-10.0, True), (-10.1, False), (55.0, False), (54.9, True), (44.9, True)]
)
def test_the_bounds_of_temperature(temp_c: float, bleeds: bool) -> None:
    bus = Bus(NMC)
    assert any(any(m) for m in bus.run(30, temp_c=temp_c)) == bleeds
    assert (bus.out.why == "too hot") == (temp_c > 55)


_CELLS = st.tuples(*[st.sampled_from([3.70, 3.71, 3.73, 3.80])] * 3, st.sampled_from([3.70, 3.75, 3.0, math.nan]))
_TURN = st.tuples(
    st.sampled_from([1, 5, 15, 60]),
    _CELLS,
    st.sampled_from([25.0, 25.0, 44.0, 53.0, 60.0, -20.0]),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0.0, 0.0, 20.0]),
    st.sampled_from([1e4, 0.0]),
    st.sampled_from([True, True, False]),
)


@settings(max_examples=25)
@given(st.lists(_TURN, min_size=1, max_size=6), st.floats(0.4, 2.0), st.sampled_from([NMC, LFP]))
def test_whatever_comes_a_bleed_is_allowed_within_its_heat_and_never_that_of_the_emptiest(
    turns: list[tuple[int, tuple[float, ...], float, int, float, float, bool]], budget_w: float, cfg: BalancingConfig
) -> None:
    bus = Bus(replace(cfg, budget_w=budget_w))
    charges = (0.5, 0.6, 0.55, 0.52)
    assert any(any(m) for m in bus.run(15, cell_soc=charges))
    for seconds, cells, temp_c, drive_state, current_a, rest_s, speaks in turns:
        for _ in range(seconds):
            bus.run(
                1, np.array(cells), said={"drive_state": drive_state}, rest_s=rest_s, temp_c=temp_c,
                current_a=current_a, words=None if speaks else Words(), cell_soc=charges,
            )  # fmt: skip
            if not bus.out.mask.any():
                continue
            assert speaks
            assert not np.isnan(cells).any()
            assert -10 <= temp_c <= 55
            assert drive_state == 2 or (drive_state == 0 and rest_s > 300)
            assert bus.out.heat_w <= budget_w
            assert not bus.out.mask.all()
            assert not (cfg is LFP and bus.out.mask[0])
