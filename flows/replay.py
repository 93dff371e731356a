"""What `ibms replay` does: recorded traces into the fleet flow, into a Parquet file, or onto a CAN bus."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import can
from replay.frames_file import write_frames

from flows import fleet
from flows.progress import watched
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from flows.traces import TraceOptions, trace_items
from replay.pace import Pace, slices
from replay.readers import read_can
from replay.source import ReplaySource, gather
from schemas.can import CanBlock
from schemas.checked import ConfigError
from schemas.events import DeadLetter, Item
from schemas.frames import FrameBlock
from sinks import ducklake
from sinks.lake import LakeSink

_STATE_S = 60.0  # a trace is short: write states often
_SLICE_NS = 10**8  # event time between waits of a paced replay


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The command's arguments."""

    trace: TraceOptions
    speed: str = "max"
    out: Path | None = None
    frames: Path | None = None
    can: str = ""


def run_replay(options: ReplayOptions) -> None:
    """Replay, and say in a few lines what came of it."""
    given = [
        name for name, value in (("--out", options.out), ("--frames", options.frames), ("--can", options.can)) if value
    ]
    if len(given) > 1:
        msg = f"one of --out, --frames and --can; got {' and '.join(given)}"
        raise ConfigError(msg)
    pace = _pace(options.speed)
    if options.can:
        _onto_bus(options, pace)
        return
    counts: Counter[str] = Counter()
    items = watched(_counted(gather(trace_items(options.trace)), counts), "replay")
    if options.frames:
        write_frames((i for i in items if isinstance(i, FrameBlock)), options.frames)
        _say(f"{counts['frames']:,} frames → {options.frames}", counts)
        return
    lake = options.out or Path("lake")
    first, rest = _peek(items)
    source = ReplaySource(lambda: rest if pace is None else slices(rest, _SLICE_NS), pace)
    settings = FleetSettings(state_s=_STATE_S)
    name = blake2b(repr(options.trace).encode(), digest_size=8).hexdigest()
    sink = LakeSink(lake, f"replay-{name}", recovery=False)
    run_flow(
        fleet.build(settings, source, sink, () if first is None else (first.model,)),
        RecoverySettings(),
        settings.shards,
    )
    _say(f"{counts['frames']:,} frames → {lake}", counts)
    with ducklake.attach(lake) as con:
        for table in ("windows", "sessions", "incidents", "gaps", "dead_letters"):
            n = con.execute(f"SELECT count(*) FROM {table}").fetchone()
            sys.stdout.write(f"  {table:<13}{n[0] if n else 0:>9,}\n")
    sys.stdout.write(
        f'next: ibms query --lake {lake} "SELECT start_ns, soc_end, cell_v_min, cell_v_max FROM windows LIMIT 10"\n'
    )


def _pace(speed: str) -> Pace | None:
    if speed == "max":
        return None
    try:
        return Pace(float(speed), time.time_ns)
    except ValueError:
        msg = f"--speed must be max, or a number > 0; got {speed}"
        raise ConfigError(msg) from None


def _counted(items: Iterable[Item], counts: Counter[str]) -> Iterator[Item]:
    for item in items:
        if isinstance(item, FrameBlock):
            counts["frames"] += len(item)
        elif isinstance(item, DeadLetter):
            counts[item.reason] += 1
        yield item


def _peek(items: Iterator[Item]) -> tuple[FrameBlock | None, Iterator[Item]]:
    """Read up to the first frames, which name the pack model as it was resolved."""
    before: list[Item] = []
    for item in items:
        before.append(item)
        if isinstance(item, FrameBlock):
            return item, _chain(before, items)
    return None, iter(before)


def _chain(before: list[Item], rest: Iterator[Item]) -> Iterator[Item]:
    yield from before
    yield from rest


def _onto_bus(options: ReplayOptions, pace: Pace | None) -> None:
    """Send the raw CAN frames of the traces to INTERFACE:CHANNEL, at their own pace."""
    interface, _, channel = options.can.partition(":")
    if not channel:
        msg = f"--can must be INTERFACE:CHANNEL, e.g. socketcan:can0; got {options.can}"
        raise ConfigError(msg)
    try:
        bus = can.Bus(interface=interface, channel=channel)
    except (can.CanError, OSError, ImportError) as error:
        msg = f"--can must be a bus that can be opened; got {options.can}: {error}"
        raise ConfigError(msg) from None
    sent = 0
    with bus:
        for path in options.trace.paths:
            for block in read_can(path):
                if isinstance(block, CanBlock):
                    for message in messages(block):
                        due = None if pace is None else pace.due(round(message.timestamp * 1e9))
                        if due is not None:
                            time.sleep(max(0.0, due.timestamp() - time.time()))
                        bus.send(message)
                        sent += 1
    sys.stdout.write(f"{sent:,} CAN frames → {options.can}\n")


def messages(block: CanBlock) -> Iterator[can.Message]:
    """Give the frames of a block as python-can's messages."""
    for i in range(len(block)):
        n = int(block.length[i])
        yield can.Message(
            timestamp=int(block.t_ns[i]) / 1e9, arbitration_id=int(block.can_id[i]), is_extended_id=bool(block.ext[i]),
            data=block.data[i, :n].tobytes(), is_fd=n > 8,  # noqa: PLR2004 - bytes of a classic frame
        )  # fmt: skip


def _say(text: str, counts: Counter[str]) -> None:
    refused = ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items()) if reason != "frames")
    sys.stdout.write(text + (f"; unreadable: {refused}" if refused else "") + "\n")
