"""What `ibms run fleet` does: the fleet flow as a settings file says."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from bytewax.inputs import Source
from bytewax.outputs import FixedPartitionedSink

from flows import fleet
from flows.failing import end_at_once, report_failures
from flows.heartbeat import PROGRESS
from flows.kafka_run import frames_topic, kafka_sink, kafka_source, store_name
from flows.observe import Observer
from flows.progress import of_span, watched
from flows.reading import Reading
from flows.replay import summary
from flows.run import run_flow
from flows.settings import KafkaInSettings, RunSettings, SimulateSettings, TraceSettings, load_settings
from flows.simulate import fleet_config
from flows.ticks import TickSource
from flows.traces import TraceOptions, trace_items, trace_models
from flows.watched_sink import WatchedSink
from replay.pace import Pace, slices
from replay.simulate.fleet import simulate
from replay.simulate.truth import Truth
from replay.source import ReplaySource, gather
from schemas.arrow import LakeItem
from schemas.checked import ConfigError
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from sinks.lake import LakeSink, publish_pending

_SLICE_NS = 10**9


def run_configured(
    config: Path, process: int | None, addresses: Sequence[str] | None, *, supervised: bool = False
) -> None:
    """Run to the end of input, publish the last epoch and say in a line what came of it.

    A supervised process leaves the last epoch and the line to its supervisor.
    """
    if (process is None) != (addresses is None) or (addresses is not None and process not in range(len(addresses))):
        msg = f"--process must be the number of one of --addresses, from 0; got {process} and {addresses or 'none'}"
        raise ConfigError(msg)
    settings = load_settings(config)
    reading = run(settings, process, addresses, supervised=supervised)
    if not process and not supervised and not isinstance(settings.source, KafkaInSettings):
        sys.stdout.write(summary(reading, _trace(settings.source), settings.lake.dir))


def run(
    settings: RunSettings,
    process: int | None = None,
    addresses: Sequence[str] | None = None,
    *,
    supervised: bool = False,
) -> Reading:
    """Run as `run_configured`, from settings that are already read; gives what this process read."""
    ended = [False]
    reading = Reading()
    recovering = settings.recovery.dir is not None
    name = store_name(settings.recovery.dir)
    folder = None if settings.recovery.dir is None else settings.recovery.dir / PROGRESS
    seen = Observer(settings.observe, process or 0, folder)
    seen.serve()
    source: Source[Item]
    if isinstance(settings.source, KafkaInSettings):
        source = kafka_source(settings, settings.source, seen)
    else:
        pace = None if settings.source.speed == "max" else Pace(settings.source.speed, time.time_ns)

        def items() -> Iterable[Item]:
            yield from _items(settings, reading)
            ended[0] = True

        source = ReplaySource(items if pace is None else lambda: slices(items(), _SLICE_NS), pace)
    sinks: dict[str, FixedPartitionedSink[LakeItem, Any]] = {}
    if "lake" in settings.outputs:
        sinks["lake"] = LakeSink(settings.lake.dir, name, recovery=recovering, encrypt=settings.lake.encrypt)
    if "kafka" in settings.outputs:
        sinks["kafka"] = kafka_sink(settings, name, seen)
    flow = fleet.build(
        settings.fleet,
        source,
        {step: WatchedSink(sink, step, seen) for step, sink in sinks.items()},
        _models(settings),
        ticks=TickSource(until=lambda: ended[0]) if settings.ticks else None,
        files=settings.recovery.files,
        seen=seen,
        source_name=frames_topic(settings) if isinstance(settings.source, KafkaInSettings) else "frames",
    )
    if addresses is not None:
        report_failures(flow, partial(end_at_once, seen.say))
    seen.say("start", source=_signature(settings.source), outputs=",".join(settings.outputs))
    run_flow(
        flow, settings.recovery, settings.fleet.shards, process=process, addresses=addresses,
        epoch=settings.recovery.epoch, source=_signature(settings.source),
    )  # fmt: skip
    if recovering and not process and not supervised:
        publish_last(settings)
    seen.say("end")
    return reading


def publish_last(settings: RunSettings) -> None:
    """Publish what the sinks left pending, once all processes have returned normally."""
    if "lake" in settings.outputs:
        publish_pending(settings.lake.dir, store_name(settings.recovery.dir))


def _items(settings: RunSettings, reading: Reading) -> Iterator[Item]:
    source = settings.source
    assert not isinstance(source, KafkaInSettings), "a broker's messages are read by readers"
    if isinstance(source, TraceSettings):
        return gather(watched(trace_items(_trace(source), reading), "fleet", lambda _: reading.share))
    cfg = fleet_config(source)
    span = of_span(cfg.start_ns, cfg.start_ns + int(cfg.hours * 3600e9))
    return gather(watched(_noted(simulate(cfg), reading), "fleet", span))


def _noted(made: Iterable[tuple[FrameBlock, Truth]], reading: Reading) -> Iterator[FrameBlock]:
    for block, _ in made:
        reading.take(block)
        yield block


def _signature(source: TraceSettings | SimulateSettings | KafkaInSettings) -> str:
    """Tell sources apart by all that gives a place in them its meaning; a pace cuts blocks, whatever its speed."""
    if isinstance(source, KafkaInSettings):
        return f"kafka readers={source.readers}"
    cut = "max" if source.speed == "max" else "paced"
    return (
        " ".join(f"{f.name}={getattr(source, f.name)}" for f in fields(source) if f.name != "speed") + f" speed={cut}"
    )


def _models(settings: RunSettings) -> tuple[str, ...]:
    """Name the pack models; a trace of a generic pack says only when read how many cells it has."""
    if isinstance(settings.source, SimulateSettings | KafkaInSettings):
        return tuple(load_pack(m).name for m in settings.source.models)
    return trace_models(_trace(settings.source))


def _trace(source: TraceSettings | SimulateSettings | KafkaInSettings) -> TraceOptions:
    if not isinstance(source, TraceSettings):
        return TraceOptions(())
    s = source
    return TraceOptions(s.paths, s.pack, s.dbc, s.map, s.vehicle, s.period_s, s.start, s.from_time, s.to_time)
