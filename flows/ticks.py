"""Wall time as items: one tick a second to every shard.

No input runs ahead of an epoch that another has not ended yet, and one that sleeps ends none.  So ticks wake more often
than they come: asleep for the whole second, they held every other input up to a second after each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import time_ns

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from schemas.events import Tick

EVERY = timedelta(seconds=1)
AWAKE = timedelta(milliseconds=50)


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
        self._due = self._awake = datetime.now(UTC)

    def next_batch(self) -> list[Tick]:
        if self._until():
            raise StopIteration
        now = datetime.now(UTC)
        self._awake = now + AWAKE
        if now < self._due:
            return []
        late = now - self._due
        self._due = (self._due if late < EVERY else now) + EVERY  # a clock set ahead makes one tick, not thousands
        return [Tick(self._now())]

    def next_awake(self) -> datetime:
        return self._awake

    def snapshot(self) -> None:
        return None


def to_every_shard(models: Sequence[str], shards: int) -> Callable[[Tick], list[tuple[str, Tick]]]:
    """Copy a tick to every shard of every model."""
    keys = [f"{model}/{shard:03d}" for model in models for shard in range(shards)]
    return lambda tick: [(key, tick) for key in keys]
