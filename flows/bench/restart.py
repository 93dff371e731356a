"""How long a restarted process needs to its first output: run, kill -9 after a snapshot, start again.

Run as a module it is the process that is killed; it prints the wall time of its first output.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from flows.cache import use_kernel_cache
from flows.run import ABOUT

_TIMES = 1000  # over the same frames: more than is run before the kill
_PATIENCE_S = 300.0
_UNDER_WAY = 4  # epochs


def resume_s(vehicles: int, rounds: int, epoch_s: float) -> float:
    """Give seconds from the start of the second process to its first output."""
    from flows.bench.blocks import fleet_blocks, save_blocks  # noqa: PLC0415 - numba after use_kernel_cache

    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as where:
        folder, recovery = Path(where) / "blocks", Path(where) / "recovery"
        folder.mkdir()
        save_blocks(fleet_blocks(vehicles, rounds), folder)
        command = [sys.executable, "-m", "flows.bench.restart", str(folder), str(recovery), str(epoch_s)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
            try:
                _wait_for_snapshot(recovery, first)
            finally:
                first.send_signal(signal.SIGKILL)
        began = time.time()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            line = second.stdout.readline()
            second.kill()
        return float(line) - began


def _wait_for_snapshot(recovery: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for a durable snapshot of a fleet under way: in the first, packs are still being met."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, "the first process ended before it was killed"
        if last_epoch(recovery) >= _UNDER_WAY:
            return
        time.sleep(0.1)
    msg = f"no snapshot within {_PATIENCE_S:.0f} s"
    raise TimeoutError(msg)


def last_epoch(recovery: Path) -> int:
    """Give the newest epoch that is durable as a whole, that of the one worker: its parts are written one by one."""
    found = 0
    if not (recovery / ABOUT).exists():  # the store is being made, and is not to be touched
        return 0
    for part in recovery.glob("part-*.sqlite3"):
        try:
            with sqlite3.connect(f"file:{part}?mode=ro", uri=True) as con:
                goes_on = con.execute("SELECT max(worker_frontier) FROM fronts").fetchone()[0]  # where a run would
                found = max(found, (goes_on or 1) - 1)
            con.close()
        except sqlite3.Error:
            continue  # it is being made
    return found


class _FirstOutput(DynamicSink[object]):
    """Tell when the first record came out."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Tell:
        return _Tell()


class _Tell(StatelessSinkPartition[object]):
    def __init__(self) -> None:
        self._told = False

    def write_batch(self, items: list[object]) -> None:
        if items and not self._told:
            self._told = True
            print(time.time(), flush=True)


def _main(folder: Path, recovery: Path, epoch_s: float) -> None:
    from flows import fleet  # noqa: PLC0415 - numba after use_kernel_cache
    from flows.bench.blocks import MODEL, SavedBlocks  # noqa: PLC0415
    from flows.bench.speed import SETTINGS, SHARDS  # noqa: PLC0415
    from flows.run import run_flow  # noqa: PLC0415
    from flows.settings import RecoverySettings  # noqa: PLC0415
    from replay.source import ReplaySource  # noqa: PLC0415

    source = ReplaySource(lambda: SavedBlocks(folder, _TIMES))
    kept = RecoverySettings(recovery, epoch_s)
    run_flow(fleet.build(SETTINGS, source, _FirstOutput(), (MODEL,), files=kept.files), kept, SHARDS)


if __name__ == "__main__":
    use_kernel_cache()
    _main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
