"""Test flows as processes of their own, forked from one that has imported everything and loaded the kernels.

To import numba and Arrow and load the kernels takes a process two seconds, and kill tests start dozens of them.  What
is forked is a process like any other: SIGKILL ends it wherever it is, and nothing of it is left but its files.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path


def start(module: str, args: Sequence[str], log: Path) -> ForkServerProcess:
    """Start `python -m module args`, which appends what it says to `log`."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preload"])
    child = context.Process(target=_main, args=(module, args, log), daemon=True)
    child.start()
    return child


def _main(module: str, args: Sequence[str], log: Path) -> None:
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = [module, *args]
    importlib.import_module(module).main()
