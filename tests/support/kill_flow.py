"""A real flow into a lake, made to be killed: `python -m tests.support.kill_flow WORK --epoch S …`.

Paced, deterministic frames from two partitions, ticks, a stateful step per shard, the lake sink.
`WORK/started` appears when the source runs, `WORK/returned` between the flow's return and the last
publish, `WORK/done` after it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from schemas.arrow import LakeItem, Provenance, to_arrow
from schemas.events import DeadLetter, Gap, Incident, Item, Rows, Session, Tick
from schemas.frames import FrameBlock, make_block
from schemas.ids import dead_letter_id, hash64, record_id
from sinks.lake import LakeSink, publish_pending
from tests.support.broken_sinks import SINKS

MODEL = "generic-nmc@4c2t60ah"
T0_NS = 1_767_571_200 * 10**9
PARTITIONS, SHARDS = 2, 4
ROWS = 12  # of a block
NAME = "kill-test"
EVERY = timedelta(milliseconds=5)
MADE_BY = Provenance({MODEL: "abc"}, "0", "p")


def block(partition: int, number: int) -> FrameBlock:
    """Make the block `number` of a partition: 6 packs, 2 frames each, 10 s apart."""
    draw = np.random.default_rng([partition, number])
    packs = [f"P{partition}-{i}" for i in range(6)]
    t = T0_NS + (number * 2 + np.repeat([0, 1], 6)) * 10 * 10**9
    return make_block(
        MODEL,
        packs,
        pack=np.tile(np.arange(6), 2),
        t_ns=t,
        seq=number * 2 + np.repeat([0, 1], 6),
        current_a=draw.normal(0, 30, ROWS),
        cell_v=draw.normal(3.7, 0.1, (ROWS, 4)),
        temp_c=draw.normal(25, 3, (ROWS, 2)),
    )


class Blocks(FixedPartitionedSource[FrameBlock, int]):
    """Paced blocks, resumed by their number."""

    def __init__(self, blocks: int, started: Path) -> None:
        self._blocks, self._started = blocks, started

    def list_parts(self) -> list[str]:
        return [str(p) for p in range(PARTITIONS)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Blocks:
        self._started.touch()
        return _Blocks(int(for_part), resume_state or 0, self._blocks)


class _Blocks(StatefulSourcePartition[FrameBlock, int]):
    def __init__(self, partition: int, number: int, end: int) -> None:
        self._partition, self._number, self._end = partition, number, end

    def next_batch(self) -> list[FrameBlock]:
        if self._number >= self._end:
            raise StopIteration
        self._number += 1
        return [block(self._partition, self._number - 1)]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + EVERY

    def snapshot(self) -> int:
        return self._number


class Ticks(FixedPartitionedSource[Tick, None]):
    """A tick every 20 ms until the file says that the blocks have ended."""

    def __init__(self, until: float) -> None:
        self._until = until

    def list_parts(self) -> list[str]:
        return ["ticks"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Ticks:
        return _Ticks(time.monotonic() + self._until)


class _Ticks(StatefulSourcePartition[Tick, None]):
    def __init__(self, until: float) -> None:
        self._until = until

    def next_batch(self) -> list[Tick]:
        if time.monotonic() > self._until:
            raise StopIteration
        return [Tick(time.time_ns())]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=20)

    def snapshot(self) -> None:
        return None


class Tally(StatefulBatchLogic[Item, Item, dict[str, Any]]):
    """Count frames and charge per pack since the beginning: a lost or repeated block changes every later record."""

    def __init__(self, resume: dict[str, Any] | None) -> None:
        self._frames: dict[str, int] = dict(resume["frames"]) if resume else {}
        self._charge: dict[str, float] = dict(resume["charge"]) if resume else {}
        self._open: dict[str, int] = dict(resume["open"]) if resume else {}

    def on_batch(self, values: list[Item]) -> tuple[Iterable[Item], bool]:
        out: list[Item] = []
        for item in values:
            out.append(item)
            if isinstance(item, FrameBlock):
                out += self._block(item)
        return out, StatefulBatchLogic.RETAIN

    def _block(self, frames: FrameBlock) -> list[Item]:
        for i, pack in enumerate(frames.packs):
            mine = frames.pack == i
            self._frames[pack] = self._frames.get(pack, 0) + int(mine.sum())
            self._charge[pack] = self._charge.get(pack, 0.0) + float(frames.current_a[mine].sum(dtype=np.float64))
            self._open[pack] = int(frames.t_ns[mine].max())
        n = len(frames.packs)
        at = np.array([self._open[p] for p in frames.packs])
        count = np.array([self._frames[p] for p in frames.packs], np.int32)
        total = np.array([self._charge[p] for p in frames.packs], np.float32)
        common = (frames.model, frames.packs, frames.vehicles, np.arange(n, dtype=np.int32))
        revision = np.zeros(n, np.int32)
        quiet = np.zeros(n, bool)
        window = {"start_ns": at, "end_ns": at, "frames": count, "charge_in_ah": total}
        window |= {"revision": revision, "provisional": quiet}
        state = {"t_ns": at, "soc": total, "soc_cell": frames.cell_v[:n], "revision": revision}
        out: list[Item] = [Rows("windows", *common, window), Rows("states", *common, state)]
        first, t = frames.packs[0], int(at[0])
        if hash64(f"{first}{t}") % 3 == 0:
            gap_id = record_id(first, "gap", "sequence", t)
            out.append(Gap(gap_id, 0, MODEL, first, first, "sequence", t, t + 1, 1, int(count[0]), 1))
            out.append(_incident(first, t, float(total[0])))
        if hash64(f"{first}{t}") % 5 == 0:
            where = ("test", 0, t, 0)
            letter = (*where, "late", "", first, t, t, "json", f"{total[0]}".encode())
            out.append(DeadLetter(dead_letter_id(*where), *letter))
        return out

    def on_eof(self) -> tuple[Iterable[Item], bool]:
        """Close what is open, once: it fires again when a finished run is resumed."""
        out: list[Item] = [_session(p, t, self._frames[p], self._charge[p]) for p, t in self._open.items()]
        self._open = {}
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        return {"frames": dict(self._frames), "charge": dict(self._charge), "open": dict(self._open)}


def _incident(pack: str, t_ns: int, value: float) -> Incident:
    text = f"{pack} at {value}"
    words = ("current", "pack", 2, "open", t_ns, t_ns, 0, text, {"value": value})
    return Incident(record_id(pack, "current", "pack", t_ns), 0, MODEL, pack, pack, *words)


def _session(pack: str, t_ns: int, frames: int, charge: float) -> Session:
    times = ("park", T0_NS, t_ns, frames)
    return Session(record_id(pack, "session", "park", T0_NS), 0, MODEL, pack, pack, *times, *(charge,) * 21)


def _tally(resume: dict[str, Any] | None) -> Tally:
    return Tally(resume)


def build(work: Path, blocks: int, sink: LakeSink) -> Dataflow:
    """Join source, ticks, the stateful step and the lake."""
    flow = Dataflow("killed")
    up = op.flat_map("shard", op.input("source", flow, Blocks(blocks, work / "started")), _to_shards)
    until = blocks * EVERY.total_seconds() + 0.1
    ticks = op.flat_map("ticks-to-shards", op.input("ticks", flow, Ticks(until)), _to_shards)
    up = op.stateful_batch("tally", op.merge("with-ticks", up, ticks), _tally)
    op.output("lake", op.flat_map_batch("to-arrow", up, _to_lake), sink)
    return flow


def _to_shards(item: FrameBlock | Tick) -> list[tuple[str, Item]]:
    if isinstance(item, Tick):
        return [(f"{MODEL}/{shard:03d}", item) for shard in range(SHARDS)]
    return list(item.by_shard(SHARDS))


def _to_lake(keyed: list[tuple[str, Item]]) -> list[tuple[str, LakeItem]]:
    return [("lake", record) for record in to_arrow((item for _, item in keyed), MADE_BY)]


def main() -> None:
    """Run the flow in WORK until its end, resuming where it was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--sink", choices=sorted(SINKS), default="sound")
    args = parser.parse_args()
    work: Path = args.work
    recovery = work / "recovery"
    if not (work / "prepared").exists():
        recovery.mkdir(parents=True, exist_ok=True)
        init_db_dir(str(recovery), 2)
        (work / "prepared").touch()
    sink = SINKS[args.sink](work / "lake", NAME, recovery=True, publish_s=0.2, publish_epochs=3)
    flow = build(work, args.blocks, sink)
    cli_main(flow, epoch_interval=timedelta(seconds=args.epoch), recovery_config=RecoveryConfig(str(recovery)))
    (work / "returned").touch()
    publish_pending(work / "lake", NAME)
    (work / "done").touch()


if __name__ == "__main__":
    main()
