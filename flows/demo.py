"""The whole system on one machine: a simulated fleet with faults, the fleet flow, a lake, and what came of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np

from flows import prognostics
from flows.demo_report import Report, show, to_json
from flows.fleet import build
from flows.progress import of_span, watched
from flows.reading import Reading
from flows.run import run_flow
from flows.session_rows import LakeSessions, lake_models
from flows.settings import FleetSettings, RecoverySettings, SimulateSettings
from flows.simulate import fleet_config
from flows.traces import TraceOptions, trace_items
from flows.truth import false_incidents, health, median, outcomes, replay_difference, soc_errors, write_truth
from replay.candump import write_candump
from replay.record import record_pack
from replay.simulate.fleet import START_NS, FleetConfig, calendar_of, simulate, vehicle_id
from replay.simulate.schedule import schedule
from replay.source import ReplaySource, gather
from schemas.checked import ConfigError
from schemas.events import Item
from schemas.frames import FrameBlock, concat
from schemas.pack import load_pack
from sinks import ducklake
from sinks.lake import LakeSink, publish_pending

MODELS = ("generic-nmc@96c16t60ah", "generic-lfp@96c16t60ah", "bmw-i3-60ah")
SHARDS = 4
_MORNING_NS = START_NS + 6 * 3600 * 10**9  # a short demo, too, should see people drive
_HOURS_PER_MONTH = 730.5
_FAULTS = 16  # one of each kind, where half of the vehicles or more stay healthy
_RECORDED_S = 3600.0  # of one vehicle's drive as CAN; a whole day would be most of the demo's time
_LOOKED_AT = 50  # vehicles among which that one is chosen


def run_demo(vehicles: int, hours: float, period_s: float, out: Path | None, *, as_json: bool) -> None:
    """Run everything and print the report."""
    cfg = demo_fleet(vehicles, hours, period_s)
    where = Path(tempfile.mkdtemp(prefix="ibms-demo-")) if out is None else out
    report = demo(cfg, where)
    if as_json:
        sys.stdout.write(to_json(report) + "\n")
    else:
        show(report)


def demo_fleet(vehicles: int, hours: float, period_s: float) -> FleetConfig:
    """Choose the fleet: three pack models, a day that begins at six, faults in less than half of the vehicles."""
    plain = replace(
        fleet_config(SimulateSettings(vehicles, hours, period_s, MODELS, seed=1, faults=False)), start_ns=_MORNING_NS
    )
    return replace(plain, faults=schedule(plain, min(max(_FAULTS, vehicles // 10), vehicles // 2)))


def demo(cfg: FleetConfig, where: Path) -> Report:
    """Simulate into a new lake in `where`, record and replay one vehicle, and compare with the truth."""
    where.mkdir(parents=True, exist_ok=True)
    lake, truth = _new_lake(where), where / "truth.parquet"
    faulty = {f.vehicle for f in cfg.faults}
    healthy = [n for n in range(cfg.vehicles) if n not in faulty]
    frames = _drive(cfg, healthy)
    read = Reading()
    began = perf_counter()
    _run(_fleet(cfg, truth, read), lake, "demo", MODELS, where)
    seconds = perf_counter() - began

    recorded = frames.packs[0]
    trace = where / f"{recorded}.log"
    can = record_pack(frames)
    write_candump(trace, can)
    replayed = Reading()
    options = TraceOptions(paths=(str(trace),), pack=frames.model, dbc="ibms_pack", vehicle=f"replayed-{recorded}")
    items = watched(trace_items(options, replayed), "recorded vehicle", lambda _: replayed.share)
    _run(items, lake, "demo-trace", (frames.model,), where)

    _judge(lake, where)
    with ducklake.attach(lake) as con:
        judged = health(con, cfg)
        all_models, *each_model = soc_errors(con, truth, map(vehicle_id, faulty))
        found = outcomes(con, cfg.faults, cfg.start_ns)
        false = false_incidents(con, map(vehicle_id, healthy))
        letters = dict(con.execute("SELECT reason, count(*) FROM lake.dead_letters GROUP BY 1 ORDER BY 1").fetchall())
        difference_pct = replay_difference(con, recorded, options.vehicle)
    return Report(
        vehicles=cfg.vehicles,
        frames=read.frames,
        seconds=round(seconds, 2),
        frames_per_s=round(read.frames / seconds),
        soc_rmse_pct=round(all_models.rmse_pct, 3),
        faults_injected=len(found),
        faults_found=sum(o.found for o in found),
        median_delay_s=round(median(o.delay_s for o in found), 1),
        false_incidents_per_vehicle_month=round(sum(false.values()) / (len(healthy) * cfg.hours / _HOURS_PER_MONTH), 4),
        dead_letters=letters,
        lake=str(lake),
        soc=[all_models, *each_model],
        outcomes=found,
        false_incidents=false,
        trace=str(trace),
        trace_pack=frames.model,
        can_frames=len(can),
        replayed_frames=replayed.frames,
        replay_difference_pct=difference_pct,
        health=judged,
    )


def _new_lake(where: Path) -> Path:
    """Name a lake that is not there: what an earlier demo found is not this one's."""
    names = (where / (f"lake-{n}" if n > 1 else "lake") for n in count(1))
    return next(path for path in names if not path.exists())


def _fleet(cfg: FleetConfig, truth: Path, read: Reading) -> Iterator[FrameBlock]:
    span = of_span(cfg.start_ns, cfg.start_ns + int(cfg.hours * 3600e9))
    for block in watched(write_truth(simulate(cfg), truth), "simulated fleet", span):
        read.take(block)
        yield block


def _drive(cfg: FleetConfig, healthy: list[int]) -> FrameBlock:
    """Simulate once more, alone and to the same bit, that healthy vehicle which drives first: till an hour after.

    Raises ConfigError where it sends nothing within the time.
    """
    end_s = cfg.hours * 3600.0
    leave_s = {n: min(float(calendar_of(cfg, n).leave_s[0]), end_s) for n in healthy[:_LOOKED_AT]}
    first = min(leave_s, key=leave_s.__getitem__)
    blocks = [block for block, _ in simulate(replace(cfg, vehicles=1, first=first, faults=()))]
    if not blocks:
        msg = f"--hours must be so long that vehicles wake up; got {cfg.hours:g}, with {cfg.vehicles} of them"
        raise ConfigError(msg)
    frames = concat(blocks)
    until_ns = cfg.start_ns + int((leave_s[first] + _RECORDED_S) * 1e9)
    return frames.take(np.flatnonzero(frames.t_ns < until_ns)).pruned()


def _judge(lake: Path, where: Path) -> None:
    """Run the prognostics flow over what the lake holds by now."""
    sink = LakeSink(lake, "demo-health", recovery=True)
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=where) as recovery:
        flow = prognostics.build(LakeSessions(lake, load_pack), sink, lake_models(lake), shards=SHARDS)
        run_flow(flow, RecoverySettings(Path(recovery)), SHARDS)
    publish_pending(lake, "demo-health")


def _run(items: Iterator[Item], lake: Path, name: str, models: tuple[str, ...], where: Path) -> None:
    """Run the fleet flow over items that can be made only once, with its snapshots, to the end."""
    settings = FleetSettings(shards=SHARDS)
    sink = LakeSink(lake, name, recovery=True)
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=where) as recovery:
        flow = build(settings, ReplaySource(lambda: gather(items)), sink, models)
        run_flow(flow, RecoverySettings(Path(recovery)), settings.shards)
    publish_pending(lake, name)
