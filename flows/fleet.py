"""The fleet flow: clean → estimate → diagnose → window → anomaly → incidents → lake, one pipe over shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from flows.observe import Observer
from flows.settings import FleetSettings
from flows.ticks import to_every_shard
from operators.anomaly import anomaly
from operators.clean import clean
from operators.diagnose import diagnose
from operators.estimate import estimate
from operators.fleet_model import load_model
from operators.incidents import incidents
from operators.kernels.clean import CleanConfig
from operators.kernels.window import WindowConfig
from operators.shard import COPY, EVICT, Packs, ShardLogic, to_shards
from operators.window import WindowStepConfig, windows
from replay.source import ReplaySource
from schemas.arrow import LakeItem, Provenance, to_arrow
from schemas.events import Item, Rows, Tick
from schemas.pack import load_pack

_INTERNAL = {EVICT, COPY, "findings"}  # tables that only steps read
_INTERNAL_COLUMNS = {"slot"}
Cut = Callable[[Item], list[tuple[str, Item]]]


def build(
    settings: FleetSettings,
    source: Source[Item],
    sink: Sink[Any] | Mapping[str, Sink[Any]],
    models: Sequence[str],
    *,
    ticks: Source[Tick] | None = None,
    packs: Packs = load_pack,
    files: Path | None = None,
    seen: Observer | None = None,
    source_name: str = "frames",
) -> Dataflow:
    """Join the steps: frames of `models` from `source`, records to `sink` as (table, Arrow) items.

    Several sinks go by the name of their step.  `seen` is told what passes; `source_name` is what dead letters of
    refused rows name.

    `ticks` brings wall time, for idle closing and quiet sinks; a replay has none.  `files` is where the state of a
    flow with a recovery store lies.
    """
    flow = Dataflow("fleet")
    cut = to_shards(settings.shards, packs)
    up = op.flat_map("shard", op.input("source", flow, source), cut if seen is None else _counted(cut, seen))
    if ticks is not None:
        seconds = op.flat_map("to-every-shard", op.input("ticks", flow, ticks), to_every_shard(models, settings.shards))
        up = op.merge("with-ticks", up, seconds)
    up = steps(settings, up, packs, files, source_name, seen)
    out = op.flat_map_batch("to-arrow", up, _to_lake(provenance(settings, models, packs), seen))
    for name, one in (sink if isinstance(sink, Mapping) else {"lake": sink}).items():
        op.output(name, out, one)
    return flow


def _counted(cut: Cut, seen: Observer) -> Cut:
    def count(item: Item) -> list[tuple[str, Item]]:
        seen.passed("decoded", item)
        return cut(item)

    return count


def steps(
    settings: FleetSettings,
    up: KeyedStream[Item],
    packs: Packs,
    files: Path | None = None,
    source_name: str = "frames",
    seen: Observer | None = None,
) -> KeyedStream[Item]:
    """Add all stateful steps, in order."""
    told = None if seen is None else partial(seen.kept, settings.shards)
    model = load_model(settings.anomaly_model) if settings.anomaly_model else None
    window = WindowStepConfig(
        window=WindowConfig(window_s=settings.window_s),
        state_s=settings.state_s,
        idle_close_s=settings.idle_close_s,
        keep_frames=settings.keep_frames,
    )
    accepted = CleanConfig(lateness_s=settings.lateness_s, keep_raw=settings.keep_frames)
    up = clean("clean", up, packs, accepted, source=source_name, files=files, told=told)
    up = estimate("estimate", _passed("cleaned", up, seen), packs, files=files, told=told)
    up = diagnose("diagnose", _passed("estimated", up, seen), packs, files=files, told=told)
    up = _passed("diagnosed", up, seen)
    up = windows("window", up, packs, window, files=files, told=told)
    up = anomaly("anomaly", up, packs, model=model, files=files, told=told)
    return incidents("incidents", up, packs, files=files, told=told)


def _passed(stage: str, up: KeyedStream[Item], seen: Observer | None) -> KeyedStream[Item]:
    """Count the frames that come out of a step."""
    if seen is None:
        return up

    def count(keyed: list[tuple[str, Item]]) -> list[tuple[str, Item]]:
        for _, item in keyed:
            seen.passed(stage, item)
        return keyed

    return op.flat_map_batch(f"count-{stage}", up, count)


def logics(
    settings: FleetSettings, packs: Packs = load_pack, resume: Mapping[str, Any] | None = None
) -> dict[str, ShardLogic]:
    """Make every step's logic for one shard, in order, to be called without a runtime; `resume`: their snapshots."""
    flow = Dataflow("steps")
    steps(settings, op.key_on("shard", op.input("source", flow, ReplaySource(list)), lambda _: ""), packs)
    builders = {s.step_id.rpartition(".")[2]: s.builder for s in flow.substeps if hasattr(s, "builder")}
    return {name: build(resume and resume[name]) for name, build in builders.items()}


def provenance(settings: FleetSettings, models: Sequence[str], packs: Packs = load_pack) -> Provenance:
    """Say what makes the records of a run."""
    trained = load_model(settings.anomaly_model).sha if settings.anomaly_model else ""
    return Provenance({m: packs(m).sha for m in models}, version("ibms"), settings.params(), trained)


def _to_lake(made_by: Provenance, seen: Observer | None) -> Any:  # noqa: ANN401 - a mapper of bytewax
    def convert(keyed: list[tuple[str, Item]]) -> Iterable[tuple[str, LakeItem]]:
        items = outward(item for _, item in keyed)
        if seen is not None:
            seen.recorded(items)
        return [("lake", record) for record in to_arrow(items, made_by)]

    return convert


def outward(items: Iterable[Item]) -> list[Item]:
    """Leave out what only steps read."""
    return [
        replace(i, data={k: v for k, v in i.data.items() if k not in _INTERNAL_COLUMNS}) if isinstance(i, Rows) else i
        for i in items
        if not (isinstance(i, Rows) and i.table in _INTERNAL)
    ]
