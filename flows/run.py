"""How a flow is executed: recovery store, lease, one process of a cluster, and the last publish."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from flows.settings import RecoverySettings
from schemas.checked import ConfigError

_PARTITIONS = 4  # SQLite files of a recovery store; fixed when it is made
_ABOUT = "ibms.json"
_LONG = timedelta(days=365)  # an epoch that only the end of input ends


def run_flow(
    flow: Dataflow,
    recovery: RecoverySettings,
    shards: int,
    *,
    process: int | None = None,
    addresses: Sequence[str] | None = None,
) -> None:
    """Run `flow` to its end, resuming from the recovery store where there is one.

    `process` and `addresses` ("host:port" of each) make it one process of a cluster.  Raises
    ConfigError where the store belongs to another number of shards or to a run that is alive.
    """
    if recovery.dir is None:
        cli_main(flow, process_id=process, addresses=_list(addresses), epoch_interval=_LONG)
        return
    with _lease(recovery.dir, process or 0):
        _prepare(recovery.dir, shards)
        cli_main(
            flow,
            process_id=process,
            addresses=_list(addresses),
            epoch_interval=recovery.epoch,
            recovery_config=RecoveryConfig(str(recovery.dir)),
        )


def _list(addresses: Sequence[str] | None) -> list[str] | None:
    return None if addresses is None else list(addresses)


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


def _prepare(directory: Path, shards: int) -> None:
    """Make the store, or check that it was made for the same number of shards."""
    about = directory / _ABOUT
    with (directory / "making").open("w") as file:  # the processes of a cluster start together
        fcntl.flock(file, fcntl.LOCK_EX)
        if not about.exists():
            init_db_dir(str(directory), _PARTITIONS)
            about.write_text(json.dumps({"shards": shards}))
    stored = json.loads(about.read_text())["shards"]
    if stored != shards:
        msg = f"fleet.shards must be {stored}, as when the recovery store was made; got {shards} ({about})"
        raise ConfigError(msg)
