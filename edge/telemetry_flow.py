"""The telemetry process: the same bus, read for what is kept and sent; nothing here can hold protection up.

A bytewax dataflow of one worker without recovery: what must survive is in the outbox (edge.keeping).  What it asks of
cell monitors and the vehicle (edge.care) goes out on the same bus.  Run by the supervisor as
`python -m edge.start telemetry_flow CONFIG LINK`, LINK being the file number of their link.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import version
from typing import NamedTuple

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from edge.canbus import Port
from edge.care import care_config
from edge.cloud_limits import CloudConfig
from edge.decode import Frame
from edge.journal import ERROR
from edge.keeping import Keeping
from edge.link import Link, Told, inherited
from edge.settings import Prepared, load_settings, prepare
from edge.telemetry import Telemetry, TelemetryConfig
from edge.telemetry_settings import telemetry_settings
from edge.uplink import Uplink, encode, open_uplink
from operators.assemble import Assembler
from operators.dbc import Dbc
from operators.kernels.can_decode import Message
from schemas.can import CLASSIC, FLEXIBLE, CanBlock, make_can_block
from schemas.checked import ConfigError
from schemas.frames import FrameBlock
from schemas.signals import SignalMap

BATCH_NS = 100_000_000
BEAT_NS = 500_000_000
_CLOCK_NS = 50_000_000  # by which the wall clock may wander before frames follow it
_EPOCH = timedelta(days=365)
SOC_FILE = "soc.json"
_NICE = 10
_MOST_WORDS = 1024  # that wait for a supervisor who does not listen
_BUS = "can"


class Round(NamedTuple):
    """Frames of about BATCH_NS, what protection said meanwhile, and both clocks, ns."""

    frames: Sequence[Frame]
    told: Sequence[Told]
    now_ns: int
    wall_ns: int


class Batch(NamedTuple):
    """A round, decoded; `block` is None where no frame was completed.

    `told` is what the supervisor said: protection's beats, decisions and alerts (edge.protector), at the start the
    limits from outside that it kept.  Their times are of the monotonic clock; plus `ahead_ns` they are since 1970.
    """

    block: FrameBlock | None
    told: Sequence[Told]
    now_ns: int
    wall_ns: int
    ahead_ns: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of; `over` says that the process is asked to end."""

    port: Port
    link: Link
    assembler: Assembler
    telemetry: Telemetry
    now: Callable[[], int]
    wall: Callable[[], int]
    over: Callable[[], bool]


class _Input(StatelessSourcePartition[Round]):
    """Gathers frames; ends when asked to, and when the supervisor is gone, whose successor starts another of us."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def next_batch(self) -> list[Round]:
        parts, frames = self._parts, []
        end_ns = parts.now() + BATCH_NS
        while (left_ns := end_ns - parts.now()) > 0:
            frames += parts.port.take(left_ns / 1e9)
        told = list(parts.link.hear())
        if parts.link.over or parts.over():
            raise StopIteration
        return [Round(frames, told, parts.now(), parts.wall())]


class _Source(DynamicSource[Round]):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Input:
        return _Input(self._parts)


class _Output(StatelessSinkPartition[Batch]):
    """Asks on the bus, keeps and sends what came, and tells the supervisor."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._beat_ns = parts, -BEAT_NS
        self._waiting: deque[Told] = deque(maxlen=_MOST_WORDS)
        self._wall_ns = 0

    def write_batch(self, items: list[Batch]) -> None:
        parts = self._parts
        for item in items:
            self._wall_ns = item.now_ns + item.ahead_ns
            sent, words = parts.telemetry.step(item.block, item.told, item.now_ns, self._wall_ns)
            parts.port.send(sent)
            self._waiting.extend(words)
            if item.now_ns - self._beat_ns >= BEAT_NS:
                self._beat_ns = item.now_ns
                parts.link.tell({"kind": "metrics", "values": [[*one] for one in parts.telemetry.metrics()]})
        while self._waiting and parts.link.tell(self._waiting[0]):
            self._waiting.popleft()

    def close(self) -> None:
        self._parts.telemetry.close(self._wall_ns)


class _Sink(DynamicSink[Batch]):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Output:
        return _Output(self._parts)


def build(parts: Parts) -> Dataflow:
    """Wire the flow."""
    clock = Clock()

    def decode(item: Round) -> Batch:
        ahead_ns = clock.offset(item.now_ns, item.wall_ns)
        block = parts.assembler.push(can_block(item.frames, ahead_ns))
        return Batch(block, item.told, item.now_ns, item.wall_ns, ahead_ns)

    flow = Dataflow("telemetry")
    rounds = op.input("can_in", flow, _Source(parts))
    op.output("keep", op.map("decode", rounds, decode), _Sink(parts))
    return flow


