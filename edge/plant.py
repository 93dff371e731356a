"""A simulated vehicle on a bus: pack, junction box and driver, for tests, the bench and gateways without hardware.

It speaks schemas/dbc/ibms_pack.dbc and ibms_edge.dbc, and obeys as edge.junction_box does.  What flows and what the
sensors say is set from outside (`Pack`); contactors and link follow the gateway's commands.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edge import junction_box
from edge.canbus import Port
from edge.commands import CONTACTORS, CURRENTS, JUNCTION, SUPERVISOR, VEHICLE, Sent, Writer, payload, read, writer
from edge.decode import Frame
from edge.junction_box import BoxConfig, Seen
from operators.dbc import Dbc, load_dbc
from operators.kernels.can_decode import Message
from schemas.pack import PackModel
from schemas.signals import DBC_DIR

PACK_DBC, EDGE_DBC = "ibms_pack.dbc", "ibms_edge.dbc"
PLACES = 4  # cell groups or probes on a page
_NS = 10**9
_HEARD = (CONTACTORS, SUPERVISOR, CURRENTS)
_SCATTER = 2_654_435_761
_RIPPLE = 7  # as sensors have it: values that never move are taken for stuck
_TURN_S = 0.0005
_LATE_NS = 50_000_000  # what is later is left out, not sent in a burst


@dataclass(slots=True)
class Pack:
    """What the sensors say and the driver wants; `current_a` flows while the main contactors are closed."""

    cell_v: list[float]
    temp_c: list[float]
    ohm: float = 0.0  # of a cell group: voltages follow the current
    current_a: float = 0.0
    speed_kmh: float = 0.0
    drive_state: float = 0.0
    charge_type: float = 0.0
    soc: float = 0.5
    hvil: float = 1.0
    isolation_ohm: float = 1e7
    crash: float = 0.0
    close: bool = True
    standby: bool = False
    silent: set[str] = field(default_factory=set)  # messages that are not sent


@dataclass(slots=True)
class Plant:
    """The vehicle; `frames` is how often each message and page was sent.

    `box` is the junction box, `asked` and `limits` the newest commands by signal.  `phases` holds what is sent: period
    and phase in ns, the message's name and its page.
    """

    pack: Pack
    writer: Writer
    messages: Mapping[str, Message]
    config: BoxConfig
    slots: list[tuple[int, int, str, int]]
    box: junction_box.State = field(default_factory=junction_box.State)
    asked: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    stops: int = 0
    sent: int = 0
    refused: int = 0
    _due_ns: list[int] = field(default_factory=list)
    _counters: dict[int, bytes] = field(default_factory=dict)

    @property
    def closed(self) -> bool:
        """Say whether both main contactors are closed."""
        return self.box.closed[0] and self.box.closed[1]

    def flowing_a(self) -> float:
        """Give the current now, with the ripple of a sensor."""
        return self.pack.current_a + 0.01 * (self.sent % _RIPPLE) if self.closed and self.pack.current_a else 0.0

    def drop_v(self) -> float:
        """Give what the current adds to each cell group's voltage."""
        return self.pack.ohm * self.flowing_a()

    def pack_v(self) -> float:
        """Give the pack's voltage."""
        return sum(self.pack.cell_v) + len(self.pack.cell_v) * self.drop_v()

    def hear(self, frame: Frame, now_ns: int) -> str:
        """Take a command; gives the message's name, "" where it is none or does not fit its seal."""
        name = next((n for n in _HEARD if (m := self.messages[n]).can_id == frame.can_id and m.ext == frame.ext), "")
        if not name or self._counters.get(frame.can_id) == frame.data:
            return ""
        values = read(self.messages[name], frame.data)
        if not values:
            self.refused += 1
            return ""
        self._counters[frame.can_id] = frame.data
        self.box = junction_box.hear(self.box, name, values, now_ns)
        if name == CONTACTORS:
            self.asked = values
        elif name == CURRENTS:
            self.limits = values
        else:
            self.stops += values["Request"] == 1
        return name

    def step(self, now_ns: int) -> list[Sent]:
        """Let time pass; gives the frames that are due."""
        seen = Seen(self.pack_v(), self.flowing_a(), self.pack.speed_kmh)
        self.box = junction_box.step(self.config, self.box, seen, now_ns)
        if not self._due_ns:
            self._due_ns = [now_ns + phase_ns for _, phase_ns, _, _ in self.slots]
        out: list[Sent] = []
        for k, (period_ns, _, name, page) in enumerate(self.slots):
            if self._due_ns[k] > now_ns:
                continue
            self._due_ns[k] = max(self._due_ns[k] + period_ns, now_ns - _LATE_NS)
            if name not in self.pack.silent:
                out.append(self.frame(name, page))
        return out

    def frame(self, name: str, page: int = 0) -> Sent:
        """Give one message as it is now."""
        self.sent += 1
        if name in self.writer.messages:
            return self.writer.write(name, self._own(name))
        message = self.messages[name]
        if name == "PackSafety":
            return Sent(message.can_id, message.ext, struct.pack("<fHH", self.pack.isolation_ohm, 0xFFFF, 0))
        return Sent(message.can_id, message.ext, payload(message, self._values(name, page)))

    def _own(self, name: str) -> dict[str, float]:
        if name == JUNCTION:
            return junction_box.status(self.box)
        return {"CloseRequest": self.pack.close, "StandbyRequest": self.pack.standby, "Crash": self.pack.crash}

    def _values(self, name: str, page: int) -> dict[str, float]:
        pack, ripple = self.pack, self.sent * _SCATTER % 64 % _RIPPLE
        if name == "CellVoltages":
            cells = enumerate(pack.cell_v[PLACES * page : PLACES * (page + 1)], PLACES * page + 1)
            drop_v = self.drop_v()
            return {"Page": page, **{f"CellVoltage_{n:03}": 1000.0 * (v + drop_v) + ripple % 2 for n, v in cells}}
        if name == "ProbeTemperatures":
            probes = enumerate(pack.temp_c[PLACES * page : PLACES * (page + 1)], PLACES * page + 1)
            return {"Page": page, **{f"ProbeTemperature_{n:03}": t for n, t in probes}}
        return {
            "PackState": {
                "PackVoltage": self.pack_v() + 0.02 * ripple,
                "PackCurrent": self.flowing_a(),
                "Soc": 100.0 * pack.soc,
                "Soh": 100.0,
            },
            "PackCurrent2": {"PackCurrent2": self.flowing_a(), "CoolantTemperature": 25.0},
            "Vehicle": {"Speed": pack.speed_kmh, "Odometer": 1000.0, "AmbientTemperature": 20.0},
            "PackFrame": {
                "FrameCounter": float(self.sent & 0xFFFFFFFF),
                "Cells": float(len(pack.cell_v)),
                "Probes": float(len(pack.temp_c)),
                "ContactorState": 2.0 if self.closed else 0.0,
                "Hvil": pack.hvil,
                "DriveState": pack.drive_state,
                "ChargeType": pack.charge_type,
            },
        }[name]


