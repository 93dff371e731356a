"""A worker without snapshots does the work of one with them, and leaves nothing to resume from."""

from __future__ import annotations

import time
from pathlib import Path

from flows.bench.kafka_load import fill, make_topics, remove_topics
from flows.bench.kafka_worker import ends, first_record, running
from schemas.kafka_settings import KafkaSettings
from tests.support.broker import Cluster


def test_a_worker_without_snapshots_writes_records_and_keeps_nothing(kafka: Cluster, tmp_path: Path) -> None:
    settings = KafkaSettings(kafka.bootstrap, f"unkept-{time.time_ns()}.", "unkept")
    make_topics(settings)
    folder = tmp_path / "unkept"
    try:
        sent = fill(settings, 50, 20, "json", 1)
        with ends(settings, "windows") as reader, running(settings, folder, 0.5, snapshots=False) as worker:
            assert worker.after(sent).frames == sent
            assert first_record(reader) > worker.began
    finally:
        remove_topics(settings)
    assert (folder / "lake").exists()
    assert not (folder / "recovery").exists()
