"""The whole system on one machine: a simulated fleet with faults, the fleet flow, a lake, and what came of it."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from flows.fleet import build
from flows.progress import watched
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from flows.traces import TraceOptions, trace_items
from flows.truth import Outcome, false_incidents, median, outcomes, soc_rmse_pct, write_truth
from replay.candump import write_candump
from replay.record import record_pack
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.schedule import schedule
from replay.source import ReplaySource, gather
from schemas.events import Item
from schemas.frames import FrameBlock, concat
from sinks import ducklake
from sinks.lake import LakeSink, publish_pending

MODELS = ("generic-nmc@96c16t60ah", "generic-lfp@96c16t60ah", "bmw-i3-60ah")
SHARDS = 4
_HOURS_PER_MONTH = 730.5
_FAULTS = 16  # at least: one of each kind
_REPLAYED = "replayed-000000"  # the recorded vehicle, as its trace brings it back
_RECORD_HOURS = 2.0  # of one vehicle as CAN; a whole day would be most of the demo's time


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo found; the fields up to `lake` are what --json prints."""

    vehicles: int
    frames: int
    seconds: float
    frames_per_s: float
    soc_rmse_pct: float
    faults_injected: int
    faults_found: int
    median_delay_s: float
    false_incidents_per_vehicle_month: float
    dead_letters: dict[str, int]
    lake: str
    soc_rmse_settled_pct: float
    outcomes: list[Outcome]
    can_frames: int
    replayed_frames: int
    trace: str


def run_demo(vehicles: int, hours: float, period_s: float, out: Path | None, *, as_json: bool) -> None:
    """Run everything and print the report."""
    where = Path(tempfile.mkdtemp(prefix="ibms-demo-")) if out is None else out
    report = demo(vehicles, hours, period_s, where)
    if as_json:
        keys = list(Report.__dataclass_fields__)[:11]
        sys.stdout.write(orjson.dumps({k: getattr(report, k) for k in keys}).decode() + "\n")
    else:
        _show(report)


