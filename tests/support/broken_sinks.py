"""Lake sinks with one mistake each, which a kill test must find; and the sound one.

Each lingers where a kill hurts: what an epoch brought is a file, and no snapshot covers it yet.  In memory that is over
before a kill can fall into it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from schemas.arrow import LakeItem
from sinks import ducklake
from sinks.lake import LakePartition, LakeSink, publish_all

_LINGER_S = 0.005


class _Lingering(LakePartition):
    def snapshot(self) -> dict[str, Any]:
        state = super().snapshot()
        time.sleep(_LINGER_S)
        return state


class Sound(LakeSink):
    """Makes no mistake."""

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> LakePartition:
        return self._locked(_Lingering, resume_state)


class Hasty(LakeSink):
    """Publishes the first rows of an epoch with those before it, though their snapshot is not durable."""

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> LakePartition:
        return self._locked(_Hasty, resume_state)


class _Hasty(_Lingering):
    _hurried = False

    def _resume(self, state: dict[str, Any] | None) -> tuple[int, int]:
        return _publish_whatever(self, super()._resume, state)

    def write_batch(self, values: list[LakeItem]) -> None:
        super().write_batch(values)
        if self._pending.collected and not self._hurried:
            self._hurried = True
            self._seal()
            self.settle()
            publish_all(self._con, self._pending, self._sink.name)

    def snapshot(self) -> dict[str, Any]:
        self._hurried = False
        return super().snapshot()


class Hoarder(LakeSink):
    """Publishes, on resume, also what is newer than the snapshot, where it should be deleted."""

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> LakePartition:
        return self._locked(_Hoarder, resume_state)


class _Hoarder(_Lingering):
    def _resume(self, state: dict[str, Any] | None) -> tuple[int, int]:
        return _publish_whatever(self, super()._resume, state)


def _publish_whatever(
    part: LakePartition, resume: Callable[[dict[str, Any] | None], tuple[int, int]], state: dict[str, Any] | None
) -> tuple[int, int]:
    """Resume as if every pending epoch were older than the snapshot."""
    resume(None if state is None else {**state, "seq": 1 << 40})
    publish_all(part._con, part._pending, part._sink.name)
    run = ducklake.last_run(part._con, part._sink.name)
    assert run is not None
    return run.number, run.seq


SINKS: dict[str, type[LakeSink]] = {"sound": Sound, "hasty": Hasty, "hoarder": Hoarder}
