"""History over a real broker: held back for two hours, then re-sent by its topic or under a header."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from flows.kafka_source import Input, KafkaSource, Reader
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.wire_arrow import ARROW, encode_arrow
from tests.support.broker import Cluster
from tests.support.fleet import SETTINGS, differences, drive, run
from tests.support.history import history, seconds

_HOUR_S, _PATIENCE_S = 3600.0, 30.0


def _send(kafka: Cluster, topic: str, block: FrameBlock, lane: str = "") -> int:
    """Send messages of ten frames of one vehicle, in order of time; gives their rows."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [("content-type", ARROW)]
    if lane:
        headers.append(("lane", lane))
    for at in range(0, len(block), 10 * len(block.packs)):
        part = block.take(slice(at, at + 10 * len(block.packs)))
        for pack, name in enumerate(block.packs):
            mine = part.take(np.flatnonzero(part.pack == pack))
            if len(mine):
                producer.produce(topic, encode_arrow(mine.pruned()), name, headers=headers)
    assert producer.flush(20) == 0
    return len(block)


def _read(reader: Reader, rows: int) -> list[Item]:
    got: list[Item] = []
    end = time.monotonic() + _PATIENCE_S
    while sum(len(i) for i in got if isinstance(i, FrameBlock)) < rows:
        assert time.monotonic() < end, got
        got += reader.next_batch()
        time.sleep(0.01)
    return got


def test_two_hours_held_back_and_delivered_by_topic_or_header_leave_the_history_of_the_run_in_order(
    kafka: Cluster,
) -> None:
    frames = drive(2, 4.0, 10.0, seed=8)
    t = seconds(frames)

    def of(low_h: float, high_h: float, pack: int | None = None) -> NDArray[np.intp]:
        inside = (t >= low_h * _HOUR_S) & (t < high_h * _HOUR_S)
        return np.flatnonzero(inside if pack is None else inside & (frames.pack == pack))

    held = {0: of(1.0, 3.0, 0), 1: of(0.5, 2.5, 1)}
    away = np.concatenate(list(held.values()))
    topic, again = kafka.topic("frames", 1), kafka.topic("backfill", 1)
    given = Input({"bootstrap.servers": kafka.bootstrap}, (topic, again), "history", backfill=again, readers=1)
    reader = KafkaSource(given).build_part("source", "reader-0000", None)
    items: list[Item] = []
    rows = _send(kafka, topic, frames.take(np.setdiff1d(of(0.0, 3.2), away)))
    items += _read(reader, rows)
    rows = _send(kafka, again, frames.take(held[0])) + _send(kafka, topic, frames.take(held[1]), lane="backfill")
    rows += _send(kafka, topic, frames.take(of(3.2, 4.0)))
    items += _read(reader, rows)
    reader.close()

    one = replace(SETTINGS, shards=1)
    got = run(items, one)
    assert "dead_letters" not in got
    assert got["windows"]["revision"].to_pylist().count(1) > 2 * 720, "every window after the gaps' beginnings"
    assert differences(history(run([frames], one)), history(got)) == []
