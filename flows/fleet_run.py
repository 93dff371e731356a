"""What `ibms run fleet` does: the fleet flow as a settings file says."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from flows import fleet
from flows.progress import watched
from flows.run import run_flow
from flows.settings import RunSettings, SimulateSettings, load_settings
from flows.ticks import TickSource
from flows.traces import TraceOptions, trace_items
from replay.pace import Pace, slices
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.schedule import schedule
from replay.source import ReplaySource, gather
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks.lake import LakeSink, publish_pending

_SLICE_NS = 10**9
_NAME = "fleet"


def run_configured(config: Path, process: int | None, addresses: Sequence[str] | None) -> None:
    """Run to the end of input and publish the last epoch."""
    settings = load_settings(config)
    run(settings, process, addresses)


def run(settings: RunSettings, process: int | None = None, addresses: Sequence[str] | None = None) -> None:
    """Run as `run_configured`, from settings that are already read."""
    ended = [False]
    recovering = settings.recovery.dir is not None
    pace = None if settings.source.speed == "max" else Pace(settings.source.speed, time.time_ns)

    def items() -> Iterable[Item]:
        yield from watched(_items(settings), "fleet")
        ended[0] = True

    source = ReplaySource(items if pace is None else lambda: slices(items(), _SLICE_NS), pace)
    flow = fleet.build(
        settings.fleet,
        source,
        LakeSink(settings.lake.dir, _NAME, recovery=recovering, encrypt=settings.lake.encrypt),
        _models(settings),
        ticks=TickSource(until=lambda: ended[0]) if settings.ticks else None,
    )
    run_flow(flow, settings.recovery, settings.fleet.shards, process=process, addresses=addresses)
    if recovering and not process:
        publish_pending(settings.lake.dir, _NAME)


def _items(settings: RunSettings) -> Iterable[Item]:
    source = settings.source
    if isinstance(source, SimulateSettings):
        return gather(block for block, _ in simulate(_fleet(source)))
    return gather(trace_items(_trace(settings)))


def _models(settings: RunSettings) -> tuple[str, ...]:
    """Name the pack models; a trace of a generic pack says only when read how many cells it has."""
    if isinstance(settings.source, SimulateSettings):
        return tuple(load_pack(m).name for m in settings.source.models)
    first = next((i for i in trace_items(_trace(settings)) if isinstance(i, FrameBlock)), None)
    return () if first is None else (first.model,)


def _trace(settings: RunSettings) -> TraceOptions:
    s = settings.source
    assert not isinstance(s, SimulateSettings)
    return TraceOptions(s.paths, s.pack, s.dbc, s.map, s.vehicle, s.period_s)


def _fleet(source: SimulateSettings) -> FleetConfig:
    cfg = FleetConfig(source.vehicles, source.hours, source.period_s, source.models, source.seed)
    return replace(cfg, faults=schedule(cfg, max(1, cfg.vehicles // 10))) if source.faults else cfg
