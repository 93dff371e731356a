"""Which process runs first, and waits for no disk? One that has priority (SCHED_FIFO) and its pages in memory.

Both need a right, which deploy/ibms-edge.service gives; without it everything goes on as it is.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PRESENT, _WHEN_USED = 1, 4  # MCL_CURRENT, MCL_ONFAULT of mlockall(2)


def pinned() -> bool:
    """Keep in memory what is mapped, as soon as it was used; False without the right.

    Otherwise pages of the program may be dropped where memory is short, and come back from a disk that hangs.
    """
    return bool(ctypes.CDLL(None).mlockall(_PRESENT | _WHEN_USED) == 0)


def urgent(priority: int) -> None:
    """Ask the scheduler to run this thread first; 0 asks nothing, and without the right it goes on as it is."""
    if priority:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


@contextmanager
def urgently(priority: int) -> Iterator[None]:
    """Run first for a while."""
    urgent(priority)
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
