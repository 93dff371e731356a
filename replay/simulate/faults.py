"""Faults by schedule: what is broken, where, from when to when, and how much."""

from __future__ import annotations

from dataclasses import dataclass

ALL = -1  # as vehicle: every one
SECONDS, SHARE = "s", "share"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of fault needs: the unit of its size with the range accepted, and what its subject is."""

    unit: str
    low: float
    high: float
    subject: str  # "cell", "probe" or "pack"
    physical: bool = False  # acts in the cells; otherwise on the stream


# Bit k of Truth.fault is the k-th kind.
KINDS: dict[str, Kind] = {
    "internal_short": Kind("ohm", 1e-3, 1e6, "cell", physical=True),
    "rising_resistance": Kind(SHARE, 0.0, 100.0, "cell", physical=True),
    "capacity_loss": Kind(SHARE, 0.0, 0.95, "cell", physical=True),
    "cooling_fault": Kind(SHARE, 0.0, 1.0, "pack", physical=True),
    "thermal_runaway": Kind("W", 0.0, 1e6, "cell", physical=True),
}
PHYSICAL = [name for name, kind in KINDS.items() if kind.physical]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one vehicle, without a break from `start_s` to `end_s` after the start of the simulation.

    `subject` is the cell group or probe, from 0; −1 where the kind concerns the pack.  `size` is in `unit`:
    see KINDS.  The effect of a physical fault grows in a straight line over `ramp_s` and then stays.
    """

    kind: str
    vehicle: int
    start_s: float
    end_s: float
    subject: int = -1
    size: float = 1.0
    unit: str = ""
    ramp_s: float = 0.0
