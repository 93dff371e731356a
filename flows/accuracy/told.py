"""What the flows tell of simulated vehicles: their incidents, kept in memory, or all of it, in a lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from flows import fleet, prognostics
from flows.run import run_flow
from flows.session_rows import LakeSessions
from flows.settings import FleetSettings, RecoverySettings
from operators.kernels.kinds import KINDS
from replay.source import ReplaySource, gather
from schemas.arrow import LakeItem
from schemas.events import Item, Tick
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks.lake import LakeSink

SHARDS = 4
VOTES = tuple(kind.name for kind in KINDS if not kind.opens)


@dataclass(frozen=True, slots=True)
class Told:
    """One revision of an incident."""

    id: str
    vehicle_id: str
    kind: str
    subject: str
    opened_ns: int
    updated_ns: int
    since_ns: int  # the earliest of what speaks for it
    cause: str
    votes: tuple[str, ...]  # kinds that only vote, of its evidence


def incidents_of(blocks: Iterable[FrameBlock], models: tuple[str, ...]) -> list[Told]:
    """Run the fleet flow over `blocks` and give every revision of every incident, in order of time."""
    return told_by(blocks, models, lambda _: None)


def told_by(
    blocks: Iterable[FrameBlock], models: tuple[str, ...], windows: Callable[[pa.RecordBatch], None]
) -> list[Told]:
    """Do the same, and hand over the closed windows as they come."""
    told: list[Told] = []

    def items() -> Iterator[Item]:
        return gather(blocks)

    settings = FleetSettings(shards=SHARDS)
    flow = fleet.build(settings, ReplaySource(items), _Keep(told, windows), models)
    run_flow(flow, RecoverySettings(), settings.shards)
    return sorted(told, key=lambda t: (t.updated_ns, t.vehicle_id, t.id))


def judged(blocks: Iterable[FrameBlock], models: tuple[str, ...], lake: Path) -> None:
    """Run the fleet flow over `blocks` into a new lake, and prognostics over what is in it."""
    settings = FleetSettings(shards=SHARDS)
    source = ReplaySource(lambda: gather(blocks))
    sink = LakeSink(lake, "fleet", recovery=False)
    run_flow(fleet.build(settings, source, sink, models), RecoverySettings(), settings.shards)
    sink = LakeSink(lake, "prognostics", recovery=False)
    flow = prognostics.build(LakeSessions(lake, load_pack), sink, models, shards=SHARDS)
    run_flow(flow, RecoverySettings(), SHARDS)


class _Keep(DynamicSink[tuple[str, LakeItem]]):
    def __init__(self, told: list[Told], windows: Callable[[pa.RecordBatch], None]) -> None:
        self._told, self._windows = told, windows

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Kept:
        return _Kept(self._told, self._windows)


class _Kept(StatelessSinkPartition[tuple[str, LakeItem]]):
    def __init__(self, told: list[Told], windows: Callable[[pa.RecordBatch], None]) -> None:
        self._told, self._windows = told, windows

    def write_batch(self, items: list[tuple[str, LakeItem]]) -> None:
        for _, item in items:
            if isinstance(item, Tick):
                continue
            if item[0] == "incidents":
                self._told += _rows(item[1])
            elif item[0] == "windows":
                self._windows(item[1])


def _rows(batch: pa.RecordBatch) -> Iterator[Told]:
    names = [batch.column(name).to_pylist() for name in ("id", "vehicle_id", "kind", "subject")]
    causes = batch.column("cause").to_pylist()
    evidence = map(orjson.loads, batch.column("evidence").to_pylist())
    votes = [tuple(vote for vote in VOTES if vote in found) for found in evidence]
    times = [batch.column(name).cast(pa.int64()).to_pylist() for name in ("opened_ns", "updated_ns", "since_ns")]
    return (Told(*row) for row in zip(*names, *times, causes, votes, strict=True))
