"""How one knows that a sink is alive: a sink that tells an observer of ticks and snapshots, and passes all on."""

from __future__ import annotations

from typing import Any

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows.observe import Observer
from schemas.arrow import LakeItem
from schemas.events import Tick

Inner = FixedPartitionedSink[LakeItem, dict[str, Any]]


class WatchedSink(FixedPartitionedSink[LakeItem, dict[str, Any]]):
    """`inner`, watched under its name."""

    def __init__(self, inner: Inner, name: str, seen: Observer) -> None:
        """Keep what is watched, and who is told."""
        self._inner, self._name, self._seen = inner, name, seen

    def list_parts(self) -> list[str]:
        """Name the inner sink's parts."""
        return self._inner.list_parts()

    def part_fn(self, item_key: str) -> int:
        """Send where the inner sink sends."""
        return self._inner.part_fn(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> _Partition:
        """Open the inner sink's part."""
        return _Partition(self._inner.build_part(step_id, for_part, resume_state), self._name, self._seen)


class _Partition(StatefulSinkPartition[LakeItem, dict[str, Any]]):
    def __init__(self, inner: StatefulSinkPartition[LakeItem, dict[str, Any]], name: str, seen: Observer) -> None:
        self._inner, self._name, self._seen = inner, name, seen

    def write_batch(self, values: list[LakeItem]) -> None:
        self._inner.write_batch(values)
        self._seen.wrote(self._name)
        newest = max((v.now_ns for v in values if isinstance(v, Tick)), default=0)
        if newest:
            self._seen.ticked(self._name, newest)

    def snapshot(self) -> dict[str, Any]:
        self._seen.snapshot(self._name)
        return self._inner.snapshot()

    def close(self) -> None:
        self._inner.close()
