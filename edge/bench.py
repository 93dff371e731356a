"""How fast is it, and what disturbs it: from a CAN frame to the command that it causes, on python-can's loopback.

A simulated vehicle sends 2,000 frames a second to a real gateway, both processes and their supervisor.  A stimulus is a
page of cell voltages that loses a value or has it again: at once nothing may close, or may again, and the gateway says
so in its contactor request.  The time is from just before the stimulus is sent to when the request reached our socket.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import bench_scenes, latches, plant, status
from edge.canbus import TICK_S, Port
from edge.commands import ASK_HOLD, ASK_OPEN, CONTACTORS
from edge.plant import PLACES, Plant
from edge.priority import urgently
from schemas.checked import ConfigError
from schemas.limits import worst_detection_s
from schemas.pack import load_pack

PACK = "generic-nmc@96c24t60ah"
FRAMES_S = 2000
STIMULUS_NS = 5_000_000
SCENARIOS = ("quiet", "CPU hog", "telemetry killed", "disk full")
_OTHERS_S = 70  # frames of the junction box and the driver
_PAGES = 34  # of the pack in one period, without the page of the stimulus
PERIOD_S = _PAGES / (FRAMES_S - _OTHERS_S - 1e9 / STIMULUS_NS)
_PAGE = 23  # of the stimulus
_FLOWS = ("protect_flow", "telemetry_flow")
_PRIORITY = 40  # ours, below the gateway's: what is measured is the gateway
_PATIENCE_NS = 10**9
_DELAY_S = 0.05
_NS = 10**9
_Samples = list[float]


@dataclass
class Run:
    """One gateway on a bus of its own, and the vehicle; times in ns of the monotonic clock."""

    folder: Path
    http_port: int
    vehicle: Plant
    port: Port
    command: subprocess.Popen[bytes]
    began_ns: int
    first_ns: int = -1  # of the first request that asks for something
    stimulus_ns: int = -1  # when the one that is waited for was sent
    next_ns: int = 0
    lost: bool = False  # what the newest stimulus said
    sent: int = 0
    latency_ms: _Samples = field(default_factory=list)
    missed: int = 0

    def turn(self, *, stimulate: bool = False) -> None:
        """Take what came, and send what is due."""
        for frame in self.port.take(0.0005):
            if self.vehicle.hear(frame, self.port.now()) == CONTACTORS:
                self._answered(frame.t_ns)
        now_ns = self.port.now()
        out = self.vehicle.step(now_ns)
        self.port.send(out)
        self.sent += len(out)
        if now_ns >= self.next_ns:
            self._stimulus(now_ns, stimulate=stimulate)

    def _answered(self, t_ns: int) -> None:
        asked = self.vehicle.asked
        if self.first_ns < 0 and asked["Plus"] != ASK_HOLD:
            self.first_ns = t_ns
        if self.stimulus_ns >= 0 and bool(asked["InhibitClose"]) == self.lost:
            late_ns = t_ns - self.stimulus_ns
            # while it was waited for no other was sent, and those would have waited too
            self.latency_ms += [(late_ns - k) / 1e6 for k in range(0, max(late_ns, 1), STIMULUS_NS)]
            self.stimulus_ns = -1

    def _stimulus(self, now_ns: int, *, stimulate: bool) -> None:
        """Send the page of the stimulus, changed if the last change was answered."""
        self.next_ns = max(self.next_ns + STIMULUS_NS, now_ns - STIMULUS_NS)
        if self.stimulus_ns >= 0 and now_ns - self.stimulus_ns > _PATIENCE_NS:
            self.missed, self.stimulus_ns = self.missed + 1, -1
        changes = self.stimulus_ns < 0 and (stimulate or self.lost)
        if changes:
            self.lost = not self.lost
        cells = self.vehicle.pack.cell_v
        kept, cells[PLACES * _PAGE] = cells[PLACES * _PAGE], math.nan if self.lost else cells[PLACES * _PAGE]
        sent = self.vehicle.frame("CellVoltages", _PAGE)
        cells[PLACES * _PAGE] = kept
        if changes:
            self.stimulus_ns = self.port.now()
        self.port.send([sent])
        self.sent += 1

    def until(self, true: Callable[[], object], patience_s: float = 30.0) -> None:
        """Go on until something holds."""
        end_ns = self.port.now() + round(patience_s * _NS)
        while not true():
            if self.port.now() > end_ns or self.command.poll() is not None:
                said = (self.folder / "journal").read_text()[-2000:]
                msg = f"the gateway must answer within {patience_s:g} s; got nothing, and this journal:\n{said}"
                raise ConfigError(msg)
            self.turn()

    def page(self) -> Mapping[str, Any]:
        """Give the gateway's status page."""
        return status.fetch(self.http_port)

    def process(self, flow: str) -> int:
        """Give the id of one of the gateway's processes, 0 where it does not run."""
        return bench_scenes.child(self.command.pid, flow)


