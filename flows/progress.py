"""What a person sees while something long runs: rate, share done and time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.events import Item
from schemas.frames import FrameBlock

_QUIET_S = 2.0  # what is done sooner needs no bar
_NS = 10**9


def watched(
    items: Iterable[Item],
    what: str,
    *,
    from_ns: int | None = None,
    to_ns: int | None = None,
    total: float | None = None,
) -> Iterator[Item]:
    """Pass items on and show progress by event time (from_ns..to_ns) or by frames (total); nothing within 2 s."""
    console = Console(stderr=True)
    began, frames, newest = monotonic(), 0, 0
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    size = total if total is not None else (to_ns - from_ns) / _NS if from_ns is not None and to_ns else None
    task = progress.add_task(what, total=size, rate="")
    started = False
    try:
        for item in items:
            yield item
            if not isinstance(item, FrameBlock) or not len(item):
                continue
            frames += len(item)
            newest = max(newest, int(item.t_ns.max()))
            spent = monotonic() - began
            if not started and spent > _QUIET_S:
                progress.start()
                started = True
            done = frames if total is not None else (newest - from_ns) / _NS if from_ns is not None else None
            progress.update(task, completed=done, rate=f"{frames / max(spent, 1e-9):,.0f} frames/s")
    finally:
        progress.stop()
