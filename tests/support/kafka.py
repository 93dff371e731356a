"""Brokers for a person: `python -m tests.support.kafka up|down`; `serve` keeps one while its input is open."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.support.broker import CACHE, KafkaUnavailableError, classpath, new_cluster, running_cluster

FOLDER = CACHE / "up"


def up(brokers: int, port: int) -> None:
    """Start brokers that stay, on `port` and those after it, and print their addresses."""
    if _running():
        sys.exit(f"brokers run already: {(FOLDER / 'bootstrap').read_text()} (just kafka-down ends them)")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    classpath()
    cluster = new_cluster(FOLDER, brokers, range(port, port + brokers), detached=True)
    try:
        cluster.start()
    except (AssertionError, TimeoutError) as failed:
        cluster.stop()
        sys.exit(f"no broker on port {port}: {str(failed).strip().splitlines()[-1]}")
    (FOLDER / "bootstrap").write_text(cluster.bootstrap)
    for broker in cluster.brokers:
        assert broker.process is not None
        (broker.folder / "pid").write_text(str(broker.process.pid))
    print(cluster.bootstrap)


def down() -> None:
    """End them and remove what they hold."""
    for pid in _running():
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 20
    while _running() and time.monotonic() < end:
        time.sleep(0.1)
    for pid in _running():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(FOLDER, ignore_errors=True)


def serve() -> None:
    """Run a broker of its own on a free port, print its address, and end it when standard input ends."""
    with tempfile.TemporaryDirectory(prefix="ibms-broker-") as folder, running_cluster(Path(folder)) as cluster:
        print(cluster.bootstrap, flush=True)
        sys.stdin.read()


def _running() -> list[int]:
    """Find the brokers' processes that are still ours: a number may belong to another process by now."""
    found = []
    for file in FOLDER.glob("broker-*/pid"):
        with suppress(OSError):
            pid = int(file.read_text())
            if os.fsencode(file.parent) in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="kafka")
    parser.add_argument("what", choices=["up", "down", "serve"])
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--port", type=int, default=9092)
    args = parser.parse_args()
    try:
        if args.what == "up":
            up(args.brokers, args.port)
        elif args.what == "serve":
            serve()
        else:
            down()
    except KafkaUnavailableError as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
