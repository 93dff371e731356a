"""The broker fixture: what tests of Kafka stand on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from tests.support import broker
from tests.support.broker import Cluster, KafkaUnavailableError, classpath


def _written(cluster: Cluster, topic: str, value: bytes) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "message.timeout.ms": 30_000})
    producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(30) == 0
    assert not failed, failed


def _read(cluster: Cluster, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        return [message.value() for message in consumer.consume(count, 30)]
    finally:
        consumer.close()


def test_a_topic_gives_back_what_was_written(kafka: Cluster) -> None:
    topic = kafka.topic("frames", 2)
    assert topic != kafka.topic("frames", 2)
    _written(kafka, topic, b"one")
    assert _read(kafka, topic, 1) == [b"one"]


def test_what_was_acknowledged_outlives_the_killed_leader(kafka_of_three: Cluster) -> None:
    topic = kafka_of_three.topic("frames")
    _written(kafka_of_three, topic, b"one")
    leader = kafka_of_three.leader(topic)
    leader.kill()
    kafka_of_three.wait()
    end = time.monotonic() + 30
    while kafka_of_three.leader(topic) is leader:  # a broker may answer that has not heard of it yet
        assert time.monotonic() < end
        time.sleep(0.1)
    _written(kafka_of_three, topic, b"two")
    leader.start()
    kafka_of_three.wait()
    assert _read(kafka_of_three, topic, 2) == [b"one", b"two"]


def test_a_machine_without_maven_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(broker, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KafkaUnavailableError, match=r"java is not installed \(Debian: openjdk-17-jre-headless\)"):
        classpath()
