"""A wall clock that jumps, for one process and its children: a library of our own, preloaded (`host_clock.c`).

A time namespace moves only the monotonic clocks, setting the host's clock disturbs everybody and needs its right, and
what the flow reads is read by Python, by Rust and by librdkafka: all ask libc, which a preloaded library answers for.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("host_clock.c")


class NoClockError(Exception):
    """No clock can be shifted here."""


@dataclass(frozen=True)
class Clock:
    """`env` makes a process read it."""

    file: Path
    env: dict[str, str]

    def shift(self, seconds: int) -> None:
        """Set it that far from the host's."""
        with self.file.open("r+b", buffering=0) as file:  # in place: processes have mapped it
            file.write(struct.pack("=q", seconds))


@contextmanager
def shifted_clock(folder: Path) -> Iterator[Clock]:
    """Give a clock that shows the host's time at first; raises NoClockError where no C compiler is."""
    compiler = shutil.which("cc")
    if compiler is None:
        msg = "a clock that jumps needs a C compiler (Debian: gcc, libc6-dev)"
        raise NoClockError(msg)
    folder.mkdir()
    library, file = folder / "host_clock.so", folder / "ahead_s"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file.write_bytes(bytes(8))
    yield Clock(file, {"LD_PRELOAD": str(library), "HOST_CLOCK": str(file)})
