"""`ibms run fleet --processes 2` on a real broker: a killed process costs nothing and repeats nothing.

Frames, and what gateways say: their decisions and black boxes, delivered twice, are in the lake once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from flows.kafka_admin import run_init
from flows.query import run_query
from schemas.frames import FrameBlock
from schemas.topics import INPUTS
from schemas.wire_json import JSON, row_json
from sinks import ducklake
from tests.support.broker import Cluster
from tests.support.edge_kafka import tripped, uplink
from tests.support.frames import frames

PACKS, FRAMES = 6, 400
_PATIENCE_S = 120.0
CONFIG = """
outputs = ["lake", "kafka"]
[source]
kind = "kafka"
models = ["generic-nmc@4c2t60ah"]
readers = 2
[kafka]
bootstrap = "{bootstrap}"
prefix = "{prefix}."
group = "{prefix}"
[lake]
dir = "{folder}/lake"
[recovery]
dir = "{folder}/recovery"
epoch_s = 1
"""


def _blocks() -> list[FrameBlock]:
    return [
        frames([10.0 * i for i in range(FRAMES)], names=(f"P{p}",), seq=range(FRAMES), cell_v=3.6 + p / 100)
        for p in range(PACKS)
    ]


def _send(kafka: Cluster, topic: str, rows: range) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2"})
    for row in rows:
        for block in _blocks_:
            producer.produce(topic, row_json(block, row), block.packs[0], headers=[("content-type", JSON)])
    assert producer.flush(30) == 0


_blocks_ = _blocks()


@contextmanager
def _run(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flows", "run", "fleet", "--config", str(config), "--processes", "2"]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _beats(folder: Path) -> list[dict[str, object]]:
    found = []
    for file in (folder / "recovery" / "progress").glob("process-?.json"):
        try:
            found.append(json.loads(file.read_text()))
        except (OSError, json.JSONDecodeError):
            continue
    return found


def _in_lake(folder: Path) -> tuple[int, int]:
    """Count final windows in the lake, and how many of them are there once more."""
    with ducklake.attach(folder / "lake") as con:
        row = con.execute(
            "SELECT count(DISTINCT (pack_hash, start_ns)), count(*) FROM lake.raw.windows WHERE NOT provisional"
        ).fetchone()
    assert row is not None
    return row[0], row[1] - row[0]


def _of_gateways(folder: Path) -> list[dict[str, object]]:
    """Ask as an analyst does."""
    asked = "SELECT b.vehicle_id, frames, complete, reason, count(r.id) AS reports FROM black_boxes AS b "
    asked += "JOIN gateway_reports AS r ON r.vehicle_id = b.vehicle_id GROUP BY ALL ORDER BY 1"
    out = StringIO()
    run_query(folder / "lake", asked, "json", out)
    found: list[dict[str, object]] = json.loads(out.getvalue())
    return found


def _start(config: Path, folder: Path, done: Callable[[], bool], then: Callable[[], None] | None = None) -> None:
    """Run until `done` after both processes are up; where there is a `then`, it comes after one of them was killed."""
    with _run(config) as process:
        _both_up(folder, set())
        if then is not None:
            time.sleep(1.5)
            pids = _pids(folder)
            os.kill(max(pids), signal.SIGKILL)
            _both_up(folder, pids)
            then()
        end = time.monotonic() + _PATIENCE_S
        while not done():
            assert process.poll() is None
            assert time.monotonic() < end, (_beats(folder), _in_lake(folder))
            time.sleep(0.3)
    assert process.returncode == 0


def _all_durable(kafka: Cluster, topic: str, group: str) -> bool:
    """Say whether the group stands at the end of every partition: it is moved after durable epochs only."""
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        partitions = [TopicPartition(topic, p) for p in reader.list_topics(topic).topics[topic].partitions]
        ends = [reader.get_watermark_offsets(p)[1] for p in partitions]
        at = [max(p.offset, 0) for p in reader.committed(partitions)]
        return at == ends
    finally:
        reader.close()


def _pids(folder: Path) -> set[int]:
    return {int(str(beat["pid"])) for beat in _beats(folder) if beat["values"]}


def _both_up(folder: Path, but: set[int]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while len(_pids(folder) - but) < 2:
        assert time.monotonic() < end, _beats(folder)
        time.sleep(0.1)


@pytest.mark.kill
@pytest.mark.slow
def test_a_killed_process_loses_and_repeats_nothing(kafka: Cluster, memory: Callable[[str], Path]) -> None:
    folder = memory("run")
    prefix = f"e2e-{os.getpid()}"
    config = folder / "fleet.toml"
    config.write_text(CONFIG.format(bootstrap=kafka.bootstrap, prefix=prefix, folder=folder))
    run_init(config, dry_run=False)
    topic, wanted = f"{prefix}.frames", PACKS * int((10 * (FRAMES - 1) - 5) // 60)
    topics = {role: f"{prefix}.{role}" for role in (*INPUTS, "commands")}
    inputs = [topics[role] for role in INPUTS]

    def durable() -> bool:
        return all(_all_durable(kafka, name, prefix) for name in inputs)

    def trip(vehicle: str, times: int) -> None:
        for k in range(times):  # as of an outbox that does not know what has arrived
            tripped(folder / f"{vehicle}-{k}", uplink(kafka, topics, vehicle), vehicle)

    def later() -> None:
        _send(kafka, topic, range(200, FRAMES))
        trip("G1", 1)
        trip("G2", 1)

    _send(kafka, topic, range(200))
    trip("G1", 2)
    _start(config, folder, durable, later)
    # a resumed sink publishes what the store covers
    _start(config, folder, lambda: _in_lake(folder)[0] >= wanted)
    assert _in_lake(folder) == (wanted, 0)
    box = {"frames": 81, "complete": True, "reason": "…", "reports": 2}
    assert _of_gateways(folder) == [{"vehicle_id": vehicle, **box} for vehicle in ("G1", "G2")]
    with ducklake.attach(folder / "lake") as con:  # as often as it was delivered, and no more
        raw = "SELECT vehicle_id, count(*) FROM lake.raw.{} GROUP BY ALL ORDER BY 1"
        assert con.execute(raw.format("gateway_reports")).fetchall() == [("G1", 6), ("G2", 2)]
        assert con.execute(raw.format("black_box_frames")).fetchall() == [("G1", 243), ("G2", 81)]
