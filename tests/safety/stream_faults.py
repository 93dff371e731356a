"""The simulator's faults on recordings: the code that spoils simulated frames spoils recorded ones, row by row.

Faults that act in cells cannot be added to what was recorded: those run in a simulated car, through the same flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.protection import key_of
from replay.simulate.faults import ALL, Fault
from replay.simulate.fleet import FleetConfig, simulate
from replay.simulate.stream import Stream
from replay.simulate.truth import Truth
from schemas.frames import FrameBlock, concat
from schemas.limits import Limit, worst_detection_s
from tests.safety.recordings import Row, TableSetup, frames_of, matrix, play_rows, table_setup
from tests.safety.tape import NS, Tape, settled

START_S = 60.0  # when the fault begins
_CELL, _PROBE = 11, 4  # cell 12, probe 5
# Where the cars' tables drive or charge without a pause, in rows: file, first, how many, seconds a row.
STRETCHES = {
    "car1 drives": ("car1", 9753, 340, 1.0),
    "car1 charges": ("car1", 37292, 300, 1.0),
    "car2": ("car2", 11855, 200, 30.0),
}


class Spoiled(NamedTuple):
    """A fault on a stretch; `rows`: what must fire, with when its bound is reached, s; {}: nothing may open."""

    says: str
    stretch: str
    fault: Mapping[str, Any]
    rows: Mapping[str, float]
    quick: bool = False


def _of(kind: str, size: float = 0.0, field: str = "", subject: int = -1, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "size": size, "field": field, "subject": subject, **more}


SPOILED = (
    Spoiled("a cell reads 0.6 V too high", "car1 charges", _of("sensor_bias", 0.6, "cell_v", _CELL),
            {"cell_v/MSL/over/any": 0, "cell_dev_v/RSL/over/any": 0}, quick=True),
    Spoiled("a cell reads 1.3 V too low", "car1 drives", _of("sensor_bias", -1.4, "cell_v", _CELL),
            {"cell_v/MSL/under/any": 0, "cell_dev_v/RSL/over/any": 0}),
    Spoiled("a probe reads 30 K too high", "car1 charges", _of("sensor_bias", 30.0, "temp_c", _PROBE),
            {"temp_c/MSL/over/charge": 0, "temp_spread_c/RSL/over/any": 0, "temp_dev_c/RSL/over/any": 0}),
    Spoiled("the current reads 300 A of discharge too much", "car1 drives", _of("sensor_bias", -300.0, "current_a"),
            {"current_a/MSL/over/discharge": 0}, quick=True),
    Spoiled("the pack sensor reads 12 V too high", "car1 drives", _of("sensor_bias", 12.0, "pack_v"),
            {"sum_mismatch_v/RSL/over/any": 0}),
    Spoiled("the pack sensor repeats while the current moves", "car1 drives", _of("stuck_value", 0.0, "pack_v"),
            {"invalid/RSL/over/any": 10.0}),
    Spoiled("a cell repeats", "car1 drives", _of("stuck_value", 0.0, "cell_v", _CELL), {}),
    Spoiled("the current repeats, and there is no second sensor", "car1 drives",
            _of("stuck_value", 0.0, "current_a"),  # the pack's voltage has gone up and down four times by then
            {"invalid/RSL/over/any": 124.0, "invalid/MSL/over/any": 124.0}),
    Spoiled("a sense wire is open", "car1 drives", _of("open_sense_wire", 0.6, subject=_CELL),
            {"cell_v/MSL/over/any": 0, "cell_dev_v/RSL/over/any": 0}),
    Spoiled("15 of 96 cells are missing", "car1 drives", _of("missing_cells", 15.0, subject=_CELL),
            {"cells_missing/RSL/over/any": 0, "cells_missing/MSL/over/any": 0}, quick=True),
    Spoiled("all values repeat", "car1 charges", _of("frozen_frame"), {"frozen_s/RSL/over/any": 120.0}),
    Spoiled("a cell shows 4.3 V", "car1 charges", _of("spoofed_field", 4.3, "cell_v", _CELL),
            {"cell_v/MSL/over/any": 0}),
    Spoiled("the current shows 600 A", "car1 drives", _of("spoofed_field", -600.0, "current_a"),
            {"short_a/MSL/over/any": 0}),
    Spoiled("the sender's clock is an hour ahead", "car1 charges", _of("clock_jump", 3600.0), {}),
    Spoiled("the sender's clock counts from 1970", "car1 charges", _of("clock_jump", unit="1970"), {}),
    Spoiled("nothing comes for a minute", "car1 drives", _of("dropped", end_s=START_S + 60.0),
            {"silence/RSL/over/any": 4.0, "silence/MSL/over/any": 4.0}, quick=True),
    Spoiled("half of the rows do not come", "car1 drives", _of("dropped", share=0.5), {}),
    Spoiled("rows come twice, 5 s later again", "car1 drives", _of("duplicated", 5.0), {}),
    Spoiled("rows come 10 s late", "car1 drives", _of("late", 10.0), {}),
    Spoiled("rows come up to 10 s late, out of order", "car1 drives", _of("out_of_order", 10.0), {}),
    Spoiled("a cell reads 0.6 V too high", "car2", _of("sensor_bias", 0.6, "cell_v", _CELL),
            {"cell_v/MSL/over/any": 0}),
    Spoiled("the current shows 900 A", "car2", _of("spoofed_field", -900.0, "current_a"), {"short_a/MSL/over/any": 0}),
    Spoiled("15 of 88 cells are missing", "car2", _of("missing_cells", 15.0, subject=_CELL),
            {"cells_missing/MSL/over/any": 0}),
    Spoiled("all values repeat", "car2", _of("frozen_frame"), {"frozen_s/RSL/over/any": 120.0}),
)  # fmt: skip


class Physical(NamedTuple):
    """A fault in the cells of the n-th simulated car: from `start_s`, watched for `seconds`; `rows` must fire."""

    says: str
    car: int
    start_s: float
    seconds: float
    fault: Mapping[str, Any]
    rows: tuple[str, ...]
    quick: bool = False


PHYSICAL = (
    Physical("a cell is shorted by 20 mΩ", 0, 1000, 3000, _of("internal_short", 0.02, subject=_CELL),
             ("cell_v/MSL/under/any", "cell_dev_v/RSL/over/any")),
    Physical("a cell runs away", 0, 1000, 600, _of("thermal_runaway", 20_000.0, subject=_CELL),
             ("thermal_event/MSL/over/any",), quick=True),
    Physical("a cell's resistance is 51 times as large", 2, 28_000, 1100, _of("rising_resistance", 50.0, subject=_CELL),
             ()),
    Physical("a cell has lost 95 % of its Ah", 4, 23_900, 1900, _of("capacity_loss", 0.95, subject=_CELL), ()),
    Physical("the pack is not cooled", 4, 23_900, 1900, _of("cooling_fault", 1.0), ()),
)  # fmt: skip


@cache
def stretch(data_dir: Path, name: str) -> tuple[FrameBlock, TableSetup]:
    """Give a stretch of a car's table, and a gateway for it."""
    car, first, rows, period_s = STRETCHES[name]
    block = frames_of(data_dir / f"ev_faults/{car}.parquet", f"ev-faults-{car}")
    return block.take(slice(first, first + rows)), table_setup(block, period_s)


