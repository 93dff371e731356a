"""The job in this project's own parts: source, shards, a kernel that walks the rows of a block, and the sink."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Dataflow
from numba import njit
from numpy.typing import NDArray

from flows.kafka_source import Input, KafkaSource
from flows.run import run_flow
from flows.settings import RecoverySettings
from flows.ticks import TickSource, to_every_shard
from operators.shard import shard_step, to_shards
from operators.step import Step
from schemas.events import Item, Rows, Tick
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks.kafka import KafkaSink
from tests.bench.peers.job import EPOCH_S, NAMES, advance

SHARDS = 4
MODEL = "generic-nmc@96c16t60ah"


@dataclass
class State:
    """What is kept of each vehicle, as `advance` has it."""

    clock: NDArray[np.int64]
    cells: NDArray[np.float64]

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> Self:  # noqa: ARG003 - as every state
        """State of vehicles never seen."""
        return cls(np.zeros((slots, 2), np.int64), np.zeros((slots, 3, cells)))


@njit(cache=True)
def _walk(clock: Any, cells: Any, slot: Any, t_ns: Any, current_a: Any, cell_v: Any, due: Any, out: Any) -> None:
    for i in range(slot.size):
        s = slot[i]
        due[i] = advance(clock[s], cells[s], t_ns[i], float(current_a[i]), cell_v[i], out[i])


class Job(Step):
    """The vehicles of one shard."""

    state: State

    def __init__(self, cells: int) -> None:
        """Start with no vehicle."""
        self.state = State.empty(0, cells, 0)

    def block(self, block: FrameBlock) -> list[Item]:
        """Take frames in; gives the results."""
        due, out = np.zeros(len(block), np.bool_), np.zeros((len(block), len(NAMES)))
        slot = block.derived["slot"]
        _walk(self.state.clock, self.state.cells, slot, block.t_ns, block.current_a, block.cell_v, due, out)
        rows = np.flatnonzero(due)
        columns = {name: out[rows, i] for i, name in enumerate(NAMES)}
        columns |= {"start_ns": block.t_ns[rows], "pack_hash": block.derived["pack_hash"][rows]}
        return [Rows("windows", block.model, block.packs, block.vehicles, block.pack[rows], columns)]


def to_arrow(keyed: list[tuple[str, Item]]) -> Iterable[tuple[str, tuple[str, pa.RecordBatch] | Tick]]:
    """Give results as columns under the names by which the sink knows windows."""
    for _, item in keyed:
        if isinstance(item, Tick):
            yield "out", item
        elif isinstance(item, Rows) and len(item):
            names = pa.array([item.vehicles[p] for p in item.pack.tolist()])
            about = {"vehicle_id": names, "revision": np.zeros(len(item), np.int32)}
            columns = about | {"provisional": np.zeros(len(item), np.bool_)} | dict(item.data)
            yield "out", ("windows", pa.RecordBatch.from_pydict({k: pa.array(v) for k, v in columns.items()}))


def main(bootstrap: str, topic: str, results: str, folder: str) -> None:
    """Run until killed."""
    client = {"bootstrap.servers": bootstrap}
    recovery = RecoverySettings(Path(folder) / "recovery", EPOCH_S)
    source = KafkaSource(Input(client, (topic,), results))
    sink = KafkaSink(client, {"windows": results}, "peers", started=recovery.files and recovery.files / "started.json")
    flow = Dataflow("job")
    frames = op.flat_map("shard", op.input("frames", flow, source), to_shards(SHARDS, load_pack))
    ticks = op.flat_map("to-every-shard", op.input("ticks", flow, TickSource()), to_every_shard([MODEL], SHARDS))
    up = op.merge("with-ticks", frames, ticks)
    made = shard_step("job", up, lambda pack, _: Job(pack.series), load_pack, assigns=True, files=recovery.files)
    op.output("results", op.flat_map_batch("to-arrow", made, to_arrow), sink)
    run_flow(flow, recovery, SHARDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
