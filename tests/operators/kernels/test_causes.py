"""The table of causes: what speaks for which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.kernels.causes import CAUSES, CHANCES, PRIOR, judge, signs
from operators.kernels.kinds import KINDS

KIND_NAMES = sorted(kind.name for kind in KINDS)


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        ({"leak": 0.4, "cell_spread": -0.02}, "self_discharge"),
        ({"leak": 0.08, "cell_offset": -0.03}, "self_discharge"),
        ({"resistance": 0.3}, "rising_resistance"),
        ({"resistance": 0.9, "probe_offset": 4.0}, "loose_connection"),
        ({"capacity": 0.08, "cell_undervoltage": 2.9}, "capacity_loss"),
        ({"sense_wire": 0.1, "cell_spread": 0.05}, "sense_wire"),
        ({"sense_wire": 0.1, "resistance": 1.0, "cell_spread": 0.05}, "sense_wire"),
        ({"sense_wire": 0.1, "resistance": 1.0}, "sense_wire"),
        ({"cell_offset": -0.02, "cell_step": -0.016}, "cell_sensor"),
        ({"thermal_event": 80.0}, "self_discharge"),
        ({"thermal_event": 80.0, "cell_undervoltage": 1.0}, "self_discharge"),
        ({"stuck_cell": 3.9}, "cell_sensor"),
        ({"cell_offset": 0.02}, "cell_sensor"),
        ({"stuck_probe": 20.0}, "temperature_sensor"),
        ({"cooling": 4.0, "overtemperature": 56.0}, "cooling"),
    ],
)
def test_evidence_speaks_for_its_cause(evidence: dict[str, float], cause: str) -> None:
    assert next(iter(judge(evidence))) == cause


def test_a_leak_of_a_bleed_s_size_leaves_the_balancing_circuit_likely() -> None:
    small, large = judge({"leak": 0.1}), judge({"leak": 0.5})
    assert small["balancing_circuit"] > 0.3
    assert large["balancing_circuit"] < 0.25


def test_likelihoods_follow_bayes_rule() -> None:
    """By hand, for two causes: everything but the signs that are there and those that are not cancels."""
    found = judge({"cooling": 3.0})
    chances = dict.fromkeys(("cooling", "temperature_sensor"), 1.0)
    for name in chances:
        k = CAUSES.index(name)
        chances[name] = PRIOR[k]
        for sign, row in CHANCES.items():
            chances[name] *= row[k] / 100 if sign == "warm_pack" else 1 - row[k] / 100
    odds = chances["cooling"] / chances["temperature_sensor"]
    assert found["cooling"] > 0.95
    assert found.get("temperature_sensor", 0.0) <= found["cooling"] / odds + 1e-3


def test_what_is_its_own_cause_gets_none() -> None:
    assert judge({"isolation": 100.0, "overcurrent_charge": 300.0}) == {}
    assert judge({}) == {}


@given(st.dictionaries(st.sampled_from(KIND_NAMES), st.floats(-10, 10)))
def test_likelihoods_are_ranked_and_share_the_whole(evidence: dict[str, float]) -> None:
    found = judge(evidence)
    assert bool(found) == bool(signs(evidence))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert set(found) <= set(CAUSES)
    if found:
        assert 0.9 <= sum(found.values()) <= 1.01


def test_the_table_is_whole() -> None:
    assert sum(PRIOR) == pytest.approx(100.0)
    for sign, row in CHANCES.items():
        assert len(row) == len(CAUSES), sign
        assert all(0.0 < chance < 100.0 for chance in row), sign
