"""A worker that is as `ibms run fleet` starts it, but takes no snapshots; run as a module with the settings file.

It has no recovery store, and its epoch does not end: no state is copied, no offset kept, no sink asked to make anything
durable.  Records go to Kafka and the lake all the same; the lake sink publishes whenever so many bytes wait that one
with snapshots would.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from flows.cache import use_kernel_cache

_NEVER_S = 3600.0  # the longest epoch that settings take


def _main(config: Path) -> None:
    from flows.fleet_run import run  # noqa: PLC0415 - numba after use_kernel_cache
    from flows.settings import RecoverySettings, load_settings  # noqa: PLC0415

    run(replace(load_settings(config), recovery=RecoverySettings(None, _NEVER_S)))


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the command
    use_kernel_cache()
    _main(Path(sys.argv[1]))
