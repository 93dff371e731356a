"""What a circuit misses: learned as river would, kept only while it helps, learned anew after a change."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from river.linear_model import BayesianLinearRegression

from operators.kernels import circuit_error as kernel
from operators.kernels import slots
from operators.kernels.circuit_error import Charges, CircuitErrorConfig, CircuitErrorState, circuit_v, features, follow
from schemas.pack import load_pack

PACK = load_pack("generic-nmc@96c2t60ah")
CFG = CircuitErrorConfig()
MISSED = (0.006, 0.0, 0.0, 0.02, 0.0)  # V: an OCV 6 mV off, 20 mV more at 1 C


def charges(n: int, missed: Any = MISSED, noise_v: float = 0.002, first: int = 0, seed: int = 1) -> Charges:
    draw = np.random.default_rng(seed)
    soc = draw.uniform(0.1, 0.5, n)
    plain = Charges(
        np.zeros(n, np.int32), first + 1 + np.arange(n), np.zeros(n), draw.uniform(5, 60, n), soc,
        soc + draw.uniform(0.1, 0.4, n), np.zeros(n), draw.uniform(0, 35, n), np.ones(n),
    )  # fmt: skip
    off = features(PACK, plain) @ np.asarray(missed) + draw.normal(0, noise_v, n)
    return replace(plain, v=circuit_v(PACK, plain) + off)


def state(packs: int = 1) -> CircuitErrorState:
    return CircuitErrorState.empty(packs, PACK.series, PACK.probes)


def events(made: kernel.Followed) -> list[tuple[int, str]]:
    column = made.out[:, kernel.O_EVENT].astype(int)
    return [(int(n), kernel.EVENTS[column[n]]) for n in np.flatnonzero(column)]


def off_v(weights: Any, missed: Any) -> float:
    """Give how far what was learned is from what was missed, over other charges."""
    return float(np.std(features(PACK, charges(200, seed=9)) @ (weights - np.asarray(missed))))


def test_a_circuit_without_resistance_says_the_mean_of_its_ocv() -> None:
    grid = PACK.grid()
    at_25 = int(np.flatnonzero(grid.temp_c == 25.0)[0])
    one = replace(charges(1), current_a=np.zeros(1), temp_c=np.array([25.0]), soc_start=np.zeros(1), soc_end=np.ones(1))
    assert circuit_v(PACK, one)[0] == pytest.approx(np.trapezoid(grid.ocv[at_25], grid.soc), abs=1e-6)


def test_more_current_shows_as_its_ohmic_drop() -> None:
    one = replace(charges(1), soc_start=np.array([0.3]), soc_end=np.array([0.7]), temp_c=np.array([25.0]))
    low, high = (circuit_v(PACK, replace(one, current_a=np.array([i])))[0] for i in (10.0, 40.0))
    grid = PACK.grid()
    at_25 = int(np.flatnonzero(grid.temp_c == 25.0)[0])
    steady = (grid.r0 + grid.rb.sum(axis=0))[at_25]
    inside = (grid.soc >= 0.3 - 1e-9) & (grid.soc <= 0.7 + 1e-9)
    assert high - low == pytest.approx(30.0 * np.trapezoid(steady[inside], grid.soc[inside]) / 0.4, rel=1e-3)


def test_weights_are_those_of_rivers_bayesian_regression() -> None:
    rows = charges(40)
    made = follow(CFG, state(), PACK, rows)
    river = BayesianLinearRegression(alpha=1 / CFG.prior_v**2, beta=1 / CFG.noise_v**2)
    for x, off, said in zip(
        features(PACK, rows), rows.v - circuit_v(PACK, rows), made.out[:, kernel.O_SAID], strict=True
    ):
        one = dict(enumerate(x.tolist()))
        assert said == pytest.approx(river.predict_one(one), abs=1e-9)
        river.learn_one(one, float(off))


def test_what_is_learned_is_kept_once_it_beats_the_circuit_and_is_what_was_missed() -> None:
    made = follow(CFG, state(), PACK, charges(80))
    assert events(made) == [(CFG.fewest - 1, "kept")]
    assert off_v(made.weights[-1], MISSED) < 1e-3
    assert made.out[-1, kernel.O_RESIDUAL] < 0.4 * made.out[-1, kernel.O_CIRCUIT]


def test_a_circuit_that_misses_nothing_stays_alone() -> None:
    for seed in range(10):
        made = follow(CFG, state(), PACK, charges(200, np.zeros(5), 0.004, seed=seed))
        assert not made.out[:, kernel.O_KEPT].any(), seed


def test_what_stops_helping_is_dropped() -> None:
    pack = state()
    follow(CFG, pack, PACK, charges(40, noise_v=0.001))
    assert pack.x[0, kernel.COLUMNS.index("kept")] == 1
    made = follow(CFG, pack, PACK, charges(6, np.zeros(5), 0.001, first=40))
    assert "dropped" in dict(events(made)).values() or "retrained" in dict(events(made)).values()
    assert not made.out[-1, kernel.O_KEPT]


def test_a_change_is_found_and_everything_learned_anew_from_the_newest_charges() -> None:
    pack = state()
    follow(CFG, pack, PACK, charges(100))
    changed = (0.026, 0.0, 0.0, 0.02, 0.0)
    made = follow(CFG, pack, PACK, charges(60, changed, first=100, seed=2))
    found = {name: n for n, name in events(made)}
    assert found["retrained"] < 15
    assert found["kept"] > found["retrained"]
    assert made.out[found["retrained"], kernel.O_MOVED] > 0.005
    assert off_v(made.weights[-1], changed) < 2e-3


def test_a_steady_pack_is_rarely_learned_anew() -> None:
    made = [follow(CFG, state(), PACK, charges(300, noise_v=0.004, seed=seed)) for seed in range(20)]
    assert sum(name == "retrained" for m in made for _, name in events(m)) <= 3


def test_any_cut_gives_the_same_bits_and_packs_do_not_touch_each_other() -> None:
    mine, other = charges(60), charges(60, np.zeros(5), seed=5)
    both = Charges(*(np.column_stack([getattr(c, f.name) for c in (mine, other)]).ravel() for f in fields(Charges)))
    both = replace(both, slot=np.tile(np.array([1, 0], np.int32), 60))
    whole, parts = state(2), state(2)
    expected = follow(CFG, whole, PACK, both)
    edges = (0, 1, 1, 17, 60, 119, 120)
    cuts = [Charges(*(getattr(both, f.name)[a:b] for f in fields(Charges))) for a, b in pairwise(edges)]
    got = np.concatenate([follow(CFG, parts, PACK, cut).out for cut in cuts])
    assert got.tobytes() == expected.out.tobytes()
    ends = slots.arrays(parts)
    assert all(array.tobytes() == ends[name].tobytes() for name, array in slots.arrays(whole).items())
    alone = follow(CFG, state(), PACK, mine)
    assert expected.out[both.slot == 1].tobytes() == alone.out.tobytes()


def test_a_charge_that_says_nothing_or_comes_again_changes_nothing() -> None:
    pack = state()
    follow(CFG, pack, PACK, charges(20))
    before = {k: v.copy() for k, v in slots.arrays(pack).items()}
    unknown = replace(charges(5, first=20), temp_c=np.full(5, np.nan))
    for rows in (charges(20), unknown):
        assert np.isnan(follow(CFG, pack, PACK, rows).out).all()
    assert all(np.array_equal(before[k], v) for k, v in slots.arrays(pack).items())


@pytest.mark.parametrize(("soc_std", "least_mv", "most_mv"), [(0.0, 3.0, 30.0), (0.2, 0.0, 0.2)])
def test_a_charge_that_is_far_off_moves_little_where_its_soc_is_unsure(
    soc_std: float, least_mv: float, most_mv: float
) -> None:
    pack, one = state(), charges(1, first=20)
    before = follow(CFG, pack, PACK, charges(20)).weights[-1]
    after = follow(CFG, pack, PACK, replace(one, v=one.v + 0.05, soc_std=np.full(1, soc_std))).weights[-1]
    moved_mv = 1e3 * float(np.abs(features(PACK, one) @ (after - before))[0])
    assert least_mv <= moved_mv <= most_mv


@pytest.mark.parametrize(("name", "value"), [("prior_v", 0.0), ("better", 1.5), ("newest", -0.1)])
def test_a_wrong_setting_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be > 0.*got {value}"):
        replace(CFG, **{name: value})  # type: ignore[arg-type] # any of them
