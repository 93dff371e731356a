"""What `ibms replay` does: recorded traces into the fleet flow, into a file of frames, or onto a CAN bus."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from shlex import quote

from flows import fleet
from flows.progress import watched
from flows.reading import Reading
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from flows.simulate import check_place
from flows.traces import TraceOptions, trace_items, trace_models
from replay.frames_file import write_frames
from replay.pace import Pace, slices
from replay.source import ReplaySource, gather
from schemas.checked import ConfigError
from schemas.frames import FrameBlock
from sinks import ducklake
from sinks.lake import LakeSink

_STATE_S = 60.0  # a trace is short: write states often
_WRITE = timedelta(seconds=6)  # how often a paced replay is asked to; every tenth time goes to the lake
_SLICE_NS = 10**8  # event time between waits of a paced replay
_SHOWN = ("windows", "sessions", "incidents", "gaps", "dead_letters")


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The command's arguments."""

    trace: TraceOptions
    speed: str = "max"
    out: Path | None = None
    frames: Path | None = None
    can: str = ""
    keep_frames: bool = False
    encrypt: bool = False


def run_replay(options: ReplayOptions) -> None:
    """Replay, and say in a few lines what came of it."""
    given = {"--out": options.out, "--frames": options.frames, "--can": options.can}
    several = [name for name, value in given.items() if value]
    if len(several) > 1:
        msg = f"one of --out, --frames and --can must be given; got {' and '.join(several)}"
        raise ConfigError(msg)
    pace = pace_of(options.speed)
    if options.frames and pace is not None:
        msg = f"--speed must be max where frames are written to a file; got {options.speed}"
        raise ConfigError(msg)
    if options.can:
        from flows.send import send_traces  # noqa: PLC0415 - python-can takes a second, and only a bus needs it

        sent = send_traces(options.trace, options.can, pace)
        sys.stdout.write(f"{sent:,} CAN frames → {options.can}\n")
        return
    if options.frames:
        _to_file(options.trace, options.frames)
    else:
        _to_lake(options, options.out or Path("lake"), pace)


def pace_of(speed: str) -> Pace | None:
    """Read a speed: None is as fast as possible.  Raises ConfigError."""
    if speed == "max":
        return None
    try:
        return Pace(float(speed), time.time_ns)
    except ValueError:
        msg = f"--speed must be max, or a number > 0; got {speed}"
        raise ConfigError(msg) from None


def _to_file(trace: TraceOptions, path: Path) -> None:
    check_place(path)
    trace_models(trace)  # nothing to write is an error, before a file is there
    reading = Reading()
    items = watched(trace_items(trace, reading), "replay", lambda _: reading.share)
    write_frames((i for i in gather(items) if isinstance(i, FrameBlock)), path)
    sys.stdout.write(summary(reading, trace, path))


def _to_lake(options: ReplayOptions, lake: Path, pace: Pace | None) -> None:
    trace = options.trace
    models = trace_models(trace)
    reading = Reading()
    items = watched(trace_items(trace, reading), "replay", lambda _: reading.share)
    source = ReplaySource(lambda: gather(items) if pace is None else slices(items, _SLICE_NS), pace)
    settings = FleetSettings(state_s=_STATE_S, keep_frames=options.keep_frames)
    name = blake2b(repr(trace).encode(), digest_size=8).hexdigest()
    sink = LakeSink(lake, f"replay-{name}", recovery=False, encrypt=options.encrypt)
    flow = fleet.build(settings, source, sink, models)
    if pace is None:
        run_flow(flow, RecoverySettings(), settings.shards)
    else:
        run_flow(flow, RecoverySettings(), settings.shards, epoch=_WRITE)
    sys.stdout.write(summary(reading, trace, lake))
    with ducklake.attach(lake) as con:
        counts = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in _SHOWN)
        held = con.execute(counts).fetchall()
    sys.stdout.write("the lake now holds:\n" + "".join(f"  {table:<13}{n:>9,}\n" for table, n in held))
    sql = "SELECT vehicle_id, start_ns, frames, soc_end, pack_v_max, cell_v_min FROM windows LIMIT 10"
    sys.stdout.write(f'next: ibms query --lake {quote(str(lake))} "{sql}"\n')


def summary(reading: Reading, trace: TraceOptions, where: Path) -> str:
    """Say in a line or a few what was read, what could not be, and which times were not in the file."""
    text = f"{reading.frames:,} frames → {where}\n"
    if reading.unreadable:
        text += f"unreadable: {reading.refused()}\n"
    if reading.mapped:
        start = datetime.fromtimestamp(trace.start_ns / 1e9, UTC).isoformat().replace("+00:00", "Z")
        text += f"relative times, which now begin at {start} (--start): {', '.join(reading.mapped)}\n"
    return text
