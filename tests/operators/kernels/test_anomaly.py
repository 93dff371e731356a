"""The anomaly arrays against river's own objects, value by value."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import anomaly, preprocessing

from operators.fleet_model import train
from operators.kernels import anomaly as kernel

F = len(kernel.FEATURES)


def draws(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, 1.0, (n, F)) * np.linspace(0.001, 0.1, F)
    x[rng.random(n) < 0.02] *= 6
    return x


def river_scores(cfg: kernel.AnomalyConfig, x: np.ndarray) -> list[tuple[float, int]]:
    scaler, svm = preprocessing.StandardScaler(), anomaly.OneClassSVM()
    judge = anomaly.QuantileFilter(svm, q=cfg.quantile)
    out, learned = [], 0
    for row in x:
        features = dict(enumerate(row.tolist()))
        z = {f: abs(v) for f, v in scaler.transform_one(features).items()}
        score = svm.score_one(z)
        odd, trained = bool(judge.classify(score)), learned >= cfg.grace
        limit = judge.quantile.get()
        out.append((score - limit, 2 if odd else 1) if trained else (math.nan, 0))
        if not (odd and trained):
            svm.learn_one(z)
            scaler.learn_one(features)
            learned += 1
        judge.quantile.update(score)
    return out


@pytest.mark.parametrize("quantile", [0.9, 0.999])
@pytest.mark.parametrize("seed", range(4))
def test_equals_rivers_objects_bit_for_bit(quantile: float, seed: int) -> None:
    cfg = kernel.AnomalyConfig(grace=50, quantile=quantile)
    x = draws(seed, 1500)
    state = kernel.AnomalyState.empty(3, 0, 0)
    score, judged, _, _ = kernel.step(cfg, state, np.full(len(x), 1, np.int32), x, np.ones(len(x), bool))
    expected = river_scores(cfg, x)
    np.testing.assert_array_equal(judged, [j for _, j in expected])
    np.testing.assert_array_equal(score, np.array([s for s, _ in expected], np.float32))
    assert (judged == kernel.ODD).any()


def test_a_pack_learns_from_no_window_that_is_odd_or_unsound() -> None:
    cfg = kernel.AnomalyConfig(grace=50, quantile=0.99)
    state = kernel.AnomalyState.empty(1, 0, 0)
    one = np.zeros(1, np.int32)
    kernel.step(cfg, state, np.zeros(500, np.int32), draws(1, 500), np.ones(500, bool))
    before = state.mean.copy()
    _, judged, feature, _ = kernel.step(cfg, state, one, draws(2, 1) + 10 * np.eye(F)[3], np.ones(1, bool))
    assert judged == kernel.ODD
    assert kernel.FEATURES[feature[0]] == "spread_temp_c"
    kernel.step(cfg, state, one, draws(3, 1), np.zeros(1, bool))
    np.testing.assert_array_equal(state.mean, before)


def test_deviations_are_counted_from_what_was_learned_before_the_window() -> None:
    cfg, x = kernel.AnomalyConfig(grace=50), draws(4, 400)
    zero = np.zeros(400, np.int32)
    *_, deviation = kernel.step(cfg, kernel.AnomalyState.empty(1, 0, 0), zero, x, np.ones(400, bool))
    assert np.isnan(deviation[:50]).all()
    state = kernel.AnomalyState.empty(1, 0, 0)
    kernel.step(cfg, state, zero[:120], x[:120], np.ones(120, bool))
    np.testing.assert_array_equal(deviation[120], (x[120] - state.mean[0]) / np.sqrt(state.var[0]))


def test_a_missing_feature_gives_no_score_and_teaches_nothing() -> None:
    cfg, state = kernel.AnomalyConfig(), kernel.AnomalyState.empty(1, 0, 0)
    x = draws(0, 1)
    x[0, 2] = np.nan
    score, judged, _, _ = kernel.step(cfg, state, np.zeros(1, np.int32), x, np.ones(1, bool))
    assert np.isnan(score).all()
    assert judged == kernel.UNKNOWN
    assert state.n[0] == state.seen[0] == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=80), st.data())
def test_cutting_and_mixing_packs_changes_no_bit(packs: list[int], data: st.DataObject) -> None:
    cfg = kernel.AnomalyConfig(grace=5, quantile=0.9)
    slot, x = np.array(packs, np.int32), draws(7, len(packs))
    sound = np.ones(len(packs), bool)
    cut = data.draw(st.integers(1, len(packs) - 1))
    whole, parts = kernel.AnomalyState.empty(3, 0, 0), kernel.AnomalyState.empty(3, 0, 0)
    expected = kernel.step(cfg, whole, slot, x, sound)
    got = [kernel.step(cfg, parts, slot[a], x[a], sound[a]) for a in (slice(cut), slice(cut, None))]
    for i in range(4):
        np.testing.assert_array_equal(expected[i], np.concatenate([g[i] for g in got]))
    for p in set(packs):
        alone = kernel.AnomalyState.empty(1, 0, 0)
        mine = slot == p
        score, _, _, _ = kernel.step(cfg, alone, np.zeros(mine.sum(), np.int32), x[mine], sound[mine])
        np.testing.assert_array_equal(score, expected[0][mine])


def test_fleet_trees_score_as_river_does() -> None:
    x = draws(5, 2000)
    trees, forest = train(x, seed=3)
    scaled = np.clip((x - trees.low) / (trees.high - trees.low), 0, 1)
    expected = [forest.score_one(dict(enumerate(row.tolist()))) for row in scaled[:300]]
    np.testing.assert_array_equal(kernel.fleet_score(trees, x[:300]), np.array(expected, np.float32))
    odd = x[:1] * 50
    assert kernel.fleet_score(trees, odd)[0] > np.quantile(expected, 0.99)
