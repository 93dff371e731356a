"""The fleet flow with two sinks that have one mistake each, which the suite must find: `python -m … run fleet …`.

The Kafka sink forgets, at a snapshot, what is still to be skipped: it repeats.  The lake's forgets, on resume, to
publish what the snapshot covers: it loses.  Frames come a few at a time, so that what one epoch delivered is made again
in several: a mistake at a snapshot shows then, whatever the machine's speed.
"""

from __future__ import annotations

from typing import Any

from flows import kafka_source
from flows.__main__ import main
from sinks.kafka import KafkaPartition
from sinks.lake import LakePartition

_ROWS = 500  # of a block


def _make() -> None:
    sound_snapshot, sound_resume = KafkaPartition.snapshot, LakePartition._resume

    def snapshot(self: KafkaPartition) -> dict[str, Any]:
        self.skip.clear()
        return sound_snapshot(self)

    def resume(self: LakePartition, state: dict[str, Any] | None) -> tuple[int, int]:
        if state is not None:
            self._pending.drop(list(self._pending.sizes()))
        return sound_resume(self, state)

    kafka_source.ROWS = _ROWS  # type: ignore[attr-defined]
    KafkaPartition.snapshot = snapshot  # type: ignore[method-assign]
    LakePartition._resume = resume  # type: ignore[method-assign]


if __name__ == "__main__":
    _make()
    main()
