"""Real Apache Kafka brokers in KRaft mode, for tests and for `just kafka-up`.

The server's jars come through Maven (tests/pom.xml) into Maven's own repository; what they are is kept in
~/.cache/ibms/kafka, so that Maven runs once.  Brokers listen on loopback only.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

POM = Path(__file__).parents[1] / "pom.xml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ibms" / "kafka"
CLUSTER_ID = "aWJtcy10ZXN0LWJyb2tlcg"  # any 16 bytes
HEAP_MB = 256
START_S = 60.0
_JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Dorg.apache.logging.log4j.level=WARN")
_STORAGE_TOOL, _SERVER = "kafka.tools.StorageTool", "kafka.Kafka"
_numbers = itertools.count()


class KafkaUnavailableError(Exception):
    """No broker can be started here; says what is missing."""


def classpath() -> str:
    """Give the server's jars, fetching them the first time; raises KafkaUnavailableError with what is missing."""
    for command, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
        if shutil.which(command) is None:
            msg = f"no Kafka broker: {command} is not installed (Debian: {package})"
            raise KafkaUnavailableError(msg)
    CACHE.mkdir(parents=True, exist_ok=True)
    known = CACHE / f"{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}.classpath"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes start together
        if not known.exists() or not all(map(os.path.exists, known.read_text().split(":"))):
            made = known.with_suffix(".new")
            goal = ["dependency:build-classpath", f"-Dmdep.outputFile={made}"]
            done = subprocess.run(["mvn", "-B", "-q", "-f", POM, *goal], capture_output=True, text=True, check=False)
            if done.returncode:
                lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
                msg = f"no Kafka broker: Maven could not fetch it: {(lines or ['?'])[0]}"
                raise KafkaUnavailableError(msg)
            made.rename(known)
    return known.read_text()


@dataclass
class Broker:
    """One broker, also a voter of the controllers' quorum; keeps folder and ports over its restarts."""

    node_id: int
    folder: Path
    port: int
    controller_port: int
    detached: bool = False  # outlives the process that started it
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def format(self, voters: str, replicas: int, settings: Mapping[str, object]) -> subprocess.Popen[bytes]:
        """Write the broker's settings and begin to format its storage."""
        self.folder.mkdir(parents=True)
        lines = _settings(self, voters, replicas) | dict(settings)
        (self.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        return self._java(_STORAGE_TOOL, "format", "-t", CLUSTER_ID, "-c", str(self.folder / "server.properties"))

    def start(self) -> None:
        """Start the server; `Cluster.wait` says when it serves."""
        assert not self.alive, f"broker {self.node_id} runs already"
        self.process = self._java(_SERVER, str(self.folder / "server.properties"))

    def kill(self) -> None:
        """Send SIGKILL: nothing is flushed and nobody is told."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGTERM and wait: leaders move away first."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Send SIGSTOP: the sockets stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _java(self, main: str, *args: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*_tied(self.detached), "java", f"-Xmx{HEAP_MB}m", *_JAVA, "-cp", classpath(), main, *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=self.detached,
            )


@dataclass
class Cluster:
    """Brokers that belong together."""

    brokers: Sequence[Broker]
    _admin: AdminClient | None = field(default=None, repr=False)

    @property
    def bootstrap(self) -> str:
        """Addresses as clients take them."""
        return ",".join(b.address for b in self.brokers)

    @property
    def admin(self) -> AdminClient:
        """A client that asks and changes the cluster."""
        self._admin = self._admin or AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self._admin

    def start(self, settings: Mapping[str, object] | None = None) -> None:
        """Format and start all brokers, and wait until they serve."""
        voters = ",".join(f"{b.node_id}@127.0.0.1:{b.controller_port}" for b in self.brokers)
        replicas = min(3, len(self.brokers))
        for made, broker in [(b.format(voters, replicas, settings or {}), b) for b in self.brokers]:
            assert made.wait(START_S) == 0, (broker.folder / "log").read_text()[-2000:]
        for broker in self.brokers:
            broker.start()
        self.wait()

    def wait(self, seconds: float = START_S) -> None:
        """Wait until every living broker is known to the cluster and no partition lacks a leader."""
        end = time.monotonic() + seconds
        want = {b.node_id for b in self.brokers if b.alive}
        while time.monotonic() < end:
            with suppress(KafkaException):
                found = self.admin.list_topics(timeout=2)
                leaders = [p.leader for t in found.topics.values() for p in t.partitions.values()]
                if want <= set(found.brokers) and all(leader in want for leader in leaders):
                    return
            time.sleep(0.05)
            for b in self.brokers:
                assert b.node_id not in want or b.alive, (b.folder / "log").read_text()[-2000:]
        msg = f"brokers {sorted(want)} do not serve after {seconds:.0f} s"
        raise TimeoutError(msg)

    def topic(self, prefix: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic of its own, named after `prefix`, on as many brokers as there are (3 at most)."""
        name = f"{prefix}-{os.getpid()}-{next(_numbers)}"
        new = NewTopic(name, partitions, min(3, len(self.brokers)), config=dict(config or {}))
        self.admin.create_topics([new])[name].result(30)
        self.wait()
        return name

    def leader(self, topic: str, partition: int = 0) -> Broker:
        """Say which broker leads a partition."""
        number = self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return next(b for b in self.brokers if b.node_id == number)

    def stop(self) -> None:
        """End all brokers; nothing of them is needed any more."""
        for broker in self.brokers:
            broker.kill()


def new_cluster(folder: Path, brokers: int = 1, ports: Sequence[int] = (), *, detached: bool = False) -> Cluster:
    """Name brokers in `folder` on free ports of loopback, or those given; nothing runs yet."""
    found = free_ports(2 * brokers)
    return Cluster(
        [
            Broker(i + 1, folder / f"broker-{i + 1}", port, control, detached)
            for i, (port, control) in enumerate(zip(ports or found[:brokers], found[brokers:], strict=True))
        ]
    )


@contextmanager
def running_cluster(folder: Path, brokers: int = 1, settings: Mapping[str, object] | None = None) -> Iterator[Cluster]:
    """Give a running cluster, ended afterwards; raises KafkaUnavailableError where none can run."""
    classpath()
    cluster = new_cluster(folder, brokers)
    try:
        cluster.start(settings)
        yield cluster
    finally:
        cluster.stop()


def free_ports(count: int) -> list[int]:
    """Find ports of loopback that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _tied(detached: bool) -> list[str]:
    """Let the broker end with the process that started it, also where that is killed."""
    return [] if detached or shutil.which("setpriv") is None else ["setpriv", "--pdeathsig", "KILL", "--"]


def _settings(broker: Broker, voters: str, replicas: int) -> dict[str, object]:
    return {
        "process.roles": "broker,controller",
        "node.id": broker.node_id,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{broker.address},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{broker.address}",
        "log.dirs": broker.folder / "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": max(1, replicas - 1),
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 2,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "transaction.state.log.num.partitions": 2,
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "log.retention.check.interval.ms": 1000,
        # a killed broker is noticed soon
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1000,
    }
