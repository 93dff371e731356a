"""What `ibms kafka init` does: bring the cluster's topics to what is declared, a plan first."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from flows.settings import read_settings
from schemas.checked import ConfigError
from schemas.kafka_settings import KafkaSettings, kafka_settings
from schemas.topics import Topic

_ANSWER_S = 30.0
_AGAIN_S = 0.1
_ADVICE = {
    KafkaError._AUTHENTICATION: "correct sasl_user, the password or sasl_mechanism",  # noqa: SLF001 - its public name
    KafkaError._SSL: "correct security, ca_file, cert_file or key_file",  # noqa: SLF001 - its public name
    KafkaError._RESOLVE: "correct the host names in bootstrap",  # noqa: SLF001 - its public name
}
_ELSE = "start it, or correct [kafka] bootstrap and security"


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the cluster has it."""

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the plan: `what` is create, partitions, config, same or leave."""

    what: str
    topic: Topic
    text: str


def read_kafka(config: Path) -> KafkaSettings:
    """Read the table [kafka] of a settings file, whatever else is in it; raises ConfigError."""
    return kafka_settings(read_settings(config).table("kafka"))


def run_init(config: Path, *, dry_run: bool) -> None:
    """Show the plan, then carry it out unless `dry_run`; raises ConfigError where the broker refuses."""
    settings = read_kafka(config)
    admin = connect(settings)
    steps = plan(settings.topics().values(), describe(admin, settings.topics().values()))
    sys.stdout.write(show(steps))
    todo = [step for step in steps if step.what in {"create", "partitions", "config"}]
    if dry_run or not todo:
        sys.stdout.write("nothing to do\n" if not todo else f"{len(todo)} changes, none made (--dry-run)\n")
        return
    apply(admin, todo)
    sys.stdout.write(f"{len(todo)} changes made\n")


class BrokerError(ConfigError):
    """Brokers that do not let us in; `advice` says what to do."""

    def __init__(self, text: str, advice: str) -> None:
        """Keep both."""
        super().__init__(text)
        self.advice = advice


def connect(settings: KafkaSettings) -> AdminClient:
    """Reach the cluster; raises BrokerError where nobody answers, or we are not let in."""
    heard: list[KafkaError] = []
    admin = AdminClient(settings.client() | {"log_level": 0, "error_cb": heard.append})
    try:
        admin.list_topics(timeout=_ANSWER_S / 3)
    except KafkaException as bad:
        admin.poll(0)  # what the connections came to
        error = next((e for e in heard if e.code() in _ADVICE), bad.args[0])
        msg = f"kafka.bootstrap must be brokers that answer; got {settings.bootstrap}: {error.str()} ({settings.file})"
        raise BrokerError(msg, _ADVICE.get(error.code(), _ELSE)) from None
    return admin


def describe(admin: AdminClient, topics: Iterable[Topic]) -> dict[str, Found]:
    """Ask what there is, by name."""
    there = admin.list_topics(timeout=_ANSWER_S).topics
    names = [t.name for t in topics if t.name in there]
    if not names:
        return {}
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
    config = {resource.name: answer.result(_ANSWER_S) for resource, answer in asked.items()}
    return {
        name: Found(
            len(there[name].partitions),
            len(there[name].partitions[0].replicas),
            {key: entry.value for key, entry in config[name].items()},
        )
        for name in names
    }


def plan(topics: Iterable[Topic], found: Mapping[str, Found]) -> list[Step]:
    """Say what brings the cluster to the declaration, and what is left as it is."""
    steps: list[Step] = []
    for topic in topics:
        have = found.get(topic.name)
        if have is None:
            replicas = topic.replication or "the cluster's"
            config = "".join(f", {k}={v}" for k, v in sorted(topic.config.items()))
            steps.append(Step("create", topic, f"{topic.partitions} partitions, {replicas} replicas{config}"))
            continue
        before = len(steps)
        if have.partitions < topic.partitions:
            moved = " (a vehicle may move to another partition: stop its producers and the flow until it has read all)"
            steps.append(Step("partitions", topic, f"{have.partitions} → {topic.partitions}{moved}"))
        elif have.partitions > topic.partitions:
            text = f"{have.partitions} partitions, declared {topic.partitions}: Kafka takes no partition away"
            steps.append(Step("leave", topic, text))
        if topic.replication and have.replication != topic.replication:
            text = f"{have.replication} replicas, declared {topic.replication}: use kafka-reassign-partitions"
            steps.append(Step("leave", topic, text))
        for key, want in sorted(topic.config.items()):
            if have.config.get(key) != want:
                steps.append(Step("config", topic, f"{key}: {have.config.get(key, 'unset')} → {want}"))
        if len(steps) == before:
            steps.append(Step("same", topic, f"{have.partitions} partitions, {have.replication} replicas"))
    return steps


def show(steps: list[Step]) -> str:
    """Print the plan as a table."""
    width = max(len(s.topic.name) for s in steps)
    return "".join(f"{s.what:10}  {s.topic.name:{width}}  {s.text}\n" for s in steps)


def apply(admin: AdminClient, steps: list[Step]) -> None:
    """Carry out a plan; raises ConfigError with what the cluster says."""
    for step in steps:
        topic = step.topic
        try:
            if step.what == "create":
                new = NewTopic(topic.name, topic.partitions, topic.replication or -1, config=dict(topic.config))
                admin.create_topics([new])[topic.name].result(_ANSWER_S)
            elif step.what == "partitions":
                more = NewPartitions(topic.name, topic.partitions)
                admin.create_partitions([more])[topic.name].result(_ANSWER_S)
        except KafkaException as bad:
            msg = f"topic {topic.name} must be as declared; the cluster refuses: {bad.args[0].str()}"
            raise ConfigError(msg) from None
    _alter(admin, steps)
    _seen(admin, [step.topic for step in steps if step.what in {"create", "partitions"}])


def _seen(admin: AdminClient, topics: list[Topic]) -> None:
    """Wait until brokers show what the controller has made: whoever comes next must find it."""
    end = time.monotonic() + _ANSWER_S
    while time.monotonic() < end:
        there = admin.list_topics(timeout=_ANSWER_S).topics
        if all(t.name in there and len(there[t.name].partitions) >= t.partitions for t in topics):
            return
        time.sleep(_AGAIN_S)


def _alter(admin: AdminClient, steps: list[Step]) -> None:
    for topic in {s.topic.name: s.topic for s in steps if s.what == "config"}.values():
        entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in topic.config.items()]
        resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
        try:
            for answer in admin.incremental_alter_configs([resource]).values():
                answer.result(_ANSWER_S)
        except KafkaException as bad:
            msg = f"topic {topic.name} must be as declared; the cluster refuses: {bad.args[0].str()}"
            raise ConfigError(msg) from None