@dataclass(slots=True)
class Clock:
    """From the monotonic clock to time since 1970; follows a wall clock that is set, but not its jitter."""

    ahead_ns: int | None = None

    def offset(self, now_ns: int, wall_ns: int) -> int:
        """Give what to add to a monotonic time."""
        ahead_ns = wall_ns - now_ns
        if self.ahead_ns is None or abs(ahead_ns - self.ahead_ns) > _CLOCK_NS:
            self.ahead_ns = ahead_ns
        return self.ahead_ns


def can_block(frames: Sequence[Frame], ahead_ns: int) -> CanBlock:
    """Give frames as columns, timed since 1970."""
    width = FLEXIBLE if any(len(frame.data) > CLASSIC for frame in frames) else CLASSIC
    data = np.frombuffer(b"".join(frame.data.ljust(width, b"\0") for frame in frames), np.uint8)
    return make_can_block(
        [_BUS],
        t_ns=np.array([frame.t_ns for frame in frames], np.int64) + ahead_ns,
        can_id=[frame.can_id for frame in frames],
        ext=[frame.ext for frame in frames],
        length=[len(frame.data) for frame in frames],
        data=data.reshape(len(frames), width),
    )


def joined(maps: Sequence[tuple[SignalMap, Dbc]], absent: Sequence[str]) -> tuple[SignalMap, Dbc]:
    """Join the maps of a bus: frames as the first one says, each column from the map that requires it, or the first.

    Raises ConfigError where two DBCs have different messages of one name.
    """
    owner: dict[str, SignalMap] = {}
    for signals, _ in reversed(maps):
        owner |= dict.fromkeys((e.column for e in signals.entries), signals)
    for signals, _ in maps:
        owner |= {e.column: signals for e in signals.entries if e.column in signals.required}
    messages: dict[str, Message] = {}
    for signals, dbc in maps:
        for name in {e.message for e in signals.entries}:
            if messages.setdefault(name, dbc.by_name[name]) is not dbc.by_name[name]:
                msg = f"map must have DBCs whose mapped messages differ in name; got {name} twice ({signals.file})"
                raise ConfigError(msg)
    first, dbc = maps[0]
    entries = tuple(
        e for m, _ in maps for e in m.entries if owner[e.column] is m and e.column not in absent
    )  # fmt: skip
    return replace(first, bus="", entries=entries), replace(dbc, by_name=messages)


def parts_of(prepared: Prepared, port: Port, link: Link, uplink: Uplink, over: Callable[[], bool]) -> Parts:
    """Join what the flow needs; raises ConfigError."""
    settings, pack = prepared.settings, prepared.pack
    told = telemetry_settings(settings)
    signals, dbc = joined(prepared.maps, settings.absent)
    assembler = Assembler(
        signals, dbc, model=pack.name, cells=pack.series, probes=pack.probes, pack_id=settings.vehicle,
        period_s=0.0,  # a frame at each message that drives it: the black box wants them all
    )  # fmt: skip
    cloud = CloudConfig(settings.vehicle, told.keys, pack.limits, pack.charge_max_a, pack.discharge_max_a)
    asks = not prepared.guard.config.observer
    about = {"model": pack.name, "gateway_version": version("ibms")}
    config = TelemetryConfig(care_config(pack, told.balancing), cloud, settings.state_dir / SOC_FILE, asks, about)
    telemetry = Telemetry(config, Keeping(told, settings.vehicle, uplink, encode), prepared.writer)
    return Parts(port, link, assembler, telemetry, time.monotonic_ns, time.time_ns, over)


def main(arguments: Sequence[str]) -> int:
    """Run until asked to end, or the supervisor is gone."""
    config, number = arguments
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda which, _: over.append(which))  # what is gathered goes to the disk first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person's Ctrl-C is for the supervisor, which ends us
    with suppress(OSError):
        os.nice(_NICE)  # whoever else wants the processor has it first
    link = inherited(int(number))
    try:
        prepared = prepare(load_settings(config), strict=False)
        settings = telemetry_settings(prepared.settings)
        uplink = open_uplink(settings.uplink, prepared.settings.vehicle)
        port = Port(prepared.settings.can, time.monotonic_ns, time.time_ns)
        parts = parts_of(prepared, port, link, uplink, lambda: bool(over))
    except ConfigError as bad:
        link.tell({"kind": "journal", "level": ERROR, "text": f"the telemetry process refuses to start: {bad}"})
        return 2
    cli_main(build(parts), epoch_interval=_EPOCH)
    port.close()
    return 0
