"""What the telemetry process knows of protection and of the vehicle, for what it asks of the pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from schemas.frames import FrameBlock

PARK, DRIVE, CHARGE = "park", "drive", "charge"
_CHARGING_C = 0.05  # 1/h: more current than this into a pack whose vehicle says nothing is a charge
_DRIVING_C = 0.05
_SPEED_KMH = 5.0  # as protection's standstill
_FRESH_NS = 3 * 10**9


class Words(NamedTuple):
    """What protection said last: when (wall clock, ns; −1: never), its phase, and the keys of the broken limits."""

    heard_ns: int = -1
    phase: str = ""
    causes: tuple[str, ...] = ()

    def fresh(self, now_ns: int) -> bool:
        """Say whether protection has spoken lately."""
        return self.heard_ns >= 0 and abs(now_ns - self.heard_ns) <= _FRESH_NS

    def broken(self, *, tier: str = "", quantity: str = "") -> tuple[str, ...]:
        """List the broken limits of a tier or a quantity ("" is any), by key: quantity/tier/over|under/direction."""
        split = [(key, key.split("/")) for key in self.causes]
        return tuple(k for k, (q, t, *_) in split if tier in {"", t} and quantity in {"", q})


def hear(words: Words, told: Iterable[Mapping[str, Any]], wall_ns: int) -> Words:
    """Take in messages of the protection process; only its beat counts here."""
    for message in told:
        if message.get("kind") == "beat":
            words = Words(wall_ns, str(message.get("phase", "")), tuple(message.get("causes", ())))
    return words


def usage(block: FrameBlock, row: int, capacity_ah: float) -> str:
    """Say whether the vehicle drives, charges or is parked: as it says itself, or else from speed and current."""
    said = {name: int(block.context[name][row]) for name in ("drive_state", "charge_type") if name in block.context}
    state = said.get("drive_state", -1)
    if said.get("charge_type", -1) > 0 or state >= 0:
        return CHARGE if said.get("charge_type", -1) > 0 else (PARK, DRIVE, CHARGE)[min(state, 2)]
    speed = float(block.context["speed_kmh"][row]) if "speed_kmh" in block.context else np.nan
    current_c = float(block.current_a[row]) / capacity_ah
    if speed > _SPEED_KMH or current_c < -_DRIVING_C:
        return DRIVE
    return CHARGE if current_c > _CHARGING_C else PARK