def plant(model: PackModel, period_s: float, *, cell_v: float | None = None) -> Plant:
    """Make a healthy vehicle whose pack says everything once in `period_s`, its messages spread evenly."""
    messages = {**_messages(load_dbc(DBC_DIR / PACK_DBC)), **_messages(load_dbc(DBC_DIR / EDGE_DBC))}
    middle_v = float(np.median(model.ocv.v)) if cell_v is None else cell_v
    pack = Pack([middle_v] * model.series, [25.0] * model.probes, float(model.grid().r0[11].mean()))  # at 25 °C
    said = [(name, 0) for name in ("PackState", "PackSafety", "PackCurrent2", "Vehicle")]
    said += [("CellVoltages", page) for page in range(-(-model.series // PLACES))]
    said += [("ProbeTemperatures", page) for page in range(-(-model.probes // PLACES))]
    said += [("PackFrame", 0)]
    period_ns = round(period_s * _NS)
    slots = [(period_ns, k * period_ns // len(said), name, page) for k, (name, page) in enumerate(said)]
    slots += [(round(messages[name].cycle_s * _NS), 0, name, 0) for name in (JUNCTION, VEHICLE)]
    return Plant(pack, writer(load_dbc(DBC_DIR / EDGE_DBC)), messages, BoxConfig(model.break_current_a), slots)


def _messages(dbc: Dbc) -> Mapping[str, Message]:
    return dbc.by_name


def drive(vehicle: Plant, port: Port, over: Callable[[], bool], hook: Callable[[int], None] | None = None) -> None:
    """Run a vehicle on a bus until `over`; `hook` is called at each turn with the time."""
    while not over():
        for frame in port.take(_TURN_S):
            vehicle.hear(frame, port.now())
        now_ns = port.now()
        if hook is not None:
            hook(now_ns)
        port.send(vehicle.step(now_ns))
