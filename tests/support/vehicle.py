"""A pack on a bus, as small as possible, that listens to its commands: for tests of the edge's guard."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import lru_cache

from edge import guard
from edge.pack_guard import PackGuard, pack_guard
from edge.protection import Decision
from edge.sensing import Arrival, Source
from schemas.pack import load_pack

MS = 10**6
TICK_NS = 10 * MS
CELLS, PROBES = 6, 2
MAIN, PAGE_1, PAGE_2, TEMPS, LOOPS, CAR, ISOLATION = range(7)
SOURCES = (
    Source("Main", 0.02, (("current_a", 0), ("pack_v", 0), ("current2_a", 0))),
    Source("Cells 1", 0.1, tuple(("cell_v", k) for k in range(3))),
    Source("Cells 2", 0.1, tuple(("cell_v", k) for k in range(3, 6))),
    Source("Probes", 0.5, (("temp_c", 0), ("temp_c", 1))),
    Source(
        "Loops", 0.05,
        (("plus_closed", 0), ("minus_closed", 0), ("precharge_closed", 0), ("hvil", 0), ("crash", 0), ("link_v", 0)),
    ),
    Source("Car", 0.1, (("speed_kmh", 0), ("charge_type", 0), ("drive_state", 0), ("soc", 0))),
    Source("Isolation", 1.0, (("isolation_ohm", 0),)),
)  # fmt: skip
SENT = frozenset(name for source in SOURCES for name, _ in source.fills)


def small_guard(**more: object) -> PackGuard:
    """Make the settings of this vehicle; its signals are all sent."""
    return pack_guard(load_pack(f"generic-nmc@{CELLS}c{PROBES}t60ah"), SOURCES, SENT, **more)  # type: ignore[arg-type]


@dataclass
class Vehicle:
    """What the bus says now.  The contactors obey unless `welded` or `dead`; the link follows them."""

    cell_v: list[float] = field(default_factory=lambda: [3.7 + 0.001 * k for k in range(CELLS)])
    temp_c: list[float] = field(default_factory=lambda: [25.0] * PROBES)
    current_a: float = 0.0  # that flows while the main contactors are closed
    second_a: float = 0.0  # by which the second sensor differs
    pack_off_v: float = 0.0
    speed_kmh: float = 0.0
    charge_type: float = 0.0
    drive_state: float = 0.0
    soc: float = 0.5
    hvil: float = 1.0
    crash: float = 0.0
    isolation_ohm: float = 1e7
    link_v: float = 0.0
    closed: list[bool] = field(default_factory=lambda: [False] * 3)
    welded: frozenset[int] = frozenset()
    dead: frozenset[int] = frozenset()  # contactors that do not close
    delay_ticks: int = 0  # that the contactors take to move
    moving: list[tuple[bool, bool, bool]] = field(default_factory=list)
    shorted: bool = False  # the link, which then does not charge
    silent: set[int] = field(default_factory=set)
    ripple: int = 0

    def flowing_a(self) -> float:
        """Give the current with a little ripple, as sensors have it."""
        flows = self.closed[0] and self.closed[1]
        return (self.current_a + 0.01 * (self.ripple % 5) if self.current_a else 0.0) if flows else 0.0

    def values(self, source: int) -> tuple[float, ...]:
        """Give what a message carries now."""
        self.ripple += 1
        noise = 1e-4 * (self.ripple % 7)
        total = sum(self.cell_v)
        return {
            MAIN: (self.flowing_a(), total + self.pack_off_v + noise, self.flowing_a() + self.second_a),
            PAGE_1: tuple(v + noise for v in self.cell_v[:3]),
            PAGE_2: tuple(v + noise for v in self.cell_v[3:]),
            TEMPS: tuple(self.temp_c),
            LOOPS: (*map(float, self.closed), self.hvil, self.crash, self.link_v),
            CAR: (self.speed_kmh, self.charge_type, self.drive_state, self.soc),
            ISOLATION: (self.isolation_ohm,),
        }[source]

    def arrivals(self, tick: int, t_ns: int) -> list[Arrival]:
        """Give the messages of one tick of 10 ms, each source at its period and phase."""
        due = [k for k, s in enumerate(SOURCES) if (tick - k) % round(s.period_s * 100) == 0 and k not in self.silent]
        return [Arrival(k, t_ns, self.values(k)) for k in due]

    def obey(self, output: guard.Output) -> None:
        """Move the contactors as told and let the link follow."""
        told = output.commands
        if not told.hold:
            self.moving.append((told.plus, told.minus, told.precharge))
            wanted = self.moving.pop(0) if len(self.moving) > self.delay_ticks else tuple(self.closed)
            self.closed = [(w or k in self.welded) and k not in self.dead for k, w in enumerate(wanted)]
        total = sum(self.cell_v)
        plus, minus, precharge = self.closed
        if minus and plus:
            self.link_v = total
        elif minus and precharge and not self.shorted:
            self.link_v += 0.2 * (total - self.link_v)
        else:
            self.link_v *= 0.95


@dataclass
class Run:
    """A guard and its vehicle over time; `said` are all decisions with their times, `alerts` all alerts."""

    vehicle: Vehicle = field(default_factory=Vehicle)
    setup: PackGuard = field(default_factory=small_guard)
    latched: tuple[str, ...] | None = ()
    close: bool = True
    tick: int = 0
    said: list[tuple[float, Decision]] = field(default_factory=list)
    alerts: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the guard."""
        self.state = guard.fresh_state(self.setup.config, 0, self.latched)
        self.output: guard.Output | None = None

    @property
    def out(self) -> guard.Output:
        """Give the newest output."""
        assert self.output is not None
        return self.output

    @property
    def is_closed(self) -> bool:
        """Say whether both main contactors are closed."""
        return self.vehicle.closed[0] and self.vehicle.closed[1]

    def fork(self) -> Run:
        """Give a copy that goes its own way from here, with what was said so far forgotten."""
        run = copy(self)
        run.vehicle, run.said, run.alerts = deepcopy(self.vehicle), [], []
        return run

    def once(self, **inputs: object) -> guard.Output:
        """Take one tick."""
        t_ns = self.tick * TICK_NS
        came = self.vehicle.arrivals(self.tick, t_ns)
        asked = guard.Inputs(came, close=self.close)._replace(**inputs)  # type: ignore[arg-type]
        self.state, self.output = guard.step(self.setup.config, self.state, asked, t_ns)
        self.vehicle.obey(self.output)
        self.said += [(t_ns / 1e9, d) for d in self.output.decisions]
        self.alerts += [(t_ns / 1e9, text) for text in self.output.commands.alerts]
        self.tick += 1
        return self.output

    def go(self, seconds: float, **changes: object) -> Run:
        """Change the vehicle and let time pass."""
        for name, value in changes.items():
            setattr(self.vehicle, name, value)
        for _ in range(round(seconds * 100)):
            self.once()
        return self

    def fired(self, keys: Iterable[str] = ()) -> dict[str, float]:
        """Give when each row fired first, s; all of them, or those asked for."""
        first: dict[str, float] = {}
        for t_s, decision in self.said:
            if decision.active and (not keys or decision.key in keys):
                first.setdefault(decision.key, t_s)
        return first


@lru_cache(maxsize=1)
def _closed() -> Run:
    run = Run().go(14.0)
    assert run.is_closed
    assert run.said == []
    return run


def closed_run(**changes: object) -> Run:
    """Give a run whose contactors have closed and whose limits have risen."""
    return _closed().fork().go(0.01, **changes)
