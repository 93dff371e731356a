"""Where a flow's records go: one output step, exactly once per epoch, into the lake."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas.arrow import LakeItem
from schemas.events import Tick
from sinks import ducklake
from sinks.ducklake import LakeError
from sinks.pending import Pending

PUBLISH_S = 60.0  # by ticks; small commits make small files
PUBLISH_BYTES = 64 << 20
PUBLISH_EPOCHS = 10  # where no tick comes (a replay), at the default epoch 5 minutes


class LakeSink(FixedPartitionedSink[LakeItem, dict[str, Any]]):
    """Write (table, Arrow) items and ticks to the lake through one partition.

    bytewax polls no source for epoch N+1 before N's snapshot is durable, so rows go in two phases: at
    `snapshot` to a pending file, and at the first item of a later epoch, which proves that snapshot
    durable, into the lake, once `publish_s`, `publish_bytes` or `publish_epochs` wait.  A thread does that while the
    flow goes on; what it fails with is raised by a later call.  After the flow has returned, call
    `publish_pending`: its last epoch becomes durable only after this sink is closed.

    `name` tells one line of runs from another: runs that share a recovery store share it, others do not.
    Without recovery (`recovery=False`) nothing can be resumed, and rows are published at `snapshot` and
    `close`.
    """

    def __init__(
        self,
        lake: Path,
        name: str,
        *,
        recovery: bool,
        encrypt: bool = False,
        publish_s: float = PUBLISH_S,
        publish_bytes: int = PUBLISH_BYTES,
        publish_epochs: int = PUBLISH_EPOCHS,
    ) -> None:
        """Keep the settings; nothing is opened before the flow runs."""
        self.lake = lake
        self.name = name
        self.recovery = recovery
        self.encrypt = encrypt
        self.due = (publish_s, publish_bytes, publish_epochs)

    def list_parts(self) -> list[str]:
        """Name the one partition."""
        return ["lake"]

    def part_fn(self, item_key: str) -> int:
        """Send every key to it."""
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> LakePartition:
        """Open the lake, forget what is newer than the snapshot and begin to publish the rest."""
        return self._locked(LakePartition, resume_state)

    def _locked(self, made: type[LakePartition], resume_state: dict[str, Any] | None) -> LakePartition:
        handle = ducklake.lock(self.lake)
        try:
            return made(self, handle, resume_state)
        except BaseException:
            os.close(handle)
            raise


class LakePartition(StatefulSinkPartition[LakeItem, dict[str, Any]]):
    """The one writer of a lake while a flow runs."""

    def __init__(self, sink: LakeSink, lock: int, resume_state: dict[str, Any] | None) -> None:
        """See LakeSink.build_part; `lock` is released by `close`."""
        self._sink = sink
        self._lock = lock
        self._con = ducklake.open_writer(sink.lake, encrypt=sink.encrypt)
        self._pending = Pending(sink.lake, sink.name)
        self._now_ns = 0  # newest tick
        self._since_ns = 0  # tick time at which the oldest waiting epoch was first seen to wait
        self._collecting = False  # an item came since the last snapshot
        # Sorting and writing an epoch's rows takes seconds, joining an hour's files more: no item would pass meanwhile.
        self._background = ThreadPoolExecutor(1)
        self._begun: Future[None] | None = None
        self._run, self._seq = self._resume(resume_state)
        self._waiting = self._pending.sizes()
        if self._waiting:
            self._publish()

    def _resume(self, state: dict[str, Any] | None) -> tuple[int, int]:
        """Give the run, and the epoch to count on from; what is newer is no longer pending after this."""
        sink = self._sink
        if state is None:
            self._pending.drop(list(self._pending.sizes()))
            return ducklake.new_run(self._con, sink.name).number, 0
        run = ducklake.last_run(self._con, sink.name)
        seq = int(state["seq"])
        if run is None or (sink.name, run.number) != (state["name"], state["run"]):
            at = f"run {run.number} of" if run else "no run of"
            theirs = f"run {state['run']} of {state['name']}"
            msg = f"the recovery store is of {theirs}; the lake {sink.lake} is at {at} {sink.name}"
            raise LakeError(msg)
        if run.seq > seq:
            msg = f"the lake {sink.lake} holds epoch {run.seq} of {sink.name}; the recovery store is older: epoch {seq}"
            raise LakeError(msg)
        self._pending.drop([s for s in self._pending.sizes() if s > seq])
        return run.number, seq

    def write_batch(self, values: list[LakeItem]) -> None:
        """Collect rows; at the first item after a snapshot that snapshot is durable."""
        if self._begun is not None and self._begun.done():
            self.settle()
        for value in values:
            if isinstance(value, Tick):
                self._now_ns = max(self._now_ns, value.now_ns)
        if not self._collecting:
            self._collecting = True
            self._publish_if_due()
        for value in values:
            if not isinstance(value, Tick):
                self._pending.add(*value)
        if not self._sink.recovery and self._pending.collected >= self._sink.due[1]:
            self._seal()  # nothing will be resumed, so nothing waits for a snapshot
            self._publish_if_due()

    def snapshot(self) -> dict[str, Any]:
        """Make the epoch's rows a pending file; gives the sink's name and run, and the number of that epoch."""
        self._seal()
        self._collecting = False
        if not self._sink.recovery:
            self._publish_if_due()
        return {"version": 1, "name": self._sink.name, "run": self._run, "seq": self._seq}

    def _seal(self) -> None:
        size = self._pending.seal(self._seq + 1)
        if size:
            self._seq += 1
            self._waiting[self._seq] = size
            self._since_ns = self._since_ns or self._now_ns

    def close(self) -> None:
        """Let go of the lake; without recovery, publish the rest first."""
        try:
            if not self._sink.recovery:
                self._publish()
            self.settle()
        finally:
            self._background.shutdown()
            self._con.close()
            os.close(self._lock)

    def settle(self) -> None:
        """Wait until what was begun is published; raises what it failed with."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def _publish_if_due(self) -> None:
        if not self._waiting:
            return
        self._since_ns = self._since_ns or self._now_ns
        after_s, after_bytes, after_epochs = self._sink.due
        waited_s = (self._now_ns - self._since_ns) / 1e9
        late = self._since_ns > 0 and waited_s >= after_s
        if late or sum(self._waiting.values()) >= after_bytes or len(self._waiting) >= after_epochs:
            self._publish()

    def _publish(self) -> None:
        """Begin to publish what waits, once what was begun before is done: a lake that is slower holds the flow."""
        self.settle()
        due, self._waiting = list(self._waiting), {}
        self._since_ns = 0
        self._begun = self._background.submit(self._publish_these, due)

    def _publish_these(self, due: list[int]) -> None:
        with self._con.cursor() as con:  # a connection is one thread's
            if publish_epochs(con, self._pending, self._sink.name, due) and ducklake.needs_compaction(con):
                ducklake.compact(con)


