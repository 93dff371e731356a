"""What protection said, and what the vehicle does."""

from __future__ import annotations

import numpy as np
import pytest

from edge.words import CHARGE, DRIVE, PARK, Words, hear, usage
from tests.support.frames import NS, T0_NS, frames

BEAT = {"kind": "beat", "phase": "closed", "causes": ["cell_v/MSL/over/any", "temp_c/RSL/over/charge"]}


def test_the_last_beat_counts_and_other_messages_do_not() -> None:
    words = hear(Words(), [BEAT | {"phase": "open"}, BEAT, {"kind": "decision", "text": "x"}], T0_NS)
    assert words == Words(T0_NS, "closed", ("cell_v/MSL/over/any", "temp_c/RSL/over/charge"))
    assert hear(words, [], T0_NS + NS) is words
    assert words.broken(tier="MSL") == ("cell_v/MSL/over/any",)
    assert words.broken(quantity="temp_c") == ("temp_c/RSL/over/charge",)
    assert words.broken(tier="MSL", quantity="temp_c") == ()


def test_words_of_three_seconds_ago_are_old() -> None:
    words = hear(Words(), [BEAT], T0_NS)
    assert words.fresh(T0_NS + 3 * NS)
    assert not words.fresh(T0_NS + 3 * NS + 1)
    assert not Words().fresh(T0_NS)


@pytest.mark.parametrize(
    ("said", "current_a", "mode"),
    [
        ({"drive_state": 0}, 100.0, PARK),
        ({"drive_state": 1}, 0.0, DRIVE),
        ({"drive_state": 2}, 0.0, CHARGE),
        ({"drive_state": 0, "charge_type": 1}, 0.0, CHARGE),
        ({"drive_state": -1, "charge_type": -1}, 30.0, CHARGE),
        ({"charge_type": 0}, 2.0, PARK),
        ({"charge_type": 0, "speed_kmh": 50.0}, 30.0, DRIVE),
        ({"speed_kmh": np.nan}, -30.0, DRIVE),
        ({}, np.nan, PARK),
        ({}, -2.0, PARK),
    ],
)
def test_what_the_vehicle_does_is_what_it_says_or_what_flows(
    said: dict[str, float], current_a: float, mode: str
) -> None:
    kinds = {"speed_kmh": np.float32}
    context = {name: np.array([value], kinds.get(name, np.int8)) for name, value in said.items()}
    assert usage(frames([0.0], current_a, context=context), 0, 60.0) == mode
