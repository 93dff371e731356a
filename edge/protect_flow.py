"""The protection process: CAN in, decode, judge, CAN out; no disk, no network, nothing that waits.

A bytewax dataflow of one worker without recovery.  The source wakes at least every 10 ms, so that silence is noticed.
Run by the supervisor as `python -m edge.start protect_flow CONFIG LINK`, LINK being the file number of their link.
"""

from __future__ import annotations

import gc
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from edge import protector
from edge.canbus import Port
from edge.commands import VEHICLE, Protecting, Writer
from edge.decode import Plan
from edge.link import Link, Told, inherited
from edge.priority import pinned, urgent
from edge.protector import Before, Heard, Judged, ProtectorConfig, Round, State
from edge.settings import Prepared, load_settings, prepare
from edge.timings import Timings
from schemas.checked import ConfigError

BEAT_NS = 100_000_000
SWEEP_NS = 10 * 10**9
START_S = 5.0  # that the supervisor may take to say what the run before left
_MOST_DECISIONS = 256  # that wait for a supervisor who does not listen
_EPOCH = timedelta(days=365)  # nothing is recovered, so nothing need be cut into epochs


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of; `now` gives ns of a monotonic clock."""

    port: Port
    link: Link
    plan: Plan
    writer: Writer
    config: ProtectorConfig
    state: State
    now: Callable[[], int]
    observer: bool


class _Input(StatelessSourcePartition[Round]):
    """Waits for a frame, at most 10 ms."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._swept_ns = parts, parts.now()

    def next_batch(self) -> list[Round]:
        now_ns = self._parts.now()
        if now_ns - self._swept_ns >= SWEEP_NS:
            self._swept_ns = now_ns
            gc.collect()  # here, and never in the middle of a step
        frames = self._parts.port.take()
        orders = list(self._parts.link.hear())
        return [Round(frames, orders, self._parts.now())]


class _Source(DynamicSource[Round]):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Input:
        return _Input(self._parts)


class _Output(StatelessSinkPartition[Judged]):
    """Sends commands first; then tells the supervisor, at once of decisions, otherwise in beats."""

    def __init__(self, parts: Parts, timings: Timings) -> None:
        self._parts, self._timings = parts, timings
        self._says = Protecting(parts.writer, parts.config.guard.table)
        self._waiting: deque[Told] = deque(maxlen=_MOST_DECISIONS)
        self._frames = 0
        self._beat_ns = -BEAT_NS

    def write_batch(self, items: list[Judged]) -> None:
        for item in items:
            self._one(item)

    def _one(self, item: Judged) -> None:
        out = item.output
        if not self._parts.observer:
            due = self._says.due(
                out.commands, item.phase, out.verdict, out.allowed, may_close=out.may_close, now_ns=item.now_ns
            )
            self._parts.port.send(due)
        self._frames += item.frames
        if out.decisions or out.commands.alerts:
            stands = {"phase": item.phase, "charge_a": out.allowed.charge_a, "discharge_a": out.allowed.discharge_a}
            self._waiting.extend({"kind": "decision", **protector.told(d), **stands} for d in out.decisions)
            self._waiting.extend({"kind": "alert", "text": text, **stands} for text in out.commands.alerts)
        if out.decisions or out.commands.alerts or item.now_ns - self._beat_ns >= BEAT_NS:
            self._tell(item)

    def _tell(self, item: Judged) -> None:
        self._beat_ns = item.now_ns
        link = self._parts.link
        while self._waiting and link.tell(self._waiting[0]):
            self._waiting.popleft()
        link.tell(protector.beat(item) | {
            "frames": self._frames,
            "refused": self._parts.plan.refused,
            "errors": self._parts.port.errors,
            "unsent": self._parts.port.unsent,
            "lost": link.lost,
            "step_counts": self._timings.counts,
            "step_total_us": self._timings.total_us,
            "step_longest_us": self._timings.longest_us,
        })  # fmt: skip


class _Sink(DynamicSink[Judged]):
    def __init__(self, parts: Parts, timings: Timings) -> None:
        self._parts, self._timings = parts, timings

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Output:
        return _Output(self._parts, self._timings)


def build(parts: Parts) -> Dataflow:
    """Wire the flow."""
    timings = Timings()

    def decode(item: Round) -> Heard:
        arrivals, wishes = parts.plan.decode(item.frames)
        return Heard(arrivals, wishes, item.orders, len(item.frames), item.now_ns)

    def protect(state: State | None, item: Heard) -> tuple[State, Judged]:
        began_ns = parts.now()
        after, judged = protector.step(parts.config, parts.state if state is None else state, item)
        timings.add((parts.now() - began_ns) / 1000)
        return after, judged

    flow = Dataflow("protection")
    rounds = op.input("can_in", flow, _Source(parts))
    heard = op.map("decode", rounds, decode)
    keyed = op.key_on("pack", heard, lambda _: "pack")
    judged = op.stateful_map("protect", keyed, protect)
    op.output("can_out", op.key_rm("commands", judged), _Sink(parts, timings))
    return flow


def parts_of(prepared: Prepared, port: Port, link: Link, left: Before, now: Callable[[], int]) -> Parts:
    """Join what the flow needs."""
    config = protector.config_of(prepared.guard.config, prepared.pack.limits, prepared.writer.messages[VEHICLE].cycle_s)
    return Parts(
        port, link, prepared.plan, prepared.writer, config, protector.fresh_state(config, now(), left), now,
        prepared.guard.config.observer,
    )  # fmt: skip


def left_before(link: Link, wait_s: float = START_S) -> Before:
    """Wait for the supervisor to say what the run before left; without a word latches are lost."""
    for _ in range(round(wait_s * 1000)):
        for order in link.hear():
            if order.get("kind") == "start":
                return protector.before(order)
        if link.over:
            break
        time.sleep(0.001)
    return Before()


def main(arguments: Sequence[str]) -> int:
    """Run until the process is ended."""
    config, number = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person's Ctrl-C is for the supervisor, which ends us
    link = inherited(int(number))
    try:
        prepared = prepare(load_settings(config))
        port = Port(prepared.settings.can, time.monotonic_ns, time.time_ns)
    except ConfigError as bad:
        link.tell({"kind": "refused", "text": str(bad)})
        return 2
    urgent(prepared.settings.priority)
    left = left_before(link)
    port.forget()
    flow = build(parts_of(prepared, port, link, left, time.monotonic_ns))
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    pinned()
    gc.disable()  # nothing here makes cycles; what a library leaves is swept by the source
    cli_main(flow, epoch_interval=_EPOCH)
    return 0
