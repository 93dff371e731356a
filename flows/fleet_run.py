"""What `ibms run fleet` does: the fleet flow as a settings file says."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from flows import fleet
from flows.progress import of_span, watched
from flows.reading import Reading
from flows.replay import summary
from flows.run import run_flow
from flows.settings import RunSettings, SimulateSettings, TraceSettings, load_settings
from flows.simulate import fleet_config
from flows.ticks import TickSource
from flows.traces import TraceOptions, trace_items, trace_models
from replay.pace import Pace, slices
from replay.simulate.fleet import simulate
from replay.simulate.truth import Truth
from replay.source import ReplaySource, gather
from schemas.checked import ConfigError
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks.lake import LakeSink, publish_pending

_SLICE_NS = 10**9
_NAME = "fleet"


def run_configured(config: Path, process: int | None, addresses: Sequence[str] | None) -> None:
    """Run to the end of input, publish the last epoch and say in a line what came of it."""
    if (process is None) != (addresses is None) or (addresses is not None and process not in range(len(addresses))):
        msg = f"--process must be the number of one of --addresses, from 0; got {process} and {addresses or 'none'}"
        raise ConfigError(msg)
    settings = load_settings(config)
    reading = run(settings, process, addresses)
    if not process:
        sys.stdout.write(summary(reading, _trace(settings.source), settings.lake.dir))


def run(settings: RunSettings, process: int | None = None, addresses: Sequence[str] | None = None) -> Reading:
    """Run as `run_configured`, from settings that are already read; gives what this process read."""
    ended = [False]
    reading = Reading()
    recovering = settings.recovery.dir is not None
    pace = None if settings.source.speed == "max" else Pace(settings.source.speed, time.time_ns)
    models = _models(settings)

    def items() -> Iterable[Item]:
        yield from _items(settings, reading)
        ended[0] = True

    flow = fleet.build(
        settings.fleet,
        ReplaySource(items if pace is None else lambda: slices(items(), _SLICE_NS), pace),
        LakeSink(settings.lake.dir, _NAME, recovery=recovering, encrypt=settings.lake.encrypt),
        models,
        ticks=TickSource(until=lambda: ended[0]) if settings.ticks else None,
        files=settings.recovery.files,
    )
    run_flow(
        flow, settings.recovery, settings.fleet.shards, process=process, addresses=addresses,
        epoch=settings.recovery.epoch, source=_signature(settings.source),
    )  # fmt: skip
    if recovering and not process:
        publish_pending(settings.lake.dir, _NAME)
    return reading


def _items(settings: RunSettings, reading: Reading) -> Iterator[Item]:
    source = settings.source
    if isinstance(source, TraceSettings):
        return gather(watched(trace_items(_trace(source), reading), "fleet", lambda _: reading.share))
    cfg = fleet_config(source)
    span = of_span(cfg.start_ns, cfg.start_ns + int(cfg.hours * 3600e9))
    return gather(watched(_noted(simulate(cfg), reading), "fleet", span))


def _noted(made: Iterable[tuple[FrameBlock, Truth]], reading: Reading) -> Iterator[FrameBlock]:
    for block, _ in made:
        reading.take(block)
        yield block


def _signature(source: TraceSettings | SimulateSettings) -> str:
    """Tell sources apart by all that gives a place in them its meaning; a pace cuts blocks, whatever its speed."""
    cut = "max" if source.speed == "max" else "paced"
    return (
        " ".join(f"{f.name}={getattr(source, f.name)}" for f in fields(source) if f.name != "speed") + f" speed={cut}"
    )


def _models(settings: RunSettings) -> tuple[str, ...]:
    """Name the pack models; a trace of a generic pack says only when read how many cells it has."""
    if isinstance(settings.source, SimulateSettings):
        return tuple(load_pack(m).name for m in settings.source.models)
    return trace_models(_trace(settings.source))


def _trace(source: TraceSettings | SimulateSettings) -> TraceOptions:
    if isinstance(source, SimulateSettings):
        return TraceOptions(())
    s = source
    return TraceOptions(s.paths, s.pack, s.dbc, s.map, s.vehicle, s.period_s, s.start, s.from_time, s.to_time)
