"""Recorded CAN frames on a bus again: the same frames, those between two times, at their own pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import can
import numpy as np
import pytest

from flows.send import messages, send_traces
from flows.traces import TraceOptions
from replay.pace import Pace
from replay.readers import read_can
from schemas.can import BRS, ERROR, ESI, FD, REMOTE, CanBlock, make_can_block
from schemas.checked import ConfigError
from tests.support.commands import Ibms


@pytest.fixture
def listener() -> Iterator[can.BusABC]:
    with can.Bus(interface="virtual", channel="test-send") as bus:
        yield bus


def _received(bus: can.BusABC) -> list[can.Message]:
    found = []
    while (message := bus.recv(0.0)) is not None:
        found.append(message)
    return found


def test_every_frame_of_a_log_arrives(ibms: Ibms, can_log: Path, listener: can.BusABC) -> None:
    ran = ibms("replay", can_log, "--can", "virtual:test-send")
    (block,) = [b for b in read_can(can_log) if isinstance(b, CanBlock)]
    got = _received(listener)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{len(block):,} CAN frames → virtual:test-send\n"
    assert [m.arbitration_id for m in got] == block.can_id.tolist()
    assert [bytes(m.data) for m in got] == [d[:n].tobytes() for d, n in zip(block.data, block.length, strict=True)]


def test_frames_outside_from_and_to_stay(can_log: Path, listener: can.BusABC) -> None:
    (block,) = [b for b in read_can(can_log) if isinstance(b, CanBlock)]
    middle = str(np.datetime64(int(block.t_ns[len(block) // 2]), "ns"))[:26]
    cut_ns = np.datetime64(middle, "ns").astype(np.int64)
    before = send_traces(TraceOptions((str(can_log),), to_time=middle), "virtual:test-send", None)
    after = send_traces(TraceOptions((str(can_log),), from_time=middle), "virtual:test-send", None)
    assert (before, after) == (int((block.t_ns < cut_ns).sum()), int((block.t_ns >= cut_ns).sum()))
    assert len(_received(listener)) == len(block)


def test_a_pace_is_kept(tmp_path: Path, listener: can.BusABC) -> None:
    path = tmp_path / "slow.log"
    path.write_text("".join(f"({1_600_000_000 + i}.000000) can0 123#0{i}\n" for i in range(4)))
    began = time.monotonic()
    assert send_traces(TraceOptions((str(path),)), "virtual:test-send", Pace(20.0, time.time_ns)) == 4
    assert time.monotonic() - began >= 3 / 20.0


def test_flags_of_a_frame_are_kept_and_error_frames_are_not_sent(tmp_path: Path) -> None:
    block = make_can_block(
        ["can0"], t_ns=np.arange(4) * 10**9, can_id=np.array([1, 0x1ABCDEF, 3, 4], np.uint32),
        ext=np.array([False, True, False, False]), length=np.array([2, 64, 5, 8], np.uint8),
        data=np.arange(256, dtype=np.uint8).reshape(4, 64),
        flags=np.array([0, FD | BRS | ESI, REMOTE, ERROR], np.uint8),
    )  # fmt: skip
    plain, flexible, remote, _ = messages(block)
    assert (plain.arbitration_id, bytes(plain.data), plain.is_fd) == (1, b"\x00\x01", False)
    assert (flexible.is_extended_id, flexible.is_fd, flexible.bitrate_switch, flexible.error_state_indicator) == (
        True, True, True, True,
    )  # fmt: skip
    assert len(flexible.data) == 64
    assert (remote.is_remote_frame, remote.dlc, bytes(remote.data)) == (True, 5, b"")
    path = tmp_path / "error.log"
    path.write_text("(1600000000.000000) can0 20000004#0000000000000000\n(1600000001.000000) can0 123#00\n")
    assert send_traces(TraceOptions((str(path),)), "virtual:nobody", None) == 1


@pytest.mark.parametrize("name", ["virtual", "virtual:", ":can0", "", "nothing:can0"])
def test_a_bus_that_is_none_is_refused(can_log: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--can must be "):
        send_traces(TraceOptions((str(can_log),)), name, None)
