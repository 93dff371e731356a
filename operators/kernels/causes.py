"""Which cause does the evidence of an incident speak for? One table, and Bayes' rule over it.

`CHANCES` says for each sign how often an incident of each cause shows it, in percent; a sign that is not there speaks
too.  The shares of the causes come from nowhere but judgement (`PRIOR`, in percent): no open record of them exists.
`ibms bench diagnosis` counts how often the cause of a simulated fault is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

CAUSES = (
    "self_discharge",
    "balancing_circuit",
    "rising_resistance",
    "loose_connection",
    "capacity_loss",
    "sense_wire",
    "cell_sensor",
    "temperature_sensor",
    "cooling",
    "unexplained",
)
#        self  bal  res loose  cap wire cell temp cool  not
PRIOR = (21.0, 7.0, 14.0, 10.0, 14.0, 6.0, 10.0, 8.0, 8.0, 2.0)  # fmt: skip
CHANCES: dict[str, tuple[float, ...]] = {
    "leak":        (93.0, 90.0, 1.0, 1.0, 1.0, 1.0, 4.0, 0.2, 0.2, 10.0),
    "leak_bleed":  (55.0, 78.0, 0.5, 0.5, 0.5, 0.5, 2.0, 0.2, 0.2, 5.0),  # of the size that a balancing resistor takes
    "offset_low":  (70.0, 60.0, 3.0, 3.0, 25.0, 10.0, 40.0, 0.2, 0.2, 10.0),
    "offset_high": (0.5, 0.5, 3.0, 3.0, 10.0, 10.0, 40.0, 0.2, 0.2, 10.0),
    "spread":      (20.0, 20.0, 15.0, 15.0, 25.0, 60.0, 45.0, 0.2, 0.2, 30.0),
    "step":        (1.0, 1.0, 2.0, 10.0, 4.0, 30.0, 50.0, 0.2, 0.2, 10.0),
    "resistance":  (2.0, 2.0, 90.0, 90.0, 4.0, 25.0, 3.0, 0.2, 0.2, 10.0),
    "resistance_leaps": (0.5, 0.5, 10.0, 60.0, 1.0, 12.0, 1.0, 0.2, 0.2, 3.0),  # by half and more
    "capacity":    (5.0, 5.0, 4.0, 4.0, 85.0, 2.0, 4.0, 0.2, 0.2, 10.0),
    "limit":       (25.0, 15.0, 25.0, 25.0, 35.0, 20.0, 20.0, 0.5, 2.0, 10.0),  # a cell voltage limit
    "wire":        (0.2, 0.2, 0.2, 0.6, 0.2, 95.0, 2.0, 0.2, 0.2, 2.0),
    "stuck_cell":  (0.2, 0.2, 0.2, 0.5, 0.2, 3.0, 30.0, 0.2, 0.2, 2.0),
    "deviation":   (15.0, 10.0, 15.0, 15.0, 20.0, 40.0, 40.0, 0.2, 0.2, 10.0),  # beyond the pack file's row
    "probe":       (1.0, 1.0, 2.0, 20.0, 0.5, 0.5, 0.5, 70.0, 6.0, 10.0),
    "stuck_probe": (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 45.0, 0.2, 2.0),
    "warm_pack":   (1.0, 0.5, 1.0, 2.0, 0.5, 0.2, 0.2, 3.0, 95.0, 15.0),
    "hot":         (5.0, 0.5, 3.0, 10.0, 0.5, 0.5, 0.5, 8.0, 35.0, 5.0),  # a temperature limit
    "event":       (12.0, 0.3, 0.3, 1.5, 0.2, 0.1, 0.1, 0.1, 1.0, 0.8),
}  # fmt: skip
_BLEED_A = (0.03, 0.3)
_LEAP = 0.5
_SIGN_OF = {
    "leak": "leak",
    "cell_spread": "spread",
    "cell_step": "step",
    "resistance": "resistance",
    "capacity": "capacity",
    "cell_undervoltage": "limit",
    "cell_overvoltage": "limit",
    "sense_wire": "wire",
    "stuck_cell": "stuck_cell",
    "cell_deviation": "deviation",
    "probe_offset": "probe",
    "probe_deviation": "probe",
    "stuck_probe": "stuck_probe",
    "cooling": "warm_pack",
    "overtemperature": "hot",
    "thermal_event": "event",
}


def signs(evidence: Mapping[str, float]) -> set[str]:
    """Name the signs in an incident's evidence, a value by kind of finding."""
    found = {_SIGN_OF[kind] for kind in evidence if kind in _SIGN_OF}
    if _BLEED_A[0] <= abs(evidence.get("leak", 0.0)) <= _BLEED_A[1]:
        found.add("leak_bleed")
    if evidence.get("resistance", 0.0) >= _LEAP:
        found.add("resistance_leaps")
    if "cell_offset" in evidence:
        found.add("offset_low" if evidence["cell_offset"] < 0 else "offset_high")
    return found


def judge(evidence: Mapping[str, float]) -> dict[str, float]:
    """Give the likelihood of each cause that has at least one in a hundred, the likeliest first; they sum to about 1.

    Empty where the evidence is of a kind that names its cause by itself, as a limit of current does.
    """
    found = signs(evidence)
    if not found:
        return {}
    log = [math.log(p) for p in PRIOR]
    for sign, chances in CHANCES.items():
        for k, chance in enumerate(chances):
            log[k] += math.log(chance / 100.0 if sign in found else 1.0 - chance / 100.0)
    top = max(log)
    weight = [math.exp(x - top) for x in log]
    whole = sum(weight)
    ranked = sorted(zip(CAUSES, weight, strict=True), key=lambda item: -item[1])
    return {cause: round(w / whole, 3) for cause, w in ranked if w / whole >= 0.01}
