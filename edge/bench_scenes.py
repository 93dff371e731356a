"""Where the bench runs: a gateway on a bus of its own, another process that takes a core, a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.canbus import CanSettings
from edge.status import LOOPBACK

_GROUP = "239.74.163.20"
_DISK_BYTES = 1 << 20
_END_S = 15.0
_NAMES = ("PackFrame", "PackState", "PackSafety", "PackCurrent2", "Vehicle", "CellVoltages", "ProbeTemperatures")


def free_port(kind: socket.SocketKind) -> int:
    """Give a port that nobody has."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])


def bus() -> CanSettings:
    """Give a bus between the processes of this machine, of our own."""
    return CanSettings("udp_multicast", _GROUP, {"port": free_port(socket.SOCK_DGRAM), "hop_limit": 0})


def config(folder: Path, can: CanSettings, http_port: int, pack: str, period_s: float, delay_s: float) -> Path:
    """Write a gateway.toml for the simulated vehicle."""
    options = ", ".join(f"{k} = {json.dumps(v)}" for k, v in can.options.items())
    path = folder / "gateway.toml"
    path.write_text(f"""vehicle = "bench"
pack = "{pack}"
state_dir = "{folder}/state"
can = {{ interface = "{can.interface}", channel = "{can.channel}", options = {{ {options} }} }}
map = [{{ dbc = "ibms_pack.dbc" }}, {{ dbc = "ibms_edge.dbc" }}]
signals.cycle_s = {{ {", ".join(f"{name} = {period_s:.5f}" for name in _NAMES)} }}
protection.delay_s = {delay_s}
http.port = {http_port}
uplink = {{ kind = "file", folder = "{folder}/state/up" }}
balancing = {{ bleed_a = 0.1 }}
""")
    return path


@contextmanager
def command(path: Path, journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ibms-edge` as it is on a vehicle."""
    with journal.open("wb") as said:
        run = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "edge", "--config", str(path)], stdout=said, stderr=said
        )
        try:
            yield run
        finally:
            run.terminate()
            with suppress(subprocess.TimeoutExpired):
                run.wait(_END_S)
            run.kill()
            run.wait()


@contextmanager
def hog() -> Iterator[None]:
    """Keep one core busy, the last."""
    core = max(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as busy:  # noqa: S603 - as above
        try:
            yield
        finally:
            busy.kill()


@contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """Mount a disk of 1 MB; gives why that is not possible, "" where it is."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        yield "there is no mount"
        return
    made = subprocess.run(  # noqa: S603 - as above
        [mount, "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "ibms-bench", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        yield f"a disk can not be mounted: {made.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)  # noqa: S603 - as above


def fill(folder: Path) -> None:
    """Write until the disk takes nothing more."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def rss_mb(numbers: list[int]) -> float:
    """Give the memory of processes together, MB."""
    pages = 0
    for number in numbers:
        with suppress(OSError):
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def child(parent: int, flow: str) -> int:
    """Give the id of one of a gateway's processes, 0 where it does not run."""
    for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(OSError):
            if flow.encode() in Path(f"/proc/{number}/cmdline").read_bytes():
                return int(number)
    return 0
