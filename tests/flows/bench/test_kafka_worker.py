"""How a worker is watched: what it costs, and the first record after it is back."""

from __future__ import annotations

import os
import time

from confluent_kafka import Producer

from flows.bench.kafka_load import make_topics, remove_topics
from flows.bench.kafka_worker import _cpu_s, ends, first_record
from schemas.kafka_settings import KafkaSettings
from sinks.kafka_records import MARKER
from tests.support.broker import Cluster


def test_cpu_seconds_are_those_that_the_process_itself_counts() -> None:
    before, began = _cpu_s(os.getpid()), time.process_time()
    while time.process_time() - began < 0.2:
        pass
    assert abs(_cpu_s(os.getpid()) - before - 0.2) < 0.1


def test_the_first_record_is_neither_an_old_one_nor_a_marker(kafka: Cluster) -> None:
    settings = KafkaSettings(kafka.bootstrap, f"watched-{time.time_ns()}.", "watched")
    make_topics(settings)
    try:
        topic = settings.topics()["windows"].name
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce(topic, b"old")
        producer.flush(30)
        with ends(settings, "windows") as reader:
            producer.produce(topic, None, headers=[(MARKER, b"resume")])
            producer.flush(30)
            producer.produce(topic, b"new")
            producer.flush(30)
            assert first_record(reader) > 0
            assert reader.poll(0.5) is None, "it was the last one"
    finally:
        remove_topics(settings)
