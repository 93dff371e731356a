"""The offset of a current sensor, found at rests."""

from __future__ import annotations

import numpy as np

from flows.accuracy.offset import figures, trace


def test_a_vehicle_asleep_sends_a_frame_each_two_hours_and_a_rest_ends_in_its_last() -> None:
    seen = trace(357, period_s=60.0, days=1.0)
    rest = np.asarray(seen.block.context["contactor_state"] == 0)
    apart_s = np.diff(seen.block.t_ns) / 1e9
    both = rest[1:] & rest[:-1]
    assert both.any()
    assert (apart_s[both] == 7200.0).all()
    assert (apart_s[~rest[1:] & ~rest[:-1]] == 60.0).all()
    assert rest[seen.rest_ends].all()
    assert not rest[seen.rest_ends[:-1] + 1].any()


def test_open_contactors_show_the_offset_within_three_rests_and_the_voltage_within_seven() -> None:
    found = figures((357,), period_s=10.0)
    assert found["simulated_offset_contactors_seen_worst_a"] < 0.1
    assert found["simulated_offset_voltage_alone_worst_a"] < 0.2
