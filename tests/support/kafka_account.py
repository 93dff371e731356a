"""What lies in topics, record by record, so that two runs can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition

from sinks.kafka_records import MARKER
from tests.support.broker import Cluster
from tests.support.kill import Account


def messages(cluster: Cluster, topic: str) -> list[Message]:
    """Give every message of a topic from its first offset to its present end, markers left out."""
    reading = {"group.id": "account", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "enable.partition.eof": True, **reading})
    parts = cluster.admin.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in parts])
    found: list[Message] = []
    left = len(parts)
    try:
        while left:
            for message in consumer.consume(1_000, 0.1):
                if message.error() is not None:
                    left -= 1  # the end of a partition
                elif MARKER not in dict(message.headers() or ()):
                    found.append(message)
    finally:
        consumer.close()
    return found


def records(cluster: Cluster, topic: str) -> Counter[str]:
    """Give the final records of a topic with partition, key and every bit; what an idle pack showed depends on time."""
    found: Counter[str] = Counter()
    for message in messages(cluster, topic):
        headers = dict(message.headers() or ())
        if headers["ibms.table"] == b"windows":
            value = message.value()
            assert isinstance(value, bytes)
            rows = pa.ipc.open_stream(value).read_all()
            for batch in rows.to_batches():
                found.update(_rows(batch, message.partition()))
        elif "ibms.provisional" not in headers:
            found[f"{message.partition()} {message.key()!r} {message.headers()} {message.value()!r}"] += 1
    return found


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
