"""Readers on a real broker: every message once, offsets in snapshots, losses said and never silent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from edge.outbox import URGENT, Record
from edge.records import told_record
from flows.kafka_decode import BACKFILL_PARTS
from flows.kafka_source import Input, KafkaSource, KafkaSourceError, Reader
from schemas.events import DeadLetter, Gap, GatewayReport, Item
from schemas.frames import BACKFILL, LIVE, FrameBlock
from schemas.headers import unpack_headers
from schemas.wire_arrow import ARROW, encode_arrow
from schemas.wire_json import JSON, encode_json
from tests.support.broker import Cluster
from tests.support.edge_kafka import until, uplink
from tests.support.frames import frames

_PATIENCE_S = 30.0


def _send(kafka: Cluster, topic: str, seqs: range, *, partition: int = 0, arrow: bool = False, lane: str = "") -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for seq in seqs:
        block = frames([seq], seq=[seq])
        data = encode_arrow(block) if arrow else encode_json(block)[0][1]
        headers: list[tuple[str, str | bytes | None]] = [("content-type", ARROW if arrow else JSON)]
        producer.produce(topic, data, "A", partition, headers=headers + ([("lane", lane)] if lane else []))
    assert producer.flush(20) == 0


def _input(kafka: Cluster, *topics: str, **more: Any) -> Input:
    client = {"bootstrap.servers": kafka.bootstrap, "fetch.wait.max.ms": 20}
    return Input(client, topics, f"group-{topics[0]}", **more)


def _reader(given: Input, resume: dict[str, Any] | None = None, number: int = 0) -> Reader:
    return KafkaSource(given).build_part("source", f"reader-{number:04d}", resume)


def _read(reader: Reader, rows: int, others: int = 0) -> list[Item]:
    """Poll until that many frames and other items have come, and a little longer: no more may come."""
    got: list[Item] = []
    end, calm = time.monotonic() + _PATIENCE_S, 0.0
    while time.monotonic() < end:
        got += reader.next_batch()
        done = _rows(got) >= rows and len(_others(got)) >= others
        calm = calm or (time.monotonic() if done else 0.0)
        if calm and time.monotonic() - calm > 0.3:
            return got
        time.sleep(0.01)
    raise AssertionError(got)


def _rows(items: list[Item]) -> int:
    return sum(len(i) for i in items if isinstance(i, FrameBlock))


def _others(items: list[Item]) -> list[Item]:
    return [i for i in items if not isinstance(i, FrameBlock)]


def _seqs(items: list[Item]) -> list[int]:
    return [s for i in items if isinstance(i, FrameBlock) for s in i.seq.tolist()]


def test_both_codecs_come_in_order_with_their_places(kafka: Cluster) -> None:
    topic = kafka.topic("frames")
    _send(kafka, topic, range(5))
    _send(kafka, topic, range(5, 9), arrow=True)
    reader = _reader(_input(kafka, topic, readers=1))
    got = _read(reader, 9)
    reader.close()
    assert _seqs(got) == list(range(9))
    blocks = [i for i in got if isinstance(i, FrameBlock)]
    assert [o for b in blocks for o in b.src_offset.tolist()] == list(range(9))
    assert all(abs(b.recv_ns - time.time_ns()).max() < 60e9 for b in blocks)


def test_a_snapshot_resumes_after_what_was_emitted(kafka: Cluster) -> None:
    topic = kafka.topic("frames")
    _send(kafka, topic, range(6))
    given = _input(kafka, topic, readers=1)
    first = _reader(given)
    assert _seqs(_read(first, 6)) == list(range(6))
    state = first.snapshot()
    first.close()
    _send(kafka, topic, range(6, 10))
    second = _reader(given, state)
    assert _seqs(_read(second, 4)) == list(range(6, 10))
    second.close()


def test_a_block_that_messages_fill_unevenly_does_not_wait(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.kafka_source._LINGER_S", 3600.0)
    monkeypatch.setattr("flows.kafka_source.ROWS", 15)
    topic = kafka.topic("frames")
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for first in range(0, 50, 10):
        seqs = range(first, first + 10)
        producer.produce(topic, encode_arrow(frames(seqs, seq=seqs)), "A", 0, headers=[("content-type", ARROW)])
    assert producer.flush(20) == 0
    reader = _reader(_input(kafka, topic, readers=1))
    got = _read(reader, 50)
    reader.close()
    assert [len(i) for i in got if isinstance(i, FrameBlock)] == [10, 20, 20]


def test_what_is_held_is_in_no_snapshot(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.kafka_source._LINGER_S", 3600.0)
    topic = kafka.topic("frames")
    _send(kafka, topic, range(3))
    given = _input(kafka, topic, readers=1)
    holding = _reader(given)
    end = time.monotonic() + _PATIENCE_S
    while not holding._held and time.monotonic() < end:
        assert holding.next_batch() == []
    assert holding._held
    state = holding.snapshot()
    holding.close()
    monkeypatch.undo()
    resumed = _reader(given, state)
    assert _seqs(_read(resumed, 3)) == [0, 1, 2]
    resumed.close()


def test_the_group_shows_a_snapshot_once_it_is_durable(kafka: Cluster) -> None:
    topic = kafka.topic("frames")
    _send(kafka, topic, range(4))
    reader = _reader(_input(kafka, topic, readers=1))
    _read(reader, 4)
    tool = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"group-{topic}"})
    assert tool.committed([TopicPartition(topic, 0)], timeout=10)[0].offset < 0
    reader.snapshot()
    end = time.monotonic() + _PATIENCE_S
    committed = -1
    while committed != 4 and time.monotonic() < end:
        reader.next_batch()
        committed = tool.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    assert committed == 4
    reader.close()
    tool.close()


def test_readers_share_partitions_without_overlap(kafka: Cluster) -> None:
    topic = kafka.topic("frames", 3)
    for partition in range(3):
        _send(kafka, topic, range(10 * partition, 10 * partition + 2), partition=partition)
    given = _input(kafka, topic, readers=2)
    got = []
    for number, rows in ((0, 4), (1, 2)):
        reader = _reader(given, number=number)
        got.append(sorted(_seqs(_read(reader, rows))))
        reader.close()
    assert got == [[0, 1, 20, 21], [10, 11]]


def test_a_new_partition_is_noticed_while_running(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.kafka_source._LOOK_S", 0.2)
    topic = kafka.topic("frames")
    _send(kafka, topic, range(2))
    reader = _reader(_input(kafka, topic, readers=1))
    _read(reader, 2)
    admin: AdminClient = kafka.admin
    admin.create_partitions([NewPartitions(topic, 2)])[topic].result(20)
    kafka.wait()
    _send(kafka, topic, range(5, 8), partition=1)
    assert _seqs(_read(reader, 3)) == [5, 6, 7]
    reader.close()


def test_resent_history_is_in_its_lane_by_topic_and_by_header(kafka: Cluster) -> None:
    live, old = kafka.topic("frames"), kafka.topic("backfill")
    _send(kafka, live, range(2))
    _send(kafka, live, range(2, 4), lane="backfill")
    _send(kafka, old, range(4, 6))
    reader = _reader(_input(kafka, live, old, readers=1, backfill=old))
    blocks = [i for i in _read(reader, 6) if isinstance(i, FrameBlock)]
    reader.close()
    found = {s: (lane, part) for b in blocks for s, lane, part in zip(b.seq, b.lane, b.src_part, strict=True)}
    assert found == {
        **dict.fromkeys((0, 1), (LIVE, 0)),
        **dict.fromkeys((2, 3), (BACKFILL, 0)),
        **dict.fromkeys((4, 5), (BACKFILL, BACKFILL_PARTS)),
    }


def test_what_gateways_say_comes_beside_frames_and_goes_on_where_a_snapshot_left_it(kafka: Cluster) -> None:
    names = {"frames": kafka.topic("frames"), "gateways": kafka.topic("gateways")}
    way = uplink(kafka, names | {"commands": kafka.topic("commands")})

    def tell(*numbers: int) -> None:
        for n in numbers:
            kept = told_record({"kind": "alert", "number": n, "at_ns": n, "text": f"alert {n}"}, "V1")
            record = Record(n, kept.kind, kept.id, n, n, kept.content_type, kept.payload, kept.subject)
            assert way.send(URGENT, record)
        until(lambda: bool(way.report().delivered), lambda: None)

    tell(1, 2)
    _send(kafka, names["frames"], range(3))
    given = _input(kafka, *names.values(), gateways=names["gateways"], readers=1)
    first = _reader(given)
    got = _read(first, 3, 2)
    state = first.snapshot()
    first.close()
    tell(3)
    way.close()
    second = _reader(given, state)
    more = _read(second, 0, 1)
    second.close()
    told = [[i.text for i in items if isinstance(i, GatewayReport)] for items in (got, more)]
    assert told == [["alert 1", "alert 2"], ["alert 3"]]
    assert _seqs(got + more) == [0, 1, 2]


def test_frames_do_not_wait_for_gateways_that_cannot_be_heard(kafka: Cluster) -> None:
    topic, said = kafka.topic("frames"), list[str]()
    _send(kafka, topic, range(2))
    given = _input(
        kafka, topic, "not-there", gateways="not-there", readers=1, say=lambda event, **_: said.append(event)
    )
    reader = _reader(given)
    assert _seqs(_read(reader, 2)) == [0, 1]
    reader.close()
    assert said.count("unreadable") == 1


def test_a_poison_message_keeps_value_key_and_headers(kafka: Cluster) -> None:
    topic = kafka.topic("frames")
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, b"\xff{", b"\x00key", headers=[("content-type", JSON), ("x", b"\xfe")])
    assert producer.flush(20) == 0
    reader = _reader(_input(kafka, topic, readers=1))
    letter = _others(_read(reader, 0, 1))[0]
    reader.close()
    assert isinstance(letter, DeadLetter)
    assert (letter.source, letter.partition, letter.offset, letter.payload) == (topic, 0, 0, b"\xff{")
    assert unpack_headers(letter.headers) == (b"\x00key", [("content-type", JSON.encode()), ("x", b"\xfe")])


@pytest.mark.parametrize("on_expired", ["earliest", "fail"])
def test_expired_offsets_are_never_silent(kafka: Cluster, on_expired: str) -> None:
    topic = kafka.topic("frames")
    _send(kafka, topic, range(5))
    given = _input(kafka, topic, readers=1, on_expired=on_expired)
    reader = _reader(given)
    _read(reader, 5)
    state = reader.snapshot()
    reader.close()
    _send(kafka, topic, range(5, 12))
    kafka.admin.delete_records([TopicPartition(topic, 0, 9)])[TopicPartition(topic, 0, 9)].result(20)
    resumed = _reader(given, state)
    if on_expired == "fail":
        with pytest.raises(KafkaSourceError, match="4 messages from offset 5 have expired"):
            _read(resumed, 1)
    else:
        got = _read(resumed, 3, 1)
        gap = _others(got)[0]
        assert isinstance(gap, Gap)
        assert (gap.kind, gap.first_seq, gap.last_seq, gap.missing) == ("expired", 5, 8, 4)
        assert 0 < gap.from_ns <= gap.to_ns
        assert got.index(gap) == 0
        assert _seqs(got) == [9, 10, 11]
    resumed.close()


def test_a_topic_made_again_is_an_error(kafka: Cluster) -> None:
    topic = kafka.topic("frames")
    _send(kafka, topic, range(2))
    state = {"version": 1, "next": [[topic, 0, 50, 1]]}
    reader = _reader(_input(kafka, topic, readers=1, on_expired="earliest", patience_s=0.0), state)
    with pytest.raises(KafkaSourceError, match="must go on at offset 50, but ends at 2"):
        _read(reader, 1)
    reader.close()


def test_a_broker_that_is_away_is_waited_for() -> None:
    said: list[str] = []
    given = Input({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, ("frames",), "g", waiting=said.append)
    reader = _reader(given)
    end = time.monotonic() + _PATIENCE_S
    while not said and time.monotonic() < end:
        assert reader.next_batch() == []
        time.sleep(0.05)
    reader.close()
    assert said
    assert said[0]
