"""The fleet flow, made to be killed: `python -m tests.support.kill_flow WORK --epoch S --blocks N`.

Paced, deterministic frames from two partitions, with holes, repeats, late and misdated frames, and wall
time in ticks: the frames are old, so every pack is idle at every tick.  `WORK/started` appears when
frames flow, `WORK/returned` between the flow's return and the last publish, `WORK/done` after it.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from flows import fleet
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from schemas.events import Item, Tick
from schemas.frames import FrameBlock, make_block
from sinks.lake import publish_pending
from tests.support.broken_sinks import SINKS

MODEL = "generic-nmc@4c2t60ah"
T0_NS = 1_767_571_200 * 10**9
NS = 10**9
PARTITIONS, PACKS = 2, 6  # per partition
NAME = "kill-test"
EVERY = timedelta(milliseconds=5)
TICK = timedelta(milliseconds=20)
SETTINGS = FleetSettings(shards=4, keep_frames=True, state_s=120.0, idle_close_s=60.0)


def block(partition: int, number: int) -> FrameBlock:
    """Make the block `number` of a partition: of each pack two frames 10 s apart, not all of them as they should be."""
    draw = np.random.default_rng([partition, number])
    pack = np.tile(np.arange(PACKS), 2)
    seq = number * 2 + np.repeat([0, 1], PACKS)
    # driving, charging and parking by turns; a cell of one pack has a bad contact
    phase = (seq + 40 * pack) % 180 // 60
    current = np.choose(phase, [-30.0, 20.0, 0.0]) + draw.normal(0, 3, seq.size) * (phase < 2)
    cell_v = 3.7 + 0.05 * np.sin(seq / 90.0)[:, None] + 0.001 * current[:, None] + draw.normal(0, 5e-4, (seq.size, 4))
    cell_v[pack == 3, 2] += 0.01 * current[pack == 3]
    t = T0_NS + seq * 10 * NS
    t[draw.random(seq.size) < 0.005] = 0  # a clock that lost its battery
    rows = np.flatnonzero(draw.random(seq.size) > 0.02)  # holes
    rows = np.concatenate([rows, rows[draw.random(rows.size) < 0.03]])  # repeats
    swaps = np.argsort(np.arange(rows.size) + draw.uniform(0, 8, rows.size), kind="stable")  # late ones
    made = make_block(
        MODEL,
        [f"P{partition}-{i}" for i in range(PACKS)],
        pack=pack,
        t_ns=t,
        seq=seq,
        current_a=current,
        pack_v=cell_v.sum(axis=1),
        cell_v=cell_v,
        temp_c=25 + draw.normal(0, 0.5, (seq.size, 2)),
        src_part=partition,
        src_offset=number,
        src_row=np.arange(seq.size),
    )
    return made.take(rows[swaps])


class Blocks(FixedPartitionedSource[Item, int]):
    """Paced blocks, resumed by their number."""

    def __init__(self, blocks: int, started: Path) -> None:
        self._blocks, self._started = blocks, started

    def list_parts(self) -> list[str]:
        return [str(p) for p in range(PARTITIONS)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Blocks:
        return _Blocks(int(for_part), resume_state or 0, self._blocks, self._started)


class _Blocks(StatefulSourcePartition[Item, int]):
    def __init__(self, partition: int, number: int, end: int, started: Path) -> None:
        self._partition, self._number, self._end, self._started = partition, number, end, started
        self._polls = 0

    def next_batch(self) -> list[Item]:
        self._polls += 1
        if self._polls == 3:  # kernels are loaded, the steps have seen frames
            self._started.touch()
        if self._number >= self._end:
            raise StopIteration
        self._number += 1
        return [block(self._partition, self._number - 1)]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + EVERY

    def snapshot(self) -> int:
        return self._number


class Ticks(FixedPartitionedSource[Tick, None]):
    """Wall time, more often than anywhere else, for so long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def list_parts(self) -> list[str]:
        return ["ticks"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Ticks:
        return _Ticks(time.monotonic() + self._seconds)


class _Ticks(StatefulSourcePartition[Tick, None]):
    def __init__(self, until: float) -> None:
        self._until = until

    def next_batch(self) -> list[Tick]:
        if time.monotonic() > self._until:
            raise StopIteration
        return [Tick(time.time_ns())]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + TICK

    def snapshot(self) -> None:
        return None


def main() -> None:
    """Run the flow in WORK until its end, resuming where it was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--sink", choices=sorted(SINKS), default="sound")
    args = parser.parse_args()
    lake = args.work / "lake"
    sink = SINKS[args.sink](lake, NAME, recovery=True, publish_s=0.2, publish_epochs=3)
    source = Blocks(args.blocks, args.work / "started")
    recovery = RecoverySettings(args.work / "recovery", args.epoch)
    ticks = Ticks(args.blocks * EVERY.total_seconds())
    flow = fleet.build(SETTINGS, source, sink, (MODEL,), ticks=ticks, files=recovery.files)
    run_flow(flow, recovery, SETTINGS.shards)
    (args.work / "returned").touch()
    publish_pending(lake, NAME)
    (args.work / "done").touch()


if __name__ == "__main__":
    main()