def spoiled(block: FrameBlock, fault: Fault) -> list[Row]:
    """Give what a gateway hears of a recording with a fault on its way: rows at the times at which they arrive."""
    block = replace(block, seq=np.arange(len(block), dtype=block.seq.dtype))
    start_ns, none = int(block.t_ns[0]), np.zeros(1)
    stream = Stream(((0, fault),), start_ns, seed=1)
    rows: list[Row] = []
    for k in range(len(block)):
        truth = Truth(none, none, none, none, none, none, none, np.zeros(1, np.uint32))
        came, _ = stream.send(block.take(np.array([k])), truth)
        rows += [(int(block.t_ns[k]) - start_ns, tuple(values)) for values in matrix(came)]
    return rows


class Heard(NamedTuple):
    """What a gateway made of it: for each row that must fire, when it did and when at the latest, s after the fault.

    `grave`: rows of the gravest tier that fired after it; `opened_s`: when contactors were told to open (NaN: not).
    """

    rows: dict[str, tuple[float, float]]
    grave: list[str]
    opened_s: float


def play_spoiled(data_dir: Path, case: Spoiled) -> Heard:
    """Run a stretch with its fault."""
    block, setup = stretch(data_dir, case.stretch)
    start_s = max(START_S, 2 * setup.period_s)
    fault = Fault(vehicle=0, start_s=start_s, **{"end_s": 1e6, **case.fault})
    opened: list[float] = []
    with settled():
        tape = play_rows(setup, spoiled(block, fault), opened)
    return _heard(tape, setup, dict(case.rows), start_s, opened)


