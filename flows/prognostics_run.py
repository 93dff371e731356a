"""What `ibms run prognostics` does: the prognostics flow over a lake alone, or as a settings file says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bytewax.inputs import Source
from bytewax.outputs import FixedPartitionedSink

from flows import lean, prognostics
from flows.heartbeat import PROGRESS
from flows.kafka_run import broker, kafka_sink, only, store_name
from flows.kafka_source import Input, KafkaSource
from flows.observe import Observer, ObserveSettings
from flows.run import run_flow
from flows.session_rows import LakeSessions, decode_sessions, lake_models
from flows.settings import (
    KafkaInSettings,
    LakeSettings,
    RecoverySettings,
    Surroundings,
    kafka_in,
    read_settings,
    section,
    surroundings,
)
from flows.ticks import TickSource
from flows.watched_sink import WatchedSink
from operators.health import MakeJudge
from operators.life import MakeOracle
from schemas.arrow import LakeItem
from schemas.checked import ConfigError
from schemas.events import Item
from schemas.pack import load_pack
from schemas.topics import PROGNOSTICS
from sinks import ducklake
from sinks.lake import LakeSink, publish_pending

_PUBLISH_BYTES = 8 << 20  # sorting what goes into the lake takes several times as much
# What waits in a reader, fetched ahead: megabytes are seconds of work, and there are as many as readers.
_QUEUE = {"queued.min.messages": 1_000, "queued.max.messages.kbytes": 4_096}
_TABLES = (*PROGNOSTICS, "incidents", "dead_letters")


@dataclass(frozen=True, slots=True)
class LakeInSettings:
    """Sessions of a lake as input, to its end."""

    dir: Path


@dataclass(frozen=True, slots=True)
class PrognosticsSettings:
    """A whole run: `models` is a directory of trained models ("" none), `model` and `life` name who speaks."""

    source: LakeInSettings | KafkaInSettings
    around: Surroundings
    shards: int = prognostics.SHARDS
    models: str = ""
    model: str = ""
    life: str = ""


def run_on_lake(
    lake: Path, out: Path | None, models: Path | None, speak: tuple[str, str], recovery: Path | None
) -> None:
    """Judge a lake's sessions; results go into `out`, by default the same lake.

    `speak` names the models of health and of life that do, "" none.
    """
    around = Surroundings(LakeSettings(out or lake), RecoverySettings(recovery), None, ("lake",), ObserveSettings())
    run(PrognosticsSettings(LakeInSettings(lake), around, models=str(models or ""), model=speak[0], life=speak[1]))
    sys.stdout.write(summary(out or lake))


def run_configured(config: Path) -> None:
    """Run as a settings file says; from Kafka without end."""
    settings = load_settings(config)
    run(settings)
    if "lake" in settings.around.outputs:
        sys.stdout.write(summary(settings.around.lake.dir))


def load_settings(path: Path) -> PrognosticsSettings:
    """Read a run's settings; raises ConfigError with file, key, value and what is accepted."""
    whole = read_settings(path)
    given = whole.table("source")
    source: LakeInSettings | KafkaInSettings
    if given.text("kind", ("lake", "kafka")) == "kafka":
        source = kafka_in(given)
    else:
        source = LakeInSettings(Path(given.text("dir")))
    given.done()
    around = surroundings(whole, live=isinstance(source, KafkaInSettings))
    table = section(whole, "prognostics")
    settings = PrognosticsSettings(
        source,
        around,
        prognostics.SHARDS if table.raw("shards") is None else table.integer("shards", 1, 4096),
        "" if table.raw("models") is None else table.text("models"),
        *("" if table.raw(key) is None else table.text(key) for key in ("model", "life")),
    )
    table.done()
    whole.done()
    return settings


def run(settings: PrognosticsSettings) -> None:
    """Run to the end of input and publish the last epoch."""
    with lean.serving():
        _run(settings)


