"""A recorded car on a bus that it never had: its values in the frames of our own DBC, its contactors ours to command.

What the recording says each second is interpolated and sent ten times a second; a junction box (edge.junction_box)
obeys the gateway, and current flows only while it has closed and no more than the gateway allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edge import protector
from edge.commands import VEHICLE, Protecting, Sent
from edge.decode import Frame
from edge.plant import Plant, plant
from edge.protector import Before, Heard, ProtectorConfig
from edge.settings import Prepared, parse_settings, prepare
from schemas.frames import FrameBlock
from tests.safety.recordings import frames_of
from tests.safety.tape import NS, Tape, Tick, our_writer, play

PERIOD_S = 0.1
TICK_NS = 10_000_000
MODEL = "ev-faults-car1"
# Where in the table a car drives, charges and stands for minutes, with the drive_state and charge_type that it lacks.
SCENES = {"drive": (9753, 340, 1.0, 0.0), "charge": (37292, 700, 2.0, 2.0), "stand": (4652, 120, 0.0, 0.0)}
_SETTLE_S = 14.0  # from a start until contactors have closed and limits have risen


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of a recording, a row a second."""

    cell_v: np.ndarray[Any, np.dtype[np.float64]]
    temp_c: np.ndarray[Any, np.dtype[np.float64]]
    one: np.ndarray[Any, np.dtype[np.float64]]  # current_a, pack_v less the sum of the cells, speed_kmh, soc
    drive_state: float
    charge_type: float

    def at(self, t_s: float) -> tuple[list[float], list[float], list[float]]:
        """Give cells, probes and single values at a time, in a straight line between rows."""
        k = min(int(t_s), len(self.one) - 2)
        past = min(t_s - k, 1.0)
        cells, probes, one = ((1 - past) * a[k] + past * a[k + 1] for a in (self.cell_v, self.temp_c, self.one))
        return cells.tolist(), probes.tolist(), one.tolist()


def scene(block: FrameBlock, name: str) -> Scene:
    """Take a stretch of car1's table."""
    start, rows, drive_state, charge_type = SCENES[name]
    part = block.take(slice(start, start + rows))
    cell_v, temp_c = part.cell_v.astype(float), part.temp_c.astype(float)
    off_v = part.pack_v - cell_v.sum(1)
    one = np.column_stack([part.current_a, off_v, part.context["speed_kmh"], part.context["soc_bms"]])
    assert np.isfinite(cell_v).all()
    assert np.isfinite(temp_c).all()
    assert np.isfinite(one).all()
    assert (np.diff(part.t_ns) == NS).all()
    return Scene(cell_v, temp_c, one, drive_state, charge_type)


@dataclass(slots=True)
class Car(Plant):
    """The car.

    `forced`: signals that say something else, by message.  `held`: messages whose frames repeat from now on, by name
    and page.  `contactors`: plus, minus and precharge where they do not obey.  `wished_a`: the current, whatever the
    recording says; it obeys the allowed currents only where `obeys`.
    """

    shown: Scene | None = None
    began_ns: int = 0
    off_v: float = 0.0
    forced: dict[str, dict[str, float]] = field(default_factory=dict)
    held: set[tuple[str, int]] = field(default_factory=set)
    last: dict[tuple[str, int], Sent] = field(default_factory=dict)
    contactors: tuple[bool | None, bool | None, bool | None] = (None, None, None)
    wished_a: float | None = None
    obeys: bool = True

    def show(self, now_ns: int) -> None:
        """Take over what the recording says at a time."""
        assert self.shown is not None
        cells, probes, (current_a, self.off_v, speed_kmh, soc) = self.shown.at((now_ns - self.began_ns) / NS)
        self.pack.cell_v, self.pack.temp_c, self.pack.soc = cells, probes, soc
        self.pack.speed_kmh, self.pack.current_a = speed_kmh, current_a

    def settle(self) -> None:
        """Let the current be what is allowed."""
        asked_a = self.pack.current_a if self.wished_a is None else self.wished_a
        if self.obeys and self.limits:
            asked_a = min(max(asked_a, -self.limits["DischargeCurrentMax"]), self.limits["ChargeCurrentMax"])
        self.pack.current_a = asked_a

    def pack_v(self) -> float:
        """Give the pack's voltage as its sensor showed it."""
        return sum(self.pack.cell_v) + self.off_v

    def step(self, now_ns: int) -> list[Sent]:
        """Let time pass; gives the frames that are due."""
        asked = tuple(a if c is None else c for a, c in zip(self.box.asked, self.contactors, strict=True))
        self.box = self.box._replace(asked=asked)  # type: ignore[arg-type]
        return Plant.step(self, now_ns)

    def frame(self, name: str, page: int = 0) -> Sent:
        """Give one message as it is now, or as it was where it is held."""
        key = name, page
        if key not in self.held or key not in self.last:
            self.last[key] = Plant.frame(self, name, page)
        return self.last[key]

    def _own(self, name: str) -> dict[str, float]:
        return self._forced(name, Plant._own(self, name))

    def _values(self, name: str, page: int) -> dict[str, float]:
        return self._forced(name, Plant._values(self, name, page))

    def _forced(self, name: str, values: dict[str, float]) -> dict[str, float]:
        forced = self.forced.get(name, {})
        return {key: forced.get(key, value) for key, value in values.items()}


