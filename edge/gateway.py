"""How does a gateway start and stop: settings checked, one supervisor at a time, its two processes, a way out."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import IO

from edge import control, status
from edge.canbus import Port
from edge.child import Child, end_left_over
from edge.journal import WARNING
from edge.keeper import Keeper
from edge.settings import GatewaySettings, Prepared, load_settings, prepare
from edge.supervisor import Supervisor, journal_of
from edge.telemetry_settings import telemetry_settings
from schemas.checked import ConfigError

PROTECTION, TELEMETRY = "protect_flow", "telemetry_flow"
LATCHES, LOCK = "latches", "lock"
_PROTECTION_SILENT_S, _TELEMETRY_SILENT_S = 0.5, 30.0
_TELEMETRY_START_S = 120.0  # a full outbox is read from a slow card
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each one more costs memory, and none is used


def run(config: str) -> int:
    """Protect until told to stop; raises ConfigError."""
    path = Path(config).resolve()
    prepared = prepare(load_settings(path))
    settings = prepared.settings
    telemetry_settings(settings)  # what is wrong there stops the start too, while a person looks
    with _alone(settings):
        left_over = [n for flow in (PROTECTION, TELEMETRY) for n in end_left_over(flow, path)]
        supervisor = _supervisor(prepared, path)
        for number in left_over:
            supervisor.journal.say(WARNING, f"process {number} of a run that was killed is ended")
        over: list[int] = []
        for which in (signal.SIGTERM, signal.SIGINT):
            signal.signal(which, lambda number, _: over.append(number))
        server = status.serve(settings.http_port, lambda: supervisor.shown)
        try:
            supervisor.start()
            while not over:
                supervisor.turn()
                supervisor.wait()
        finally:
            supervisor.stop()
            server.shutdown()
            server.server_close()
    return 0


def _supervisor(prepared: Prepared, config: Path) -> Supervisor:
    settings = prepared.settings
    protection = Child("protection", PROTECTION, config, _PROTECTION_SILENT_S, environment=_ONE_THREAD)
    telemetry = Child(
        "telemetry", TELEMETRY, config, _TELEMETRY_SILENT_S, environment=_ONE_THREAD, start_s=_TELEMETRY_START_S
    )
    return Supervisor(
        prepared=prepared,
        port=Port(settings.can, time.monotonic_ns, time.time_ns),
        keeper=Keeper(settings.state_dir / LATCHES),
        journal=journal_of(time.time_ns, os.environ),
        control=control.listen(settings.state_dir),
        protection=protection,
        telemetry=telemetry,
        now=time.monotonic_ns,
        wall=time.time_ns,
    )


def _alone(settings: GatewaySettings) -> IO[bytes]:
    """Hold the state folder, so that two supervisors never command one pack; raises ConfigError."""
    folder = settings.state_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / LOCK).open("wb")
    except OSError as bad:
        msg = f"state_dir must be a folder that can be written; got {bad.strerror} ({folder})"
        raise ConfigError(msg) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        msg = f"state_dir must be of one gateway; got one where another runs ({folder})"
        raise ConfigError(msg) from None
    return lock
