"""A gateway as it runs: the command `ibms-edge` on python-can's loopback, and a simulated vehicle on the same bus."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge import plant
from edge.canbus import CanSettings, Port
from edge.latches import create
from edge.plant import Plant
from edge.priority import urgent
from schemas.pack import load_pack

PATIENCE_S = 60.0  # other test processes want the processor too
PACK = "generic-nmc@6c2t60ah"
PERIOD_S = 0.1
# Longer than on a vehicle: five of them without a word are silence, and a loaded machine stops a process for longer.
_CYCLES_S = {"JunctionStatus": 0.1, "VehicleRequest": 0.2}
_GROUP = "239.74.163.19"
_PRIORITY = 40  # of the simulated vehicle, below the gateway's


def free_port(kind: socket.SocketKind) -> int:
    """Give a port that nobody has."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Gateway:
    """The command, running, and the vehicle; `moves` are the junction box's contactors whenever they changed."""

    folder: Path
    vehicle: Plant
    config: Path
    http_port: int
    can: CanSettings
    command: subprocess.Popen[bytes] | None = None
    moves: list[tuple[bool, bool, bool]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def journal(self) -> str:
        """Give what it has said so far."""
        return (self.folder / "journal").read_text()

    def start(self) -> None:
        """Start the command."""
        with (self.folder / "journal").open("ab") as journal:
            command = [sys.executable, "-m", "edge", "--config", str(self.config)]
            self.command = subprocess.Popen(command, stderr=journal, stdout=journal)

    def page(self) -> dict[str, Any]:
        """Give the status page, {} while there is none."""
        return json.loads(self._get("status") or "{}")  # type: ignore[no-any-return]

    def metrics(self) -> str:
        """Give the metrics."""
        return self._get("metrics")

    def _get(self, what: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/{what}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def restarts(self, child: str) -> int:
        """Give how often one of the processes was started again and spoke."""
        found = self.page().get("children", {}).get(child, {"up": False, "restarts": 0})
        return found["restarts"] if found["up"] else 0

    def process(self, flow: str) -> int:
        """Give the id of one of the command's processes, 0 where it does not run."""
        assert self.command is not None
        pid = self.command.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if flow.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return 0

    def kill(self, flow: str) -> None:
        """Kill one of its processes."""
        pid = self.process(flow)
        assert pid
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """Ask the command to end; gives its exit code."""
        if self.command is None:
            return 0
        self.command.terminate()
        try:
            return self.command.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.command.kill()
            raise

    def until(self, true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Wait until something holds; the journal says why it does not."""
        end_s = time.monotonic() + patience_s
        while not true():
            assert time.monotonic() < end_s, f"{self.vehicle.box} {self.vehicle.asked}\n{self.journal}"
            time.sleep(0.01)

    def stays(self, true: Callable[[], object], seconds: float) -> None:
        """Check that something goes on to hold."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            assert true(), f"{self.vehicle.box} {self.vehicle.asked}\n{self.journal}"
            time.sleep(0.005)


def config_text(folder: Path, can: CanSettings, http_port: int, more: str = "") -> str:
    """Give a gateway.toml for the simulated vehicle."""
    return f"""
vehicle = "demo-1"
pack = "{PACK}"
state_dir = "{folder}/state"
can = {{ interface = "{can.interface}", channel = "{can.channel}", options = {{ port = {can.options["port"]}, \
hop_limit = 0 }} }}
http = {{ port = {http_port} }}
map = [{{ dbc = "ibms_pack.dbc" }}, {{ dbc = "ibms_edge.dbc" }}]
signals.cycle_s = {{ {", ".join(f"{name} = {period_s}" for name, period_s in _CYCLES_S.items())} }}
{more}
"""


@contextmanager
def gateway(folder: Path, *, latches: bool = True, more: str = "") -> Iterator[Gateway]:
    """Give a gateway that is not started yet, and its vehicle on the bus."""
    options = {"port": free_port(socket.SOCK_DGRAM), "hop_limit": 0}
    can, http_port = CanSettings("udp_multicast", _GROUP, options), free_port(socket.SOCK_STREAM)
    config = folder / "gateway.toml"
    config.write_text(config_text(folder, can, http_port, more))
    (folder / "state").mkdir()
    (folder / "journal").touch()
    if latches:
        create(folder / "state" / "latches")
    run = Gateway(folder, plant.plant(load_pack(PACK), PERIOD_S), config, http_port, can)
    run.vehicle.config = replace(run.vehicle.config, lost_s=0.5)
    port = Port(can, time.monotonic_ns, time.time_ns)

    def seen(_: int) -> None:
        if not run.moves or run.moves[-1] != run.vehicle.box.closed:
            run.moves.append(run.vehicle.box.closed)

    def drive() -> None:
        urgent(_PRIORITY)
        plant.drive(run.vehicle, port, run.over.is_set, seen)

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()
    try:
        yield run
    finally:
        try:
            run.stop()
        finally:
            run.over.set()
            thread.join(PATIENCE_S)
            port.close()