@cache
def gateway() -> tuple[Prepared, ProtectorConfig]:
    """Prepare a gateway for the car."""
    text = (
        f'vehicle = "recorded"\npack = "{MODEL}"\nstate_dir = "unused"\n[can]\ninterface = "none"\nchannel = "none"\n'
    )
    text += '[[map]]\ndbc = "ibms_pack.dbc"\n[[map]]\ndbc = "ibms_edge.dbc"\n'
    setup = prepare(parse_settings(text.encode(), "car.toml", Path()))
    cycle_s = setup.writer.messages[VEHICLE].cycle_s
    return setup, protector.config_of(setup.guard.config, setup.pack.limits, cycle_s)


@cache
def closed(data_dir: Path, name: str) -> tuple[Car, protector.State, dict[int, int], int]:
    """Give the car standing at a scene's start with its contactors closed, the gateway's state, and the time."""
    setup, config = gateway()
    base = plant(setup.pack, PERIOD_S)
    car = Car(base.pack, base.writer, base.messages, base.config, base.slots)
    car.shown = scene(frames_of(data_dir / "ev_faults/car1.parquet", MODEL), name)
    car.pack.drive_state, car.pack.charge_type, car.pack.ohm = car.shown.drive_state, car.shown.charge_type, 0.0
    car.show(0)
    car.pack.speed_kmh, car.pack.current_a = 0.0, 0.0
    plan, says = replace(setup.plan, counters={}), Protecting(our_writer(), config.guard.table)
    state, now_ns = protector.fresh_state(config, 0, Before(())), 0
    for now_ns in range(0, round(_SETTLE_S * NS), TICK_NS):
        arrivals, wishes = plan.decode(frames(car.step(now_ns), now_ns))
        state, judged = protector.step(config, state, Heard(arrivals, wishes, (), 0, now_ns))
        out = judged.output
        assert out.decisions == ()
        due = says.due(out.commands, judged.phase, out.verdict, out.allowed, may_close=out.may_close, now_ns=now_ns)
        for sent in due:
            hear(car, sent, now_ns)
    assert car.closed
    return car, state, dict(plan.counters), now_ns


def frames(sent: Iterable[Sent], now_ns: int) -> list[Frame]:
    """Give what a receiver gets of what was sent."""
    return [Frame(one.can_id, one.ext, one.data, now_ns) for one in sent]


def hear(car: Car, sent: Sent, now_ns: int) -> None:
    """Let the car hear a command."""
    car.hear(Frame(sent.can_id, sent.ext, sent.data, now_ns), now_ns)


Change = Callable[[Car, float], None]


@dataclass
class Drive:
    """What a car and its gateway did: `opened_s` is when a main contactor opened, both counted from the fault."""

    tape: Tape
    from_ns: int
    opened_s: float = math.nan
    speed_kmh: float = math.nan  # when it opened

    def decided_s(self, key: str) -> float:
        """Give when a row fired first after the fault, s; NaN where it did not."""
        times = [t_s for t_s, d in self.tape.decisions if d["active"] and d["key"] == key]
        return times[0] - self.from_ns / NS if times else math.nan


def drive(data_dir: Path, name: str, seconds: float, change: Change, before_s: float = 2.0) -> Drive:
    """Play a scene for `before_s`, then for `seconds` with a change of the car, which is told the time since then."""
    setup, config = gateway()
    car, state, counters, closed_ns = closed(data_dir, name)
    car = deepcopy(car)
    car.began_ns = closed_ns + TICK_NS
    from_ns = car.began_ns + round(before_s * NS)
    end_ns = from_ns + round(seconds * NS)

    def ticks() -> Iterator[Tick]:
        for now_ns in range(car.began_ns, end_ns, TICK_NS):
            car.show(now_ns)
            if now_ns >= from_ns:
                change(car, (now_ns - from_ns) / NS)
            car.settle()
            sent = car.step(now_ns)
            if not car.closed and math.isnan(out.opened_s):
                out.opened_s, out.speed_kmh = (now_ns - from_ns) / NS, car.pack.speed_kmh
            yield now_ns, frames(sent, now_ns)

    tape = Tape(ticks(), lambda sent, now_ns: hear(car, sent, now_ns), now_ns=car.began_ns)
    out = Drive(tape, from_ns)
    play(tape, replace(setup.plan, counters=dict(counters)), config, state)
    return out
