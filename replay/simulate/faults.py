"""Faults by schedule: what is broken, where, from when to when, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALL = -1  # as vehicle: every one
NOT_A_CLOCK = "1970"  # as unit of a clock jump: the clock counts from 1970, as after a lost battery
FIELDS = {  # what a sensor fault may concern, with its unit
    "cell_v": "V",
    "temp_c": "K",
    "current_a": "A",
    "pack_v": "V",
    "soc_bms": "share",
    "speed_kmh": "km/h",
    "ambient_c": "K",
    "isolation_ohm": "ohm",
}
_SUBJECT_OF_FIELD = {"cell_v": "cell", "temp_c": "probe"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of fault needs: units and range of its size, and what its subject is."""

    units: tuple[str, ...]  # () with a field: that of the field
    low: float
    high: float
    subject: str = "pack"  # "cell", "probe", "wire" between a group and the next, "pack", "field": that of the field
    physical: bool = False  # acts in the cells; otherwise on the stream


# Bit k of Truth.fault is the k-th kind.
KINDS: dict[str, Kind] = {
    "internal_short": Kind(("ohm",), 1e-3, 1e6, "cell", physical=True),
    "rising_resistance": Kind(("share",), 0.0, 100.0, "cell", physical=True),
    "capacity_loss": Kind(("share",), 0.0, 0.95, "cell", physical=True),
    "cooling_fault": Kind(("share",), 0.0, 1.0, physical=True),
    "thermal_runaway": Kind(("W",), 0.0, 1e6, "cell", physical=True),
    "sensor_bias": Kind((), -1e4, 1e4, "field"),
    "stuck_value": Kind((), 0.0, 1e9, "field"),
    "open_sense_wire": Kind(("V",), -5.0, 5.0, "wire"),
    "missing_cells": Kind(("groups",), 1.0, 2000.0, "cell"),
    "frozen_frame": Kind(("",), 0.0, 1e9),
    "spoofed_field": Kind((), -1e9, 1e9, "field"),
    "clock_jump": Kind(("s", NOT_A_CLOCK), -1e9, 1e9),
    "dropped": Kind(("",), 0.0, 1e9),
    "duplicated": Kind(("s",), 0.0, 1e6),
    "late": Kind(("s",), 0.0, 1e6),
    "out_of_order": Kind(("s",), 0.0, 1e6),
}
PHYSICAL = [name for name, kind in KINDS.items() if kind.physical]
BIT = {name: 1 << k for k, name in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one vehicle, without a break from `start_s` to `end_s` after the start of the simulation.

    `subject` counts from 0: cell group, probe, or the group below a sense wire; −1 where it concerns the pack.
    `size`, in `unit` ("" takes the usual one), means by kind:

    internal_short: ohm across the group.  rising_resistance: R0 grows by this share.  capacity_loss: this share of
    Ah is gone.  cooling_fault: this share of cooling is gone.  thermal_runaway: W into the group until it burns by
    itself.  These act in the cells and grow in a straight line over `ramp_s`.

    sensor_bias: is added to `field`.  stuck_value: nothing; the field keeps its first value.  spoofed_field: the
    field shows about this.  open_sense_wire: V that the group below reads too high and the one above too low.
    missing_cells: so many groups from `subject` on are absent.  frozen_frame: nothing; all values repeat.
    clock_jump: s ahead, or unit "1970".  duplicated, out_of_order: at most so many s later.  late: exactly so many
    s later.  dropped: nothing.  Of the frames in between, `share` is hit, each by a draw of its own.
    """

    kind: str
    vehicle: int
    start_s: float
    end_s: float
    subject: int = -1
    size: float = 0.0
    unit: str = ""
    ramp_s: float = 0.0
    share: float = 1.0
    field: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            self._refuse("kind", f"one of {', '.join(KINDS)}", self.kind)
        kind = KINDS[self.kind]
        if self.vehicle < ALL:
            self._refuse("vehicle", f"≥ 0, or {ALL} for all", self.vehicle)
        if not 0 <= self.start_s < self.end_s:
            self._refuse("start_s", f"≥ 0 and before end_s ({self.end_s})", self.start_s)
        if not kind.low <= self.size <= kind.high:
            self._refuse("size", f"{kind.low}..{kind.high}", self.size)
        if (kind.subject == "field") != (self.field in FIELDS):
            self._refuse("field", f"one of {', '.join(FIELDS)}" if kind.subject == "field" else "empty", self.field)
        units = kind.units or (FIELDS[self.field],)
        if self.unit not in (*units, ""):
            self._refuse("unit", " or ".join(units), self.unit)
        if not 0 < self.share <= 1:
            self._refuse("share", "in (0, 1]", self.share)
        if self.ramp_s < 0 or (self.ramp_s and not kind.physical):
            self._refuse("ramp_s", "≥ 0, and 0 for faults of the stream", self.ramp_s)
        if (self.subject >= 0) != (self.subject_kind != "pack"):
            accepted = f"≥ 0 (a {self.subject_kind})" if self.subject < 0 else "−1 (the pack)"
            self._refuse("subject", accepted, self.subject)

    def _refuse(self, name: str, accepted: str, value: object) -> None:
        msg = f"{name} of a {self.kind} fault must be {accepted}; got {value!r}"
        raise ValueError(msg)

    @property
    def subject_kind(self) -> str:
        """Say what `subject` counts: "cell", "probe", "wire" or "pack"."""
        kind = KINDS[self.kind].subject
        return _SUBJECT_OF_FIELD.get(self.field, "pack") if kind == "field" else kind


def check_subjects(faults: Sequence[Fault], model: str, cells: int, probes: int) -> None:
    """Raise ValueError for a fault whose subject a pack of that size does not have."""
    sizes = {"cell": cells, "wire": cells - 1, "probe": probes, "pack": 0}
    for fault in faults:
        if fault.subject >= (most := sizes[fault.subject_kind]) and fault.subject >= 0:
            fault._refuse("subject", f"below {most} ({fault.subject_kind}s of {model})", fault.subject)  # noqa: SLF001
