"""What `ibms run fleet --processes N` does: a cluster on one machine, started, watched and restarted as a whole.

bytewax does not always end when a peer dies (a survivor hung in a third of the kills), so processes live and die
together.  Nothing is lost by it: the recovery store is made for kill -9.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from flows.heartbeat import PROGRESS, heartbeats, newest_tick
from flows.observe import Observer
from flows.settings import RunSettings, load_settings
from flows.warm import is_warm
from schemas.checked import ConfigError

HANG_S = 10.0  # without a tick at the sinks
SETTLE_S = 20.0  # from the first sign of life, in which a run is not judged: kernels are read in with the first frames
START_S = 180.0  # until the first tick: kernels, snapshots of a large fleet, records read back
END_S = 60.0  # from the end of one process to the end of the last
CALM_S = 60.0  # of a run that has settled, after which its end is no repeat of the one before
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_PATIENT = 4  # how often SETTLE_S doubles at most, while starts fail one after the other
_LOOK_S = 0.2
_LAST_WORDS_S = 2.0  # after a process has failed: the one that knows why may not be the first to end
_BAD_CONFIG = 2
_ROOM_BYTES = 16 << 20  # a snapshot needs more
_PR_SET_PDEATHSIG = 1  # of prctl(2)


@dataclass
class Watch:
    """When a cluster that was started at `began` is hung, by the newest sign of life of its sinks."""

    began: float
    hang_s: float = HANG_S
    start_s: float = START_S
    settle_s: float = SETTLE_S
    alive_at: float = 0.0
    judged_from: float = 0.0
    _seen: dict[str, Any] = field(default_factory=dict)

    def hung(self, now: float, told: Sequence[dict[str, Any]], grace_s: float = 0.0) -> bool:
        """Say whether no tick has reached a sink for too long; waiting for a broker is a sign of life.

        `now` is of a clock that nobody sets; `told` are heartbeats as read.  `grace_s` is allowed on top: ticks stop
        where the input has ended, before the last process does.
        """
        for beat in told:
            name = str(beat["pid"])
            sign = (newest_tick(beat), beat["at"] if beat["waiting"] else 0.0)
            if any(sign) and self._seen.get(name) != sign:
                self._seen[name] = sign
                self.alive_at = now
                self.judged_from = self.judged_from or now + self.settle_s
        if not self.alive_at:
            return now - self.began > self.start_s
        return now > self.judged_from and now - self.alive_at > self.hang_s + grace_s


def supervise(config: Path, processes: int) -> int:
    """Run until the input ends, a SIGTERM or a bad configuration; gives the exit code."""
    settings = load_settings(config)
    directory = settings.recovery.dir
    if directory is None:
        msg = f"recovery.dir must be a directory with --processes; got nothing ({config})"
        raise ConfigError(msg)
    if not settings.ticks:
        msg = f"ticks must be true with --processes, which tell that a run is alive; got false ({config})"
        raise ConfigError(msg)
    with _lease(directory):
        _warm()
        return _rounds(settings, directory, config, processes)


def _rounds(settings: RunSettings, directory: Path, config: Path, processes: int) -> int:
    from flows.fleet_run import publish_last  # noqa: PLC0415 - numba after use_kernel_cache

    log = Observer(settings.observe, -1)
    ending: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ending.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    failed = 0
    while True:
        began = time.monotonic()
        settle_s = SETTLE_S * 2 ** min(failed, _PATIENT)  # a machine too busy to settle needs time, not another start
        why, codes = _round(directory, config, processes, ending, settle_s)
        if ending:
            log.say("stopped", signal=signal.Signals(ending[0]).name)
            return 0
        if why == "ended":
            publish_last(settings)
            log.say("ended")
            return 0
        if _BAD_CONFIG in codes:
            return _BAD_CONFIG
        why = "; ".join([why, *_full(directory, *([settings.lake.dir] if "lake" in settings.outputs else []))])
        failed = 0 if time.monotonic() - began > CALM_S + settle_s else failed + 1
        pause = _PAUSES_S[min(max(failed - 1, 0), len(_PAUSES_S) - 1)]
        log.say("restart", why=why, codes=codes, in_s=pause)
        sys.stderr.write(f"ibms: {why}: all processes start again in {pause:.0f} s\n")
        until = time.monotonic() + pause
        while time.monotonic() < until and not ending:
            time.sleep(_LOOK_S)


def _round(
    directory: Path, config: Path, processes: int, ending: Sequence[int], settle_s: float
) -> tuple[str, list[int]]:
    """Run all processes once; gives why it is over, and how those ended that did so by themselves."""
    folder = directory / PROGRESS
    for old in folder.glob("process-*"):
        old.unlink(missing_ok=True)
    addresses = ",".join(f"127.0.0.1:{port}" for port in _free_ports(processes))
    common = [sys.executable, "-m", "flows", "run", "fleet", "--config", str(config), "--supervisor", str(os.getpid())]
    cluster = [] if processes == 1 else ["--addresses", addresses]
    children = [
        subprocess.Popen([*common, *cluster, *(["--process", str(i)] if cluster else [])], start_new_session=True)
        for i in range(processes)
    ]
    watch = Watch(time.monotonic(), settle_s=settle_s)
    try:
        while True:
            codes = [c.poll() for c in children]
            over = [code for code in codes if code is not None]
            if ending:
                return "stopped", over
            if len(over) == processes and not any(over):
                return "ended", over
            if any(over):
                _last_words(children)
                return f"a process ended with code {next(filter(None, over))}", [
                    code for c in children if (code := c.poll()) is not None
                ]
            if watch.hung(time.monotonic(), [] if over else heartbeats(folder), END_S if over else 0.0):
                return f"no tick has reached the sinks for {watch.hang_s:.0f} s", []
            time.sleep(_LOOK_S)
    finally:
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)  # as safe as any other end, and it cannot hang
        for child in children:
            child.wait()


def _full(*places: Path) -> list[str]:
    """Name the disks without room: what the recovery store's own code meets there is lost with its process."""
    there = (next(p for p in (place.absolute(), *place.absolute().parents) if p.exists()) for place in places)
    return [f"no room under {place}" for place in there if shutil.disk_usage(place).free < _ROOM_BYTES]


def _last_words(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let peers that fail too say why, those that hang excepted."""
    end = time.monotonic() + _LAST_WORDS_S
    while time.monotonic() < end and any(c.poll() is None for c in children):
        time.sleep(_LOOK_S)


def end_with(supervisor: int) -> None:
    """Let the kernel end this process when its supervisor ends, however that is: nobody would watch or restart it.

    A supervisor that starts anew would find the store and the lake still taken.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it ended before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _lease(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lease-supervisor").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"recovery.dir must belong to one run; another one is alive in it ({directory})"
            raise ConfigError(msg) from None
        os.set_inheritable(file.fileno(), False)
        yield


def _warm() -> None:
    """Compile kernels once, or each process would do it for itself."""
    if is_warm():
        return
    subprocess.run([sys.executable, "-m", "flows.warm"], stdout=subprocess.DEVNULL, check=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
