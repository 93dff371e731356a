"""What is broken on a recorded car, and when the gateway decides: `just faults` prints the table.

Each case changes the car (tests.safety.replayed) and names the rows that must fire, each with the time after which its
bound is reached where that is not at once: charge that is counted, a mean over a minute, a message that is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge.plant import PLACES
from edge.protection import key_of
from schemas.limits import AT_TICKS, slowest, worst_detection_s
from tests.safety import broken
from tests.safety.recordings import DELAY_S
from tests.safety.replayed import TICK_NS, Change, Scene, closed, gateway
from tests.safety.tape import NS

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Later = Callable[[Scene], float]
_MAX_V = 408.0  # of the pack: isolation is stated in ohm per volt of it
_AH = 126.1
_PAGES = range(24)  # of cell voltages
_ALONE, _MOVED_V = 16, 0.0054  # while a cell stays, its message has moved so often, by so much
_STATE = ("PackState", 0)


class Case(NamedTuple):
    """What is broken, in which scene, for how long, and `rows` with when their bound is reached, s after the fault."""

    name: str
    broken: str
    scene: str
    seconds: float
    change: Change
    rows: dict[str, float | Later]
    quick: bool = False  # for the default tests
    earliest: float = 0.95  # share of that time before which no row may fire


def _tiers(
    quantity: str, side: str, tiers: str = "MOL RSL MSL", way: str = "any", at_s: float = 0.0
) -> dict[str, float | Later]:
    return {f"{quantity}/{tier}/{side}/{way}": at_s for tier in tiers.split()}


def _rows(*parts: dict[str, float | Later]) -> dict[str, float | Later]:
    return {key: at for part in parts for key, at in part.items()}


def _moved(scene: Scene, *, by_a: float, for_s: float, after_s: float = 2.0) -> float:
    """Say when the recorded current has been away by so much for so long, s after the fault."""
    t_s = np.arange(after_s, len(scene.one) - 1, 0.1)
    current_a = np.interp(t_s, np.arange(len(scene.one)), scene.one[:, 0])
    away = np.abs(current_a - current_a[0]) > by_a
    held = np.lib.stride_tricks.sliding_window_view(away, round(for_s / 0.1) + 1).all(1)
    return float(np.argmax(held)) * 0.1 + for_s if held.any() else math.inf


_LATE_S = 2.0  # of a scene, when something breaks


def _turns_s(scene: Scene, recorded: FloatArray, by: float, legs: int) -> float:
    """Say when what was recorded has gone up and down so often, by more than `by` each time, s after the fault."""
    t_s = np.arange(_LATE_S, len(scene.one) - 1, 0.1)
    values = np.interp(t_s, np.arange(len(recorded)), recorded)
    turn, found, way = values[0], 0, 0.0
    for at_s, value in zip(t_s.tolist(), values.tolist(), strict=True):
        went = value - turn
        if went * way > 0:
            turn = value
        elif abs(went) > by:
            turn, way, found = value, went, found + 1
        if found == legs:
            return float(at_s - _LATE_S)
    return math.inf


def _pack_turns_s(scene: Scene) -> float:
    return _turns_s(scene, scene.one[:, 1] + scene.cell_v.sum(1), by=1.8, legs=4)


def _cell_alone_s(scene: Scene) -> float:
    """Say when the current has gone up and down, and the other cells of the page have moved, 16 times."""
    first = broken.CELL // PLACES * PLACES
    t_s, rows = np.arange(_LATE_S, len(scene.one) - 1, 0.1), np.arange(len(scene.one))
    page = np.stack([np.interp(t_s, rows, scene.cell_v[:, first + k]) for k in range(PLACES)])
    page[broken.CELL - first] = page[broken.CELL - first, 0]
    middle_v = np.median(page, axis=0).tolist()
    far_v, moves = middle_v[0], 0
    for k, value in enumerate(middle_v):
        if abs(value - far_v) >= _MOVED_V:
            far_v, moves = value, moves + 1
        if moves == _ALONE:
            return max(0.1 * k, _turns_s(scene, scene.one[:, 0], by=25.3, legs=_ALONE))
    return math.inf


_CHARGED = {tier: share * _AH * 3600 for tier, share in (("1", 0.01), ("2", 0.02), ("5", 0.05))}


def _warm_s(bound_a: float, current_a: float) -> float:
    """Give when the mean of a minute reaches a bound."""
    return -60.0 * math.log(1 - (bound_a / current_a) ** 2)


CASES = (
    Case("_base", "nothing, driving", "drive", 60, broken.nothing, {}),
    Case("_base", "nothing, charging", "charge", 60, broken.nothing, {}),
    Case("_ov", "a cell at 4.30 V", "charge", 6, partial(broken.cell, cell_v=4.3),
         _rows(_tiers("cell_v", "over"), _tiers("cell_dev_v", "over", "RSL")), quick=True),
    Case("_uv", "a cell at 2.60 V", "drive", 4, partial(broken.cell, cell_v=2.6), _tiers("cell_v", "under"),
         quick=True),
    Case("_deep", "a cell at 1.50 V", "stand", 4, partial(broken.cell, cell_v=1.5),
         _tiers("deep_discharge_v", "under", "MSL")),
    Case("_pack_ov", "pack sensor 60 V too high", "charge", 7, partial(broken.pack_off, by_v=60.0),
         _rows(_tiers("pack_v", "over"), _tiers("sum_mismatch_v", "over", "RSL"))),
    Case("_pack_uv", "pack sensor 140 V too low", "stand", 4, partial(broken.pack_off, by_v=-140.0),
         _tiers("pack_v", "under")),
    Case("_sum", "pack sensor 15 V too high", "charge", 8, partial(broken.pack_off, by_v=15.0),
         _tiers("sum_mismatch_v", "over", "RSL")),
    Case("_overcharge", "200 A into a pack whose fullest cell is at 4.22 V", "charge", 118,
         partial(broken.cell, cell_v=4.22, flows_a=200.0),
         {"overcharge_share/RSL/over/any": _CHARGED["1"] / 200, "overcharge_share/MSL/over/any": _CHARGED["5"] / 200}),
    Case("_overdischarge", "180 A out of a pack whose emptiest cell is at 2.84 V", "drive", 130,
         partial(broken.cell, cell_v=2.84, flows_a=-180.0),
         {"overdischarge_share/RSL/over/any": _CHARGED["2"] / 180,
          "overdischarge_share/MSL/over/any": _CHARGED["5"] / 180}),
    Case("_oc_charge", "330 A of charge", "charge", 5, partial(broken.flows, current_a=330.0),
         _tiers("current_a", "over", way="charge")),
    Case("_oc", "270 A of discharge at speed", "drive", 5, partial(broken.flows, current_a=-270.0),
         _tiers("current_a", "over", way="discharge"), quick=True),
    Case("_pulse_charge", "310 A of charge for long", "charge", 94, partial(broken.flows, current_a=310.0),
         {"rms_a/RSL/over/charge": _warm_s(247.0, 310.0), "rms_a/MSL/over/charge": _warm_s(273.0, 310.0)}),
    Case("_pulse", "255 A of discharge for long, at speed", "drive", 88, partial(broken.flows, current_a=-255.0),
         {"rms_a/RSL/over/discharge": _warm_s(199.5, 255.0), "rms_a/MSL/over/discharge": _warm_s(220.5, 255.0)}),
    Case("_short", "600 A at speed until the fuse trips after 0.3 s", "drive", 2,
         partial(broken.flows, current_a=-600.0, fuse_s=0.3), _tiers("short_a", "over", "MSL"), quick=True),
    Case("_short_no_fuse", "600 A at speed, and the fuse does not trip", "drive", 5,
         partial(broken.flows, current_a=-600.0), _tiers("short_a", "over", "MSL")),
    Case("_disobeyed_charge", "a charger that goes on at SOC 0.999", "charge", 6, partial(broken.ignores, soc=0.999),
         _tiers("disobeyed_a", "over", "RSL", "charge")),
    Case("_disobeyed", "an inverter that takes 100 A at SOC 0", "drive", 6,
         partial(broken.ignores, soc=0.0, current_a=-100.0), _tiers("disobeyed_a", "over", "RSL", "discharge")),
    Case("_ot_charge", "a probe at 61 °C, and the charger goes on", "charge", 10,
         partial(broken.probe, temp_c=61.0, obeys=False),
         _rows(_tiers("temp_c", "over", way="charge"), _tiers("temp_spread_c", "over", "RSL"),
               _tiers("temp_dev_c", "over", "RSL")),
         quick=True),
    Case("_ot", "a probe at 61 °C", "stand", 8, partial(broken.probe, temp_c=61.0),
         _tiers("temp_c", "over", way="discharge")),
    Case("_ut_charge", "all probes at -1 °C, and the charger goes on", "charge", 8,
         partial(broken.all_probes, temp_c=-1.0, obeys=False), _tiers("temp_c", "under", "MOL", "charge")),
    Case("_ut", "all probes at -21 °C", "stand", 8, partial(broken.all_probes, temp_c=-21.0),
         _tiers("temp_c", "under", "MOL", "discharge")),
    Case("_ot_rate", "a probe that rises by 0.7 K/s", "stand", 12, partial(broken.rises, by_c_per_s=0.7),
         _tiers("temp_rate_c_per_s", "over", "RSL", at_s=10.0), earliest=0.3),
    Case("_thermal", "a cell falls by 30 %, a probe rises by 1.5 K/s", "charge", 7, broken.burns,
         _tiers("thermal_event", "over", "MSL", at_s=5.0), quick=True, earliest=0.6),
    Case("_isolation", "90 Ω/V", "stand", 8, partial(broken.pack, name="isolation_ohm", value=90.0 * _MAX_V),
         _tiers("isolation_ohm_per_v", "under", "RSL MSL")),
    Case("_hvil", "interlock open, standing", "stand", 2, partial(broken.pack, name="hvil", value=0.0),
         _tiers("interlock_open", "over", "MSL"), quick=True),
    Case("_hvil_driving", "interlock open at speed", "drive", 2, partial(broken.pack, name="hvil", value=0.0),
         _tiers("interlock_open", "over", "MSL")),
    Case("_crash", "a crash at speed", "drive", 3, partial(broken.pack, name="crash", value=1.0),
         _tiers("crash", "over", "MSL"), quick=True),
    Case("_feedback", "the plus contactor falls open at speed", "drive", 2,
         partial(broken.contactors, which=(False, None, None), closes=True),
         _tiers("feedback_mismatch", "over", "MSL"), quick=True),
    Case("_weld", "the plus contactor stays closed when told to open", "stand", 3,
         partial(broken.contactors, which=(True, None, None), closes=False), _tiers("weld", "over", "MSL", at_s=0.6)),
    Case("_open_current", "both stay closed, and 10 A flow", "stand", 3, broken.both_weld,
         _tiers("open_current_a", "over", "MSL", at_s=0.5)),
    Case("_precharge", "a shorted link: three tries of precharge fail", "stand", 40, broken.shorted_link,
         _tiers("precharge_failures", "over", "MSL", at_s=37.0)),
    Case("_silent_cells", "no cell voltages any more, at speed", "drive", 23,
         partial(broken.silent, message="CellVoltages"), _tiers("silence", "over", "RSL MSL", at_s=0.5), earliest=0.75),
    Case("_silent_current", "no current any more, standing", "stand", 25, partial(broken.silent, message="PackState"),
         _tiers("silence", "over", "RSL MSL", at_s=0.5), earliest=0.75),
    Case("_silent_vehicle", "no speed any more", "drive", 2, partial(broken.silent, message="Vehicle"),
         _tiers("silence_minor", "over", "RSL", at_s=0.5), earliest=0.75),
    Case("_missing", "a cell without a value", "drive", 23, partial(broken.cell_said, cell_v=math.nan),
         _tiers("cells_missing", "over", "RSL MSL")),
    Case("_range", "a cell at 6.4 V: no measurement", "drive", 3, partial(broken.cell_said, cell_v=6.4),
         _tiers("cells_missing", "over", "RSL"), quick=True),
    Case("_invalid", "a current sensor without a value", "stand", 25,
         partial(broken.says, message="PackState", signals={"PackCurrent": math.nan}),
         _tiers("invalid", "over", "RSL MSL")),
    Case("_invalid_minor", "an interlock sensor without a value", "drive", 8,
         partial(broken.says, message="PackFrame", signals={"Hvil": math.nan}),
         _tiers("invalid_minor", "over", "RSL")),
    Case("_probes", "13 of 24 probes without a value", "stand", 23,
         partial(broken.says, message="ProbeTemperatures",
                 signals={f"ProbeTemperature_{n:03}": math.nan for n in range(1, 14)}),
         _tiers("probes_missing", "over")),
    Case("_stuck_cells", "cell voltages repeat while the current moves", "drive", 40,
         partial(broken.held, keys={("CellVoltages", k) for k in _PAGES}),
         {"cells_missing/RSL/over/any": partial(_moved, by_a=28.0, for_s=2.0)}),
    Case("_stuck_cell", "one cell's voltage repeats while the others move", "drive", 300, broken.cell_stays,
         {"cells_missing/RSL/over/any": _cell_alone_s}),
    Case("_stuck_currents", "both current sensors stay", "drive", 190, broken.both_currents_stay,
         {"invalid/RSL/over/any": _pack_turns_s}),
    Case("_stuck_current", "one of two current sensors stays", "drive", 40, broken.stuck_current,
         {"current_mismatch_a/RSL/over/any": partial(_moved, by_a=11.3, for_s=3.0)}),
    Case("_current2", "the two current sensors differ by 20 A", "drive", 6, partial(broken.second_off, by_a=20.0),
         _tiers("current_mismatch_a", "over", "RSL")),
    Case("_frozen", "all voltages and currents repeat", "charge", 124,
         partial(broken.held, keys={_STATE, ("PackCurrent2", 0), *(("CellVoltages", k) for k in _PAGES)}),
         _tiers("frozen_s", "over", "RSL", at_s=120.0)),
)  # fmt: skip


def due(case: Case, data_dir: Path) -> dict[str, tuple[float, float]]:
    """Give for each row of a case when its bound is reached, and when it fires at the latest, s after the fault."""
    guard = gateway()[0].guard
    periods_s = guard.config.sensing.periods()
    limits = {key_of(row): row for row in guard.config.table.rows}
    shown = closed(data_dir, case.scene)[0].shown
    assert shown is not None
    out = {}
    for key, at in case.rows.items():
        row, reached_s = limits[key], at(shown) if callable(at) else at
        period_s = TICK_NS / NS if row.quantity in AT_TICKS else slowest(row.quantity, periods_s)
        assert period_s is not None
        out[key] = reached_s, reached_s + worst_detection_s(row, period_s, DELAY_S)
    return out
