"""How a pack model and the signals of a vehicle become the settings of protection, and what they cannot protect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge.contactors import ContactorConfig
from edge.derating import HORIZONS_S, DeratingConfig
from edge.guard import GuardConfig
from edge.protection import Table, table_of
from edge.quantities import CONTACTORS, FEEDBACK, QuantitiesConfig
from edge.sensing import MANY, ONE, OTHERS, VITAL, SensingConfig, SignalRule, Source
from edge.stuck import StuckConfig
from schemas.limits import NEEDS, Limit, too_slow
from schemas.pack import PackModel

_STANDS = ("speed_kmh", "drive_state", "charge_type")
_STEP_SHARE = 0.2  # of the capacity in A: a current that moves by more than this per hour's worth steps
_QUICK_SHARE = 0.02  # of the pack's voltage: what moves so far within 2 s cannot leave the current as it is
_SWING_SHARE, _NOISE_V = 0.005, 1.0  # likewise: what goes up and down so far, and by more than sensors are noisy
_MOVED_SHARE = 0.5  # of what the least resistance makes of a current that moved: others' resistances differ
_STEPS = 4.0  # resolutions that a voltage must move by before it is called stuck


@dataclass(frozen=True, slots=True)
class PackGuard:
    """The settings, and what a person should know: rows that lack a signal, rows that come too late, warnings."""

    config: GuardConfig
    not_evaluated: tuple[Limit, ...]
    too_slow: tuple[str, ...]
    warnings: tuple[str, ...]


def default_ranges(pack: PackModel) -> dict[str, tuple[float, float]]:
    """Give the range of values that each signal can have; outside it is no measurement."""
    large_a = 10.0 * max(pack.charge_max_a, pack.discharge_max_a)
    high_v = 6.0 * pack.series
    flag = (0.0, 1.0)
    return {
        "cell_v": (0.5, 6.0),
        "temp_c": (-50.0, 200.0),
        "current_a": (-large_a, large_a),
        "current2_a": (-large_a, large_a),
        "pack_v": (0.0, high_v),
        "link_v": (-10.0, high_v),
        "isolation_ohm": (0.0, 1e12),
        "hvil": flag,
        "crash": flag,
        "speed_kmh": (-100.0, 500.0),
        "drive_state": (0.0, 2.0),
        "charge_type": (0.0, 2.0),
        "soc": flag,
        **dict.fromkeys(FEEDBACK, flag),
    }


def pack_guard(
    pack: PackModel,
    sources: Sequence[Source],
    required: Iterable[str],
    *,
    tick_s: float = 0.01,
    delay_s: float = 0.0,
    resolution_v: tuple[float, float] = (0.001, 0.1),
    limits: Sequence[Limit] | None = None,
) -> PackGuard:
    """Make the settings.  `required` names the signals that are sent, all others are absent.

    `delay_s`: from a decision to an open contactor.  `resolution_v`: of a cell's and of the pack's voltage.  `limits`
    stand for the pack's own, such as tightened ones.  Raises ValueError that says what is wrong and what is accepted.
    """
    sent = frozenset(required)
    unknown = sorted(sent - {*MANY, *ONE})
    if unknown:
        msg = f"a required signal must be one of {', '.join((*MANY, *ONE))}; got {', '.join(unknown)}"
        raise ValueError(msg)
    rules = {name: SignalRule(name in sent, low, high) for name, (low, high) in default_ranges(pack).items()}
    idle_a = max(0.5, 0.01 * pack.usable_ah)
    sensed = SensingConfig(
        sources=tuple(sources),
        rules=rules,
        cells=pack.series,
        probes=pack.probes,
        idle_a=idle_a,
        stuck=_stuck(pack, resolution_v, idle_a),
    )
    rows = tuple(pack.limits if limits is None else limits)
    evaluated = tuple(row for row in rows if _has_signals(row, sent))
    table = _table(evaluated, sensed, idle_a)
    config = GuardConfig(
        sensing=sensed,
        quantities=_quantities(pack, rows, sensed),
        table=table,
        derating=_derating(pack, rows, sent),
        contactors=ContactorConfig(break_current_a=pack.break_current_a),
        observer="cell_v" not in sent,
    )
    late = too_slow(evaluated, sensed.periods(), tick_s, delay_s)
    return PackGuard(config, tuple(row for row in rows if row not in evaluated), tuple(late), _warnings(sent))


def _has_signals(row: Limit, sent: frozenset[str]) -> bool:
    return all(sent.intersection(alternatives) for alternatives in NEEDS[row.quantity])


def _warnings(sent: frozenset[str]) -> tuple[str, ...]:
    found = []
    if "cell_v" not in sent:
        found.append("no cell voltages: observer, contactors are never commanded")
    if not sent.intersection(_STANDS):
        found.append(f"none of {', '.join(_STANDS)}: the vehicle counts as moving, what opens at standstill never does")
    if not {"plus_closed", "minus_closed"} <= sent:
        found.append("no feedback of both main contactors: after a restart they are held until the vehicle stands")
    return tuple(found)


def _stuck(pack: PackModel, resolution_v: tuple[float, float], idle_a: float) -> StuckConfig:
    """Say what must move for a value that stays to be stuck: by the least resistance, some steps of the resolution."""
    ohm, pack_v = float(np.min(pack.grid().r0[11])), pack.series * float(np.mean(pack.ocv.v))  # 25 °C
    seen_a = max(resolution_v[0] / ohm, resolution_v[1] / (ohm * pack.series))
    stuck_a = max(_STEP_SHARE * pack.usable_ah, _STEPS * seen_a)
    return StuckConfig(
        idle_a=idle_a,
        stuck_a=stuck_a,
        stuck_v=_QUICK_SHARE * pack_v,
        moved_v=_MOVED_SHARE * stuck_a * ohm,
        swing_v=max(_SWING_SHARE * pack_v, stuck_a * ohm * pack.series, _NOISE_V),
    )


def _table(rows: Sequence[Limit], sensed: SensingConfig, idle_a: float) -> Table:
    cells, probes = (len(sensed.groups.get(name, ())) for name in MANY)
    feedback = sum(sensed.rules[name].required for name in FEEDBACK)
    groups = {
        **dict.fromkeys(("cell_v", "deep_discharge_v", "cell_dev_v", "cells_missing"), cells),
        **dict.fromkeys(("temp_c", "temp_dev_c", "temp_rate_c_per_s", "probes_missing"), probes),
        "feedback_mismatch": feedback,
        "invalid": len(_sent(sensed, VITAL)),
        "invalid_minor": len(_sent(sensed, OTHERS)),
    }
    messages = tuple(source.name for source in sensed.sources)
    names = {
        "silence": messages,
        "silence_minor": messages,
        "invalid": _sent(sensed, VITAL),
        "invalid_minor": _sent(sensed, OTHERS),
        "feedback_mismatch": CONTACTORS,
        "weld": CONTACTORS,
    }
    return table_of(rows, idle_a, groups, names)


def _sent(sensed: SensingConfig, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if sensed.rules[name].required)


def _bound(rows: Iterable[Limit], quantity: str, tier: str, otherwise: float, *, over: bool, way: str = "any") -> float:
    wanted = (quantity, tier, over, way)
    return next((r.bound for r in rows if (r.quantity, r.tier, r.over, r.direction) == wanted), otherwise)


def _quantities(pack: PackModel, rows: Sequence[Limit], sensed: SensingConfig) -> QuantitiesConfig:
    places = {
        name: tuple(tuple(p for n, p in sensed.sources[k].fills if n == name) for k in sensed.groups.get(name, ()))
        for name in MANY
    }
    tops = [row.bound for row in rows if row.quantity == "cell_v" and row.over]
    hot = [row.bound for row in rows if row.quantity == "temp_c" and row.over and row.tier == "MSL"]
    return QuantitiesConfig(
        cell_groups=places["cell_v"],
        probe_groups=places["temp_c"],
        nominal_ah=pack.nominal_ah,
        max_pack_v=pack.series * max(tops, default=float(pack.ocv.v.max())),
        sum_offset_v=pack.sum_offset_v,
        full_v=_bound(rows, "cell_v", "MOL", math.inf, over=True),
        empty_v=_bound(rows, "cell_v", "RSL", -math.inf, over=False),
        hysteresis_v=0.02,
        max_temp_c=min(hot, default=math.inf),
        step_a=_STEP_SHARE * pack.usable_ah,
        feedback=tuple(k for k, name in enumerate(FEEDBACK) if sensed.rules[name].required),
        vital=tuple(
            any(name in {*MANY, *VITAL} and sensed.rules[name].required for name, _ in source.fills)
            for source in sensed.sources
        ),
        vital_sent=_sent(sensed, VITAL),
        others_sent=_sent(sensed, OTHERS),
    )


def _derating(pack: PackModel, rows: Sequence[Limit], sent: frozenset[str]) -> DeratingConfig:
    grid, every = pack.grid(), slice(None, None, 10)
    shares = {h: grid.r0 + np.einsum("b,btk->tk", 1 - np.exp(-h / grid.tau_s), grid.rb) for h in HORIZONS_S}
    low_v, high_v = float(pack.ocv.v.min()), float(pack.ocv.v.max())
    return DeratingConfig(
        series=pack.series,
        charge_max_a=pack.charge_max_a,
        discharge_max_a=pack.discharge_max_a,
        charge_rms_a=_bound(rows, "rms_a", "RSL", pack.charge_max_a, over=True, way="charge"),
        discharge_rms_a=_bound(rows, "rms_a", "RSL", pack.discharge_max_a, over=True, way="discharge"),
        high_v=_bound(rows, "cell_v", "MOL", high_v, over=True),
        low_v=_bound(rows, "cell_v", "MOL", low_v, over=False),
        temp_c=tuple(pack.derating.temp_c.tolist()),
        charge_share=tuple(pack.derating.charge.tolist()),
        discharge_share=tuple(pack.derating.discharge.tolist()),
        r_temp_c=tuple(grid.temp_c.tolist()),
        r_soc=tuple(grid.soc[every].tolist()),
        r_ohm=tuple(tuple(tuple(row) for row in shares[h][:, every].tolist()) for h in HORIZONS_S),
        cells="cell_v" in sent,
        probes="temp_c" in sent,
    )
