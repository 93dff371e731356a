"""The protection flow of a gateway (edge.protect_flow) on a tape: recordings go in, commands and words come out.

The tape stands for the bus, the supervisor and the clock; all between them is what a gateway runs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, cast

from bytewax.run import cli_main

from edge.commands import Sent, Writer, writer
from edge.decode import Frame, Plan
from edge.link import Told
from edge.protect_flow import Parts, build
from edge.protector import ProtectorConfig, State
from operators.dbc import Dbc, load_dbc
from schemas.signals import DBC_DIR

NS = 10**9
Tick = tuple[int, Sequence[Any]]  # a time, and what has come by then
_EPOCH = timedelta(days=365)


@dataclass
class Tape:
    """A bus, a supervisor and a clock.

    `ticks`: when the source wakes, and with what; `heard` gets each frame that is sent.  `decisions` and `alerts` are
    what the supervisor was told, each with its time, s; `beat` is the newest of its beats, `allowed` of each beat the
    time, s, and the currents that may be charged and discharged, A.
    """

    ticks: Iterator[Tick]
    heard: Callable[[Sent, int], None] | None = None
    decisions: list[tuple[float, Told]] = field(default_factory=list)
    alerts: list[tuple[float, str]] = field(default_factory=list)
    beat: Told = field(default_factory=dict)
    allowed: list[tuple[float, float, float]] = field(default_factory=list)
    now_ns: int = 0
    errors: int = 0
    unsent: int = 0
    lost: int = 0

    def now(self) -> int:
        """Give the time of the tape."""
        return self.now_ns

    def take(self) -> Sequence[Any]:
        """Go on to the next tick; the tape's end (StopIteration) ends the flow."""
        self.now_ns, came = next(self.ticks)
        return came

    def send(self, sent: Iterable[Sent]) -> None:
        """Take what is commanded."""
        for one in sent:
            if self.heard is not None:
                self.heard(one, self.now_ns)

    def hear(self) -> list[Told]:
        """Give the supervisor's orders: none."""
        return []

    def tell(self, message: Told) -> bool:
        """Take what the supervisor is told."""
        t_s, kind = self.now_ns / NS, message["kind"]
        if kind == "alert":
            self.alerts.append((t_s, message["text"]))
        elif kind == "decision":
            self.decisions.append((t_s, message))
        else:  # not all of them: the flow's sweeps would look at each
            self.beat = message
            self.allowed.append((t_s, message["charge_a"], message["discharge_a"]))
        return True

    def fired(self) -> dict[str, float]:
        """Give when each row fired first, s."""
        first: dict[str, float] = {}
        for t_s, decision in self.decisions:
            if decision["active"]:
                first.setdefault(decision["key"], t_s)
        return first

    def grave(self) -> list[tuple[float, str]]:
        """Give what was said where a row of the gravest tier fired."""
        return [(t_s, d["text"]) for t_s, d in self.decisions if d["active"] and d["tier"] == "MSL"]


def play(tape: Tape, plan: Plan, config: ProtectorConfig, state: State, says: Writer | None = None) -> Tape:
    """Run the flow until the tape ends."""
    parts = Parts(
        port=cast("Any", tape), link=cast("Any", tape), plan=plan, writer=says or our_writer(), config=config,
        state=state, now=tape.now, observer=config.guard.observer,
    )  # fmt: skip
    cli_main(build(parts), epoch_interval=_EPOCH)
    return tape


@contextmanager
def settled() -> Iterator[None]:
    """Let the flow's sweeps look at little, as its process does before it starts."""
    done = gc.get_freeze_count() > 0  # under pytest, which stays as it is
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not done:
            gc.unfreeze()


@cache
def _edge_dbc() -> Dbc:
    return load_dbc(DBC_DIR / "ibms_edge.dbc")


def our_writer() -> Writer:
    """Give what writes our own commands, its counters new."""
    return writer(_edge_dbc())


def at_ticks(frames: Iterable[Frame], tick_ns: int) -> Iterator[Tick]:
    """Let a source wake every `tick_ns` and find the frames that have come since."""
    waiting: list[Frame] = []
    next_ns = -1
    for frame in frames:
        next_ns = frame.t_ns + tick_ns if next_ns < 0 else next_ns
        while frame.t_ns > next_ns:
            yield next_ns, waiting
            waiting, next_ns = [], next_ns + tick_ns
        waiting.append(frame)
    yield next_ns, waiting
