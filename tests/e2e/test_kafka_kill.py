"""Once each into Kafka: the fleet flow killed again and again on a real broker, against one that is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.cimpl import NewTopic

from tests.support.broker import Cluster
from tests.support.kafka_account import account
from tests.support.kafka_kill_flow import PARTITIONS, topics
from tests.support.kill import EPOCHS_S, Account, kill_often, kill_when, run_to_end

COMMAND = ("tests.support.kafka_kill_flow", "--blocks", "300")
SEED = 21
LONG_S, SHORT_S = EPOCHS_S[0], 0.1
DELIVERED = 150  # states, before the kill


def _topics(kafka: Cluster, work: Path) -> dict[str, str]:
    """Make the topics of one run, named after its directory."""
    names = topics(work.name)
    made = kafka.admin.create_topics([NewTopic(names[t], n, 1) for t, n in PARTITIONS.items()])
    for name in names.values():
        made[name].result(30)
    kafka.wait()
    return names


@pytest.fixture(scope="module")
def undisturbed(memory: Callable[[str], Path], kafka: Cluster) -> dict[str, str]:
    """Topics with the same frames' records that nobody disturbed."""
    work = memory("undisturbed-kafka")
    names = _topics(kafka, work)
    run_to_end(work, (*COMMAND, "--bootstrap", kafka.bootstrap))
    return names


def _rounds(kafka: Cluster, work: Path, undisturbed: Mapping[str, str], kills: int) -> Iterator[Account]:
    """Account for a flow that was killed so often; one that ended before begins anew in other topics."""
    command = (*COMMAND, "--bootstrap", kafka.bootstrap)
    done = 0
    while done < kills:
        here = work / f"{work.name}-{done}"
        names = _topics(kafka, here)
        killed = kill_often(here, command, range(done, kills), SEED)
        assert killed, "the flow was never killed"
        done += killed
        run_to_end(here, command)
        yield account(kafka, names, undisturbed, kills=done, whole=True)


@pytest.mark.kill
def test_topics_lose_and_repeat_nothing_however_often_the_flow_is_killed(
    memory: Callable[[str], Path], kafka: Cluster, undisturbed: dict[str, str], kills: int
) -> None:
    for found in _rounds(kafka, memory("killed-kafka"), undisturbed, kills):
        print(found)
        assert all(found.rows.values()), "a table without a record proves nothing"
        assert found.sound, found


def test_a_kafka_sink_that_forgets_what_to_skip_fails_the_same_account_after_one_kill(
    memory: Callable[[str], Path], kafka: Cluster, undisturbed: dict[str, str]
) -> None:
    here = memory("forgetful")
    names = _topics(kafka, here)
    command = (*COMMAND, "--bootstrap", kafka.bootstrap, "--sink", "forgetful")
    kill_when(here, command, LONG_S, lambda: _ends(kafka, names["states"]) > DELIVERED)
    run_to_end(here, command, SHORT_S)  # the same records, spread over many epochs
    found = account(kafka, names, undisturbed, kills=1, whole=True)
    print(found)
    assert any(found.repeated.values())
    assert not any(found.lost.values())


def _ends(kafka: Cluster, topic: str) -> int:
    """Count the messages that a topic has taken."""
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "ends", "log_level": 0})
    try:
        parts = [TopicPartition(topic, p) for p in range(PARTITIONS["states"])]
        return sum(reader.get_watermark_offsets(p, 10)[1] for p in parts)
    except KafkaException:  # a topic just made, whose leader does not know of it yet
        return 0
    finally:
        reader.close()
