"""What a run from Kafka, or to it, is made of: the source, the sinks and their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from flows.kafka_source import Input, KafkaSource
from flows.observe import Observer
from flows.settings import KafkaInSettings, RunSettings, Surroundings
from schemas.checked import ConfigError
from schemas.kafka_settings import KafkaSettings
from schemas.message import Packs
from schemas.pack import PackError, PackModel, load_pack
from schemas.topics import INPUTS, OUTPUTS
from sinks.kafka import KafkaSink

_ID = "store-id"


def store_name(directory: Path | None, flow: str = "fleet") -> str:
    """Name the runs of one recovery store: what they leave pending is not for another store to drop."""
    if directory is None:
        return flow
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / _ID
    made = file.with_name(f"{_ID}.{os.getpid()}")
    made.write_text(uuid4().hex[:12])
    try:
        os.link(made, file)  # the first of the processes of a cluster that start together
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return f"{flow}-{file.read_text()}"


def kafka_source(settings: RunSettings, source: KafkaInSettings, seen: Observer) -> KafkaSource:
    """Make the source of frames, of re-sent history and of what gateways say."""
    kafka = broker(settings)
    topics = kafka.topics()
    return KafkaSource(
        Input(
            client=kafka.client(),
            topics=tuple(topics[role].name for role in INPUTS),
            backfill=topics["backfill"].name,
            gateways=topics["gateways"].name,
            group=kafka.group,
            readers=source.readers,
            on_expired=source.on_expired,
            max_bytes=source.max_bytes,
            packs=only(source.models),
            say=seen.say,
            waiting=lambda why: seen.waiting("source", why),
            lag=seen.lag,
        )
    )


def only(models: Sequence[str]) -> Packs:
    """Load the declared pack models only: what a message names must not decide what a fleet is made of."""
    known = {load_pack(m).name for m in models}

    def load(name: str) -> PackModel:
        if name not in known:
            msg = f"model must be one of source.models ({', '.join(sorted(known))}); got {name!r:.80}"
            raise PackError(msg)
        return load_pack(name)

    return load


def kafka_sink(
    settings: RunSettings | Surroundings, name: str, seen: Observer, tables: Sequence[str] = OUTPUTS
) -> KafkaSink:
    """Make the sink of the records of these tables, each in its topic."""
    kafka, directory = broker(settings), settings.recovery.dir
    topics = kafka.topics()
    return KafkaSink(
        kafka.client(),
        {table: topics[table].name for table in tables},
        name,
        started=directory and directory / f"kafka-{name}.json",
        waiting=lambda why: seen.waiting("sink", why),
    )


def frames_topic(settings: RunSettings) -> str:
    """Name the topic that dead letters of refused rows point to."""
    return broker(settings).topics()["frames"].name


def broker(settings: RunSettings | Surroundings) -> KafkaSettings:
    """Give the table [kafka]; raises ConfigError where there is none."""
    if settings.kafka is None:
        msg = 'kafka must be a table with bootstrap where source.kind or a sink is "kafka"; got nothing'
        raise ConfigError(msg)
    return settings.kafka
