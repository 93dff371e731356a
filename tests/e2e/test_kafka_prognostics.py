"""`ibms run prognostics` on a real broker: a kill loses no charge and judges none twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from flows.kafka_admin import run_init
from schemas.arrow import Provenance, to_arrow
from sinks.kafka_records import row_records
from tests.flows.test_session_rows import session
from tests.support.broker import Cluster

PACKS, CHARGES = 5, 12
_PATIENCE_S = 120.0
CONFIG = """
outputs = ["kafka"]
[source]
kind = "kafka"
models = ["generic-nmc@4c2t60ah"]
[kafka]
bootstrap = "{bootstrap}"
prefix = "{prefix}."
group = "{prefix}"
[recovery]
dir = "{folder}/recovery"
epoch_s = 1
"""
_GOOD: dict[str, Any] = {
    "soc_start": 0.3, "soc_end": 0.8, "soc_start_std": 0.01, "soc_end_std": 0.01, "charge_in_ah": 27.0,
    "charge_out_ah": 0.0, "capacity_ah": 54.0, "capacity_low_ah": 54.0, "temp_mean_c": 25.0, "gap_max_s": 30.0,
    "soc_jump": 0.001, "r0_rel": 1.0,
}  # fmt: skip


def _send(kafka: Cluster, topic: str, charges: range) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2"})
    for k in charges:
        made = [session(k, f"P{p}", **_GOOD) for p in range(PACKS)]
        for table, batch in to_arrow(made, Provenance({}, "1", "p")):  # type: ignore[misc]
            for _, record in row_records(table, batch, "fleet"):
                producer.produce(topic, record.value, record.key, headers=record.headers)  # type: ignore[arg-type] # bytes are text to it
    producer.produce(topic, b"{}", b"P0")
    assert producer.flush(30) == 0


def _run(config: Path, done: Callable[[], bool]) -> None:
    command = [sys.executable, "-m", "flows", "run", "prognostics", "--config", str(config)]
    with subprocess.Popen(command) as process:
        try:
            end = time.monotonic() + _PATIENCE_S
            while not done():
                assert process.poll() is None, "it must go on until it is told to end"
                assert time.monotonic() < end
                time.sleep(0.3)
        finally:
            process.kill()


def _read(kafka: Cluster, topic: str) -> list[bytes]:
    """Give what a topic holds, a resumed sink's markers aside."""
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "read", "enable.auto.commit": False})
    found: list[bytes] = []
    try:
        parts = [TopicPartition(topic, p, 0) for p in reader.list_topics(topic).topics[topic].partitions]
        left = sum(reader.get_watermark_offsets(p)[1] for p in parts)
        reader.assign(parts)
        while left > 0:
            taken = reader.consume(500, 0.1)  # it waits so long for all of them
            left -= len(taken)
            found += [m.value() or b"" for m in taken if m.value()]
        return found
    finally:
        reader.close()


def test_no_charge_is_lost_or_judged_twice_over_a_kill(kafka: Cluster, memory: Callable[[str], Path]) -> None:
    folder = memory("run")
    prefix = f"prog-{time.time_ns()}"
    config = folder / "prognostics.toml"
    config.write_text(CONFIG.format(bootstrap=kafka.bootstrap, prefix=prefix, folder=folder))
    run_init(config, dry_run=False)
    _send(kafka, f"{prefix}.sessions", range(CHARGES // 2))
    _run(config, lambda: len(_read(kafka, f"{prefix}.health")) >= PACKS * 3)  # and then kill -9
    _send(kafka, f"{prefix}.sessions", range(CHARGES // 2, CHARGES))
    _run(config, lambda: len(_read(kafka, f"{prefix}.health")) >= PACKS * CHARGES)
    judged = [orjson.loads(value) for value in _read(kafka, f"{prefix}.health")]
    assert len(judged) == len({row["session_id"] for row in judged}) == PACKS * CHARGES
    assert max(row["accepted"] for row in judged) == CHARGES
    assert len(_read(kafka, f"{prefix}.evidence")) == PACKS * CHARGES
    assert _read(kafka, f"{prefix}.dead-letters") == [b"{}"] * 2
