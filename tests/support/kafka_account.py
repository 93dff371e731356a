"""What lies in topics, record by record, so that two runs can be compared."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from sinks.kafka_records import MARKER
from tests.support.broker import Cluster
from tests.support.kill import Account

_PATIENCE_S = 60.0


def messages(cluster: Cluster, topic: str) -> list[Message]:
    """Give every message of a topic from its first offset to its present end, markers left out."""
    reading = {"group.id": "account", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    reading |= {"fetch.wait.max.ms": 20}  # 500 ms by default: so long an empty partition holds back the others
    consumer = Consumer(
        {"bootstrap.servers": cluster.bootstrap, "enable.partition.eof": True, "log_level": 0, **reading}
    )
    parts = cluster.admin.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in parts])
    found: list[Message] = []
    left, end = set(parts), time.monotonic() + _PATIENCE_S
    try:
        while left:
            assert time.monotonic() < end, f"{topic} could not be read to its end: partitions {sorted(left)}"
            for message in consumer.consume(1_000, 0.1):
                error = message.error()
                if error is not None:  # any but the end of a partition passes: a broker that is away, a new leader
                    left -= {message.partition()} if error.code() == KafkaError._PARTITION_EOF else set()
                elif MARKER not in dict(message.headers() or ()):
                    found.append(message)
    finally:
        consumer.close()
    return found


def records(cluster: Cluster, topic: str) -> Counter[str]:
    """Give the final records of a topic with partition, key and every bit; what an idle pack showed depends on time."""
    return Counter(text for message in messages(cluster, topic) for text in texts(message))


def texts(message: Message) -> list[str]:
    """Give the final records of one message, every bit of them."""
    headers = dict(message.headers() or ())
    if headers["ibms.table"] == b"windows":
        value = message.value()
        assert isinstance(value, bytes)
        return [row for b in pa.ipc.open_stream(value).read_all().to_batches() for row in _rows(b, message.partition())]
    if "ibms.provisional" in headers:
        return []
    return [f"{message.partition()} {message.key()!r} {message.headers()} {message.value()!r}"]


def _rows(batch: pa.RecordBatch, partition: int | None) -> list[str]:
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
    plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
    return [f"{partition} {row}" for row in plain if not row["provisional"]]


def account(
    cluster: Cluster, killed: Mapping[str, str], undisturbed: Mapping[str, str], *, kills: int, whole: bool
) -> Account:
    """Compare the topics of two runs, by table."""
    found = Account(kills, whole, {}, {}, {})
    for table in undisturbed:
        have, want = records(cluster, killed[table]), records(cluster, undisturbed[table])
        found.rows[table] = want.total()
        found.lost[table] = (want - have).total()
        found.repeated[table] = (have - want).total()
    return found
