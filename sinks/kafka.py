"""Records to Kafka, once each: a resumed sink reads back what it had delivered, and skips exactly that."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.arrow import LakeItem
from schemas.durable import sync_folder
from schemas.events import Tick
from schemas.headers import Headers
from sinks.kafka_records import MARKER, WRITER, Record, RecordId, ids_in, row_records, window_ids, window_messages

Marks = dict[str, dict[int, int]]  # topic → partition → the offset from which on nothing of ours is in a snapshot
HOLD_ROWS = 16_384  # windows that wait for more of their partition; at a tick and at a snapshot they go
_PRODUCER = {
    "enable.idempotence": True,
    "message.timeout.ms": 0,  # while brokers are away records wait, and the flow with them
    "compression.type": "zstd",
    "linger.ms": 20,
    "message.max.bytes": 8_388_608,  # the topics decide what is too large
    "partitioner": "murmur2",  # as Kafka's own clients, and partition_of
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 131_072,
    "log_level": 2,
}
_WAIT_S = 1.0
_READ_MANY, _READ_S = 2_000, 0.1  # consume() waits this long for that many, whatever is there
_PATIENCE_S = 4.0  # for an answer about topics, before `waiting` is told and it is asked again
_BELIEF_S, _GLANCE_S = 15.0, 2.0  # a broker that has just started, or a topic just made, may not be known yet


def _silently(_why: str) -> None:
    """Wait without a word."""


class KafkaSinkError(ValueError):
    """Topics or a recovery store that are not as the sink needs them; the message is one line."""


class KafkaDeliveryError(RuntimeError):
    """What brokers refuse while a flow runs, and another start may cure; the message is one line."""


class KafkaSink(FixedPartitionedSink[LakeItem, dict[str, Any]]):
    """Write (table, Arrow) items to the topics of their tables through one partition; other tables pass by.

    `client` are librdkafka's settings, `topics` maps table to topic, `name` tells this writer from others on the same
    topics.  Runs that share a recovery store share `name` and `started`, a file beside the store that keeps where the
    topics ended before the first record: a run that died before its first snapshot is accounted for from there.
    None means no recovery: nothing is read back.  `waiting` is told why, once a second, while brokers take nothing,
    and "" once they do.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Mapping[str, str],
        name: str,
        *,
        started: Path | None,
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        """Keep the settings; no connection is made before the flow runs."""
        self.client, self.topics, self.name = dict(client), dict(topics), name
        self.started = started
        self.waiting = waiting or _silently

    def list_parts(self) -> list[str]:
        """Name the one partition."""
        return ["kafka"]

    def part_fn(self, item_key: str) -> int:
        """Send every key to it."""
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> KafkaPartition:
        """Connect, and find out what was delivered since the snapshot.

        Raises KafkaSinkError where topics are missing or the snapshot is another writer's, KafkaDeliveryError where
        brokers refuse.
        """
        return KafkaPartition(self, resume_state)