def play_physical(case: Physical) -> Heard:
    """Run a simulated car with a fault in its cells."""
    fault = Fault(vehicle=ALL, start_s=case.start_s, end_s=1e6, **case.fault)
    hours = (case.start_s + case.seconds) / 3600
    cfg = FleetConfig(1, hours, 1.0, ("ev-faults-car1",), faults=(fault,), first=case.car, sleep=False)
    before_s = 100
    block = concat([part for part, _ in simulate(cfg)]).take(slice(int(case.start_s) - before_s, None))
    setup = table_setup(block, 1.0)
    rows = [(k * NS, tuple(values)) for k, values in enumerate(matrix(block))]
    opened: list[float] = []
    with settled():
        tape = play_rows(setup, rows, opened)
    at_s = {key: reached_s(block, setup, key) - before_s for key in case.rows}
    return _heard(tape, setup, at_s, before_s, opened)


def _heard(tape: Tape, setup: TableSetup, at_s: Mapping[str, float], start_s: float, opened: list[float]) -> Heard:
    limits = {key_of(row): row for row in setup.guard.config.table.rows}
    after = {key: t_s - start_s for key, t_s in tape.fired().items() if t_s >= start_s}
    rows = {key: (after.get(key, math.nan), at + latest_s(limits[key], setup.period_s)) for key, at in at_s.items()}
    grave = [key for key in after if "/MSL/" in key]
    return Heard(rows, grave, opened[0] - start_s if opened else math.nan)


def latest_s(row: Limit, period_s: float) -> float:
    """Give a row's worst detection where all messages, and the ticks, come once a period."""
    return worst_detection_s(row, period_s)


def reached_s(block: FrameBlock, setup: TableSetup, key: str) -> float:
    """Say from simulated frames, a second apart, when a row's bound was reached for as many samples as it needs."""
    row = next(row for row in setup.guard.config.table.rows if key_of(row) == key)
    cell_v, temp_c = block.cell_v, block.temp_c
    if row.quantity == "thermal_event":
        rise = np.nanmax(np.diff(temp_c, axis=0, prepend=temp_c[:1]), axis=1) >= 1.0
        bad = rise & (cell_v.min(1) < 0.75 * np.median(cell_v, axis=1))
        bad = _lasts(bad, 4, ahead=False)
    else:
        value = (
            cell_v.min(1) if row.quantity == "cell_v" else np.abs(cell_v - np.median(cell_v, axis=1)[:, None]).max(1)
        )
        over = value >= row.bound if row.over else value <= row.bound
        bad = _lasts(over, max(row.min_samples, math.ceil(row.for_s) + 1), ahead=True)
    return float(np.argmax(bad)) if bad.any() else math.inf


def _lasts(bad: NDArray[np.bool_], samples: int, *, ahead: bool) -> NDArray[np.bool_]:
    """Say where something holds for so many samples, those ahead or those before."""
    held = np.lib.stride_tricks.sliding_window_view(bad, samples).all(1)
    pad = np.zeros(samples - 1, np.bool_)
    return np.concatenate([held, pad] if ahead else [pad, held])
