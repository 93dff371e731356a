"""What befalls a run: one function a case, each bounded in time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from flows.observe import METRICS
from tests.chaos.account import Account, Feed, Holdings, compare, holdings, without
from tests.chaos.feed import GROUPS, PIECE, REPORTS, Feeder, Sent, feed
from tests.chaos.run import Run
from tests.chaos.small_disk import filled, small_disk
from tests.chaos.wall_clock import shifted_clock
from tests.support.broker import Broker, Cluster

EPOCHS_S = (30.0, 0.03)  # alternating: only so does an epoch's content differ from the run before
UNTOLD = {"ibms_late_total", "ibms_ready"}  # nothing comes too late; readiness is in no heartbeat
HANG = "no tick has reached the sinks"
ENOUGH = 6_000  # frames of an epoch, so that their records are among those delivered


@dataclass
class Suite:
    """What the cases share: a cluster, and what a run that nobody disturbed has left."""

    cluster: Cluster
    folder: Path
    kills: int
    seed: int = 22
    _undisturbed: dict[str, Holdings] = field(default_factory=dict)
    _runs: list[Run] = field(default_factory=list)
    _feeders: list[Feeder] = field(default_factory=list)

    def run(self, name: str, **more: Any) -> Run:
        """Make a run."""
        made = Run(self.cluster, self.folder / name, name, **more)
        self._runs.append(made)
        return made

    def feeder(self, run: Run, messages: Feed, seconds: float) -> Feeder:
        """Begin to send to a run."""
        made = Feeder(self.cluster.bootstrap, run.topic("frames"), run.topic("gateways"), messages, seconds)
        self._feeders.append(made)
        made.start()
        return made

    def clear(self) -> None:
        """End what a case that failed has left, and bring back every broker."""
        for run in self._runs:
            if run.process is not None:
                run.process.kill()
                run.process.wait()
                run.process = None
        for feeder in self._feeders:
            feeder.stop()
        for broker in self.cluster.brokers:
            if not broker.alive:
                broker.start()
        self.cluster.wait(90)
        self._runs.clear()
        self._feeders.clear()

    def undisturbed(self, *, poison: bool = True) -> Holdings:
        """Give what the feed becomes in one process, read from end to end at once."""
        name = "undisturbed" if poison else "undisturbed-clean"
        if name not in self._undisturbed:
            self._undisturbed[name] = self._alone(name, feed(poison=poison))
        return self._undisturbed[name]

    def _alone(self, name: str, messages: Feed) -> Holdings:
        run = self.run(name)
        feeder = self.feeder(run, messages, 0.0)
        feeder.wait(60)
        run.start(1)
        run.until(lambda: run.metrics() >= METRICS.keys() - UNTOLD, "every metric is told")
        run.finish()
        assert not run.restarts, run.restarts
        found = holdings(run, messages)
        for table in ("windows", "states", "sessions", "incidents", "gaps", "dead_letters"):
            assert any(k[0] == f"topic {table}" for k in found.rows), f"no {table}: that proves nothing"
        told = Counter(k[0] for k in found.keys)
        assert told["lake gateway_reports"] == REPORTS - len(range(0, REPORTS, 4)), told
        assert told["lake black_box_frames"] == PIECE * len(range(0, REPORTS, 4)), told
        return found

    def account(self, run: Run) -> Account:
        """Let a run come to its end and compare it."""
        run.finish()
        return compare(holdings(run, feed(poison=True)), self.undisturbed(), feed(poison=True))

    def begin(self, run: Run, seconds: float, processes: int = 2) -> Feeder:
        """Start to send, and the flow; both go on."""
        feeder = self.feeder(run, feed(poison=True), seconds)
        run.start(processes)
        run.up(processes)
        return feeder


Case = Callable[[Suite], tuple[Run, Account]]


def alternating_kills(suite: Suite) -> tuple[Run, Account]:
    """kill -9 of workers, or of the supervisor with them, at drawn moments, epochs of 30 s and 0.03 s by turns."""
    run, draw = suite.run("kills"), random.Random(suite.seed)
    feeder = suite.feeder(run, feed(poison=True), 4.0 * suite.kills)
    for n in range(suite.kills):
        epoch_s = EPOCHS_S[n % 2]
        run.start(draw.choice([1, 2]), epoch_s)
        if draw.random() < 0.8:
            run.until(run.ticking, "ticks reach the sinks")
            time.sleep(draw.uniform(0.0, 1.5))
        else:
            time.sleep(draw.uniform(0.5, 3.0))
        workers = run.workers()
        if workers and draw.random() < 0.5:
            os.kill(draw.choice(workers), signal.SIGKILL)  # the supervisor ends the other
            time.sleep(draw.uniform(0.0, 0.5))
        run.kill()
    run.start(2, 0.5)
    feeder.wait(60 + 4.0 * suite.kills)
    return run, suite.account(run)


def _of(suite: Suite, run: Run, topic: str, partition: int = 0) -> Broker:
    return suite.cluster.leader(run.topic(topic), partition)


def _away(suite: Suite, brokers: Sequence[Broker], seconds: float) -> None:
    """Kill brokers, and start them again after a while."""
    for broker in brokers:
        broker.kill()
    time.sleep(seconds)
    for broker in brokers:
        broker.start()
    suite.cluster.wait(90)


def broker_killed(suite: Suite) -> tuple[Run, Account]:
    """kill -9 of a broker that leads neither frames nor windows of partition 0, back after 5 s."""
    run = suite.run("broker")
    feeder = suite.begin(run, 30)
    leading = {_of(suite, run, t).node_id for t in ("frames", "windows")}
    others = [b for b in suite.cluster.brokers if b.node_id not in leading]
    _away(suite, others[:1], 5)
    feeder.wait(90)
    return run, _without_restarts(suite, run)


def leader_killed(suite: Suite) -> tuple[Run, Account]:
    """kill -9 of the leader of frames, then of that of windows, each back after 5 s."""
    run = suite.run("leader")
    feeder = suite.begin(run, 30)
    for topic in ("frames", "windows"):
        _away(suite, [_of(suite, run, topic)], 5)
    feeder.wait(90)
    return run, _without_restarts(suite, run)


def _without_restarts(suite: Suite, run: Run) -> Account:
    assert not run.restarts, f"brokers that are away are waited for: {run.log()[-3000:]}"
    return suite.account(run)


def all_brokers_killed(suite: Suite) -> tuple[Run, Account]:
    """kill -9 of all brokers for 25 s, longer than a hang is given, and of a worker, so that a run begins without."""
    run = suite.run("brokers")
    feeder = suite.begin(run, 30)
    for broker in suite.cluster.brokers:
        broker.kill()
    run.until(lambda: any(b["waiting"] for b in run.beats()), "a process says that it waits", 60)
    time.sleep(12)
    assert not run.restarts, f"brokers that are away are waited for: {run.log()[-3000:]}"
    os.kill(run.workers()[0], signal.SIGKILL)
    time.sleep(13)
    for broker in suite.cluster.brokers:
        broker.start()
    suite.cluster.wait(90)
    run.up()
    assert len(run.restarts) == 1, f"one kill is one restart, however long brokers are away: {run.restarts}"
    feeder.wait(90)
    run.until(lambda: not any(b["waiting"] for b in run.beats()), "no process waits any more", 60)
    return run, suite.account(run)


def worker_stopped(suite: Suite) -> tuple[Run, Account]:
    """SIGSTOP of a worker for 30 s: the supervisor sees that no tick passes and starts all again."""
    run = suite.run("stopped")
    feeder = suite.begin(run, 30)
    stopped = run.workers()[-1]
    os.kill(stopped, signal.SIGSTOP)
    end = time.monotonic() + 30
    while time.monotonic() < end and not run.restarts:
        time.sleep(0.2)
    assert any(HANG in why for why in run.restarts), f"a stopped worker must be found: {run.log()[-2000:]}"
    while time.monotonic() < end:
        time.sleep(0.2)
    run.up()
    feeder.wait(60)
    return run, suite.account(run)


def rescale(suite: Suite) -> tuple[Run, Account]:
    """1 → 2 → 3 → 1 processes on one store, each for some seconds."""
    run = suite.run("rescale")
    feeder = suite.feeder(run, feed(poison=True), 30)
    for processes in (1, 2, 3):
        run.start(processes)
        run.up(processes)
        time.sleep(4)
        run.stop()
    run.start(1)
    feeder.wait(90)
    return run, suite.account(run)


def poison(suite: Suite) -> tuple[Run, Account]:
    """A message of every kind that is refused: each a dead letter, and all else as if it had not come."""
    run = suite.run("poison")
    feeder = suite.begin(run, 15)
    os.kill(run.workers()[0], signal.SIGKILL)
    feeder.wait(60)
    run.finish()
    found = holdings(run, feed(poison=True))
    return run, compare(found, suite.undisturbed(poison=False), feed(poison=True), clean=True)


def expired(suite: Suite) -> tuple[Run, Account]:
    """Messages that brokers delete while the flow is down: declared in the gap ledger, and all else as without them."""
    run, messages = suite.run("expired"), feed(poison=True)
    feeder = suite.begin(run, 60)
    run.until(lambda: all(at > 100 for at in _committed(run)), "some of each partition is durable")
    feeder.pause()  # records of frames that were read, delivered and then deleted could not be made again
    time.sleep(2)
    run.until(run.durable, "all that was sent is durable")
    run.kill()
    feeder.hurry()
    feeder.wait(60)
    places = []
    for partition, at in enumerate(_committed(run)[:2]):
        cut = TopicPartition(run.topic("frames"), partition, at + 100 + 50 * partition)
        suite.cluster.admin.delete_records([cut])[cut].result(30)
        places.append((partition, at, cut.offset - 1))
    run.start()
    run.finish()
    found = holdings(run, messages)
    alone = suite.run("expired-alone")
    blank = [[m if not any(p == q and a <= i <= b for q, a, b in places) else _blank(m) for i, m in enumerate(part)]
             for p, part in enumerate(messages)]  # fmt: skip
    feeder = suite.feeder(alone, blank, 0.0)
    feeder.wait(60)
    alone.start(1)
    alone.finish()
    want = holdings(alone, blank)
    return run, compare(found, without(want, {"/blank"}), messages, expired=places)


def _blank(message: Sent) -> Sent:
    """Give a message in place of one that nobody reads: refused as a whole, and left out of the account."""
    return message._replace(label="blank", value=b"", frames=(), why="undecodable")


def _committed(run: Run) -> list[int]:
    reader = Consumer({"bootstrap.servers": run.cluster.bootstrap, "group.id": run.name, "enable.auto.commit": False})
    try:
        places = [TopicPartition(run.topic("frames"), p) for p in range(GROUPS)]
        return [max(p.offset, 0) for p in reader.committed(places, 10)]
    finally:
        reader.close()


def recovery_disk_full(suite: Suite) -> tuple[Run, Account]:
    """No room under the recovery directory at the very start, and again on the way: room is made, and it goes on."""
    return _disk_full(suite, "recovery-full", "recovery")


def lake_disk_full(suite: Suite) -> tuple[Run, Account]:
    """No room under the lake at the very start, and again on the way."""
    return _disk_full(suite, "lake-full", "lake")


def _disk_full(suite: Suite, name: str, what: str) -> tuple[Run, Account]:
    disk = suite.folder / f"disk-{name}"
    with small_disk(disk):
        run = suite.run(name, **{what: disk / what})
        feeder = suite.feeder(run, feed(poison=True), 30)
        with filled(disk):
            run.start()
            run.until(lambda: bool(run.restarts), "the full disk is noticed")
        run.up()
        time.sleep(2)
        before = len(run.restarts)
        with filled(disk):
            run.until(lambda: len(run.restarts) > before, "the full disk is noticed")
            time.sleep(5)
        run.up()
        feeder.wait(90)
        assert any("no room under" in why for why in run.restarts), f"a full disk must be named: {run.restarts}"
        return run, suite.account(run)


def clock_jump(suite: Suite) -> tuple[Run, Account]:
    """The host's clock goes an hour ahead, and two hours back."""
    with shifted_clock(suite.folder / "host-clock") as clock:
        run = suite.run("clock", env=clock.env)
        feeder = suite.begin(run, 40)
        time.sleep(2)
        clock.shift(3600)
        time.sleep(5)
        assert any(b["at"] > time.time() + 3000 for b in run.beats()), "the clock has not moved"
        clock.shift(-3600)
        time.sleep(15)
        run.until(lambda: any(b["at"] < time.time() - 3000 for b in run.beats()), "a process has the clock set back")
        run.up()
        feeder.wait(90)
        return run, suite.account(run)


