"""Recordings of real vehicles as tapes for the protection flow: CAN logs frame by frame, tables row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge import protector
from edge.commands import ASK_OPEN, CONTACTORS, VEHICLE, Sent, read
from edge.decode import Frame, Plan, Wish
from edge.pack_guard import PackGuard, pack_guard
from edge.protector import Before, ProtectorConfig
from edge.sensing import Arrival, Source
from edge.settings import Prepared, parse_settings, prepare
from replay.tables import read_table
from schemas.can import CanBlock
from schemas.frames import FrameBlock, concat
from schemas.mapping import load_mapping
from schemas.pack import PackModel, load_pack
from tests.safety.tape import NS, Tape, Tick, at_ticks, our_writer, play, settled

DELAY_S = 0.05  # from a decision to an open contactor
TICK_NS = 10_000_000
Row = tuple[int, tuple[float, ...]]  # time and values
_CONTEXT = {"speed_kmh": "speed_kmh", "soc": "soc_bms", "isolation_ohm": "isolation_ohm"}
_BOX = ("plus_closed", "minus_closed", "precharge_closed", "link_v")  # what the junction box beside a table says


# -- CAN logs

# Of each car the logs that are healthy as a whole; others are of benches without a battery, or of a bus that sleeps.
HEALTHY = {"bmw_i3": "-charging/", "hyundai_kona": "bms_diagnostics/"}


def can_of(car: str, log: str, dbc: Path) -> Prepared:
    """Prepare a gateway for a log: a BMW i3 of 60 or 120 Ah, or a Hyundai Kona (98 cell groups, 180 Ah)."""
    ah = "120" if "2019" in log else "60"
    return can_setup(dbc, f"bmw-i3-{ah}ah" if car == "bmw_i3" else "generic-nmc@98c2t180ah")


@cache
def can_setup(dbc: Path, pack: str, absent: tuple[str, ...] = ()) -> Prepared:
    """Prepare a gateway for a recorded bus, as it would from its settings."""
    text = f'vehicle = "recorded"\npack = "{pack}"\nstate_dir = "unused"\n[can]\ninterface = "none"\nchannel = "none"\n'
    text += f'[[map]]\ndbc = "{dbc}"\n[signals]\nabsent = {list(absent)}\n'
    return prepare(parse_settings(text.encode(), f"{dbc.stem}.toml", dbc.parent))


def play_can(block: CanBlock, setup: Prepared) -> Tape:
    """Run a CAN log through the flow, woken every 10 ms."""
    config = protector.config_of(setup.guard.config, setup.pack.limits, setup.writer.messages[VEHICLE].cycle_s)
    order = np.argsort(block.t_ns, kind="stable").tolist()
    t_ns, ids, ext = (block.t_ns - block.t_ns.min()).tolist(), block.can_id.tolist(), block.ext.tolist()
    data = [row[:n].tobytes() for row, n in zip(block.data, block.length.tolist(), strict=True)]
    frames = (Frame(ids[k], ext[k], data[k], t_ns[k]) for k in order)
    tape = Tape(at_ticks(frames, TICK_NS))
    with settled():
        return play(tape, replace(setup.plan, counters={}), config, protector.fresh_state(config, 0, Before(())))


# -- tables, a row a message


@dataclass(frozen=True, slots=True)
class TableSetup:
    """A gateway for a car's table; `pack_v`: its place in a row."""

    pack: PackModel
    guard: PackGuard
    config: ProtectorConfig
    period_s: float
    tick_ns: int
    pack_v: int


@dataclass
class Rows:
    """Stands for the decoding of a bus: what comes are messages already.  The vehicle wants its contactors closed."""

    refused: int = 0

    def decode(self, came: list[Arrival]) -> tuple[list[Arrival], list[Wish]]:
        """Give them."""
        return came, [Wish(close=True, standby=False)]


def frames_of(path: Path, model: str) -> FrameBlock:
    """Read a car's table as frames."""
    parts = [part for part in read_table(path, load_mapping("ev_faults"), model) if isinstance(part, FrameBlock)]
    return concat(parts)


