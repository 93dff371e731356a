"""One of the gateway's processes: started, watched, ended, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge.link import Link, pair

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # before the first start again, the second …
CALM_S = 60.0  # of a run, after which its end is no repeat of the one before
START_S = 20.0  # until the first word, where nothing else is said: a small box that is busy imports slowly
_NS = 10**9
_STARTER = "edge.start"


@dataclass(slots=True)
class Child:
    """A process and the link to it; times in ns of a monotonic clock.

    `silent_s`: without a word for longer it hangs; `start_s`: until the first.  `heard_ns` is -1 until its first word.
    """

    name: str
    flow: str
    config: Path
    silent_s: float
    link: Link | None = None
    process: subprocess.Popen[bytes] | None = None
    began_ns: int = 0
    heard_ns: int = -1
    restarts: int = -1
    failures: int = 0
    again_ns: int = 0
    why: str = ""
    hung: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    start_s: float = START_S

    def start(self, now_ns: int) -> None:
        """Start the process with a new link."""
        self.began_ns, self.heard_ns, self.restarts = now_ns, -1, self.restarts + 1
        self.link, theirs = pair()
        with theirs:
            try:
                self.process = subprocess.Popen(  # noqa: S603 - a module of our own
                    [sys.executable, "-m", _STARTER, self.flow, str(self.config), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **self.environment},
                )
            except OSError as bad:  # no memory, no process left: the next try may find some
                self._failed(f"did not start: {bad.strerror or bad}", now_ns)

    def over(self, now_ns: int) -> bool:
        """Say whether the process has ended, and why; what hangs is ended, and over as soon as it is gone."""
        if self.process is None:
            return False
        code = self.process.poll()
        if code is not None:
            ended = f"ended with code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
            self._failed(self.hung or ended, now_ns)
            return True
        since_ns = now_ns - max(self.heard_ns, self.began_ns)
        if since_ns > (self.silent_s if self.heard_ns >= 0 else self.start_s) * _NS:
            self.hung = self.hung or f"said nothing for {since_ns / _NS:.1f} s"
            self.process.kill()  # and not waited for: one that waits for a disk ends when the disk lets it
        return False

    def _failed(self, why: str, now_ns: int) -> None:
        self.why, self.hung, self.process = why, "", None
        self.failures = 1 if now_ns - self.began_ns > CALM_S * _NS else self.failures + 1
        self.again_ns = now_ns + round(PAUSES_S[min(self.failures, len(PAUSES_S)) - 1] * _NS)
        self.close()

    def alive(self, now_ns: int) -> bool:
        """Say whether it runs and has spoken lately."""
        return self.process is not None and self.heard_ns >= 0 and now_ns - self.heard_ns <= self.silent_s * _NS

    def due(self, now_ns: int) -> bool:
        """Say whether it is time to start it, for the first time or again."""
        return self.process is None and now_ns >= self.again_ns

    def close(self) -> None:
        """Let go of the link to a process that is over."""
        if self.link is not None:
            self.link.socket.close()
            self.link = None

    def end(self, wait_s: float = 2.0) -> None:
        """End the process: by request, then by force."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(wait_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        self.close()


def end_left_over(flow: str, config: Path) -> list[int]:
    """End processes of a supervisor who was killed; gives their ids.

    They are found by what they run, since no file need be there.  Whoever calls must be the only supervisor.
    """
    ended = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile, or is not ours to see
        if command[1:5] == [b"-m", _STARTER.encode(), flow.encode(), os.fsencode(config)]:
            with suppress(OSError):
                os.kill(
                    int(folder.name), signal.SIGKILL
                )  # its successor holds what is closed, as the junction box does
                ended.append(int(folder.name))
    return ended
