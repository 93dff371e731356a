"""Final records do not depend on how frames come in blocks, on shards, processes, stalls or restarts: not by a bit."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.run import run_flow
from flows.settings import RecoverySettings
from flows.ticks import TickSource
from replay.source import ReplaySource, gather
from schemas.frames import FrameBlock
from sinks.lake import LakeSink
from tests.support.fleet import (
    BEGIN_NS,
    NS,
    SETTINGS,
    Collect,
    Pausing,
    counts,
    cut,
    cut_every,
    differences,
    disturb,
    drive,
    flow_into,
    run,
    spoil,
    stamp,
)  # fmt: skip
from tests.support.fleet_flow import NAME, keep
from tests.support.kill import account, kill, kill_often, run_to_end, start_flow

FLOW = "tests.support.fleet_flow"
TABLES = {"windows", "states", "sessions", "incidents", "gaps", "dead_letters"}


@dataclass(frozen=True)
class Traffic:
    """Frames as they come, and what the flow makes of them in one block, one shard and one process."""

    frames: FrameBlock
    whole: dict[str, pa.Table]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    block = drive(5, 1.0, 2.0)
    for seconds, what in (((200, 400), "wire"), ((600, 800), "cells"), ((1000, 1100), "frozen")):
        block = spoil(block, seconds, what)
    frames, _ = disturb(block, 1, dropped=0.005)
    of_one = np.flatnonzero(frames.pack == 1)
    rows = of_one[[50, 300]].tolist()
    frames = stamp(frames, rows, [int(frames.t_ns[rows[0]]) + 300 * NS, 1000 * NS])
    return Traffic(frames, run([frames], replace(SETTINGS, shards=1)))


@pytest.fixture(scope="module")
def lake(traffic: Traffic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the flow makes of the frames in one block, in a lake."""
    path = tmp_path_factory.mktemp("whole") / "lake"
    source = ReplaySource(lambda: [traffic.frames])
    run_flow(flow_into(LakeSink(path, NAME, recovery=False), source), RecoverySettings(), SETTINGS.shards)
    return path