def _run(settings: PrognosticsSettings) -> None:
    around, source = settings.around, settings.source
    recovering = around.recovery.dir is not None
    name = store_name(around.recovery.dir, "prognostics")
    seen = Observer(around.observe, 0, None if around.recovery.dir is None else around.recovery.dir / PROGRESS)
    seen.serve()
    judge, oracle, trained = _models_that_speak(settings)
    sinks: dict[str, FixedPartitionedSink[LakeItem, Any]] = {}
    if "lake" in around.outputs:
        sinks["lake"] = LakeSink(
            around.lake.dir, name, recovery=recovering, encrypt=around.lake.encrypt, publish_bytes=_PUBLISH_BYTES
        )
    if "kafka" in around.outputs:
        sinks["kafka"] = kafka_sink(around, name, seen, _TABLES)
    live = isinstance(source, KafkaInSettings)
    flow = prognostics.build(
        _source(settings, seen),
        {step: WatchedSink(sink, step, seen) for step, sink in sinks.items()},
        _models(source),
        shards=settings.shards,
        judge=judge,
        oracle=oracle,
        trained=trained,
        ticks=TickSource() if live else None,
        files=around.recovery.files,
    )
    # Where what is read is not what was read, a place in it means another thing.
    signature = f"sessions kafka readers={source.readers}" if live else f"sessions lake={source.dir.resolve()}"  # type: ignore[union-attr] # as `live` says
    run_flow(flow, around.recovery, settings.shards, epoch=around.recovery.epoch, source=signature)
    if recovering and "lake" in around.outputs:
        publish_pending(around.lake.dir, name)
    seen.say("end")


def _source(settings: PrognosticsSettings, seen: Observer) -> Source[Item]:
    source = settings.source
    if isinstance(source, LakeInSettings):
        return LakeSessions(source.dir, load_pack)
    kafka = broker(settings.around)
    packs = only(source.models)
    return KafkaSource(
        Input(
            client={**_QUEUE, **kafka.client()},
            topics=(kafka.topics()["sessions"].name,),
            group=f"{kafka.group}-prognostics",
            readers=source.readers,
            on_expired=source.on_expired,
            packs=packs,
            decode=decode_sessions(packs),
            say=seen.say,
            waiting=lambda why: seen.waiting("source", why),
            lag=seen.lag,
        )
    )


def _models(source: LakeInSettings | KafkaInSettings) -> Sequence[str]:
    if isinstance(source, LakeInSettings):
        return lake_models(source.dir)
    return tuple(load_pack(m).name for m in source.models)


def _models_that_speak(settings: PrognosticsSettings) -> tuple[MakeJudge | None, MakeOracle | None, str]:
    """Load the trained models that are named, of health and of life."""
    named = settings.model or settings.life
    if named and not settings.models:
        msg = f"prognostics.models must be the directory of the models; got nothing, and {named}"
        raise ConfigError(msg)
    if not settings.models:
        return None, None, ""
    if not named:
        msg = (
            "prognostics.model and life must name the models that speak, one or both, e.g. soh/XJTU/count and "
            f"rul/XJTU/count; got nothing ({settings.models})"
        )
        raise ConfigError(msg)
    from flows.judge import judges  # noqa: PLC0415 - only where a model speaks
    from flows.oracle import oracles  # noqa: PLC0415 - as above

    models = Path(settings.models)
    judge, of_health = judges(models, settings.model) if settings.model else (None, "")
    oracle, of_life = oracles(models, settings.life) if settings.life else (None, "")
    return judge, oracle, ",".join(filter(None, (of_health, of_life)))


def summary(lake: Path) -> str:
    """Say in lines what came of it."""
    with ducklake.attach(lake) as con:
        packs, charges, counted = con.execute(
            "SELECT count(DISTINCT pack_id), count(*), count(*) FILTER (accepted) FROM evidence"
        ).fetchall()[0]
    return (
        f"{packs:,} packs, {charges:,} charges, {counted:,} of them counted → {lake}\n"
        f'next: ibms query --lake {lake} "SELECT vehicle_id, soh, soh_low, soh_high FROM health_latest"\n'
        f'      ibms query --lake {lake} "SELECT * FROM why_no_estimate"\n'
        f'      ibms query --lake {lake} "SELECT vehicle_id, left_cycles, ends_at, reason FROM forecast_latest"\n'
    )
