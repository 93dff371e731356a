"""Run the chaos suite: `python -m tests.chaos [--short] [--kills N] [CASE …]`; a table, then one line of JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from confluent_kafka import KafkaException

from tests.chaos import cases
from tests.chaos.report import KNOWN_BAD, Line, table
from tests.chaos.small_disk import NoDiskError
from tests.chaos.wall_clock import NoClockError
from tests.support.broker import KafkaUnavailableError, running_cluster

KILLS, KILLS_SHORT = 60, 15
_PATIENCE_S, _A_KILL_S = 600, 20


def main() -> None:
    """Run what is asked for; exit code 1 where anything was lost, repeated or unequal, or the bad sinks passed."""
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--short", action="store_true", help=f"four cases and {KILLS_SHORT} kills")
    parser.add_argument("--kills", type=int, help=f"alternating kills ({KILLS}, or {KILLS_SHORT} with --short)")
    parser.add_argument("--keep", action="store_true", help="leave the directory of the runs, and name it")
    parser.add_argument("case", nargs="*", metavar="CASE", help=f"these only: {', '.join((*cases.CASES, KNOWN_BAD))}")
    args = parser.parse_args()
    known = cases.CASES | {KNOWN_BAD: cases.known_bad}
    names = args.case or [*(cases.SHORT if args.short else cases.CASES), KNOWN_BAD]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"CASE must be one of {', '.join(known)}; got {unknown[0]}")
    kills = args.kills or (KILLS_SHORT if args.short else KILLS)
    folder = Path(tempfile.mkdtemp(prefix="ibms-chaos-"))
    try:
        with running_cluster(folder / "kafka", 3) as cluster:
            suite = cases.Suite(cluster, folder, kills)
            lines = [_line(name, known[name], suite) for name in names]
    except KafkaUnavailableError as missing:
        sys.exit(str(missing))
    finally:
        if args.keep:
            print(folder)
        else:
            cases.remove(folder)
    print(table(lines))
    print(json.dumps({"cases": [line.as_json() for line in lines if line.name != KNOWN_BAD and not line.skipped]}))
    sys.exit(0 if all(line.good() for line in lines) else 1)


def _line(name: str, case: cases.Case, suite: cases.Suite) -> Line:
    """Run one case, and say what it is and what came of it."""
    print(f"{name}: {' '.join((case.__doc__ or '').split())}", flush=True)
    began = time.monotonic()
    try:
        with _within(_PATIENCE_S + _A_KILL_S * suite.kills):
            run, account = case(suite)
    except (NoDiskError, NoClockError) as missing:
        line = Line(name, None, 0, time.monotonic() - began, str(missing), skipped=True)
    except (AssertionError, KafkaException, TimeoutError) as failed:
        line = Line(name, None, 0, time.monotonic() - began, str(failed))
    else:
        line = Line(name, account, len(run.restarts), time.monotonic() - began)
    suite.clear()
    print(f"   {line.said()}", flush=True)
    return line


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Bound what is done, whatever it waits for."""

    def over(_number: int, _frame: FrameType | None) -> None:
        msg = f"not over after {seconds} s"
        raise TimeoutError(msg)

    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
