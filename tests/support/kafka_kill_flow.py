"""The fleet flow of `kill_flow` into Kafka: `python -m tests.support.kafka_kill_flow WORK --epoch S --blocks N …`.

`WORK/sealed/N` appears when brokers have an epoch's records and no snapshot covers them yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flows import fleet
from flows.run import run_flow
from flows.settings import RecoverySettings
from schemas.topics import OUTPUTS
from sinks.kafka import KafkaPartition, KafkaSink
from tests.support.kill_flow import EVERY, MODEL, NAME, SETTINGS, Blocks, Ticks

# Several partitions, so that records of an epoch are spread
PARTITIONS = {"windows": 3, "states": 2, "sessions": 1, "incidents": 2, "gaps": 1, "dead_letters": 2}


class Sound(KafkaSink):
    """The sink itself, which says when the moment is that matters."""

    folder = Path()

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> KafkaPartition:
        return _Sound(self, resume_state)


class _Sound(KafkaPartition):
    epochs = 0

    def snapshot(self) -> dict[str, Any]:
        state = super().snapshot()
        assert isinstance(self._sink, Sound)
        self.epochs += 1
        (self._sink.folder / str(self.epochs)).touch()
        return state


class Forgetful(Sound):
    """Clears, at a snapshot, what is still to be skipped."""

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> KafkaPartition:
        return _Forgetful(self, resume_state)


class _Forgetful(_Sound):
    def snapshot(self) -> dict[str, Any]:
        self.skip.clear()
        return super().snapshot()


class Blind(Sound):
    """Reads nothing back."""

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> KafkaPartition:
        return _Blind(self, resume_state)


class _Blind(_Sound):
    def _read_back(self, *_: object) -> set[Any]:
        return set()


SINKS: dict[str, type[Sound]] = {"sound": Sound, "forgetful": Forgetful, "blind": Blind}


def topics(prefix: str) -> dict[str, str]:
    """Name the topic of each table."""
    return {table: f"{prefix}.{table}" for table in OUTPUTS}


def main() -> None:
    """Run the flow in WORK until its end, resuming where it was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--sink", choices=sorted(SINKS), default="sound")
    args = parser.parse_args()
    recovery = RecoverySettings(args.work / "recovery", args.epoch)
    assert recovery.files is not None
    sink = SINKS[args.sink](
        {"bootstrap.servers": args.bootstrap},
        topics(args.work.name),
        NAME,
        started=recovery.files / f"kafka-{NAME}.json",
    )
    sink.folder = args.work / "sealed"
    sink.folder.mkdir(exist_ok=True)
    source = Blocks(args.blocks, args.work / "started")
    ticks = Ticks(args.blocks * EVERY.total_seconds())
    flow = fleet.build(SETTINGS, source, sink, (MODEL,), ticks=ticks, files=recovery.files)
    run_flow(flow, recovery, SETTINGS.shards)
    (args.work / "done").touch()


if __name__ == "__main__":
    main()
