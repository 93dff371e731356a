"""What `ibms bench kafka` measures: the fleet flow from Kafka to Kafka and lake, on a real broker.

Per worker core means: frames over the CPU seconds of the worker process, all its threads included (Kafka's client,
Arrow, DuckDB), from a tenth of the frames on until the rest is durable and published.  That is a property of the code
that other load on the machine blurs least.  What went by the clock is said beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import orjson

from flows.bench.kafka_load import fill, make_topics, remove_topics
from flows.bench.kafka_worker import Sample, ends, first_record, running
from flows.kafka_run import store_name
from schemas.checked import ConfigError
from schemas.kafka_settings import KafkaSettings
from sinks.lake import publish_pending

ROOT = Path(__file__).parents[2]
EPOCH_S = 30.0  # the default
_TENTH = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: vehicles, and frames of each, 10 s apart."""

    few: int = 10_000
    arrow_rounds: int = 300
    json_rounds: int = 100
    many: int = 100_000
    many_rounds: int = 170  # three epochs, and some
    epoch_s: float = EPOCH_S
    pairs: int = 2  # of runs with snapshots and without
    epochs: int = 2  # measured in each


# What each figure should be
GOALS: dict[str, tuple[str, float]] = {
    "arrow10_frames_per_s_per_core": ("≥", 120_000),
    "json1_frames_per_s_per_core": ("≥", 40_000),
    "snapshot_ratio": ("≥", 0.9),
    "resume_100k_s": ("≤", 5.0),
}
_MEANING = (
    "per core: frames over the CPU seconds of the worker process with all its threads, from a tenth of the frames on "
    "until all is durable on Kafka and published to the lake"
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Frames per CPU second of the worker, and per second by the clock."""

    per_core: float
    per_s: float

    def __str__(self) -> str:
        """Give both."""
        return f"{self.per_core:,.0f} frames per CPU second, {self.per_s:,.0f} per second by the clock"


@contextmanager
def broker(bootstrap: str | None) -> Iterator[str]:
    """Give the address of a broker: that one, or one that is started for the while; raises ConfigError."""
    if bootstrap is not None:
        yield bootstrap
        return
    if not (ROOT / "tests" / "support" / "kafka.py").exists():
        msg = "--bootstrap must be a broker, host:port; got nothing, and only a checkout can start one of its own"
        raise ConfigError(msg)
    command = [sys.executable, "-m", "tests.support.kafka", "serve"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            if not address:
                msg = "--bootstrap must be a broker, host:port; got nothing, and none can be started here (see above)"
                raise ConfigError(msg)
            yield address
        finally:
            process.communicate()  # the end of its input ends it


def throughput(bootstrap: str, encoding: str, frames: int, vehicles: int, rounds: int, epoch_s: float) -> Rates:
    """Measure how fast a topic of that many frames a message is worked off."""
    with _topics(bootstrap) as settings, _folder() as folder:
        sent = fill(settings, vehicles, rounds, encoding, frames)
        with running(settings, folder, epoch_s) as worker:
            first = worker.after(int(sent * _TENTH))
            last = worker.after(sent)
            durable = worker.all_durable(settings)
        began = time.process_time()
        publish_pending(folder / "lake", store_name(folder / "recovery"))
        cpu_s = durable.cpu_s - first.cpu_s + time.process_time() - began
        done = sent - first.frames
        return Rates(done / cpu_s, done / (last.at - first.at))


@dataclass(frozen=True, slots=True)
class Durability:
    """What snapshots cost, epoch by epoch, and how long a killed worker needs to its first record."""

    with_snapshots: list[Rates]
    without: list[Rates]  # over the same stretches of the topic
    resume_s: float

    @property
    def ratio(self) -> float:
        """Give throughput with snapshots over that without, by the clock: median of the epochs."""
        return median(a.per_s / b.per_s for a, b in zip(self.with_snapshots, self.without, strict=True))

    @property
    def ratio_cpu(self) -> float:
        """Give the same of frames per CPU second, which other load on the machine blurs least."""
        return median(a.per_core / b.per_core for a, b in zip(self.with_snapshots, self.without, strict=True))


def durability(bootstrap: str, n: Sizes) -> Durability:
    """Measure whole epochs, from one durable snapshot to the next, against the same frames without; kill and restart.

    A snapshot is what a run pays to go on after a kill: state and offsets written and synced, brokers waited for until
    they have all records, no frame taken meanwhile.  What a run without a recovery store does as well is none of it:
    there too records go to Kafka, and to the lake by way of a synced file.  Runs with and without take turns; in the
    first epoch measured, the second of a run, half of the state's files are still made, which is dearer than to write
    over them.  The worker is killed when a snapshot is durable: later it would first make again, unseen, what brokers
    have.
    """
    ones: list[Rates] = []
    others: list[Rates] = []
    resumes: list[float] = []
    with _topics(bootstrap) as settings:
        sent = fill(settings, n.many, n.many_rounds, "arrow", 10)
        warm = int(sent * _TENTH) + n.many
        for _ in range(n.pairs):
            with _folder() as folder:
                with running(settings, folder, n.epoch_s) as worker:
                    worker.after(warm)
                    marks = [worker.next_epoch() for _ in range(n.epochs + 1)]
                assert marks[-1].frames < sent, "the topic ran dry before the epochs ended: more rounds are needed"
                with ends(settings, "windows") as reader, running(settings, folder, n.epoch_s) as worker:
                    resumes.append(first_record(reader) - worker.began)
            with _folder() as folder, running(settings, folder, n.epoch_s, snapshots=False) as worker:
                plain = [worker.after(mark.frames) for mark in marks]
            ones += map(_rates, marks, marks[1:])
            others += map(_rates, plain, plain[1:])
    return Durability(ones, others, median(resumes))


def _rates(first: Sample, last: Sample) -> Rates:
    done = last.frames - first.frames
    return Rates(done / (last.cpu_s - first.cpu_s), done / (last.at - first.at))


def peers(bootstrap: str) -> dict[str, Any] | None:
    """Run one job in ours and in all peers on one topic; None where that cannot be, and why on standard error."""
    if not (ROOT / "tests" / "bench" / "peers").exists():
        _tell("peers: in a checkout only (tests/bench/peers)")
        return None
    command = [sys.executable, "-m", "tests.bench.peers.run", "--json", "--bootstrap", bootstrap]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] | None = orjson.loads(done.stdout)
    return found


def run_kafka(bootstrap: str | None, sizes: Sizes, *, as_json: bool) -> None:
    """Measure all, and print the five figures; how they came about goes to standard error."""
    with broker(bootstrap) as address:
        arrow = throughput(address, "arrow", 10, sizes.few, sizes.arrow_rounds, sizes.epoch_s)
        _tell(f"Arrow, 10 frames a message: {arrow}")
        text = throughput(address, "json", 1, sizes.few, sizes.json_rounds, sizes.epoch_s)
        _tell(f"JSON, 1 frame a message: {text}")
        lasting = durability(address, sizes)
        for one, other in zip(lasting.with_snapshots, lasting.without, strict=True):
            _tell(f"{sizes.many:,} vehicles, epoch of {sizes.epoch_s:g} s: with snapshots {one}; without {other}")
        _tell(
            f"medians: {lasting.ratio:.3f} by the clock, {lasting.ratio_cpu:.3f} by CPU; "
            f"kill -9 to the first record on a topic {lasting.resume_s:.2f} s"
        )
        beside = peers(address)
    figures = {
        "arrow10_frames_per_s_per_core": round(arrow.per_core),
        "json1_frames_per_s_per_core": round(text.per_core),
        "snapshot_ratio": round(lasting.ratio, 3),
        "resume_100k_s": round(lasting.resume_s, 2),
        "peers": beside,
    }
    _tell(_MEANING)
    if as_json:
        sys.stdout.write(orjson.dumps(figures).decode() + "\n")
        return
    for name, (sign, goal) in GOALS.items():
        sys.stdout.write(f"{name:30} {figures[name]:>10,}   {sign} {goal:,}\n")
    for name, one in (beside or {}).items():
        sys.stdout.write(f"{name:12} {one.get('reason') or _line(one)}\n")


def _line(one: dict[str, Any]) -> str:
    return (
        f"{one['frames_per_s']:>9,} frames/s {one['cpu_s_per_million_frames']:>8,} CPU-s per million frames; "
        f"not alike: {one['unlike']}"
    )


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


@contextmanager
def _topics(bootstrap: str) -> Iterator[KafkaSettings]:
    name = f"bench-{uuid4().hex[:8]}"
    settings = KafkaSettings(bootstrap, f"{name}.", name, file="--bootstrap")
    make_topics(settings)
    try:
        yield settings
    finally:
        remove_topics(settings)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as where:
        yield Path(where)