def bench(seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure every scenario for so long; the figures above the scenarios are the worst of theirs."""
    found = {}
    for name in SCENARIOS:
        say(f"{name}: {seconds:g} s at {FRAMES_S} frames/s …")
        with tempfile.TemporaryDirectory(prefix="ibms-bench-") as folder:
            found[name] = _scenario(name, Path(folder), seconds)
    measured = [one for one in found.values() if "skipped" not in one]
    keys = ("p50_ms", "p99_ms", "p999_ms", "max_ms", "step_p99_us", "rss_mb", "cold_start_s")
    return {**{key: max(one[key] for one in measured) for key in keys}, "scenarios": found}


def _scenario(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    state = folder / "state"
    state.mkdir()
    full = name == "disk full"
    with bench_scenes.small_disk(state) if full else nullcontext("") as refused:
        if refused:
            return {"skipped": refused}
        latches.create(state / "latches")
        with bench_scenes.hog() if name == "CPU hog" else nullcontext(), _running(folder) as run:
            run.until(lambda: run.vehicle.closed and run.process("telemetry_flow"))
            if full:
                bench_scenes.fill(state)
            return _measured(run, seconds, kills=name == "telemetry killed")


def _measured(run: Run, seconds: float, *, kills: bool) -> dict[str, Any]:
    pack = run.vehicle.pack
    pack.speed_kmh, pack.drive_state, pack.current_a = 50.0, 1.0, -20.0
    settle_ns = run.port.now() + 2 * _NS
    run.until(lambda: run.port.now() > settle_ns)
    before, sent, began_ns = run.page(), run.sent, run.port.now()
    memory_mb, next_ns = 0.0, began_ns
    while (now_ns := run.port.now()) < began_ns + seconds * _NS:
        run.turn(stimulate=True)
        if now_ns >= next_ns:
            next_ns = now_ns + _NS
            memory_mb = max(memory_mb, bench_scenes.rss_mb([run.process(flow) for flow in _FLOWS]))
            if kills and (pid := run.process("telemetry_flow")):
                os.kill(pid, signal.SIGKILL)
    took_s = (run.port.now() - began_ns) / _NS
    frames_s = (run.sent - sent) / took_s
    run.until(lambda: run.stimulus_ns < 0 and not run.lost)
    after = run.page()
    counts = [b - a for a, b in zip(before["beat"]["step_counts"], after["beat"]["step_counts"], strict=True)]
    children = after["children"]
    decision_s, allowed_s = _decided(run)
    return {
        **{key: round(at(run.latency_ms, share), 3) for key, share in _SHARES.items()},
        "samples": len(run.latency_ms),
        "missed": run.missed,
        "frames_s": round(frames_s),
        "steps": sum(counts),
        "step_p99_us": at_bucket(after["step_us"], counts, 0.99),
        "rss_mb": round(memory_mb, 1),
        "cold_start_s": round((run.first_ns - run.began_ns) / _NS, 3),
        "over_voltage_s": round(decision_s, 3),
        "over_voltage_allowed_s": round(allowed_s, 3),
        "restarts": {name: child["restarts"] for name, child in children.items()},
    }


_GOALS = {
    "p50_ms": "", "p99_ms": "", "p999_ms": "≤ 5", "max_ms": "", "step_p99_us": "≤ 300", "rss_mb": "≤ 300",
    "cold_start_s": "≤ 2", "over_voltage_s": "", "over_voltage_allowed_s": "",
}  # fmt: skip
_SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}


def at(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed; NaN where there are none."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def at_bucket(tops: Sequence[float], counts: Sequence[int], share: float) -> float:
    """Give the upper end of the bucket that holds this share; what is beyond the last one is infinite."""
    wanted, seen = share * sum(counts), 0
    for top, count in zip((*tops, math.inf), counts, strict=True):
        seen += count
        if seen >= wanted:
            return float(top)
    return math.inf


def _decided(run: Run) -> tuple[float, float]:
    """Let a cell go over its maximum at standstill; gives the time to the request to open, and what its row allows."""
    pack, model = run.vehicle.pack, load_pack(PACK)
    row = next(r for r in model.limits if (r.quantity, r.tier, r.over) == ("cell_v", "MSL", True))
    pack.speed_kmh, pack.drive_state, pack.current_a = 0.0, 0.0, 0.0
    settle_ns = run.port.now() + _NS // 2
    run.until(lambda: run.port.now() > settle_ns and run.vehicle.closed)
    pack.cell_v[1] = row.bound + 0.05
    began_ns = run.port.now()
    run.until(lambda: run.vehicle.asked["Plus"] == ASK_OPEN)
    return (run.port.now() - began_ns) / _NS, worst_detection_s(row, PERIOD_S, TICK_S + _DELAY_S)


@contextmanager
def _running(folder: Path) -> Iterator[Run]:
    """Start a gateway, and a vehicle on the same bus; while it runs we have priority, below the gateway's."""
    can, http_port = bench_scenes.bus(), bench_scenes.free_port(socket.SOCK_STREAM)
    path = bench_scenes.config(folder, can, http_port, PACK, PERIOD_S, _DELAY_S)
    vehicle = plant.plant(load_pack(PACK), PERIOD_S)
    vehicle.slots = [slot for slot in vehicle.slots if slot[2:] != ("CellVoltages", _PAGE)]
    port = Port(can, time.monotonic_ns, time.time_ns)
    try:
        with bench_scenes.command(path, folder / "journal") as command, urgently(_PRIORITY):
            yield Run(folder, http_port, vehicle, port, command, port.now())
    finally:
        port.close()


def words(found: Mapping[str, Any]) -> str:
    """Give the figures as a table, with what they should be."""
    lines = [f"{'':<18}" + "".join(f"{key:>13}" for key in _GOALS)]
    for name, one in found["scenarios"].items():
        if "skipped" in one:
            lines.append(f"{name:<18}  skipped: {one['skipped']}")
        else:
            lines.append(f"{name:<18}" + "".join(f"{one[key]:>13g}" for key in _GOALS))
    lines.append(f"{'goal':<18}" + "".join(f"{goal:>13}" for goal in _GOALS.values()))
    return "\n".join(lines)
