"""The supervisor: starts, watches and restarts the two processes, and speaks for protection while it is dead.

It waits for nothing but its children's words: the latch file is written beside it (edge.keeper), the status page is
served beside it (edge.status).  While the protection process does not speak, it asks the junction box for a safe stop:
hold what is closed, let the allowed currents fall to 0 within 5 s, open at standstill.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge import systemd
from edge.canbus import Port
from edge.child import Child
from edge.commands import SAFE_STOP, SUPERVISOR, Sent, Writer, fallen, floored
from edge.control import SERVICE, Control
from edge.journal import ERROR, INFO, NOTICE, WARNING, Journal, level_of
from edge.keeper import Keeper
from edge.link import Told
from edge.settings import Prepared
from edge.status import Shown
from edge.timings import STEP_US

TURN_MS = 20
_SHOW_NS = 100_000_000
_NS = 10**9
_MOST_COUNT = 255
_MOST_REPORTS = 256
_STATE = "MOL"  # a decision of this tier is a state, and no incident


@dataclass(slots=True)
class Supervisor:
    """What it works with, and what it has heard; `now` and `wall` in ns of a monotonic clock and since 1970.

    `beat`: the newest of protection.  `lost`: when that fell silent, and the currents allowed then.  `told`: metrics of
    telemetry.  `outside`: the limits from outside that are in force, with `until_ns` since 1970.  `reports`: decisions
    and alerts, by number, that telemetry has not kept yet; it hears them again when it starts.
    """

    prepared: Prepared
    port: Port
    keeper: Keeper
    journal: Journal
    control: Control
    protection: Child
    telemetry: Child
    now: Callable[[], int]
    wall: Callable[[], int]
    beat: Told = field(default_factory=dict)
    lost: tuple[int, float, float] | None = None
    told: list[Any] = field(default_factory=list)
    outside: dict[str, Any] = field(default_factory=dict)
    reports: dict[int, Told] = field(default_factory=dict)
    untold: deque[int] = field(default_factory=deque)  # those that this telemetry process has not heard
    serviced: bool = False
    ready: bool = False
    shown: Shown = field(default_factory=dict)
    _next: int = 0
    _sent_ns: int = -_NS
    _notified_ns: int = -(10**12)
    _shown_ns: int = -_NS
    _latch_trouble: str = ""

    def start(self) -> None:
        """Take up what the run before left."""
        self.keeper.start()
        if self.keeper.record is None:
            self.journal.say(
                ERROR,
                f"{self.keeper.lost}: latches may be lost, contactors stay open until somebody has looked at the pack "
                "and runs: ibms-edge service",
            )
        else:
            self.outside = dict(self.keeper.record.kept.get("limits", {}))
        for line in self.prepared.guard.warnings:
            self.journal.say(WARNING, line)
        self._show()

    def turn(self) -> None:
        """Look at everything once."""
        now_ns = self.now()
        for child in (self.protection, self.telemetry):
            if child.over(now_ns):
                self._ended(child)
            if child.due(now_ns) and (child is self.protection or self.ready):
                self._start(child, now_ns)
        for message in self._heard(self.protection, now_ns):
            self._from_protection(message)
        self._pass_on()
        for message in self._heard(self.telemetry, now_ns):
            self._from_telemetry(message)
        for word in self.control.asked():
            if word == SERVICE:
                self._service()
        self._stand_in(now_ns)
        self._keep()
        self._notify(now_ns)
        if now_ns - self._shown_ns >= _SHOW_NS:
            self._shown_ns = now_ns
            self._show()

    def wait(self) -> None:
        """Wait for a word or the end of a child, at most TURN_MS."""
        poll = select.poll()
        for child in (self.protection, self.telemetry):
            if child.link is not None and not child.link.over:
                poll.register(child.link.socket, select.POLLIN)
        poll.poll(TURN_MS)

    def stop(self) -> None:
        """End both processes; the junction box is told to stop safely, as without a heartbeat."""
        systemd.notify(os.environ, "STOPPING=1")
        self.protection.end()
        said = "stopped"
        if not self.prepared.guard.config.observer:
            self.lost = self.lost or self._allowed(self.now())
            self.port.send([self._safe_stop(self.now())])
            said = "stopped: the junction box holds what is closed and opens at standstill"
        self.journal.say(NOTICE, said)
        self.telemetry.end(wait_s=10.0)
        self.keeper.stop()
        self.control.close()
        self.port.close()

    def _start(self, child: Child, now_ns: int) -> None:
        child.start(now_ns)
        if child.link is None:
            return
        if child is self.protection:
            record = self.keeper.record
            latched = None if record is None else list(record.latched)
            child.link.tell({"kind": "start", "latched": latched, "lost": self.lost or self._allowed(now_ns)})
            self._order_limits()
        else:
            if self.outside:
                child.link.tell({"kind": "limits", **self.outside})
            self.untold = deque(self.reports)

    def _heard(self, child: Child, now_ns: int) -> list[Told]:
        messages = list(child.link.hear()) if child.link is not None else []
        if messages:
            if child.heard_ns < 0 and child.restarts:
                self.journal.say(NOTICE, f"the {child.name} process runs again")
            child.heard_ns = now_ns
        return messages

    def _ended(self, child: Child) -> None:
        does = "the junction box is asked for a safe stop" if child is self.protection else "protection goes on"
        self.journal.say(
            ERROR if child is self.protection else WARNING, f"the {child.name} process {child.why}: {does}"
        )

    def _from_protection(self, message: Told) -> None:
        kind = message.get("kind")
        if kind == "beat":
            self.beat, self.lost = message, None
            if not self.ready:
                self.ready = True
                systemd.notify(os.environ, "READY=1")
                self.journal.say(INFO, f"protection of {self.prepared.settings.vehicle} runs")
            if self.serviced and message["trusted"]:
                self._anew(tuple(message["latched"]))
            self.keeper.keep(tuple(message["latched"]), self._kept())
        elif kind == "decision":
            self.journal.say(level_of(message["tier"], active=message["active"]), message["text"])
        elif kind == "alert":
            self.journal.say(ERROR, message["text"])
        elif kind == "refused":
            self.journal.say(ERROR, f"the protection process refuses to start: {message['text']}")
        if kind == "alert" or (kind == "decision" and message["tier"] != _STATE):
            self._report(message)
        elif kind != "refused" and self.telemetry.link is not None:
            self.telemetry.link.tell(message)

    def _report(self, message: Told) -> None:
        """Give a decision or an alert a number, and keep it until telemetry has."""
        wall_ns = self.wall()
        message |= {"number": self._next, "at_ns": wall_ns}
        if "since_ns" in message:  # of the monotonic clock, which says nothing elsewhere
            message["since_ns"] += wall_ns - self.now()
        self.reports[self._next] = message
        self.untold.append(self._next)
        self._next += 1
        if len(self.reports) > _MOST_REPORTS:
            del self.reports[next(iter(self.reports))]

    def _pass_on(self) -> None:
        """Tell telemetry of the reports that it has not heard, as far as it takes them now."""
        while self.untold and self.telemetry.link is not None:
            report = self.reports.get(self.untold[0])
            if report is not None and not self.telemetry.link.tell(report):
                return
            self.untold.popleft()

    def _from_telemetry(self, message: Told) -> None:
        kind = message.get("kind")
        if kind == "metrics":
            self.told = message["values"]
        elif kind == "journal":
            self.journal.say(message.get("level", INFO), message["text"])
        elif kind == "kept":
            self.reports.pop(message["number"], None)
        elif kind == "limits":
            self.outside = {k: v for k, v in message.items() if k != "kind"}
            self._order_limits()
            record = self.keeper.record
            if record is not None:
                self.keeper.keep(record.latched, self._kept())

    def _kept(self) -> Mapping[str, Any]:
        return {"limits": self.outside} if self.outside else {}

    def _order_limits(self) -> None:
        """Hand limits from outside on, for as long as they hold; protection only tightens by them."""
        for_s = (self.outside.get("until_ns", 0) - self.wall()) / _NS
        if for_s > 0 and self.protection.link is not None:
            self.protection.link.tell({"kind": "limits", **self.outside, "for_s": for_s})

    def _service(self) -> None:
        self.journal.say(NOTICE, "service asked for: somebody has looked at the pack")
        self.serviced = True
        if self.protection.link is not None:
            self.protection.link.tell({"kind": "service"})

    def _anew(self, latched: tuple[str, ...]) -> None:
        """Make a latch file that could not be trusted anew, once protection has heard the service."""
        self.serviced = False
        if self.keeper.record is not None:
            return
        try:
            self.keeper.anew(latched, self._kept())
        except OSError as bad:
            self.journal.say(ERROR, f"the latch file cannot be made anew: {bad.strerror or bad}")
        else:
            self.journal.say(NOTICE, f"the latch file is made anew ({self.keeper.path})")

    def _allowed(self, now_ns: int) -> tuple[int, float, float]:
        return now_ns, self.beat.get("charge_a", 0.0), self.beat.get("discharge_a", 0.0)

    def _stand_in(self, now_ns: int) -> None:
        """Speak for protection while it does not: at once when it ends, and again in the message's period."""
        if self.protection.alive(now_ns) or self.prepared.guard.config.observer:
            return
        period_ns = self.prepared.writer.messages[SUPERVISOR].cycle_s * _NS
        if self.lost is None:
            self.lost, self._sent_ns = self._allowed(now_ns), -_NS
        if now_ns - self._sent_ns >= period_ns:
            self._sent_ns = now_ns
            self.port.send([self._safe_stop(now_ns)])

    def _safe_stop(self, now_ns: int) -> Sent:
        assert self.lost is not None
        return safe_stop(self.prepared.writer, self.lost, self.protection.restarts, now_ns)

    def _keep(self) -> None:
        """Say once what the latch file's writing says."""
        if self.keeper.failed != self._latch_trouble:
            self._latch_trouble = self.keeper.failed
            said = (
                f"latches are not on disk: {self.keeper.failed}" if self.keeper.failed else "latches are on disk again"
            )
            self.journal.say(ERROR if self.keeper.failed else NOTICE, said)

    def _notify(self, now_ns: int) -> None:
        every_s = systemd.watchdog_s(os.environ)
        if every_s and now_ns - self._notified_ns >= every_s * _NS:
            self._notified_ns = now_ns
            systemd.notify(os.environ, "WATCHDOG=1")

    def _show(self) -> None:
        """Make what the status page shows: a new dict each time, since another thread reads it."""
        settings, now_ns = self.prepared.settings, self.now()
        self.shown = {
            "vehicle": settings.vehicle,
            "pack": self.prepared.pack.name,
            "observer": self.prepared.guard.config.observer,
            "children": {
                child.name: {"up": child.alive(now_ns), "restarts": max(child.restarts, 0), "why": child.why}
                for child in (self.protection, self.telemetry)
            },
            "latch_file": self.keeper.lost or self.keeper.failed,
            "beat": self.beat,
            "step_us": STEP_US,
            "step_counts": self.beat.get("step_counts", []),
            "sources": [source.name for source in self.prepared.plan.sources],
            "telemetry": self.told,
        }


def safe_stop(writer: Writer, lost: tuple[int, float, float], restarts: int, now_ns: int) -> Sent:
    """Give the message that asks for a safe stop: `lost` is when protection fell silent, and the currents then, A."""
    charge_a, discharge_a = fallen(lost, now_ns)
    values = {
        "Request": SAFE_STOP,
        "Restarts": min(max(restarts, 0), _MOST_COUNT),
        "ChargeCurrentMax": floored(charge_a),
        "DischargeCurrentMax": floored(discharge_a),
    }
    return writer.write(SUPERVISOR, values)


def journal_of(wall: Callable[[], int], environment: Mapping[str, str]) -> Journal:
    """Give where journal lines go: standard error, with levels where systemd takes it."""
    return Journal(sys.stderr, wall, systemd="JOURNAL_STREAM" in environment)
