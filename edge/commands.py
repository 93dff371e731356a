"""What the gateway says on the bus: contactor request, current and power limits, balancing, heat and cold.

Messages of schemas/dbc/ibms_edge.dbc (or a DBC with the same names elsewhere in the identifiers), each with a counter
and a checksum (edge.seal).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge.contactors import CHECK, CLOSED, HOLD, OPEN, PRECHARGE, Commands
from edge.derating import HORIZONS_S, OUTSIDE, RISING, Allowed
from edge.protection import Table, Verdict
from edge.seal import BYTES, opens, sealed
from operators.dbc import Dbc
from operators.kernels.can_decode import Message
from schemas.checked import ConfigError
from schemas.limits import DIRECTIONS, QUANTITIES, TIERS

CONTACTORS, SUPERVISOR, CURRENTS, POWERS = "ContactorRequest", "SupervisorRequest", "CurrentLimits", "PowerLimits"
BALANCING, THERMAL, JUNCTION, VEHICLE = "BalancingRequest", "ThermalRequest", "JunctionStatus", "VehicleRequest"
MESSAGES = (CONTACTORS, SUPERVISOR, CURRENTS, POWERS, BALANCING, THERMAL, JUNCTION, VEHICLE)
ASK_OPEN, ASK_CLOSE, ASK_HOLD = range(3)
NO_REQUEST, SAFE_STOP = range(2)
CELLS_A_PAGE = 48
FAULTS = tuple(QUANTITIES)  # FaultCode counts them from 1
PHASES = (HOLD, OPEN, CHECK, PRECHARGE, CLOSED)
# ChargeBinding and DischargeBinding count these from 1; 15 is a broken limit or what is not listed.
BINDINGS = (
    "largest current", "cell voltage", "temperature", "SOC", "load of the last minute", OUTSIDE,
    "voltage or current unknown", "temperature unknown", RISING,
)  # fmt: skip
_OTHER_BINDING = 15
RAMP_S = 5.0  # reference for every want of knowledge: currents fall to 0 within it
_DIRECTIONS = ("any", "charge", "discharge")


class Sent(NamedTuple):
    """One CAN frame to send."""

    can_id: int
    ext: bool
    data: bytes


@dataclass(slots=True)
class Writer:
    """Encodes messages and counts them."""

    messages: Mapping[str, Message]
    counters: dict[str, int] = field(default_factory=dict)

    def write(self, name: str, values: Mapping[str, float]) -> Sent:
        """Encode a message: physical values by signal, NaN as "not available"; what is too large is cut."""
        message = self.messages[name]
        count = self.counters[name] = (self.counters.get(name, -1) + 1) % 15
        return Sent(message.can_id, message.ext, sealed(message.can_id, payload(message, values), count))


def writer(dbc: Dbc) -> Writer:
    """Prepare to write the messages that a DBC describes; raises ConfigError where one is missing or not as ours."""
    for name in MESSAGES:
        message = dbc.by_name.get(name)
        if message is None or message.length != BYTES or not {"Counter", "Crc"} <= message.signals.keys():
            accepted = f"the messages {', '.join(MESSAGES)}, 8 bytes each with Counter and Crc"
            msg = f"commands must be a DBC with {accepted}; got no such {name} ({dbc.path})"
            raise ConfigError(msg)
        if any(not s.little or s.is_float for s in message.signals.values()):
            msg = f"commands must have little-endian whole signals; got others in {name} ({dbc.path})"
            raise ConfigError(msg)
    return Writer({name: dbc.by_name[name] for name in MESSAGES})


def payload(message: Message, values: Mapping[str, float]) -> bytes:
    """Encode physical values by signal; signals that are left out are 0."""
    word = 0
    for name, value in values.items():
        signal = message.signals[name]
        if math.isnan(value):
            raw = signal.invalid[0] if signal.invalid else 0
        else:
            low = -(1 << signal.length - 1) if signal.signed else 0
            high = low + (1 << signal.length) - 1
            high -= high in signal.invalid
            raw = min(max(round((value - signal.offset) / signal.scale), low), high)
        word |= (raw & ((1 << signal.length) - 1)) << signal.start
    return word.to_bytes(message.length, "little")


def read(message: Message, data: bytes) -> dict[str, float]:
    """Decode a sealed message to physical values, NaN for "not available"; {} where the seal does not fit."""
    if opens(message.can_id, data) < 0:
        return {}
    word, out = int.from_bytes(data, "little"), {}
    for name, signal in message.signals.items():
        raw = word >> signal.start & ((1 << signal.length) - 1)
        raw -= (1 << signal.length) if signal.signed and raw >> (signal.length - 1) else 0
        out[name] = math.nan if raw in signal.invalid else raw * signal.scale + signal.offset
    return out


def contactor_values(
    table: Table, commands: Commands, phase: str, verdict: Verdict, *, may_close: bool
) -> dict[str, float]:
    """Give the signals of ContactorRequest: what is asked of each contactor, and the gravest cause."""
    asked = [ASK_HOLD] * 3
    if not commands.hold:
        asked = [ASK_CLOSE if on else ASK_OPEN for on in (commands.plus, commands.minus, commands.precharge)]
    row = table.rows[table.keys.index(verdict.causes[0])] if verdict.causes else None
    fault = {} if row is None else {
        "FaultTier": TIERS.index(row.tier) + 1,
        "FaultOver": row.over,
        "FaultCode": FAULTS.index(row.quantity) + 1,
        "FaultDirection": _DIRECTIONS.index(row.direction),
    }  # fmt: skip
    return {
        "Plus": asked[0],
        "Minus": asked[1],
        "Precharge": asked[2],
        "Phase": PHASES.index(phase),
        "StopRequest": verdict.stop,
        "InhibitClose": not may_close,
        "Blind": verdict.blind,
        "Causes": min(len(verdict.causes), 255),
        **fault,
    }


def current_values(allowed: Allowed, verdict: Verdict) -> dict[str, float]:
    """Give the signals of CurrentLimits."""
    return {
        "ChargeCurrentMax": floored(allowed.charge_a),
        "DischargeCurrentMax": floored(allowed.discharge_a),
        "ChargeBinding": binding(allowed.charge[1].limit),
        "DischargeBinding": binding(allowed.discharge[1].limit),
        "StopRequest": verdict.stop,
    }


def fallen(lost: tuple[int, float, float], now_ns: int) -> tuple[float, float]:
    """Give what is left of the currents that were allowed when protection fell silent: (when, ns; A; A)."""
    left = min(max(0.0, 1.0 - (now_ns - lost[0]) / (RAMP_S * 1e9)), 1.0)
    return lost[1] * left, lost[2] * left


def floored(current_a: float) -> float:
    """Round an allowed current down to the 0.1 A that the bus can say."""
    return math.floor(current_a * 10.0 + 1e-9) / 10.0 if current_a > 0 else 0.0


def binding(name: str) -> int:
    """Give the number of a binding limit."""
    return BINDINGS.index(name) + 1 if name in BINDINGS else _OTHER_BINDING


def power_values(allowed: Allowed, horizon: int) -> dict[str, float]:
    """Give the signals of PowerLimits for one of the horizons 2, 10, 30 s, kW rounded down."""
    charge, discharge = allowed.charge[horizon], allowed.discharge[horizon]
    least = min((charge, discharge), key=lambda limited: limited.power_w)
    return {
        "Horizon": horizon,
        "ChargePowerMax": math.floor(charge.power_w / 10.0) / 100.0,
        "DischargePowerMax": math.floor(discharge.power_w / 10.0) / 100.0,
        "BindingPlace": least.at,
    }


def balancing_pages(mask: Sequence[bool]) -> Iterator[dict[str, float]]:
    """Give the signals of BalancingRequest, one page for each 48 cell groups."""
    for page, start in enumerate(range(0, len(mask), CELLS_A_PAGE)):
        bleed = sum(1 << k for k, on in enumerate(mask[start : start + CELLS_A_PAGE]) if on)
        yield {"Page": page, "Bleed": bleed}


@dataclass(slots=True)
class Protecting:
    """When the protection process says what: at once where a contactor or a cause changes, otherwise in its period.

    A limit that falls is sent at once, one that rises waits for its turn, so that noise does not fill the bus.
    """

    writer: Writer
    table: Table
    last: dict[str, float] = field(default_factory=dict)
    limits: tuple[float, float] = (math.inf, math.inf)
    contactors_ns: int = -1
    limits_ns: int = -1
    horizon: int = 0

    def due(
        self, commands: Commands, phase: str, verdict: Verdict, allowed: Allowed, *, may_close: bool, now_ns: int
    ) -> list[Sent]:
        """Give what is to be sent at this tick."""
        out: list[Sent] = []
        values = contactor_values(self.table, commands, phase, verdict, may_close=may_close)
        if values != self.last or now_ns - self.contactors_ns >= self._period_ns(CONTACTORS):
            out.append(self.writer.write(CONTACTORS, values))
            self.last, self.contactors_ns = values, now_ns
        now_a = (floored(allowed.charge_a), floored(allowed.discharge_a))
        due = now_ns - self.limits_ns >= self._period_ns(CURRENTS) or self.limits_ns < 0
        # steps of 1 % at least: a limit that falls in a ramp needs no message each millisecond
        if due or any(now < was - max(1.0, 0.01 * was) for now, was in zip(now_a, self.limits, strict=True)):
            out.append(self.writer.write(CURRENTS, current_values(allowed, verdict)))
            self.limits = now_a
        if due:
            out.append(self.writer.write(POWERS, power_values(allowed, self.horizon)))
            self.horizon, self.limits_ns = (self.horizon + 1) % len(HORIZONS_S), now_ns
        return out

    def _period_ns(self, name: str) -> int:
        return round(1e9 * self.writer.messages[name].cycle_s)


def known_ids(messages: Iterable[Message]) -> dict[tuple[int, bool], str]:
    """Give the names of messages by identifier."""
    return {(m.can_id, m.ext): m.name for m in messages}


assert set(DIRECTIONS) == set(_DIRECTIONS)
