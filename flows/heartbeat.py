"""What the processes of a run last told, and whether it goes on: `python -m flows.heartbeat live|ready RECOVERY_DIR`.

A probe runs every few seconds beside the flow, so this imports nothing that takes time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRESS = "progress"  # of a recovery store: heartbeats of the processes
WITHIN_S = 30.0

Beat = dict[str, Any]


def heartbeats(folder: Path) -> list[Beat]:
    """Read what the processes of a run last told."""
    found = []
    for file in sorted(folder.glob("process-*.json")):
        with suppress(OSError, json.JSONDecodeError):
            found.append(json.loads(file.read_text()))
    return found


def newest_tick(beat: Beat) -> float:
    """Say when a tick last reached a sink of the process (Unix); 0 where none has, or it has no sink."""
    return max((v for name, _, v in beat["values"] if name == "ibms_sink_tick_seconds"), default=0.0)


def live(beats: Sequence[Beat], now: float, within_s: float) -> str:
    """Say why a run does not go on, "" where it does: a tick has reached a sink lately, or a process says it waits.

    It is the run as a whole that lives: where a tick passes no more, all processes start again together.
    """
    signs = [max(newest_tick(b), b["at"] if b["waiting"] else 0.0) for b in beats]
    newest = max(signs, default=0.0)
    if abs(now - newest) <= within_s:
        return ""
    return f"no tick has reached a sink for {now - newest:.0f} s" if newest else "no tick has reached a sink"


def ready(beats: Sequence[Beat], process: int, now: float, within_s: float) -> str:
    """Say why a process does not read and write now, "" where it does."""
    mine = next((b for b in beats if b["process"] == process), None)
    if mine is None or abs(now - mine["at"]) > within_s:
        return f"process {process} has not told of itself for {within_s:.0f} s"
    return "; ".join(mine["waiting"].values())


def main() -> None:
    """Exit with 0 where it is so, and with 1 and the reason where not."""
    parser = argparse.ArgumentParser(prog="python -m flows.heartbeat", description=__doc__)
    parser.add_argument("what", choices=["live", "ready"])
    parser.add_argument("recovery", type=Path, help="the run's recovery.dir")
    parser.add_argument("--process", type=int, default=0, help="number of this process (default: 0)")
    parser.add_argument("--within", type=float, default=WITHIN_S, help=f"seconds (default: {WITHIN_S:.0f})")
    args = parser.parse_args()
    beats, now = heartbeats(args.recovery / PROGRESS), time.time()
    why = live(beats, now, args.within) if args.what == "live" else ready(beats, args.process, now, args.within)
    if why:
        sys.exit(why)


if __name__ == "__main__":
    main()
