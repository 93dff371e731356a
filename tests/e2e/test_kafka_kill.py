"""Once each into Kafka: the fleet flow killed again and again on a real broker, against one that is left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.cimpl import NewTopic

from tests.support.broker import Cluster
from tests.support.kafka_account import account
from tests.support.kafka_kill_flow import PARTITIONS, topics
from tests.support.kill import Account, kill_often, run_to_end

COMMAND = ("-m", "tests.support.kafka_kill_flow", "--blocks", "300")
SEED = 21
KILLS_OF_A_MISTAKE = 30


def _topics(kafka: Cluster, work: Path) -> dict[str, str]:
    """Make the topics of one run, named after its directory."""
    names = topics(work.name)
    made = kafka.admin.create_topics([NewTopic(names[t], n, 1) for t, n in PARTITIONS.items()])
    for name in names.values():
        made[name].result(30)
    kafka.wait()
    return names


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, kafka: Cluster) -> dict[str, str]:
    """Topics with the same frames' records that nobody disturbed."""
    work = tmp_path_factory.mktemp("undisturbed-kafka")
    names = _topics(kafka, work)
    run_to_end(work, (*COMMAND, "--bootstrap", kafka.bootstrap))
    return names


def _rounds(
    kafka: Cluster, work: Path, undisturbed: Mapping[str, str], kills: int, sink: str, at_once: int
) -> Iterator[Account]:
    """Account after every `at_once` kills, and at the end; a flow that ended begins anew in other topics."""
    command = (*COMMAND, "--bootstrap", kafka.bootstrap, "--sink", sink)
    done = 0
    while done < kills:
        here = work / f"{work.name}-{done}"
        names = _topics(kafka, here)
        ended = False
        first = done
        while done < kills and not ended:
            wanted = range(done, min(done + at_once, kills))
            killed = kill_often(here, command, wanted, SEED)
            done += killed
            ended = killed < len(wanted)
            if not ended and done < kills:
                yield account(kafka, names, undisturbed, kills=done, whole=False)
        assert done > first, "the flow was never killed"
        run_to_end(here, command)
        yield account(kafka, names, undisturbed, kills=done, whole=True)


@pytest.mark.kill
def test_topics_lose_and_repeat_nothing_however_often_the_flow_is_killed(
    tmp_path: Path, kafka: Cluster, undisturbed: dict[str, str], kills: int
) -> None:
    for found in _rounds(kafka, tmp_path, undisturbed, kills, "sound", at_once=kills):
        print(found)
        assert all(found.rows.values()), "a table without a record proves nothing"
        assert found.sound, found


@pytest.mark.kill
def test_a_kafka_sink_that_forgets_what_to_skip_fails_the_same_account(
    tmp_path: Path, kafka: Cluster, undisturbed: dict[str, str], kills: int
) -> None:
    if kills < KILLS_OF_A_MISTAKE:  # tests/sinks/test_kafka.py shows it without processes
        pytest.skip(f"needs up to {KILLS_OF_A_MISTAKE} kills: `just kill-test`")
    for found in _rounds(kafka, tmp_path, undisturbed, KILLS_OF_A_MISTAKE, "forgetful", at_once=2):
        if not found.sound:
            print(found)
            return
    pytest.fail(f"{KILLS_OF_A_MISTAKE} kills did not show that the sink repeats records")
