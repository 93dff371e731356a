"""A disk that is full: a file system of its own in memory, so that ENOSPC comes from the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE_MB = 96


class NoDiskError(Exception):
    """No file system can be mounted here."""


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Mount a small file system at `place`; raises NoDiskError where that is not permitted."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"a disk to fill needs the right to mount one (or `unshare -rm just chaos`): {done.stderr.strip()}"
        raise NoDiskError(msg)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Leave no byte free while this lasts."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(os.urandom(4096) * 64)
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 512)
    try:
        yield
    finally:
        ballast.unlink()
