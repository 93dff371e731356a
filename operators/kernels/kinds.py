"""What can be wrong with a pack: the table of finding and incident kinds."""

from __future__ import annotations

from dataclasses import dataclass

PACK, CELL, PROBE = 0, 1, 2  # values of subject_kind


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Findings of one family on one subject are one incident, which the kind of highest `rank` names.  `wide`: the
    subject is where it shows, not what it is about, so the family is one incident per pack.  A kind that does not
    open only adds its evidence to incidents that are open.  `text` may name subject, be (is or are), value,
    normal and side (above or below, by the value's sign); values are shown as value × `scale` in `unit`.
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
    text = f"{{subject}}: {what} {{value}} is beyond the limit of {{normal}}"
    return Kind(name, family or name, 20, 1.0, unit, digits, text, do, wide=True)


_CHECK_CELL = "Measure this cell group at rest and inspect its connections at the next service."
_HOT = "Take the load off, keep cooling on and inspect the pack before it is charged again."

# The place in this table is the number that findings carry: append only.
KINDS: tuple[Kind, ...] = (
    _limit("cell_overvoltage", "voltage", "V", 3, "Stop charging; check charger and cell measurement."),
    _limit("cell_undervoltage", "voltage", "V", 3, "Charge soon; check this cell group's capacity and resistance."),
    _limit("overtemperature", "temperature", "°C", 1, _HOT, "thermal"),
    _limit("undertemperature", "temperature", "°C", 1, "Warm the pack before charging it."),
    _limit("overcurrent_charge", "charging current", "A", 1, "Check charger, regeneration limits and current sensor."),
    _limit("overcurrent_discharge", "discharging current", "A", 1, "Check the drive's current limits and the sensor."),
    _limit("pack_overvoltage", "pack voltage", "V", 1, "Stop charging; check the charger."),
    _limit("pack_undervoltage", "pack voltage", "V", 1, "Charge soon; check the pack's capacity."),
    _limit("isolation", "isolation", "Ω/V", 0, "Do not touch high-voltage parts; have the isolation measured."),
    Kind(
        "thermal_event",
        "thermal",
        90,
        1.0,
        "°C",
        1,
        "{subject} at {value} with rapid heating or collapsing cells: thermal event",
        "Stop, leave the vehicle, keep cooling on and call the fire service.",
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
        "{subject} loses charge as by a current of {value} beside its pack (normal for it: below {normal})",
        "Do not charge to full; have the cell group tested for an internal short or a stuck balancing circuit.",
    ),
    Kind(
        "cell_offset",
        "cell",
        40,
        100.0,
        "% of charge",
        1,
        "{subject} has moved {value} {side} its own place in the pack (normal for it: within {normal})",
        "Check the measurement of this cell group, then the cells.",
    ),
    Kind(
        "resistance",
        "cell",
        50,
        100.0,
        "%",
        0,
        "{subject} has {value} more resistance than it used to have beside its pack (normal for it: within {normal})",
        "Check the bolts, welds and busbars of this cell group.",
    ),
    Kind(
        "capacity",
        "cell",
        45,
        100.0,
        "%",
        0,
        "{subject} holds {value} less charge than its pack (normal for it: within {normal})",
        "It sets the range of the whole pack: plan its replacement.",
    ),
    Kind(
        "sense_wire",
        "cell",
        80,
        1000.0,
        "mV",
        0,
        "{subject} differ from the pack by {value} with opposite signs",
        "Check the sense wire between these two cell groups; the cells themselves are probably sound.",
    ),
    Kind(
        "stuck_cell",
        "cell",
        70,
        1.0,
        "V",
        3,
        "{subject} has read {value} without a change while its pack moved by {normal}",
        "Check the measuring channel of this cell group: its voltage is not watched.",
    ),
    Kind(
        "missing_cells",
        "missing_cells",
        20,
        1.0,
        "cell groups",
        0,
        "Only {value} of {normal} report a voltage",
        "Check cell monitors and their wiring; do not charge an incomplete pack unattended.",
        wide=True,
    ),
    Kind(
        "frozen",
        "frozen",
        20,
        1.0,
        "A",
        1,
        "The vehicle repeats one and the same frame, which says that {value} flow",
        "Check the gateway and the bus: nothing is being watched.",
        wide=True,
    ),
    Kind(
        "sum_mismatch",
        "sum_mismatch",
        20,
        1.0,
        "V",
        1,
        "The sum of the cells and the pack voltage are {value} apart (usual: {normal})",
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
        "{subject} {be} {value} {side} the usual place in the pack (normal here: within {normal})",
        "Check this probe, then connections and cooling beside it.",
    ),
    Kind(
        "stuck_probe",
        "probe",
        40,
        1.0,
        "°C",
        1,
        "{subject} has read {value} without a change while its pack moved by {normal}",
        "Check this probe: the temperature beside it is not watched.",
    ),
    Kind(
        "cooling",
        "thermal",
        15,
        1.0,
        "°C",
        1,
        "The pack is {value} {side} the temperature that its load and coolant explain (normal for it: within {normal})",
        "Check coolant, pump and fan; avoid fast charging until then.",
        wide=True,
    ),
    Kind(
        "drift",
        "drift",
        10,
        1.0,
        "",
        2,
        "A window feature of the pack has drifted ({value} of its threshold)",
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
        "The pack's windows are unlike what it has shown (score {value})",
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
        "{subject} is {value} from the pack's median (limit {normal})",
        _CHECK_CELL,
    ),
    Kind(
        "probe_deviation",
        "probe",
        25,
        1.0,
        "°C",
        1,
        "{subject} is {value} from the mean of the probes (limit {normal})",
        "Check this probe, then connections and cooling beside it.",
    ),
    Kind(
        "soc_report",
        "soc_report",
        20,
        100.0,
        "%",
        0,
        "The vehicle's own state of charge jumped to {value}, where the charge counted makes {normal}",
        "Do not trust the vehicle's display and range; check what sends its state of charge.",
        wide=True,
    ),
)

INDEX: dict[str, int] = {kind.name: i for i, kind in enumerate(KINDS)}
