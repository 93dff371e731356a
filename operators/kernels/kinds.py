"""What can be wrong with a pack: the table of finding and incident kinds."""

from __future__ import annotations

from dataclasses import dataclass

PACK, CELL, PROBE = 0, 1, 2  # values of subject_kind


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Findings of one family on one subject are one incident, which the kind of highest `rank` names.  `wide`: the
    subject is where it shows, not what it is about, so the family is one incident per pack.  A kind that does not
    open only adds its evidence to incidents that are open.  `text` may name subject, value and normal, which are shown
    as value × `scale` in `unit`; be (is or are), have and s for the subject's number; and by the value's sign side
    (above or below), heat (warmer or colder) and much (more or less), with which its size is shown without the sign.
    """

    name: str
    family: str
    rank: int
    scale: float
    unit: str
    digits: int
    text: str
    do: str
    wide: bool = False
    opens: bool = True


def _limit(name: str, what: str, unit: str, digits: int, do: str, family: str = "") -> Kind:
    """Give the kind of a hard limit; `what` says whose value it is, and on which side of the limit."""
    whose, _, side = what.rpartition(", ")
    text = f"{whose} {{value}}, {side} the limit of {{normal}},"
    return Kind(name, family or name, 20, 1.0, unit, digits, text, do, wide=True)


_CHECK_CELL = "Measure this cell group at rest and inspect its connections at the next service."
_HOT = "Take the load off, keep cooling on, and have the pack inspected before it is charged again."

# The place in this table is the number that findings carry: append only.
KINDS: tuple[Kind, ...] = (
    _limit(
        "cell_overvoltage", "{subject} {be} at, above", "V", 3, "Stop charging; check the charger and this reading."
    ),
    _limit(
        "cell_undervoltage",
        "{subject} {be} at, below",
        "V",
        3,
        "Charge soon; check this cell group's capacity and resistance.",
    ),
    _limit("overtemperature", "{subject} read{s}, above", "°C", 1, _HOT, "thermal"),
    _limit("undertemperature", "{subject} read{s}, below", "°C", 1, "Warm the pack before charging it."),
    _limit(
        "overcurrent_charge",
        "the pack is charged with, above",
        "A",
        1,
        "Check the charger, the limits of regenerative braking and the current sensor.",
    ),
    _limit(
        "overcurrent_discharge",
        "the pack is discharged with, above",
        "A",
        1,
        "Check the drive's current limits and the current sensor.",
    ),
    _limit("pack_overvoltage", "the pack is at, above", "V", 1, "Stop charging; check the charger."),
    _limit("pack_undervoltage", "the pack is at, below", "V", 1, "Charge soon; check the pack's capacity."),
    _limit(
        "isolation",
        "the pack's isolation is, below",
        "Ω/V",
        0,
        "Do not touch high-voltage parts; have the isolation resistance measured.",
    ),
    Kind(
        "thermal_event",
        "thermal",
        90,
        1.0,
        "°C",
        1,
        "thermal event at {subject}: cells collapse or temperatures climb within seconds; the hottest probe reads "
        "{value} (limit: {normal}),",
        "Stop, leave the vehicle and call the fire service; keep cooling on.",
        wide=True,
    ),
    Kind(
        "cell_spread",
        "cell",
        30,
        1000.0,
        "mV",
        0,
        "{subject} {be} {value} {side} the pack (normal here: within {normal})",
        _CHECK_CELL,
    ),
    Kind(
        "leak",
        "cell",
        60,
        1000.0,
        "mA",
        0,
        "{subject} lose{s} charge that {its} pack does not, as if a current of {value} flowed (normal here: below "
        "{normal})",
        "Do not charge to full; have this cell group tested for an internal short or a balancing switch that stays on.",
    ),
    Kind(
        "cell_offset",
        "cell",
        40,
        100.0,
        "%",
        1,
        "{subject} {be} {value} of charge {side} {its} usual place in the pack (normal for it: within {normal})",
        "Watch whether it goes on; check the measurement of this cell group first, then its cells.",
    ),
    Kind(
        "resistance",
        "cell",
        50,
        100.0,
        "%",
        0,
        "{subject} {have} {value} more resistance beside the pack than {they} used to have (normal for it: within "
        "{normal})",
        "Check the bolts, welds and busbars of this cell group.",
    ),
    Kind(
        "capacity",
        "cell",
        45,
        100.0,
        "%",
        0,
        "{subject} hold{s} {value} less charge than the pack's median cell group (normal here: within {normal})",
        "It limits the range of the whole pack: plan its replacement.",
    ),
    Kind(
        "sense_wire",
        "cell",
        80,
        1000.0,
        "mV",
        0,
        "{subject} read {value} off the pack in opposite directions (normal here: within {normal})",
        "Check the sense wire between these two cell groups; the cells themselves are probably sound.",
    ),
    Kind(
        "stuck_cell",
        "cell",
        70,
        1.0,
        "V",
        3,
        "{subject} {have} read {value} without a change while the pack's median moved by {normal}",
        "Check the measuring channel of this cell group: nobody knows its voltage.",
    ),
    Kind(
        "missing_cells",
        "missing_cells",
        20,
        1.0,
        "",
        0,
        "only {value} of {normal} cell groups report a voltage",
        "Check the cell monitors and their wiring; do not leave the pack unattended while it charges.",
        wide=True,
    ),
    Kind(
        "frozen",
        "frozen",
        20,
        1.0,
        "A",
        1,
        "the vehicle sends one and the same frame again and again, with a current of {value} in each,",
        "Check the gateway and the bus: nothing of this pack is being watched.",
        wide=True,
    ),
    Kind(
        "sum_mismatch",
        "sum_mismatch",
        20,
        1.0,
        "V",
        1,
        "the cell voltages add up to {value} {much} than the pack voltage, beyond what is usual for this pack,",
        "Check the pack voltage sensor and the cell monitors.",
        wide=True,
    ),
    Kind(
        "probe_offset",
        "probe",
        30,
        1.0,
        "°C",
        1,
        "{subject} {be} {value} {heat} than usual beside the other probes (normal here: within {normal})",
        "Check this probe, then the connections and the cooling near it.",
    ),
    Kind(
        "stuck_probe",
        "probe",
        40,
        1.0,
        "°C",
        1,
        "{subject} {have} read {value} without a change while the others moved by {normal}",
        "Check this probe: nobody knows the temperature near it.",
    ),
    Kind(
        "cooling",
        "thermal",
        15,
        1.0,
        "°C",
        1,
        "the pack has become {value} {heat} than its load, its coolant and the air explain (normal for it: within "
        "{normal})",
        "Check coolant, pump and fan; avoid fast charging until this is done.",
        wide=True,
    ),
    Kind(
        "drift",
        "drift",
        10,
        1.0,
        "",
        2,
        "a feature of the pack's windows has drifted ({value} times its threshold)",
        "Look at the pack's windows.",
        wide=True,
        opens=False,
    ),
    Kind(
        "anomaly",
        "anomaly",
        10,
        1.0,
        "",
        2,
        "the pack's windows are unlike those that it has shown before (score {value} of 1)",
        "Look at the pack's windows.",
        wide=True,
        opens=False,
    ),
    Kind(
        "cell_deviation",
        "cell",
        35,
        1000.0,
        "mV",
        0,
        "{subject} {be} {value} away from the pack's median (limit: {normal})",
        _CHECK_CELL,
    ),
    Kind(
        "probe_deviation",
        "probe",
        25,
        1.0,
        "°C",
        1,
        "{subject} {be} {value} away from the mean of the probes (limit: {normal})",
        "Check this probe, then the connections and the cooling near it.",
    ),
    Kind(
        "soc_report",
        "soc_report",
        20,
        100.0,
        "%",
        0,
        "the vehicle's own state of charge has jumped to {value}, where the charge counted leads to {normal},",
        "Do not trust the range that the vehicle shows; check what sends its state of charge.",
        wide=True,
    ),
    Kind(
        "cell_step",
        "cell",
        47,
        1000.0,
        "mV",
        0,
        "{subject} {have} jumped to {value} {side} {its} usual place in the pack and stayed there (normal for it: "
        "within {normal})",
        "Check the measuring channel and the connections of this cell group: charge does not jump.",
    ),
    Kind(
        "soc_report_full",
        "soc_report",
        21,
        100.0,
        "%",
        1,
        "the vehicle reports a full pack, which has taken {value} of its charge since (normal: below {normal}),",
        "Do not trust the range that the vehicle shows; have its state of charge and its current sensor calibrated.",
        wide=True,
    ),
    Kind(
        "soc_report_still",
        "soc_report",
        22,
        100.0,
        "%",
        1,
        "the vehicle's own state of charge has stood still while {value} of the pack's charge moved (normal: below "
        "{normal}),",
        "Do not trust the range that the vehicle shows; check what sends its state of charge.",
        wide=True,
    ),
)

INDEX: dict[str, int] = {kind.name: i for i, kind in enumerate(KINDS)}
