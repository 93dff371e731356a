"""The fleet's word helps a gateway whose capacity and current sensor are off."""

from __future__ import annotations

from dataclasses import replace

from flows.accuracy.gateway import MONTHS, errors


def test_a_gateways_counter_is_five_times_as_right_with_the_fleets_word() -> None:
    """Some days of the month that `ibms bench accuracy` measures."""
    alone, told, counted = errors(replace(MONTHS[0], days=4.0))
    assert counted > 80, "the gateway took what it was told"
    assert told < alone / 5.0