class KafkaPartition(StatefulSinkPartition[LakeItem, dict[str, Any]]):
    """The one writer under its name.

    `marks` are where the topics ended at the snapshot, for all that this writer has written; `skip` names the records
    that were delivered after it and that the flow will make again.  They may come again in another epoch than they
    were delivered in, cut otherwise, so what is not yet skipped stays in every snapshot.
    """

    def __init__(self, sink: KafkaSink, resume_state: dict[str, Any] | None) -> None:
        """See KafkaSink.build_part."""
        self._sink = sink
        self._waits = False
        self._failed: KafkaError | None = None
        self._failed_topic = ""
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._begun = False  # the first windows of a run go at once: whoever waits for it sees that it is back
        self._producer = Producer(_PRODUCER | sink.client | {"error_cb": self._fatal})
        known = resume_state is not None or (sink.started is not None and sink.started.exists())
        self._partitions = self._ask(lambda: self._count_partitions(_BELIEF_S if known else _GLANCE_S))
        self.marks: Marks = {topic: {} for topic in sink.topics.values()}
        self.skip: set[RecordId] = set()
        if resume_state is not None:
            self._resume(resume_state)
        elif sink.started is not None and sink.started.exists():
            self._resume(json.loads(sink.started.read_text()))
        else:
            ends = self._ask(self._ends)
            self.marks = ends
            if sink.started is not None:
                _write(sink.started, json.dumps(self._state()))
        self.skipped = 0

    def write_batch(self, values: list[LakeItem]) -> None:
        """Hand records to the producer; windows wait for a tick, or for more of them."""
        for value in values:
            if isinstance(value, Tick):
                self._release()
                continue
            table, batch = value
            topic = self._sink.topics.get(table)
            if topic is None:
                continue
            if table == "windows":
                self._hold(batch)
            else:
                for name, record in row_records(table, batch, self._sink.name):
                    if not self._is_delivered(name):
                        self._produce(topic, record)
        self._producer.poll(0)
        self._check()

    def snapshot(self) -> dict[str, Any]:
        """Wait until brokers have everything; gives where the topics end, and what is still to be skipped."""
        self._release()
        self._flush("records wait for brokers to take them")
        return self._state()

    def close(self) -> None:
        """Give brokers what is left; nothing is lost without it, since it is in no snapshot."""
        self._release()
        self._flush("records wait for brokers to take them")

    def _flush(self, why: str) -> None:
        while self._producer.flush(_WAIT_S):
            self._check()
            self._wait_for(why)
        self._check()
        self._wait_for("")

    def _wait_for(self, why: str) -> None:
        """Say why nothing goes on, or once that it does."""
        if why or self._waits:
            self._sink.waiting(why)
        self._waits = bool(why)

    def _state(self) -> dict[str, Any]:
        marks = {topic: {str(p): at for p, at in parts.items()} for topic, parts in self.marks.items()}
        return {"version": 1, "name": self._sink.name, "marks": marks, "skip": [list(name) for name in self.skip]}

    def _hold(self, batch: pa.RecordBatch) -> None:
        if self.skip:
            fresh = [not self._is_delivered(name) for name in window_ids(batch)]
            if not all(fresh):
                batch = batch.filter(pa.array(fresh))
        if batch.num_rows:
            self._held.append(batch)
            self._held_rows += batch.num_rows
        if self._held_rows >= HOLD_ROWS or not self._begun:
            self._release()

    def _release(self) -> None:
        if not self._held:
            return
        held, self._held, self._held_rows, self._begun = self._held, [], 0, True
        topic = self._sink.topics["windows"]
        for record in window_messages(held, self._partitions[topic], self._sink.name):
            self._produce(topic, record)

    def _is_delivered(self, name: RecordId) -> bool:
        """Say whether brokers have this record since before the flow was killed; it is skipped once."""
        if name not in self.skip:
            return False
        self.skip.discard(name)
        self.skipped += 1
        return True

    def _produce(self, topic: str, record: Record) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, record.value, record.key, record.partition, self._delivered, headers=[*record.headers]
                )
            except BufferError:  # the queue is full: the flow waits here, and its source with it
                if self._producer.poll(_WAIT_S):
                    self._wait_for("")
                else:
                    self._wait_for("the queue to the brokers is full")
                self._check()
            except KafkaException as bad:
                raise self._undeliverable(bad.args[0], topic) from None
            else:
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        topic = message.topic()
        assert topic is not None
        if error is not None:
            self._failed, self._failed_topic = self._failed or error, topic
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        marks = self.marks[topic]
        marks[partition] = max(marks.get(partition, 0), offset + 1)

    def _fatal(self, error: KafkaError) -> None:
        if error.fatal():
            self._failed = self._failed or error

    def _check(self) -> None:
        if self._failed is not None:
            raise self._undeliverable(self._failed, self._failed_topic)

    def _undeliverable(self, error: KafkaError, topic: str) -> KafkaDeliveryError:
        where = f"topic {topic}" if topic else "brokers"
        return KafkaDeliveryError(f"a record must reach {where}; got {error.name()}: {error.str()}")

    # What was delivered

    def _resume(self, state: dict[str, Any]) -> None:
        if state["name"] != self._sink.name:
            msg = f"the recovery store is of the writer {state['name']}; this one is {self._sink.name}"
            raise KafkaSinkError(msg)
        stored = {topic: {int(p): at for p, at in parts.items()} for topic, parts in state["marks"].items()}
        self.marks = {topic: stored.get(topic, {}) for topic in self._sink.topics.values()}
        self.skip = {tuple(name) for name in state["skip"]}
        before = {topic: dict(parts) for topic, parts in self.marks.items()}
        ends = self._barrier()
        consumer = self._consumer()
        try:
            self.skip |= self._read_back(consumer, before, ends)
            self._wait_for("")
        finally:
            consumer.close()

    def _barrier(self) -> Marks:
        """Write an empty message to every partition, and give the offsets they got.

        Once it is acknowledged, whatever the killed run had appended before it is committed or gone for good; the end
        that a broker states does not yet count what its followers have still to copy.
        """
        ends: Marks = {topic: {} for topic in self._sink.topics.values()}
        failed: list[KafkaError] = []

        def placed(error: KafkaError | None, message: Message) -> None:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if error is not None:
                failed.append(error)
                self._failed_topic = topic or ""
            elif topic is not None and partition is not None and offset is not None:
                ends[topic][partition] = offset

        headers: Any = [(WRITER, self._sink.name.encode()), (MARKER, b"resume")]
        for topic in ends:
            for partition in range(self._partitions[topic]):
                self._producer.produce(topic, None, b"", partition, placed, headers=headers)
        self._flush("a resumed sink waits for brokers")
        if failed:
            raise self._undeliverable(failed[0], self._failed_topic)
        return ends

    def _read_back(self, consumer: Consumer, before: Marks, ends: Marks) -> set[RecordId]:
        """Read our own records from each mark to the barrier."""
        found: set[RecordId] = set()
        left = {(topic, p): end for topic, parts in ends.items() for p, end in parts.items()}
        consumer.assign([TopicPartition(t, p, before[t].get(p, 0)) for t, p in left])
        silent_s = 0.0
        while left:
            messages = consumer.consume(_READ_MANY, _READ_S)
            silent_s = 0.0 if messages else silent_s + _READ_S
            if silent_s > _WAIT_S:
                silent_s = 0.0
                self._wait_for("a resumed sink reads back what it had delivered")
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.fatal() or not _passes(error):
                        raise self._undeliverable(error, message.topic() or "")
                    self._wait_for(f"a resumed sink cannot read back: {error.str()}")
                    continue  # librdkafka tries again by itself
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                assert topic is not None
                assert partition is not None
                assert offset is not None
                end = left.get((topic, partition))
                if end is None:
                    continue
                if offset >= end:
                    del left[topic, partition]
                    continue
                found.update(ids_in(message.value(), _as_bytes(message.headers()), self._sink.name))
        return {
            name for name in found if not name[-1]
        }  # a provisional record depends on wall time: it may never return

    # Asking brokers

    def _consumer(self) -> Consumer:
        """Make a reader of given places; it joins no group, though librdkafka wants a name."""
        reading = {"group.id": self._sink.name, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        reading |= {"fetch.wait.max.ms": 20}  # 500 ms by default: so long an empty partition holds back the others
        return Consumer(self._sink.client | reading | {"log_level": 2})

    def _ask(self, question: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the question gives
        """Ask until there is an answer: waiting for brokers is not ready, but alive."""
        while True:
            try:
                answer = question()
            except KafkaException as bad:
                error = bad.args[0]
                if error.fatal() or not _passes(error):
                    raise self._undeliverable(error, "") from None
                self._wait_for(f"brokers do not answer: {error.str()}")
                time.sleep(_WAIT_S)
            else:
                self._wait_for("")
                return answer

    def _count_partitions(self, patience_s: float) -> dict[str, int]:
        end = time.monotonic() + patience_s
        while True:
            found = self._producer.list_topics(timeout=_PATIENCE_S).topics
            there = {t: len(found[t].partitions) for t in self._sink.topics.values() if t in found}
            missing = sorted(set(self._sink.topics.values()) - there.keys())
            if not missing:
                return there
            if time.monotonic() >= end:
                msg = f"topics must exist: {', '.join(missing)} do not; `ibms kafka init` makes them"
                raise KafkaSinkError(msg)
            self._wait_for(f"brokers do not know {missing[0]}")
            time.sleep(_WAIT_S)

    def _ends(self) -> Marks:
        consumer = self._consumer()
        try:
            return {
                topic: {
                    p: consumer.get_watermark_offsets(TopicPartition(topic, p), _PATIENCE_S)[1]
                    for p in range(self._partitions[topic])
                }
                for topic in self._sink.topics.values()
            }
        finally:
            consumer.close()


# Of a broker that is away, has just come back or hands over a partition: librdkafka's own codes.
_AWAY_NAMES = ("TRANSPORT", "ALL_BROKERS_DOWN", "TIMED_OUT", "RESOLVE", "UNKNOWN_PARTITION", "UNKNOWN_TOPIC")
_AWAY = {getattr(KafkaError, f"_{name}") for name in _AWAY_NAMES}
_AWAY |= {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}  # it moves, and soon there is one


def _passes(error: KafkaError) -> bool:
    """Say whether an error passes by itself."""
    return bool(error.retriable() or error.code() in _AWAY)


def _as_bytes(headers: Any) -> Headers:  # noqa: ANN401 - confluent_kafka types what one may send, wider than what comes
    return list(headers or ())


def _write(path: Path, text: str) -> None:
    """Write a small file whole or not at all, and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_folder(path.parent)
