"""One worker of the fleet flow on Kafka, as `ibms run fleet` starts it: what it has done, at which cost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Literal, NamedTuple
from urllib.request import urlopen

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows.bench.blocks import MODEL
from flows.bench.restart import last_epoch
from flows.bench.speed import SHARDS
from schemas.kafka_settings import KafkaSettings
from sinks.kafka_records import MARKER

_LOOK_S = 0.2  # between looks at a worker's metrics: they cost it a millisecond each
_STORE_LOOK_S = 0.02
_PATIENCE_S = 300.0
_FRAMES = re.compile(r'^ibms_frames_total\{stage="decoded"\} (\S+)$', re.MULTILINE)
_CONFIG = """
outputs = ["lake", "kafka"]
[source]
kind = "kafka"
models = ["{model}"]
[fleet]
shards = {shards}
[kafka]
bootstrap = "{bootstrap}"
prefix = "{prefix}"
group = "{group}"
[lake]
dir = "{folder}/lake"
[recovery]
dir = "{folder}/recovery"
epoch_s = {epoch_s}
[observe]
metrics_port = {port}
"""


class Sample(NamedTuple):
    """How far a worker was: frames read and on their way through the steps, and CPU seconds of all its threads."""

    at: float  # s, of a clock that nobody sets
    frames: int
    cpu_s: float


@dataclass
class Worker:
    """A running worker; what it keeps is in `folder`."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    began: float

    def sample(self) -> Sample:
        """Say how far it is."""
        assert self.process.poll() is None, f"the worker ended with code {self.process.returncode}"
        told = ""
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=_PATIENCE_S) as answer:
            told = answer.read().decode()
        found = _FRAMES.search(told)
        return Sample(time.monotonic(), int(float(found[1])) if found else 0, _cpu_s(self.process.pid))

    def after(self, frames: int) -> Sample:
        """Wait until so many frames have been read."""
        return self._wait(lambda: (now := self.sample()).frames >= frames and now)

    def next_epoch(self) -> Sample:
        """Wait until another snapshot is durable; the worker is asked as often as by `after`."""
        store = self.folder / "recovery"
        before = last_epoch(store)

        def durable() -> Sample | Literal[False]:
            until = self.sample().at + _LOOK_S
            while time.monotonic() < until:
                if last_epoch(store) > before:
                    return self.sample()
                time.sleep(_STORE_LOOK_S)
            return False

        return self._wait(durable, 0.0)

    def all_durable(self, settings: KafkaSettings) -> Sample:
        """Wait until the group stands at the end of every partition: it is moved after durable epochs only."""
        return self._wait(lambda: _at_the_end(settings) and self.sample(), 1.0)

    def _wait(self, reached: Callable[[], Sample | Literal[False]], pause_s: float = _LOOK_S) -> Sample:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if found := reached():
                return found
            assert self.process.poll() is None, f"the worker ended with code {self.process.returncode}"
            time.sleep(pause_s)
        msg = f"the worker did not get there within {_PATIENCE_S:.0f} s"
        raise TimeoutError(msg)


@contextmanager
def running(settings: KafkaSettings, folder: Path, epoch_s: float, *, snapshots: bool = True) -> Iterator[Worker]:
    """Start a worker in `folder`, going on from what is there, and kill it at the end."""
    folder.mkdir(exist_ok=True)
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "fleet.toml"
    config.write_text(
        _CONFIG.format(
            model=MODEL, shards=SHARDS, bootstrap=settings.bootstrap, prefix=settings.prefix, group=settings.group,
            folder=folder, epoch_s=epoch_s, port=port,
        )
    )  # fmt: skip
    run = ["flows", "run", "fleet", "--config"] if snapshots else ["flows.bench.kafka_unkept"]
    command = [sys.executable, "-m", *run, str(config)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield Worker(process, folder, port, began)
        finally:
            process.kill()


@contextmanager
def ends(settings: KafkaSettings, role: str) -> Iterator[Consumer]:
    """Give a reader that stands at the end of a topic."""
    topic = settings.topics()[role].name
    reader = Consumer(settings.client() | {"group.id": "bench", "enable.auto.commit": False, "log_level": 2})
    try:
        parts = [TopicPartition(topic, p) for p in reader.list_topics(topic).topics[topic].partitions]
        reader.assign([TopicPartition(p.topic, p.partition, reader.get_watermark_offsets(p)[1]) for p in parts])
        yield reader
    finally:
        reader.close()


def first_record(reader: Consumer) -> float:
    """Wait for a record, markers left out; gives when it came."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        message = reader.poll(1.0)
        if message is not None and message.error() is None and MARKER not in dict(message.headers() or ()):
            return time.monotonic()
    msg = f"no record within {_PATIENCE_S:.0f} s"
    raise TimeoutError(msg)


def _at_the_end(settings: KafkaSettings) -> bool:
    topic = settings.topics()["frames"].name
    reader = Consumer(settings.client() | {"group.id": settings.group, "enable.auto.commit": False, "log_level": 2})
    try:
        partitions = [TopicPartition(topic, p) for p in reader.list_topics(topic).topics[topic].partitions]
        due = [reader.get_watermark_offsets(p)[1] for p in partitions]
        return [max(p.offset, 0) for p in reader.committed(partitions)] == due
    except KafkaException:  # a busy broker: it is asked again
        return False
    finally:
        reader.close()


def _cpu_s(pid: int) -> float:
    """Say what a process and its threads have used, user and system (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
