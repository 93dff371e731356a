"""What the fleet knows of a pack: taken within bounds of its kind, kept over a restart, and nothing else moved."""

from __future__ import annotations

import math

import pytest

from edge.calibration import NONE, Calibration, dump, joined, load, wrong

NEW_AH, SENSOR_A = 60.0, 0.3
GOOD = Calibration(52.8, 0.6, 0.4, 0.02)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (GOOD, ""),
        (NONE, ""),
        (GOOD._replace(capacity_ah=63.0), ""),
        (GOOD._replace(capacity_ah=63.1), "capacity_ah must be in 30..63"),
        (GOOD._replace(capacity_ah=30.0), ""),
        (GOOD._replace(capacity_ah=29.9), "capacity_ah must be"),
        (GOOD._replace(capacity_ah=-52.8), "capacity_ah must be"),
        (GOOD._replace(capacity_std_ah=0.0), "capacity_std_ah must be"),
        (GOOD._replace(capacity_std_ah=11.0), "capacity_std_ah must be"),
        (GOOD._replace(capacity_std_ah=math.nan), "capacity_std_ah must be"),
        (GOOD._replace(offset_a=-1.5), ""),
        (GOOD._replace(offset_a=1.51), "offset_a must be in -1.5..1.5"),
        (GOOD._replace(offset_std_a=0.0), "offset_std_a must be > 0"),
        (GOOD._replace(offset_std_a=2.0), "offset_std_a must be > 0"),
    ],
)
def test_what_cannot_be_of_such_a_pack_is_named(told: Calibration, word: str) -> None:
    said = wrong(told, NEW_AH, SENSOR_A)
    assert said.startswith(word) if word else said == ""


def test_each_group_replaces_its_own() -> None:
    capacity, offset = Calibration(50.0, 1.0), Calibration(offset_a=-0.1, offset_std_a=0.01)
    assert joined(joined(NONE, capacity), offset) == Calibration(50.0, 1.0, -0.1, 0.01)
    assert joined(GOOD, capacity) == GOOD._replace(capacity_ah=50.0, capacity_std_ah=1.0)
    assert joined(GOOD, offset) == GOOD._replace(offset_a=-0.1, offset_std_a=0.01)


def test_a_restart_keeps_it_but_not_what_cannot_be() -> None:
    assert load(dump(GOOD), NEW_AH, SENSOR_A) == GOOD
    assert dump(NONE) == {}
    kept = load({**dump(GOOD), "capacity_ah": 600.0}, NEW_AH, SENSOR_A)
    assert math.isnan(kept.capacity_ah)
    assert kept[2:] == GOOD[2:]
    torn = load({**dump(GOOD), "offset_a": "much", "offset_std_a": True}, NEW_AH, SENSOR_A)
    assert torn[:2] == GOOD[:2]
    assert math.isnan(torn.offset_a)
