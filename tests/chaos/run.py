"""One run of `ibms run fleet --processes N` that chaos befalls: its topics, its settings, its life and its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from flows.heartbeat import PROGRESS, heartbeats
from schemas.topics import ROLES
from tests.chaos.feed import GROUPS, MAX_BYTES
from tests.support.broker import Cluster
from tests.support.kill_flow import MODEL

PATIENCE_S = 150.0  # for whatever must happen
# Several partitions, so that records of an epoch are spread
PARTITIONS = {"frames": GROUPS, "windows": 3, "states": 2, "incidents": 2, "dead_letters": 2}
_SETTINGS = """
outputs = ["lake", "kafka"]
[source]
kind = "kafka"
models = ["{model}"]
readers = {readers}
on_expired = "earliest"
max_bytes = {max_bytes}
[fleet]
keep_frames = true
state_s = 120.0
[kafka]
bootstrap = "{bootstrap}"
prefix = "{name}."
group = "{name}"
topics_file = "{folder}/topics.toml"
[lake]
dir = "{lake}"
[recovery]
dir = "{recovery}"
epoch_s = {epoch_s}
[observe]
log = "logfmt"
"""
_TOPIC = '[{role}]\nmeaning = "chaos"\npartitions = {partitions}\nreplication = 3\n[{role}.config]\n{config}\n'


@dataclass
class Run:
    """A flow of its own: directory, topics, consumer group; `restarts` counts what its supervisor did by itself."""

    cluster: Cluster
    folder: Path
    name: str
    lake: Path = Path()
    recovery: Path = Path()
    module: str = "flows"  # what `python -m` runs
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Name what is not given, and make the topics."""
        self.folder.mkdir(parents=True)
        self.lake = self.folder / "lake" if self.lake == Path() else self.lake
        self.recovery = self.folder / "recovery" if self.recovery == Path() else self.recovery
        text = []
        for role in ROLES:
            config = '"retention.ms" = -1'  # the frames are old, and a broker goes by their time
            text.append(_TOPIC.format(role=role, partitions=PARTITIONS.get(role, 1), config=config))
        (self.folder / "topics.toml").write_text("".join(text))
        new = [
            NewTopic(f"{self.name}.{role.replace('_', '-')}", PARTITIONS.get(role, 1), 3, config={"retention.ms": "-1"})
            for role in ROLES
        ]
        for made in self.cluster.admin.create_topics(new).values():
            made.result(60)
        self.cluster.wait()

    def topic(self, role: str) -> str:
        """Name a topic."""
        return f"{self.name}.{role.replace('_', '-')}"

    # -- life

    def start(self, processes: int = 2, epoch_s: float = 1.0) -> None:
        """Start the flow; 0 processes: one without a supervisor."""
        assert self.process is None
        config = self.folder / "fleet.toml"
        config.write_text(
            _SETTINGS.format(
                model=MODEL, readers=GROUPS, max_bytes=MAX_BYTES, bootstrap=self.cluster.bootstrap, name=self.name,
                folder=self.folder, lake=self.lake, recovery=self.recovery, epoch_s=epoch_s,
            )
        )  # fmt: skip
        for old in (self.recovery / PROGRESS).glob("process-*"):
            old.unlink()
        command = [sys.executable, "-m", self.module, "run", "fleet", "--config", str(config)]
        command += ["--processes", str(processes)] if processes else []
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | self.env)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to what was started; processes of a supervisor must end with it."""
        workers = self.workers()
        self._end(signal.SIGKILL)
        self.until(lambda: not any(map(_alive, workers)), "a killed supervisor's processes end", patience_s=10.0)

    def _end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert how == signal.SIGKILL or code in {0, -how}, (code, self.log()[-2000:])
        self.process = None

    def log(self) -> str:
        """Give what it has said."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def restarts(self) -> list[str]:
        """Say why its supervisor started all processes again, each time."""
        return re.findall(r"^ibms: (.*): all processes start again", self.log(), re.MULTILINE)

    def beats(self) -> list[dict[str, Any]]:
        """Give the heartbeats."""
        return heartbeats(self.recovery / PROGRESS)

    def workers(self) -> list[int]:
        """Give the processes that are up, that with the sinks first."""
        beats = sorted(self.beats(), key=lambda b: not _ticks(b))
        return [int(b["pid"]) for b in beats if b["values"] and _alive(int(b["pid"]))]

    def metrics(self) -> set[str]:
        """Name the metrics that heartbeats tell."""
        return {name for beat in self.beats() for name, _, _ in beat["values"]}

    def ticking(self) -> bool:
        """Say whether ticks have reached both sinks of the processes that run."""
        alive = (b for b in self.beats() if _alive(int(b["pid"])))
        return {labels["sink"] for b in alive for labels in _ticks(b)} == {"lake", "kafka"}

    def until(self, happened: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait; an error names what did not happen."""
        end = time.monotonic() + patience_s
        while not happened():
            if self.process is not None and self.process.poll() is not None:
                msg = f"{self.name}: ended with {self.process.returncode} while waiting until {what}"
                raise AssertionError(msg + "\n" + self.log()[-3000:])
            if time.monotonic() > end:
                msg = f"{self.name}: {what}: not within {patience_s:.0f} s\n{self.beats()}\n{self.log()[-3000:]}"
                raise AssertionError(msg)
            time.sleep(0.05)

    def up(self, processes: int = 2, patience_s: float = PATIENCE_S) -> None:
        """Wait until all processes are up and ticks reach the sinks."""
        self.until(lambda: len(self.workers()) >= processes and self.ticking(), "all processes run", patience_s)

    # -- end

    def durable(self) -> bool:
        """Say whether a durable snapshot covers every message: the group is moved after durable epochs only."""
        reader = Consumer(
            {
                "bootstrap.servers": self.cluster.bootstrap,
                "group.id": self.name,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        try:
            places = [TopicPartition(self.topic("frames"), p) for p in range(GROUPS)]
            places.append(TopicPartition(self.topic("gateways"), 0))
            ends = [reader.get_watermark_offsets(p, 10)[1] for p in places]
            return [max(p.offset, 0) for p in reader.committed(places, 10)] == ends
        finally:
            reader.close()

    def finish(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until everything is durable, and let a resumed run publish what the store covers."""
        self.until(self.durable, "every message is durable", patience_s)
        self.stop()
        self.start(processes=1)
        self.until(self.ticking, "ticks reach the sinks again")
        self.stop()


def _ticks(beat: Mapping[str, Any]) -> list[dict[str, str]]:
    """Give the labels of the sinks of a process that ticks have reached."""
    return [labels for name, labels, _ in beat["values"] if name == "ibms_sink_tick_seconds"]


def _alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
