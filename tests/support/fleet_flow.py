"""The fleet flow as a process, to be killed or joined by others: `python -m tests.support.fleet_flow WORK …`.

Reads the blocks that `keep` wrote, slowly, into the lake WORK/lake.  `WORK/started` appears when the source
runs, `WORK/returned` between the flow's return and the last publish, `WORK/done` after it.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Sequence
from pathlib import Path

from flows.cache import use_kernel_cache

NAME = "fleet-test"
PACE_S = 0.01  # before each block


def keep(blocks: Sequence[object], path: Path) -> Path:
    """Write blocks for the processes to come."""
    path.write_bytes(pickle.dumps(list(blocks)))
    return path


def main() -> None:
    """Run to the end, resuming where the recovery store stands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("blocks", type=Path)
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--process", type=int)
    parser.add_argument("--addresses", nargs="*")
    parser.add_argument("--hold", action="store_true", help="wait between the flow's return and the last publish")
    args = parser.parse_args()
    use_kernel_cache()

    from dataclasses import replace

    from flows.run import run_flow
    from flows.settings import RecoverySettings
    from sinks.lake import LakeSink, publish_pending
    from tests.support.fleet import SETTINGS, Pausing, flow_into

    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    blocks = pickle.loads(args.blocks.read_bytes())  # noqa: S301 - written by `keep`
    source = Pausing(blocks, dict.fromkeys(range(1, len(blocks) + 1), PACE_S), work / "started")
    sink = LakeSink(work / "lake", NAME, recovery=True, publish_epochs=3)
    settings = replace(SETTINGS, shards=args.shards)
    recovery = RecoverySettings(work / "recovery", args.epoch)
    flow = flow_into(sink, source, settings, recovery=recovery)
    run_flow(flow, recovery, args.shards, process=args.process, addresses=args.addresses)
    (work / f"returned{args.process or ''}").touch()
    if args.hold:
        time.sleep(600)
    if not args.process:
        publish_pending(work / "lake", NAME)
        (work / "done").touch()


if __name__ == "__main__":
    main()