def remove(folder: Path) -> None:
    """Remove what the runs have left."""
    shutil.rmtree(folder, ignore_errors=True)


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        alternating_kills, leader_killed, all_brokers_killed, worker_stopped, rescale,
        broker_killed, poison, expired, recovery_disk_full, lake_disk_full, clock_jump,
    )
}  # fmt: skip
SHORT = ("alternating_kills", "leader_killed", "all_brokers_killed", "worker_stopped", "rescale")


def known_bad(suite: Suite) -> tuple[Run, Account]:
    """Two sinks with a mistake each, killed twice: the account must show what is lost and what is repeated."""
    run = suite.run("known-bad", module="tests.chaos.mistakes")
    feeder = suite.feeder(run, feed(poison=True), 24)
    for epoch_s in EPOCHS_S[::-1]:  # what the long epoch delivers is made again in short ones
        feeder.pause()  # a process that is slow to start must leave frames for the next one
        run.start(0, epoch_s)
        run.until(run.ticking, "ticks reach the sinks")
        feeder.go()
        run.until(lambda: _decoded(run) > ENOUGH, "frames are read")
        run.kill()
    feeder.hurry()
    feeder.wait(60)
    run.start(0, EPOCHS_S[1])
    run.until(run.durable, "every message is durable")
    run.kill()
    run.start(0, EPOCHS_S[1])
    run.until(run.ticking, "ticks reach the sinks again")
    run.kill()
    return run, compare(holdings(run, feed(poison=True)), suite.undisturbed(), feed(poison=True))


def _decoded(run: Run) -> float:
    """Count the frames that the processes which run now have read."""
    return sum(float(v) for b in run.beats() for _, labels, v in b["values"] if labels.get("stage") == "decoded")
