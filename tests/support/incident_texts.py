"""What incidents of every kind say, as one page.

`python -m tests.support.incident_texts` writes the golden one again.
"""

from __future__ import annotations

import math
from pathlib import Path

from operators.kernels import incidents as kernel
from operators.kernels.incidents import Change, Finding, IncidentsConfig, Open
from operators.kernels.kinds import CELL, INDEX, KINDS, PACK, PROBE
from tests.support.frames import T0_NS

GOLDEN = Path(__file__).resolve().parent.parent / "golden/incident_texts.txt"
_HOUR_NS = 3600 * 10**9
_NAN = math.nan

# kind, subject (counts from 0), level, value, normal, sigma, hours since when; as a detector would say it
_SAID: tuple[tuple[str, int, int, int, float, float, float, float], ...] = (
    ("cell_overvoltage", CELL, 11, 3, 4.236, 4.2, _NAN, 5.9),
    ("cell_undervoltage", CELL, 40, 2, 2.912, 3.0, _NAN, 5.9),
    ("overtemperature", PROBE, 6, 2, 56.5, 55.0, _NAN, 5.9),
    ("undertemperature", PROBE, 0, 1, -21.0, -20.0, _NAN, 5.9),
    ("overcurrent_charge", PACK, -1, 2, 183.2, 150.0, _NAN, 6.0),
    ("overcurrent_discharge", PACK, -1, 2, 412.5, 350.0, _NAN, 6.0),
    ("pack_overvoltage", PACK, -1, 2, 403.9, 403.2, _NAN, 6.0),
    ("pack_undervoltage", PACK, -1, 2, 281.4, 288.0, _NAN, 6.0),
    ("isolation", PACK, -1, 3, 92.0, 100.0, _NAN, 5.5),
    ("thermal_event", PROBE, 6, 4, 84.0, 60.0, _NAN, 6.0),
    ("thermal_event", PACK, -1, 4, _NAN, 60.0, _NAN, 6.0),
    ("cell_spread", CELL, 81, 2, -0.046, 0.015, 0.0026, -300.0),
    ("cell_spread", CELL, 30, 1, 0.031, 0.015, 0.0052, -3.0),
    ("leak", CELL, 9, 2, 0.372, 0.010, 0.021, 3.2),
    ("cell_offset", CELL, 0, 1, -0.049, 0.012, 0.003, 4.0),
    ("cell_offset", CELL, 80, 1, 0.018, 0.012, 0.003, 4.0),
    ("cell_step", CELL, 17, 1, 0.020, 0.006, 0.0015, 2.0),
    ("resistance", CELL, 47, 1, 0.31, 0.15, 0.03, 6.0),
    ("capacity", CELL, 39, 1, 0.12, 0.07, 0.012, 6.0),
    ("sense_wire", CELL, 89, 2, 0.074, 0.03, _NAN, 5.9),
    ("stuck_cell", CELL, 5, 2, 3.871, 0.045, _NAN, 5.5),
    ("missing_cells", PACK, -1, 2, 81.0, 96.0, _NAN, 5.9),
    ("frozen", PACK, -1, 2, -66.9, _NAN, _NAN, 6.0),
    ("sum_mismatch", PACK, -1, 1, 4.3, _NAN, _NAN, 5.9),
    ("sum_mismatch", PACK, -1, 1, -4.3, _NAN, _NAN, 5.9),
    ("probe_offset", PROBE, 3, 2, 3.4, 1.8, 0.6, 5.8),
    ("probe_offset", PROBE, 3, 1, -4.4, 1.8, 0.6, 5.8),
    ("stuck_probe", PROBE, 7, 2, 2.0, 6.0, _NAN, 4.0),
    ("cooling", PACK, -1, 2, 4.6, 2.5, 0.5, 5.7),
    ("cooling", PACK, -1, 2, -4.6, 2.5, 0.5, 5.7),
    ("drift", PACK, -1, 1, 1.4, _NAN, _NAN, 6.0),
    ("anomaly", PACK, -1, 1, 0.97, _NAN, _NAN, 6.0),
    ("cell_deviation", CELL, 12, 1, 0.061, 0.06, _NAN, 5.9),
    ("probe_deviation", PROBE, 2, 1, 9.5, 8.0, _NAN, 5.9),
    ("soc_report", PACK, -1, 1, 1.0, 0.79, _NAN, 6.0),
    ("soc_report_full", PACK, -1, 1, 0.041, 0.04, _NAN, 6.0),
    ("soc_report_still", PACK, -1, 1, 0.081, 0.08, _NAN, 6.0),
)


def page() -> str:
    """Give each kind's incident at its opening and at its clearing, and what several cells or probes make of it."""
    parts = []
    for kind, of, subject, level, *said in _SAID:
        found = _finding(kind, of, subject, level, *said)
        parts.append(_part(kind, [[found], [_end(found)]]))
    block = [_finding("cell_spread", CELL, c, 1, 0.03 + 1e-3 * (c - 84), 0.015, 0.004, -300.0) for c in range(84, 96)]
    parts.append(_part("cell_spread, a block of cells", [block]))
    hot = [_finding("probe_offset", PROBE, p, 2, 4.0 - p, 1.8, 0.6, 5.8) for p in range(2)]
    parts.append(_part("probe_offset, and the probe beside it", [hot]))
    moved = _finding("cell_offset", CELL, 17, 1, 0.025, 0.012, 0.003, 2.0)
    step = _finding("cell_step", CELL, 17, 1, 0.020, 0.006, 0.0015, 2.0)
    parts.append(_part("cell_offset, then cell_step", [[moved], [step, _end(moved)]]))
    return "\n".join(parts)


def _part(title: str, told: list[list[Finding]]) -> str:
    cfg, known = IncidentsConfig(), list[Open]()
    changes = list[Change]()
    votes = not all(KINDS[f.kind].opens for f in told[0])
    if votes:  # opens nothing: it joins what is open, and speaks where all else of that has cleared
        moved = _finding("cell_offset", CELL, 0, 1, -0.049, 0.012, 0.003, 4.0)
        told = [[moved], told[0], [_end(moved)]]
    for findings in told:
        changes += kernel.step(cfg, known, "P", findings)
    if votes:
        changes = [kernel.change(known[0], "update")]
    return f"== {title}\n" + "".join(f"{c.status:<6} {c.text}\n" for c in changes)


def _finding(
    kind: str, of: int, subject: int, level: int, value: float, normal: float, sigma: float, since_h: float
) -> Finding:
    since_ns = T0_NS + round(since_h * 3600) * 10**9
    return Finding(T0_NS + 6 * _HOUR_NS, INDEX[kind], subject, of, level, value, normal, sigma, since_ns)


def _end(f: Finding) -> Finding:
    return Finding(f.t_ns + 3 * _HOUR_NS, f.kind, f.subject, f.subject_kind, 0, f.value, f.normal, f.sigma, f.since_ns)


if __name__ == "__main__":
    GOLDEN.write_text(page(), encoding="utf-8")
