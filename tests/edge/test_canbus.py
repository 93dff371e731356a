"""One end of a bus: frames with their time, and a bus that fails is silence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import can
import pytest

from edge.canbus import MOST_FRAMES, CanSettings, Port, open_bus, read_can
from edge.commands import Sent
from schemas.checked import ConfigError, Table

_NS = 10**9


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Give a bus of this test's own."""
    return str(request.node.name)


@pytest.fixture
def other(name: str) -> Iterator[can.BusABC]:
    """Give the other end."""
    with can.Bus(interface="virtual", channel=name) as bus:
        yield bus


def port(name: str, **clocks: Any) -> Port:
    clocks = {"now": time.monotonic_ns, "wall": time.time_ns, **clocks}
    return Port(CanSettings("virtual", name), **clocks)


def frame(n: int, **more: Any) -> can.Message:
    return can.Message(arbitration_id=0x600 + n, is_extended_id=False, data=bytes([n & 0xFF]), **more)


def test_frames_come_in_order_with_their_time_and_other_kinds_do_not(name: str, other: can.BusABC) -> None:
    ours = port(name, now=lambda: 50 * _NS, wall=lambda: 1000 * _NS)
    other.send(frame(1, timestamp=999.75))
    other.send(frame(2, is_remote_frame=True))
    other.send(can.Message(arbitration_id=0x18FF0102, is_extended_id=True, data=b"\x01\x02", timestamp=999.5))
    got = ours.take(0.1)
    assert [(f.can_id, f.ext, f.data) for f in got] == [(0x601, False, b"\x01"), (0x18FF0102, True, b"\x01\x02")]
    ours.close()


@pytest.mark.parametrize(("stamp_s", "age_s"), [(999.75, 0.25), (1000.5, 0.0), (0.0, 0.0), (998.0, 0.0)])
def test_a_frame_is_as_old_as_its_stamp_says_unless_that_is_of_another_clock(
    stamp_s: float, age_s: float, name: str
) -> None:
    ours = port(name, now=lambda: 50 * _NS, wall=lambda: 1000 * _NS)
    assert ours._frame(frame(1, timestamp=stamp_s)).t_ns == 50 * _NS - round(age_s * _NS)
    ours.close()


def test_a_receiver_wakes_though_nothing_comes(name: str) -> None:
    ours = port(name)
    began = time.monotonic()
    assert ours.take(0.01) == []
    assert time.monotonic() - began >= 0.009
    ours.close()


def test_a_flood_is_taken_in_parts_and_what_waited_can_be_forgotten(name: str, other: can.BusABC) -> None:
    ours = port(name)
    for n in range(2 * MOST_FRAMES + 10):
        other.send(frame(n % 200))
    assert len(ours.take()) == MOST_FRAMES
    ours.forget()
    assert ours.take(0.001) == []
    ours.close()


def test_what_is_sent_arrives_as_it_is(name: str, other: can.BusABC) -> None:
    ours = port(name)
    ours.send([Sent(0x80, False, b"12345678"), Sent(0x18FF0102, True, b"")])
    got = [other.recv(1), other.recv(1)]
    assert [(m.arbitration_id, m.is_extended_id, bytes(m.data)) for m in got if m] == [
        (0x80, False, b"12345678"),
        (0x18FF0102, True, b""),
    ]
    ours.close()


def test_a_bus_that_fails_is_silence_and_opened_anew_each_second(name: str, other: can.BusABC) -> None:
    now = [100 * _NS]
    ours = port(name, now=lambda: now[0])
    ours.bus.shutdown()
    assert ours.take(0.001) == []
    assert (ours.errors, ours.bus) == (1, None)
    ours.send([Sent(0x80, False, b"")])
    assert ours.unsent == 1
    other.send(frame(1))
    assert ours.take(0.001) == [], "it was opened after this frame"
    other.send(frame(2))
    assert [f.can_id for f in ours.take(0.1)] == [0x602]
    ours.bus.shutdown()
    ours.take(0.001)
    ours.take(0.001)
    assert ours.bus is None, "within the same second it is not tried again"
    now[0] += _NS
    ours.take(0.001)
    assert ours.bus is not None
    ours.close()


@pytest.mark.parametrize("can_settings", [CanSettings("nothing", "x"), CanSettings("socketcan", "no-such-bus")])
def test_a_bus_that_does_not_open_stops_the_start(can_settings: CanSettings) -> None:
    with pytest.raises(ConfigError, match="can must be an interface that opens; got"):
        open_bus(can_settings)


def test_options_are_plain_values() -> None:
    with pytest.raises(ConfigError, match=r"options must be a table of texts, numbers and truth values"):
        read_can(Table({"interface": "virtual", "channel": "x", "options": 3}, "gateway.toml"))
    with pytest.raises(ConfigError, match="bitrate must be a known key"):
        read_can(Table({"interface": "virtual", "channel": "x", "bitrate": 3}, "gateway.toml"))
