"""How a process of a cluster fails: with its reason, and at once.

Where one process of several raises, bytewax lets its peers and its own network threads panic first: the exception is
lost ("Send thread panic: Any"), or the process hangs before anybody sees it, and a wrong setting looks like a crash.
So whatever the flow calls is wrapped here, and what it raises ends the process before the runtime hears of it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from bytewax.dataflow import Dataflow, Operator

from flows.explain import explain

Failed = Callable[[Exception], None]
_PARTS = ("build_part", "build")  # of a source or sink: partitioned, or one a worker
_CALLED = ("next_batch", "write_batch", "on_batch", "on_notify", "on_eof", "snapshot")  # of what they make


def report_failures(flow: Dataflow, failed: Failed) -> None:
    """Let `failed` hear of each exception that a step, source or sink of the flow raises; it is then raised further."""
    for step in flow.substeps:
        _report(step, failed)


def end_at_once(say: Callable[..., None], error: Exception) -> None:
    """End this process with the reason, in words and as an event; what it had not made durable is made again."""
    text, code = explain(error)
    code = 1 if isinstance(error, OSError) else code  # a disk that is away may come back: no wrong setting
    if "IBMS_TRACEBACK" in os.environ:
        traceback.print_exception(error)
    say("failed", why=text)
    sys.stderr.write(f"ibms: {' '.join(text.split())}\n")
    sys.stderr.flush()
    os._exit(code)


def _report(step: Operator, failed: Failed) -> None:
    for inner in step.substeps:
        _report(inner, failed)
    if not getattr(step, "core", False):  # a step made of others
        return
    for name in ("mapper", "builder"):
        if hasattr(step, name):
            made = _all(getattr(step, name), failed) if name == "mapper" else _maker(getattr(step, name), failed)
            object.__setattr__(step, name, made)  # a frozen dataclass; the runtime reads it when the flow starts
    for name in ("source", "sink"):
        given = getattr(step, name, None)
        for build in _PARTS:
            if hasattr(given, build):
                setattr(given, build, _maker(getattr(given, build), failed))


def _told(call: Callable[..., Any], failed: Failed) -> Callable[..., Any]:
    def told(*args: Any) -> Any:  # noqa: ANN401 - whatever is wrapped
        try:
            return call(*args)
        except StopIteration:  # the end of input
            raise
        except Exception as error:
            failed(error)
            raise

    return told


def _all(mapper: Callable[..., Any], failed: Failed) -> Callable[..., Any]:
    """Wrap what gives items, perhaps one by one when they are asked for."""
    return _told(lambda values: list(mapper(values)), failed)


def _maker(build: Callable[..., Any], failed: Failed) -> Callable[..., Any]:
    """Wrap what makes an object whose methods the runtime calls."""

    def make(*args: Any) -> Any:  # noqa: ANN401 - whatever is made
        made = build(*args)
        for name in _CALLED:
            if hasattr(made, name):
                setattr(made, name, _told(getattr(made, name), failed))
        return made

    return _told(make, failed)
