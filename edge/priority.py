"""Which process runs first? One that the scheduler lets before all others (SCHED_FIFO), where it has that right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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