@pytest.fixture(scope="module")
def kept(traffic: Traffic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames in many blocks, for processes to read."""
    return keep(cut_every(traffic.frames, 50), tmp_path_factory.mktemp("frames") / "blocks.pickle")


def test_the_traffic_holds_everything_that_could_differ(traffic: Traffic) -> None:
    whole = traffic.whole
    print(counts(whole))
    assert whole.keys() == TABLES
    assert set(whole["sessions"]["kind"].to_pylist()) == {"park", "drive", "charge"}
    assert {"open", "clear"} <= set(whole["incidents"]["status"].to_pylist())
    assert set(whole["dead_letters"]["reason"].to_pylist()) == {"clock_past", "clock_future"}
    windows = whole["windows"]
    assert windows["drift"].null_count < len(windows)
    assert set(windows["anomaly_state"].to_pylist()) == {-1, 0, 1, 2}


@pytest.mark.parametrize("rows", [7, 1000, 5000])
def test_blocks_of_any_size_give_the_same_records(traffic: Traffic, rows: int) -> None:
    assert differences(traffic.whole, run(cut_every(traffic.frames, rows))) == []


def test_frames_that_come_alone_give_the_same_records_as_frames_in_one_block(traffic: Traffic) -> None:
    early = traffic.frames.take(slice(0, 1200))
    assert differences(run([early]), run(cut_every(early, 1))) == []


@pytest.mark.parametrize("shards", [1, 4, 64])
def test_any_number_of_shards_gives_the_same_records(traffic: Traffic, shards: int) -> None:
    got = run(cut_every(traffic.frames, 700), replace(SETTINGS, shards=shards))
    assert differences(traffic.whole, got) == []


@settings(max_examples=20)
@given(st.data())
def test_any_cut_gives_the_same_records(traffic: Traffic, data: st.DataObject) -> None:
    at = data.draw(st.lists(st.integers(0, len(traffic.frames)), max_size=40), label="cut before rows")
    shards = data.draw(st.sampled_from([1, 2, 5, 64]), label="shards")
    assert differences(traffic.whole, run(cut(traffic.frames, at), replace(SETTINGS, shards=shards))) == []


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_packs_do_not_know_of_each_other(traffic: Traffic, order: list[int]) -> None:
    """One pack after the other, in any order, instead of side by side."""
    one_by_one = np.concatenate([np.flatnonzero(traffic.frames.pack == p) for p in order])
    assert differences(traffic.whole, run(cut_every(traffic.frames.take(one_by_one), 900))) == []


def test_a_pack_that_moves_to_another_vehicle_does_so_at_the_same_frame(traffic: Traffic) -> None:
    half = len(traffic.frames) // 2
    before, after = traffic.frames.take(slice(0, half)), traffic.frames.take(slice(half, None))
    after = replace(after, vehicles=("swapped", *after.vehicles[1:]))
    expected = run([before, after])
    assert set(expected["windows"]["vehicle_id"].to_pylist()) == {*before.vehicles, "swapped"}
    got = run(list(gather([*cut_every(before, 90), *cut_every(after, 90)], rows=1000)))
    assert differences(expected, got) == []


@pytest.mark.parametrize(("pauses", "seconds"), [pytest.param(2, 1.3, id="short"), pytest.param(1, 4.0, id="long")])
def test_stalls_show_provisional_records_and_change_no_final_one(
    traffic: Traffic, memory: Callable[[str], Path], pauses: int, seconds: float
) -> None:
    blocks = cut_every(traffic.frames, 400)
    at = np.linspace(3, len(blocks) - 3, pauses).astype(int).tolist()
    source = Pausing(blocks, dict.fromkeys(at, seconds))
    ticks = TickSource(now=lambda: BEGIN_NS + 86_400 * NS, until=lambda: source.ended)
    sink = Collect()
    got = run(blocks, source=source, ticks=ticks, recovery=RecoverySettings(memory("store"), 0.2), sink=sink)
    shown = [rows for item in sink.items if isinstance(item, tuple) for rows in [item[1]] if item[0] == "windows"]
    assert any(any(rows["provisional"].to_pylist()) for rows in shown)
    assert differences(traffic.whole, got) == []


@pytest.mark.kill
def test_a_flow_that_is_killed_and_resumed_gives_the_same_records(
    memory: Callable[[str], Path], kept: Path, lake: Path, kills: int
) -> None:
    work = memory("killed")
    command = (FLOW, str(kept))
    done = kill_often(work, command, range(max(3, kills // 5)), seed=4)
    run_to_end(work, command)
    found = account(work / "lake", lake, kills=done, whole=True)
    print(f"{found.kills} kills, rows {found.rows}")
    assert done >= 2, "the flow was over before the kills: raise PACE_S"
    assert sum(found.rows.values()) > 1000
    assert found.sound, found


@pytest.mark.kill
def test_two_processes_killed_and_resumed_give_the_same_records(
    memory: Callable[[str], Path], kept: Path, lake: Path
) -> None:
    work = memory("cluster")
    first = _cluster(work, kept, epoch_s=0.1)
    _until(lambda: bool(list((work / "lake" / "pending").glob("*/*.arrows"))), first)
    for child in first:  # a survivor may hang
        kill(child)
    assert not (work / "done").exists(), "the flow was over before the kill: raise PACE_S"
    for child in _cluster(work, kept, epoch_s=5.0):
        child.join(120)
        assert child.exitcode == 0, (work / "log").read_text()[-3000:]
    found = account(work / "lake", lake, kills=2, whole=True)
    assert sum(found.rows.values()) > 1000
    assert found.sound, found


def _cluster(work: Path, blocks: Path, epoch_s: float) -> list[ForkServerProcess]:
    """Start the two processes of one flow."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    addresses = [f"127.0.0.1:{port}" for port in ports]
    of_cluster = (FLOW, str(blocks), "--addresses", *addresses, "--process")
    return [start_flow(work, (*of_cluster, str(process)), epoch_s) for process in range(2)]


def _until(happened: object, children: list[ForkServerProcess], patience_s: float = 60.0) -> None:
    assert callable(happened)
    end = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < end
        assert all(child.exitcode is None for child in children)
        time.sleep(0.01)
