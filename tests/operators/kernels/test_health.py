"""SOH from charges of packs whose capacity is known, and reports that are no measurement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.kernels import health as kernel
from operators.kernels.evidence import OUTLIER
from schemas.pack import load_pack
from tests.support.frames import NS, T0_NS

CFG = kernel.HealthConfig()
DAY_NS = 86_400 * NS


def rows(n: int, **columns: Any) -> kernel.Rows:
    """N charges of one pack, one a day, that all say SOH 0.85; NaN where not named."""
    plain: dict[str, Any] = {
        "slot": 0, "t_ns": T0_NS + np.arange(n) * DAY_NS, "charge": True, "reasons": 0, "soh": 0.85, "soh_std": 0.02,
        "r0_rel": np.nan, "imbalance": 0.0, "cycles": 0.5, "model": np.nan, "model_std": np.nan, "frames": 100.0,
        "bms_min": np.nan, "bms_max": np.nan, "bms_end": np.nan,
    }  # fmt: skip
    kinds = {"slot": np.int32, "t_ns": np.int64, "charge": np.bool_, "reasons": np.uint32}
    whole = plain | columns
    return kernel.Rows(**{k: np.array(np.broadcast_to(v, n), kinds.get(k, np.float64)) for k, v in whole.items()})


def bms(values: Any) -> dict[str, NDArray[np.float64]]:
    given = np.asarray(values, np.float64)
    return dict.fromkeys(("bms_min", "bms_max", "bms_end"), given)


def run(given: kernel.Rows, slots: int = 1, cuts: tuple[int, ...] = ()) -> tuple[kernel.Followed, kernel.HealthState]:
    state = kernel.HealthState.empty(slots, 0, 0)
    n = given.slot.size
    parts = []
    for a, b in zip([0, *cuts], [*cuts, n], strict=True):
        parts.append(kernel.follow(CFG, state, kernel.Rows(*(getattr(given, f)[a:b] for f in given.__slots__))))
    joined = kernel.Followed(*(np.concatenate([getattr(p, f) for p in parts]) for f in parts[0].__slots__))
    return joined, state


def column(got: kernel.Followed, name: str) -> NDArray[np.float64]:
    return got.out[:, kernel.OUT_COLUMNS.index(name)]


def test_a_pack_never_seen_is_what_is_believed_before() -> None:
    got, _ = run(rows(1, charge=False))
    assert column(got, "soh")[0] == pytest.approx(CFG.prior)
    assert column(got, "soh_high")[0] - column(got, "soh_low")[0] > 0.3


def test_charges_that_agree_lead_to_what_they_say_and_narrow_the_interval() -> None:
    got, _ = run(rows(30))
    soh, low, high = (column(got, k) for k in ("soh", "soh_low", "soh_high"))
    assert soh[-1] == pytest.approx(0.85, abs=0.003)
    assert high[-1] - low[-1] < 0.8 * (high[0] - low[0])
    # what all charges of a pack share is never averaged away
    assert column(got, "soh_std")[-1] >= CFG.bias


def test_the_first_charge_is_weighed_as_bayes_says() -> None:
    got, _ = run(rows(1))
    gain = CFG.prior_std**2 / (CFG.prior_std**2 + 0.02**2)
    assert column(got, "gain")[0] == pytest.approx(gain)
    assert column(got, "soh_capacity")[0] == pytest.approx(CFG.prior + gain * (0.85 - CFG.prior))


def test_one_wild_charge_is_an_outlier_and_moves_nothing() -> None:
    soh = np.full(12, 0.85)
    soh[8] = 0.5
    got, _ = run(rows(12, soh=soh))
    assert got.reasons.tolist() == [0] * 8 + [OUTLIER] + [0] * 3
    assert column(got, "soh_capacity")[8] == pytest.approx(column(got, "soh_capacity")[7], abs=1e-6)


def test_a_young_estimate_that_began_wrong_begins_again() -> None:
    got, _ = run(rows(30, soh=np.r_[np.full(3, 0.5), np.full(27, 0.9)], soh_std=0.01))
    assert column(got, "soh_capacity")[2] < 0.6
    assert column(got, "soh_capacity")[-1] == pytest.approx(0.9, abs=0.02)


def test_a_rejected_charge_counts_as_rejected_and_changes_no_estimate() -> None:
    got, _ = run(rows(6, reasons=np.array([0, 0, 0, 2, 4, 8]), soh=[0.85, 0.85, 0.85, 0.2, np.nan, 1.4]))
    assert column(got, "accepted")[-1] == 3
    assert column(got, "rejected")[-1] == 3
    assert np.ptp(column(got, "soh_capacity")[2:]) < 1e-6


def test_rising_resistance_lowers_soh_and_widens_what_it_says() -> None:
    r = np.r_[np.full(8, 1.0), np.full(40, 1.5)]
    got, _ = run(rows(48, r0_rel=r, reasons=np.r_[np.zeros(8), np.full(40, 2)]))
    by_r = column(got, "soh_resistance")
    assert by_r[7] - by_r[-1] == pytest.approx(CFG.fade_of_rise * 0.5, abs=0.01)
    assert column(got, "soh_resistance_std")[-1] > column(got, "soh_resistance_std")[7]
    assert column(got, "soh")[-1] < column(got, "soh")[7]


def test_what_capacity_said_once_counts_but_once() -> None:
    """From its own beginning on resistance says what capacity said then: that is news once capacity is less sure."""
    got, _ = run(rows(30, r0_rel=1.0, reasons=np.r_[np.zeros(8), np.full(22, 2)]))
    at = kernel.HealthConfig().base
    assert (column(got, "soh_std")[:4] < column(got, "soh_capacity_std")[:4]).all(), "the pack file's is another's word"
    np.testing.assert_allclose(column(got, "soh_std")[at - 1 : 8], column(got, "soh_capacity_std")[at - 1 : 8])
    days = np.r_[np.arange(8), 8 + 3650]
    late, _ = run(rows(9, t_ns=T0_NS + days * DAY_NS, r0_rel=1.0, reasons=np.r_[np.zeros(8), 2], soh_std=0.01))
    assert column(late, "soh_std")[8] < 0.9 * column(late, "soh_capacity_std")[8]


@given(
    st.floats(0.01, 0.2), st.floats(0.01, 0.2), st.floats(0.0, 0.99), st.floats(0.6, 1.0), st.floats(0.6, 1.0)
)  # fmt: skip
def test_two_estimates_that_share_an_error_join_as_gauss_and_markov_say(
    one_std: float, other_std: float, rho: float, one: float, other: float
) -> None:
    shared = rho * min(one_std, other_std) ** 2
    cov = np.array([[one_std**2, shared], [shared, other_std**2]])
    weights = np.linalg.solve(cov, np.ones(2))
    best, var = kernel._fused(one, one_std**2, other, other_std, shared)
    assert var == pytest.approx(1.0 / weights.sum())
    assert best == pytest.approx(weights @ [one, other] / weights.sum())
    assert kernel._fused(one, one_std**2, np.nan, other_std, shared) == (one, one_std**2)


def test_a_model_pulls_as_hard_as_it_is_sure() -> None:
    alone, sure, unsure = (run(rows(5, model=m, model_std=s))[0] for m, s in ((np.nan, 1), (0.75, 0.01), (0.75, 0.3)))
    at = [column(x, "soh")[-1] for x in (alone, sure, unsure)]
    assert at[0] - at[1] > 10 * (at[0] - at[2]) > 0
    assert column(sure, "soh_capacity")[-1] == column(alone, "soh_capacity")[-1]


def test_a_pack_whose_charges_scatter_beyond_the_interval_widens_it() -> None:
    draw = np.random.default_rng(4)
    wide, _ = run(rows(300, soh=0.85 + draw.normal(0, 0.06, 300)))
    calm, _ = run(rows(300, soh=0.85 + draw.normal(0, 0.005, 300)))
    width = [column(x, "soh_high")[-1] - column(x, "soh_low")[-1] for x in (wide, calm)]
    assert width[0] > 1.5 * width[1]


def test_intervals_of_packs_drawn_as_believed_hold_nine_in_ten() -> None:
    draw = np.random.default_rng(2)
    packs, each = 2000, 6
    true = CFG.prior + CFG.prior_std * draw.standard_normal(packs)
    shared = CFG.bias * draw.standard_normal(packs)
    slot = np.tile(np.arange(packs), each)
    soh = true[slot] + shared[slot] + draw.normal(0, 0.03, slot.size)
    t_ns = T0_NS + np.repeat(np.arange(each), packs) * DAY_NS
    got, _ = run(rows(slot.size, slot=slot, t_ns=t_ns, soh=soh, soh_std=0.03), packs)
    last = slice(-packs, None)
    inside = (column(got, "soh_low")[last] <= true) & (true <= column(got, "soh_high")[last])
    assert 0.88 <= inside.mean() <= 0.97  # `conformal` is a little wider than a normal distribution needs


def test_a_report_that_jumps_up_without_a_change_of_capacity_is_suspected_at_once() -> None:
    got, _ = run(rows(12, soh=0.78, **bms([0.78] * 8 + [1.0] * 4)))
    assert got.raised[:, 0].tolist() == [0] * 8 + [1] + [0] * 3
    assert got.opened_ns[8, 0] == T0_NS + 8 * DAY_NS


def test_a_report_that_comes_back_clears_the_suspicion() -> None:
    got, _ = run(rows(12, soh=0.78, **bms([0.78] * 6 + [1.0] * 3 + [0.78] * 3)))
    assert got.raised[:, 0].tolist() == [0] * 6 + [1, 0, 0, -1, 0, 0]
    assert got.opened_ns[9, 0] == got.opened_ns[6, 0]


def test_a_jump_within_one_charge_is_seen_in_it() -> None:
    got, _ = run(rows(1, soh=0.78, bms_min=0.78, bms_max=1.0, bms_end=1.0))
    assert got.raised[0, 0] == 1


def test_a_report_that_follows_a_new_pack_is_no_reset() -> None:
    soh = np.r_[np.full(3, 0.78), np.full(9, 0.99)]
    got, _ = run(
        rows(12, soh=soh, soh_std=0.1, **bms([0.78] * 3 + [0.80, 0.83, 0.86, 0.89, 0.92, 0.95, 0.97, 0.98, 0.99]))
    )
    assert not got.raised[:, 0].any()


def test_a_thousand_frames_of_the_same_report_are_no_measurement_and_999_may_be_one() -> None:
    got, _ = run(rows(3, frames=[500.0, 499.0, 1.0], **bms(0.95)))
    assert got.raised[:, 1].tolist() == [0, 0, 1]
    changing, _ = run(rows(30, frames=500.0, **bms(0.95 - np.arange(30) * 1e-4)))
    assert not changing.raised[:, 1].any()


def test_a_report_that_changes_again_is_one() -> None:
    got, _ = run(rows(4, frames=600.0, **bms([0.95, 0.95, 0.95, 0.94])))
    assert got.raised[:, 1].tolist() == [0, 1, 0, -1]


def test_cycles_before_are_those_of_the_pack_alone() -> None:
    _, state = run(rows(4, slot=np.array([0, 1, 0, 1])), 2)
    before = kernel.cycles_before(state, np.array([0, 1, 0], np.int32), np.array([0.25, np.nan, 1.0]))
    assert before.tolist() == [1.0, 1.0, 1.25]


@given(st.lists(st.integers(0, 40), max_size=6).map(lambda x: tuple(sorted(x))))
@settings(deadline=None, max_examples=30)
def test_cutting_the_stream_changes_no_bit(cuts: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1)
    given_ = rows(
        40, slot=draw.integers(0, 3, 40), soh=draw.normal(0.85, 0.1, 40), r0_rel=draw.normal(1, 0.1, 40),
        reasons=draw.choice([0, 0, 2], 40), **bms(draw.choice([0.8, 0.95, np.nan], 40)),
    )  # fmt: skip
    whole, parts = run(given_, 3)[0], run(given_, 3, cuts)[0]
    for name in whole.__slots__:
        assert getattr(whole, name).tobytes() == getattr(parts, name).tobytes(), name


def test_inputs_are_not_changed() -> None:
    mine = rows(20, soh=np.r_[np.full(10, 0.85), np.full(10, 0.1)])
    before = replace(mine, reasons=mine.reasons.copy())
    run(mine)
    assert mine.reasons.tobytes() == before.reasons.tobytes()


def test_cold_takes_more_of_a_pack_and_warmth_nothing() -> None:
    temp_c, loss = kernel.cold_loss(load_pack("bmw-i3-60ah"))
    at = dict(zip(temp_c.tolist(), loss.tolist(), strict=True))
    assert at[25.0] == 0
    assert at[-20.0] > at[0.0] >= 0
    assert (np.diff(loss) <= 1e-9).all()


def test_what_is_believed_leans_on_the_chemistry() -> None:
    nmc, lfp = (kernel.HealthConfig.of(load_pack(f"generic-{c}")) for c in ("nmc", "lfp"))
    assert lfp.whole
    assert not nmc.whole
    with pytest.raises(ValueError, match="bias must be > 0; got 0"):
        kernel.HealthConfig(bias=0.0)


def test_on_a_plateau_charges_that_say_the_same_make_nothing_surer_and_the_newest_counts() -> None:
    cfg = kernel.HealthConfig.of(load_pack("generic-lfp"))
    state = kernel.HealthState.empty(1, 0, 0)
    got = kernel.follow(cfg, state, rows(40, soh=0.82, soh_std=0.03))
    at = [column(got, name) for name in ("soh_capacity", "soh_capacity_std")]
    gain = cfg.prior_std**2 / (cfg.prior_std**2 + 0.03**2)
    assert at[0] == pytest.approx(cfg.prior + gain * (0.82 - cfg.prior))
    assert at[1][-1] == pytest.approx(at[1][0])
    better = kernel.follow(cfg, state, rows(1, soh=0.8, soh_std=0.001, t_ns=T0_NS + 41 * DAY_NS))
    assert column(better, "soh_capacity")[0] == pytest.approx(0.8, abs=1e-3)
