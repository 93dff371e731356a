"""What a person sees while something long runs: rate, share done and time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.can import CanBlock
from schemas.frames import FrameBlock

T = TypeVar("T")
Share = Callable[[FrameBlock | CanBlock], float | None]

_QUIET_S = 2.0  # what is done sooner needs no bar


def watched(items: Iterable[T], what: str, share: Share = lambda _: None) -> Iterator[T]:
    """Pass items on and show how fast they come, and how far they are by `share` (0..1) of each block; not within 2 s.

    Nothing is shown where standard error is no terminal.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = progress.add_task(what, total=None, rate="")
    began, frames, started = monotonic(), 0, False
    try:
        for item in items:
            yield item
            if not isinstance(item, FrameBlock | CanBlock) or not len(item):
                continue
            frames += len(item)
            spent = monotonic() - began
            if not started and spent > _QUIET_S:
                progress.start()
                started = True
            done = share(item)
            total = None if done is None else 1.0
            progress.update(task, total=total, completed=done, rate=f"{frames / max(spent, 1e-9):,.0f} frames/s")
    finally:
        progress.stop()


def of_span(from_ns: int, to_ns: int) -> Callable[[FrameBlock | CanBlock], float]:
    """Give the share of an event time span that lies behind a block's newest frame."""
    newest = from_ns

    def share(block: FrameBlock | CanBlock) -> float:
        nonlocal newest
        newest = max(newest, min(int(block.t_ns.max()), to_ns))
        return (newest - from_ns) / (to_ns - from_ns)

    return share
