"""How a flow is executed: recovery store, lease, one process of a cluster, and the last publish."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from flows.settings import RecoverySettings
from schemas.checked import ConfigError

_PARTITIONS = 4  # SQLite files of a recovery store; fixed when it is made
ABOUT = "ibms.json"
_PAGE_BYTES = 65_536  # the largest that SQLite has
_STDERR = 2
_OBJECTS = 500_000  # more of them than of those gone, before cycles are looked for
_LONG = timedelta(days=365)  # an epoch that only the end of input ends


def run_flow(
    flow: Dataflow,
    recovery: RecoverySettings,
    shards: int,
    *,
    process: int | None = None,
    addresses: Sequence[str] | None = None,
    epoch: timedelta = _LONG,
    source: str = "",
) -> None:
    """Run `flow` to its end, resuming from the recovery store where there is one.

    Without a store `epoch` is how often sinks are asked to write; with one it is the store's.  `source` tells inputs
    apart: a place in one is no place in another.  `process` and `addresses` ("host:port" of each) make it one
    process of a cluster.  Raises ConfigError where the store belongs to another number of shards, another source
    or a run that is alive.
    """
    if recovery.dir is None:
        with _voice(addresses), _few_collections():
            cli_main(flow, process_id=process, addresses=_list(addresses), epoch_interval=epoch)
        return
    with _lease(recovery.dir, process or 0):
        _prepare(recovery.dir, {"fleet.shards": shards, "source": source})
        with _voice(addresses), _few_collections():
            cli_main(
                flow,
                process_id=process,
                addresses=_list(addresses),
                epoch_interval=recovery.epoch,
                recovery_config=RecoveryConfig(str(recovery.dir)),
            )


def _list(addresses: Sequence[str] | None) -> list[str] | None:
    return None if addresses is None else list(addresses)


def _voice(addresses: Sequence[str] | None) -> AbstractContextManager[None]:
    """Hold nothing back in a cluster: a process may hang, and be killed, before its exception arrives."""
    return _one_voice() if addresses is None else nullcontext()


@contextmanager
def _few_collections() -> Iterator[None]:
    """Look for cycles of objects rarely: a poll makes thousands of objects and no cycle, and looking took a quarter."""
    before, done = gc.get_threshold(), gc.get_freeze_count() > 0  # by a process that runs many flows, for all of them
    if not done:
        gc.collect()
        gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not done:
            gc.unfreeze()


@contextmanager
def _one_voice() -> Iterator[None]:
    """Hold back what native code writes to standard error, and drop it where an exception says the same.

    A step that raises makes the runtime print a panic and its stack before the exception arrives.
    """
    mine = sys.stderr
    try:
        ours = "IBMS_TRACEBACK" not in os.environ and mine.fileno() == _STDERR
    except (OSError, ValueError):  # a test has put something in its place
        ours = False
    if not ours:
        yield
        return
    mine.flush()
    kept = os.dup(_STDERR)
    with tempfile.TemporaryFile() as held, os.fdopen(kept, "w", buffering=1, encoding="utf-8") as voice:
        os.dup2(held.fileno(), _STDERR)
        sys.stderr = voice
        try:
            yield
            held.seek(0)
            os.write(kept, held.read())
        finally:
            voice.flush()
            sys.stderr = mine
            os.dup2(kept, _STDERR)


@contextmanager
def _lease(directory: Path, process: int) -> Iterator[None]:
    """Hold the store: bytewax starts two runs on one store without complaint, and they spoil it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"lease-{process}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"recovery.dir must belong to one run; another one is alive in it ({directory})"
            raise ConfigError(msg) from None
        yield


def _widen(part: Path) -> None:
    """Give a store's file large pages: a snapshot is a few large blobs, and 4 kB pages cost three times the CPU."""
    with closing(sqlite3.connect(part)) as con:
        for statement in ("journal_mode = DELETE", f"page_size = {_PAGE_BYTES}"):
            con.execute(f"PRAGMA {statement}")
        con.execute("VACUUM")
        con.execute("PRAGMA journal_mode = WAL")


def _prepare(directory: Path, made_for: dict[str, int | str]) -> None:
    """Make the store, or check that it was made for the same shards and source."""
    about = directory / ABOUT
    (directory / "state").mkdir(exist_ok=True)
    with (directory / "making").open("w") as file:  # the processes of a cluster start together
        fcntl.flock(file, fcntl.LOCK_EX)
        if not about.exists():
            init_db_dir(str(directory), _PARTITIONS)
            for part in directory.glob("part-*.sqlite3"):
                _widen(part)
            new = about.with_suffix(".new")  # on a full disk half a file would be there for good
            new.write_text(json.dumps(made_for))
            new.replace(about)
    stored = json.loads(about.read_text())
    for key, value in made_for.items():
        if stored.get(key) != value:
            msg = f"{key} must be {stored.get(key)}, as when the recovery store was made; got {value} ({about})"
            raise ConfigError(msg)
