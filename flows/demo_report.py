"""What `ibms demo` says: a page for a person, or one JSON object."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from shlex import quote

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from flows.truth import Health, Outcome, SocError, median

_KEYS = 11  # the first fields of Report, which --json prints
_WIDTH = 110
_EACH = 4  # vehicles to a line


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo found; the fields up to `lake` are what --json prints, NaN as null."""

    vehicles: int
    frames: int
    seconds: float  # simulation included
    frames_per_s: float
    soc_rmse_pct: float  # of vehicles without a fault
    faults_injected: int  # without those that the flow absorbs
    faults_found: int
    median_delay_s: float
    false_incidents_per_vehicle_month: float  # of vehicles without a fault
    dead_letters: dict[str, int]
    lake: str
    soc: list[SocError]  # all models, then each
    outcomes: list[Outcome]
    false_incidents: dict[str, int]  # by kind
    trace: str
    trace_pack: str
    can_frames: int
    replayed_frames: int
    replay_difference_pct: float  # largest difference in SOC between a vehicle and its replayed trace
    health: list[Health]  # each vehicle


def to_json(report: Report) -> str:
    """Give the object that --json prints."""
    return orjson.dumps({k: getattr(report, k) for k in list(Report.__dataclass_fields__)[:_KEYS]}).decode()


def show(report: Report) -> None:
    """Print the page; at most 110 columns where the output is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    rows = _summary(report)
    width = max(len(name) for name, _ in rows)
    console.print()
    for name, text in rows:
        console.print(f"  {name:<{width}}  {text}", soft_wrap=True, markup=False)
    console.print()
    console.print(_soc(report.soc))
    console.print()
    console.print(_faults(report.outcomes))
    for line in _not_found(report.outcomes):
        console.print(line, markup=False)
    console.print()
    console.print(_soh(report.health))
    console.print()
    for line in _each(report.health):
        console.print(line, markup=False)
    console.print("\n  What to type next:")
    lake, trace = quote(report.lake), quote(report.trace)
    for command in (
        f"ibms query --lake {lake}",
        f'ibms query --lake {lake} "SELECT vehicle_id, kind, subject, text FROM open_incidents"',
        f'ibms query --lake {lake} "SELECT * FROM worst_cells LIMIT 10"',
        f'ibms query --lake {lake} "SELECT * FROM why_no_estimate"',
        f"ibms replay {trace} --dbc ibms_pack --pack {report.trace_pack}",
    ):
        console.print(f"    {command}", soft_wrap=True, markup=False)


def duration(seconds: float) -> str:
    """Say a time in the unit that suits it; "–" for none."""
    if not np.isfinite(seconds):
        return "–"
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _summary(report: Report) -> list[tuple[str, str]]:
    false = ", ".join(f"{kind} {n}" for kind, n in report.false_incidents.items())
    letters = ", ".join(f"{reason} {n:,}" for reason, n in report.dead_letters.items())
    half = f", half of them within {duration(report.median_delay_s)}" if report.faults_found else ""
    difference = f"SOC within {_number(report.replay_difference_pct)} % of the fleet's"
    return [
        ("vehicles", f"{report.vehicles:,}"),
        ("frames", f"{report.frames:,}"),
        ("time", f"{report.seconds:.1f} s, simulation included ({report.frames_per_s:,.0f} frames/s)"),
        ("SOC error", f"{_number(report.soc_rmse_pct)} % RMSE, vehicles without a fault"),
        ("faults found", f"{report.faults_found} of {report.faults_injected}{half}"),
        (
            "false incidents",
            f"{_number(report.false_incidents_per_vehicle_month)} per vehicle-month{f' ({false})' if false else ''}",
        ),
        ("dead letters", letters or "none"),
        ("CAN trace", f"{report.trace}: {report.can_frames:,} CAN frames"),
        ("  replayed", f"{report.replayed_frames:,} frames through the same flow; {difference}"),
        ("lake", report.lake),
    ]


def _soc(errors: list[SocError]) -> Table:
    table = Table("SOC by pack model", "windows", "RMSE", "after 1 h", "in 90 % interval", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for e in errors[1:]:
        figures = (e.rmse_pct, e.settled_rmse_pct)
        table.add_row(e.model, f"{e.windows:,}", *(f"{_number(v)} %" for v in figures), f"{e.within_90_pct:.0f} %")
    return table


def _soh(judged: list[Health]) -> Table:
    table = Table("SOH by pack model", "vehicles", "with a charge that counted", "RMSE", "width of 90 % interval",
                  "truth inside", box=None)  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for model in sorted({h.model for h in judged}):
        mine = [h for h in judged if h.model == model]
        counted = [h for h in mine if h.counted]
        rmse = float(np.sqrt(np.mean([(h.soh - h.true) ** 2 for h in counted]))) * 100 if counted else np.nan
        width = median(h.high - h.low for h in counted) * 100
        inside = f"{100 * np.mean([h.low <= h.true <= h.high for h in counted]):.0f} %" if counted else "–"
        table.add_row(model, str(len(mine)), str(len(counted)), f"{_number(rmse)} %", f"{_number(width)} %", inside)
    return table


def _each(judged: list[Health]) -> list[str]:
    """Give every vehicle's SOH in percent with its 90 % interval, some to a line."""
    texts = [
        f"{h.vehicle_id} {100 * h.soh:3.0f} {f'({100 * h.low:.0f}–{100 * h.high:.0f})':<9}{' ' if h.counted else '*'}"
        for h in judged
    ]
    lines = ["  " + " ".join(texts[k : k + _EACH]).rstrip() for k in range(0, len(texts), _EACH)]
    note = "  SOH in %, with its 90 % interval; * before its first charge that counted"
    return [note, *lines]


def _faults(outcomes: list[Outcome]) -> Table:
    table = Table("fault", "injected", "found", "median delay", "found as", box=None)
    for column in table.columns[1:4]:
        column.justify = "right"
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.kind, []).append(outcome)
    for kind, group in by_kind.items():
        found = [o for o in group if o.found]
        seen = ", ".join(name.replace("_", " ") for name, _ in Counter(o.by for o in found).most_common(3))
        delay = duration(median(o.delay_s for o in found))
        table.add_row(kind.replace("_", " "), str(len(group)), str(len(found)), delay, seen)
    return table


def _not_found(outcomes: list[Outcome]) -> list[str]:
    """Say of each fault that was not found how much of its vehicle was seen since it began."""
    missed = [o for o in outcomes if not o.found]
    if not missed:
        return []
    lines = [
        f"    {o.kind.replace('_', ' ')} in {o.vehicle_id}: awake for {duration(o.seen_s)} since it began"
        for o in missed
    ]
    return ["", "  Not found within the demo; how long slow faults take: ibms bench diagnosis", *lines]


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"
