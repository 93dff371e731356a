"""What a broken or kept limit says in plain words."""

from __future__ import annotations

import math

from schemas.limits import DIRECTED, Limit

# Of each quantity: how its subject is called ("{}" is the place), what stands before the value, its unit, what
# follows, digits.
_WORDS: dict[str, tuple[str, str, str, str, int]] = {
    "cell_v": ("cell {}", " at", " V", "", 2),
    "deep_discharge_v": ("cell {}", " at", " V", "", 2),
    "pack_v": ("pack", " at", " V", "", 1),
    "overcharge_share": ("cell {}", ":", "", " of the capacity charged beyond full", 3),
    "overdischarge_share": ("cell {}", ":", "", " of the capacity discharged beyond empty", 3),
    "temp_c": ("probe {}", " at", " °C", "", 1),
    "temp_rate_c_per_s": ("probe {}", " rising by", " K/s", "", 2),
    "temp_spread_c": ("probe {}", " at", " K", " above the coldest", 1),
    "current_a": ("{} current", " at", " A", "", 1),
    "rms_a": ("{} current", " at", " A", " over a minute", 1),
    "short_a": ("current", " at", " A", ", evidence of a short circuit", 0),
    "current_mismatch_a": ("the two current sensors", " differ by", " A", "", 1),
    "open_current_a": ("current with open contactors", " at", " A", "", 1),
    "disobeyed_a": ("{} current", " at", " A", " more than allowed", 1),
    "isolation_ohm_per_v": ("isolation", " at", " Ω/V", "", 0),
    "cell_dev_v": ("cell {}", " at", " V", " from the median", 2),
    "temp_dev_c": ("probe {}", " at", " K", " from the mean", 1),
    "sum_mismatch_v": ("sum of cells and pack sensor", " differ by", " V", "", 1),
    "interlock_open": ("interlock loop open", "", "", "", 0),
    "crash": ("crash reported", "", "", "", 0),
    "thermal_event": ("thermal event at cell {}", "", "", "", 0),
    "feedback_mismatch": ("{} contactor not as commanded", "", "", "", 0),
    "weld": ("{} contactor closed against its command", "", "", "", 0),
    "precharge_failures": ("precharge", " failed", " times", "", 0),
    "silence": ("message {}", " silent for", " periods", "", 1),
    "silence_minor": ("message {}", " silent for", " periods", "", 1),
    "cells_missing": ("cell {}", " among", "", " cells without a value", 0),
    "probes_missing": ("probe {}", " among", "", " of the probes without a value", 2),
    "invalid": ("{} not usable", "", "", "", 0),
    "invalid_minor": ("{} not usable", "", "", "", 0),
    "frozen_s": ("all voltages and currents", " unchanged for", " s", "", 0),
}


def subject_of(row: Limit, at: int, names: tuple[str, ...] = ()) -> str:
    """Name what a row is about: cell, probe, message, contactor; `at` counts from 1, 0 is the pack."""
    if row.quantity in DIRECTED:
        return f"{row.direction} current"
    return _WORDS[row.quantity][0].format(names[at - 1] if 0 < at <= len(names) else at)


def fired_text(row: Limit, subject: str, value: float, held_s: float, done: str) -> str:
    """Say that a limit is broken: "cell 23 at 4.26 V, limit 4.25 V for 0.7 s: contactors opened"."""
    _, before, unit, after, digits = _WORDS[row.quantity]
    if not before:  # a condition: nothing but its subject
        return f"{subject} for {held_s:.1f} s: {done}"
    return f"{subject}{before} {value:.{digits}f}{unit}{after}, limit {row.bound:g}{unit} for {held_s:.1f} s: {done}"


def cleared_text(row: Limit, subject: str, value: float, held_s: float) -> str:
    """Say that a limit is kept again."""
    _, before, unit, after, digits = _WORDS[row.quantity]
    if not before or math.isnan(value):
        return f"{subject}: cleared after {held_s:.1f} s"
    words = f"{subject}{before} {value:.{digits}f}{unit}{after}"
    return f"{words}, back inside the limit of {row.bound:g}{unit} after {held_s:.1f} s: cleared"
