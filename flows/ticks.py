"""Wall time as items: one tick a second to every shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import time_ns

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from schemas.events import Tick

EVERY = timedelta(seconds=1)


class TickSource(FixedPartitionedSource[Tick, None]):
    """Ticks from one partition, until `until` says that the other input has ended."""

    def __init__(self, now: Callable[[], int] = time_ns, until: Callable[[], bool] = lambda: False) -> None:
        """Take the clock (ns since 1970) and what ends the ticks."""
        self._now, self._until = now, until

    def list_parts(self) -> list[str]:
        """Name the only partition."""
        return ["ticks"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Partition:
        """Start; a tick has no position."""
        return _Partition(self._now, self._until)


class _Partition(StatefulSourcePartition[Tick, None]):
    def __init__(self, now: Callable[[], int], until: Callable[[], bool]) -> None:
        self._now, self._until = now, until
        self._awake = datetime.now(UTC)

    def next_batch(self) -> list[Tick]:
        if self._until():
            raise StopIteration
        self._awake = max(self._awake + EVERY, datetime.now(UTC))  # a clock set ahead makes one tick, not thousands
        return [Tick(self._now())]

    def next_awake(self) -> datetime:
        return self._awake

    def snapshot(self) -> None:
        return None


def to_every_shard(models: Sequence[str], shards: int) -> Callable[[Tick], list[tuple[str, Tick]]]:
    """Copy a tick to every shard of every model."""
    keys = [f"{model}/{shard:03d}" for model in models for shard in range(shards)]
    return lambda tick: [(key, tick) for key in keys]