def demo(vehicles: int, hours: float, period_s: float, where: Path) -> Report:
    """Simulate into the lake `where`/lake, record and replay one vehicle, and compare with the truth."""
    where.mkdir(parents=True, exist_ok=True)
    lake, truth, trace = where / "lake", where / "truth.parquet", where / "vehicle-000000.log"
    plain = FleetConfig(vehicles=vehicles, hours=hours, period_s=period_s, models=MODELS, seed=1)
    faults = schedule(plain, max(_FAULTS, vehicles // 10))
    cfg = replace(plain, faults=faults)
    settings = FleetSettings(shards=SHARDS)
    began = perf_counter()
    counts: Counter[str] = Counter()
    recorded: list[FrameBlock] = []
    until_ns = cfg.start_ns + int(_RECORD_HOURS * 3600e9)

    def fleet() -> Iterator[Item]:
        for block in write_truth(simulate(cfg), truth):
            counts["frames"] += len(block)
            if recorded or block.model == MODELS[0]:
                rows = np.flatnonzero((block.pack == _index(block, "sim-000000")) & (block.t_ns < until_ns))
                if rows.size:
                    recorded.append(block.take(rows).pruned())
            yield block

    to_ns = cfg.start_ns + int(hours * 3600e9)
    items = watched(fleet(), "simulated fleet", from_ns=cfg.start_ns, to_ns=to_ns)
    _run(settings, items, lake, "demo", MODELS, where)
    seconds = perf_counter() - began

    can = record_pack(concat(recorded))
    write_candump(trace, can)
    options = TraceOptions(paths=(str(trace),), pack=MODELS[0], dbc="ibms_pack", vehicle=_REPLAYED, period_s=period_s)

    def replayed() -> Iterator[Item]:
        for item in trace_items(options):
            if isinstance(item, FrameBlock):
                counts["replayed"] += len(item)
            yield item

    _run(settings, watched(replayed(), "recorded vehicle"), lake, "demo-trace", MODELS[:1], where)
    with ducklake.attach(lake) as con:
        rmse, settled = soc_rmse_pct(con, truth)
        found = outcomes(con, faults, cfg.start_ns)
        false = false_incidents(con, faults)
        healthy = max(vehicles - len({f.vehicle for f in faults}), 1)
        letters = dict(con.execute("SELECT reason, count(*) FROM lake.dead_letters GROUP BY 1 ORDER BY 1").fetchall())
    return Report(
        vehicles=vehicles,
        frames=counts["frames"],
        seconds=round(seconds, 2),
        frames_per_s=round(counts["frames"] / seconds),
        soc_rmse_pct=round(rmse, 3),
        faults_injected=len(found),
        faults_found=sum(o.found for o in found),
        median_delay_s=round(median(o.delay_s for o in found), 1),
        false_incidents_per_vehicle_month=round(false / (healthy * hours / _HOURS_PER_MONTH), 4),
        dead_letters=letters,
        lake=str(lake),
        soc_rmse_settled_pct=settled,
        outcomes=found,
        can_frames=len(can),
        replayed_frames=counts["replayed"],
        trace=str(trace),
    )


def _run(
    settings: FleetSettings, items: Iterator[Item], lake: Path, name: str, models: tuple[str, ...], where: Path
) -> None:
    """Run the fleet flow over items that can be made only once, with its snapshots, to the end."""
    sink = LakeSink(lake, name, recovery=True)
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=where) as recovery:
        run_flow(
            build(settings, ReplaySource(lambda: gather(items)), sink, models),
            RecoverySettings(Path(recovery)),
            settings.shards,
        )
    publish_pending(lake, name)


def _index(block: FrameBlock, pack: str) -> int:
    return block.packs.index(pack) if pack in block.packs else -1


def _show(report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    rows = [
        ("vehicles", f"{report.vehicles:,}"),
        ("frames", f"{report.frames:,}"),
        ("time", f"{report.seconds:.1f} s, simulation included ({report.frames_per_s:,.0f} frames/s)"),
        (
            "SOC error (RMSE)",
            f"{report.soc_rmse_pct:.2f} %; after each vehicle's first hour {report.soc_rmse_settled_pct:.2f} %",
        ),
        (
            "faults found",
            f"{report.faults_found} of {report.faults_injected}, median after {_duration(report.median_delay_s)}",
        ),
        ("false incidents", f"{report.false_incidents_per_vehicle_month:.3f} per vehicle-month"),
        (
            "CAN trace",
            f"{report.trace}: {report.can_frames:,} CAN frames → {report.replayed_frames:,} frames, same flow",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    console.print()
    for name, text in rows:
        console.print(f"  {name:<{width}}  {text}", soft_wrap=True)
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        by_kind.setdefault(outcome.kind, []).append(outcome)
    table = Table(
        "fault", "injected", "found", "median delay", "found as", box=None, pad_edge=True, title_justify="left"
    )
    for column in table.columns[1:4]:
        column.justify = "right"
    for kind, group in by_kind.items():
        found = [o for o in group if o.found]
        seen = Counter(o.by for o in found)
        table.add_row(
            kind.replace("_", " "), str(len(group)), str(len(found)),
            _duration(median(o.delay_s for o in found)), ", ".join(name for name, _ in seen.most_common(3)),
        )  # fmt: skip
    console.print()
    console.print(table)
    letters = ", ".join(f"{reason} {n:,}" for reason, n in report.dead_letters.items()) or "none"
    console.print(f"\n  dead letters: {letters}\n", soft_wrap=True)
    console.print("  What to type next:", soft_wrap=True)
    for command in (
        f"ibms query --lake {report.lake}",
        f'ibms query --lake {report.lake} "SELECT * FROM open_incidents"',
        f'ibms query --lake {report.lake} "SELECT * FROM worst_cells LIMIT 10"',
        f"ibms replay {report.trace} --dbc ibms_pack --pack {MODELS[0]} --out replayed",
    ):
        console.print(f"    {command}", soft_wrap=True, markup=False)


def _duration(seconds: Any) -> str:  # noqa: ANN401 - a float or what json made of it
    if not np.isfinite(seconds):
        return "–"
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
