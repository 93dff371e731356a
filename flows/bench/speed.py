"""Frames per second through all steps into a lake, and the share of each step."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from flows import fleet
from flows.bench import per_vehicle
from flows.bench.blocks import MODEL, fleet_blocks, repeated
from flows.bench.core import one_core
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from operators.kernels.slots import nbytes_per_pack
from operators.shard import ShardLogic, to_shards
from replay.source import ReplaySource
from schemas.arrow import to_arrow
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks.lake import LakeSink, publish_pending

SHARDS = 16
SETTINGS = FleetSettings(shards=SHARDS)
EPOCH_S = 30.0  # the default


def to_lake(frames: Iterable[FrameBlock], *, snapshots: bool, baseline: bool = False) -> float:
    """Run frames through the whole flow into a new lake, publishes included; gives seconds."""
    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as where, one_core():
        lake = Path(where) / "lake"
        source = ReplaySource(lambda: frames)
        sink = LakeSink(lake, "bench", recovery=snapshots)
        recovery = RecoverySettings(Path(where) / "recovery" if snapshots else None, EPOCH_S)
        if baseline:
            flow = per_vehicle.build(source, sink)
        else:
            flow = fleet.build(SETTINGS, source, sink, (MODEL,), files=recovery.files)
        began = perf_counter()
        run_flow(flow, recovery, SHARDS)
        if snapshots:
            publish_pending(lake, "bench")
        return perf_counter() - began


def fleet_rate(vehicles: int, rounds: int, times: int = 1, runs: int = 3) -> float:
    """Measure frames/s with snapshots on, over the same frames `times` over: median of `runs`."""
    blocks = fleet_blocks(vehicles, rounds)
    frames = times * sum(map(len, blocks))
    return median(frames / to_lake(repeated(blocks, times), snapshots=True) for _ in range(runs))


def ratio_vs_per_vehicle(vehicles: int, rounds: int, times: int, runs: int = 3) -> tuple[float, float]:
    """Give the median ratio of frames/s to the per-vehicle flow's, pairs run one after the other, and its rate.

    The columnar flow runs over the same frames `times` over, so that both take seconds.
    """
    blocks = fleet_blocks(vehicles, rounds)
    pairs = [
        (to_lake(blocks, snapshots=True, baseline=True), to_lake(repeated(blocks, times), snapshots=True))
        for _ in range(runs)
    ]
    rate = sum(map(len, blocks)) / median(slow for slow, _ in pairs)
    return median(times * slow / fast for slow, fast in pairs), rate


def snapshot_ratio(vehicles: int, rounds: int, seconds: float, runs: int = 1) -> float:
    """Give throughput with snapshots at the default epoch over that without, each over about `seconds`."""
    blocks = fleet_blocks(vehicles, rounds)
    times = max(1, round(seconds / to_lake(blocks, snapshots=False)))
    ratios = []
    for _ in range(runs):
        without = to_lake(repeated(blocks, times), snapshots=False)
        ratios.append(without / to_lake(repeated(blocks, times), snapshots=True))
    return median(ratios)


def stages(vehicles: int, rounds: int) -> tuple[dict[str, float], float]:
    """Give µs per frame of each step by itself, without runtime and lake, and the bytes of state per pack."""
    blocks = fleet_blocks(vehicles, rounds)
    frames = sum(map(len, blocks))
    spent: dict[str, float] = defaultdict(float)
    cut = to_shards(SHARDS, load_pack)
    made_by = fleet.provenance(SETTINGS, (MODEL,))
    chains: dict[str, dict[str, ShardLogic]] = defaultdict(partial(fleet.logics, SETTINGS))

    def timed(name: str, call: Callable[[], Iterable[Any]]) -> list[Any]:
        began = perf_counter()
        out = list(call())
        spent[name] += perf_counter() - began
        return out

    with one_core():
        for block in blocks:
            for key, part in timed("shard", partial(cut, block)):
                items: list[Item] = [part]
                for name, logic in chains[key].items():
                    items = timed(name, partial(_on_batch, logic, items))
                timed("to-arrow", partial(to_arrow, fleet.outward(items), made_by))
    state = sum(nbytes_per_pack(logic.state) for logic in next(iter(chains.values())).values())
    return {name: s / frames * 1e6 for name, s in spent.items()}, state


def _on_batch(logic: ShardLogic, items: list[Item]) -> Iterable[Item]:
    return logic.on_batch(items)[0]