def table_setup(block: FrameBlock, period_s: float, pack: PackModel | None = None) -> TableSetup:
    """Prepare a gateway to which each row is one message, beside a junction box that it finds closed."""
    pack = pack or load_pack(block.model)
    sent = ("cell_v", "temp_c", *_singles(block))
    places = {"cell_v": pack.series, "temp_c": pack.probes}
    fills = tuple((name, place) for name in sent for place in range(places.get(name, 1)))
    sources = (Source("row", period_s, fills), Source("junction box", period_s, tuple((name, 0) for name in _BOX)))
    found = pack_guard(pack, sources, (*sent, *_BOX), tick_s=period_s, delay_s=DELAY_S)
    cycle_s = our_writer().messages[VEHICLE].cycle_s
    config = protector.config_of(found.config, pack.limits, cycle_s)
    return TableSetup(pack, found, config, period_s, round(period_s * NS), fills.index(("pack_v", 0)))


@dataclass
class Played:
    """What a table has led to: a tape for each stretch without a pause, and when contactors were told to open, s."""

    tapes: list[Tape] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)

    def grave(self) -> list[tuple[float, str]]:
        """Give what was said where a row of the gravest tier fired."""
        return [said for tape in self.tapes for said in tape.grave()]

    def said(self) -> list[tuple[float, dict[str, Any]]]:
        """Give all decisions."""
        return [said for tape in self.tapes for said in tape.decisions]


def matrix(block: FrameBlock) -> list[list[float]]:
    """Give the values of each row in the order of `table_setup`'s fills."""
    values: list[list[float]] = np.column_stack([block.cell_v, block.temp_c, *_singles(block).values()]).tolist()
    return values


def play_table(block: FrameBlock, setup: TableSetup) -> Played:
    """Run a table through the flow; times count from its first row.

    Where the recorder paused for longer than silence may last, the gateway was off: it starts anew, with its latches.
    """
    t_ns = np.maximum.accumulate(block.t_ns - block.t_ns[0])
    rows = list(zip(t_ns.tolist(), map(tuple, matrix(block)), strict=True))
    silence = next(r for r in setup.pack.limits if (r.quantity, r.tier) == ("silence", "MSL"))
    paused = np.flatnonzero(np.diff(t_ns) > (silence.bound * setup.period_s + silence.for_s) * NS) + 1
    out = Played()
    latched: tuple[str, ...] = ()
    with settled():
        for start, end in pairwise([0, *paused.tolist(), len(rows)]):
            tape = play_rows(setup, rows[start:end], out.opened, latched)
            latched = tuple(tape.beat["latched"])
            out.tapes.append(tape)
    return out


def play_rows(setup: TableSetup, rows: list[Row], opened: list[float], latched: tuple[str, ...] = ()) -> Tape:
    """Run rows through the flow, each at its time; a request to open the contactors is noted in `opened`, s."""
    says = our_writer()
    request = says.messages[CONTACTORS]

    def heard(sent: Sent, now_ns: int) -> None:
        if sent.can_id == request.can_id and read(request, sent.data)["Plus"] == ASK_OPEN and not opened:
            opened.append(now_ns / NS)

    def ticks() -> Iterator[Tick]:
        nexts = [*(t for t, _ in rows[1:]), rows[-1][0] + 1]
        for (t_ns, values), next_ns in zip(rows, nexts, strict=True):
            came = [Arrival(0, t_ns, values)]
            for now_ns in range(t_ns, max(next_ns, t_ns + 1), setup.tick_ns):
                closed = float(not opened)
                yield now_ns, [*came, Arrival(1, now_ns, (closed, closed, 0.0, closed * values[setup.pack_v]))]
                came = []

    start = protector.fresh_state(setup.config, rows[0][0], Before(latched))
    return play(Tape(ticks(), heard, now_ns=rows[0][0]), cast("Plan", Rows()), setup.config, start, says)


def _singles(block: FrameBlock) -> dict[str, Any]:
    more = {ours: block.context[name] for ours, name in _CONTEXT.items() if name in block.context}
    return {"current_a": block.current_a, "pack_v": block.pack_v, **more}