def publish_pending(lake: Path, name: str) -> int:
    """Publish what a sink left pending; gives the number of epochs.  Call only after its flow returned normally.

    The last epoch of a flow is durable once the flow has returned, and only then.  Raises LakeError
    where another process writes.
    """
    handle = ducklake.lock(lake)
    try:
        pending = Pending(lake, name)
        if not pending.sizes():
            return 0
        with ducklake.open_writer(lake) as con:
            epochs = publish_all(con, pending, name)
            if epochs and ducklake.needs_compaction(con):
                ducklake.compact(con)
            return epochs
    finally:
        os.close(handle)


def publish_all(con: duckdb.DuckDBPyConnection, pending: Pending, name: str) -> int:
    """Publish every waiting epoch at once and delete its file; gives how many the lake had not."""
    return publish_epochs(con, pending, name, list(pending.sizes()))


def publish_epochs(con: duckdb.DuckDBPyConnection, pending: Pending, name: str, epochs: list[int]) -> int:
    """Publish these, in ascending order, as `publish_all`; an epoch that the lake has is only deleted."""
    if not epochs:
        return 0
    run = ducklake.last_run(con, name)
    assert run is not None, f"{name} has no run"
    new = [seq for seq in epochs if seq > run.seq]
    if new:
        ducklake.publish(con, name, new[-1], pending.tables(new))
    pending.drop(epochs)
    return len(new)
