"""What the values of a sample say about each protected quantity (schemas.limits.QUANTITIES).

Pure.  A quantity is measured where a message brought what it needs, and only then: a value that is held, or missing,
until the next message must not count again.  What is about silence or about commands of our own is measured at every
tick.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from edge import thermal_event
from edge.protection import Facts, Measure
from edge.sensing import OK, VITAL, Many, Sample
from schemas.limits import RMS_TAU_S

FEEDBACK = ("plus_closed", "minus_closed", "precharge_closed")
CONTACTORS = ("plus", "minus", "precharge")
_NS = 10**9
_STEP_NS = 10**9  # a current that moves far within it steps, and for as long voltages do not belong together
_RATE_NS = 5 * 10**9  # a rise of temperature is taken over this to twice this
_CHARGING = 2.0  # drive_state
_SILENCES = {"silence": True, "silence_minor": False}  # of what is vital, and of the rest


@dataclass(frozen=True, slots=True)
class QuantitiesConfig:
    """What the quantities need of a pack and its signals.

    `cell_groups`, `probe_groups`: the places (from 0) that come together.  `full_v`, `empty_v`: of a cell, where
    overcharge and over-discharge begin.  `step_a`: current steps by more are left out where voltages are compared.
    `feedback`: which of plus, minus and precharge tell where they are.  `vital`: for each source, whether it brings
    what nothing is known without.  `vital_sent`, `others_sent`: which single values are sent.
    """

    cell_groups: tuple[tuple[int, ...], ...]
    probe_groups: tuple[tuple[int, ...], ...]
    nominal_ah: float
    max_pack_v: float
    sum_offset_v: float
    full_v: float
    empty_v: float
    hysteresis_v: float
    max_temp_c: float
    step_a: float
    feedback: tuple[int, ...]
    vital: tuple[bool, ...]
    vital_sent: tuple[str, ...]
    others_sent: tuple[str, ...]
    silences: tuple[tuple[str, tuple[int, ...]], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the sources by what their silence means."""
        split = {name: tuple(k for k, v in enumerate(self.vital) if v == vital) for name, vital in _SILENCES.items()}
        object.__setattr__(self, "silences", tuple((name, places) for name, places in split.items() if places))


class Own(NamedTuple):
    """What our own side did at the tick before; `commanded` is None while nothing is commanded."""

    commanded: tuple[bool, bool, bool] | None = None  # plus, minus, precharge: True is closed
    weld: int = 0  # 1 plus, 2 minus, 3 precharge conducts against its command; 0 none
    precharge_failures: int = 0
    allowed_charge_a: float = math.nan
    allowed_discharge_a: float = math.nan


class State(NamedTuple):
    """What a quantity remembers: mean squares and Ah, references for steps and rises."""

    current_ns: int = -1  # of the last current
    charge_a2: float = 0.0
    discharge_a2: float = 0.0
    over_ah: float = 0.0
    under_ah: float = 0.0
    ref_a: float = math.nan
    ref_ns: int = 0
    step_ns: int = -1  # of the last step of the current
    temps: Mapping[int, tuple[tuple[int, tuple[float, ...]], ...]] = {}  # never changed in place
    thermal: thermal_event.State = thermal_event.State()


Measures = dict[str, list[Measure]]


def step(
    cfg: QuantitiesConfig,
    state: State,
    sample: Sample,
    own: Own,
    *,
    standby: bool = False,
    service: bool = False,
) -> tuple[State, Facts]:
    """Measure everything that a sample allows."""
    out: Measures = {}
    after = _currents(cfg, state, sample, own, out) if sample.came else state
    cells, probes = sample.cell_v, sample.temp_c
    if cells.fresh:
        _cells(cfg, cells, out)
    if probes.fresh:
        after = _probes(cfg, after, sample, out)
    after = _thermal(cfg, after, sample, out)
    if sample.came:
        _pack(cfg, after, sample, out)
        _conditions(cfg, sample, own, out)
    out["weld"] = _single(float(own.weld > 0), own.weld)
    out["precharge_failures"] = _single(float(own.precharge_failures))
    _unknowns(cfg, sample, out)
    one = sample.one
    return after, Facts(
        measures=out,
        current_a=one["current_a"].value,
        speed_kmh=abs(one["speed_kmh"].value),
        plugged=one["charge_type"].value > 0 or one["drive_state"].value == _CHARGING,
        standby=standby,
        service=service,
    )


def _single(value: float, at: int = 0) -> list[Measure]:
    return [Measure(0, value, at, value, at)]


def _currents(cfg: QuantitiesConfig, state: State, sample: Sample, own: Own, out: Measures) -> State:
    """Measure what a fresh current says."""
    now = sample.one["current_a"]
    if not now.fresh or math.isnan(now.value):
        return state
    current_a, t_ns = now.value, sample.t_ns
    passed_s = (t_ns - state.current_ns) / _NS if state.current_ns >= 0 else 0.0
    keep = math.exp(-passed_s / RMS_TAU_S)
    charge_a2 = state.charge_a2 * keep + max(current_a, 0.0) ** 2 * (1 - keep)
    discharge_a2 = state.discharge_a2 * keep + max(-current_a, 0.0) ** 2 * (1 - keep)
    out["current_a"] = _single(current_a)
    out["short_a"] = _single(abs(current_a))
    out["rms_a"] = [Measure(0, -math.sqrt(discharge_a2), 0, math.sqrt(charge_a2), 0)]
    if own.commanded is not None:
        out["open_current_a"] = _single(0.0 if any(own.commanded) else abs(current_a))
    if not math.isnan(own.allowed_charge_a):
        low, high = current_a + own.allowed_discharge_a, current_a - own.allowed_charge_a
        out["disobeyed_a"] = [Measure(0, low, 0, high, 0)]
    other_a = sample.one["current2_a"].value
    if not math.isnan(other_a):
        out["current_mismatch_a"] = _single(abs(current_a - other_a))
    moved = abs(current_a - state.ref_a) > cfg.step_a
    renew = moved or t_ns - state.ref_ns >= _STEP_NS or math.isnan(state.ref_a)
    after = state._replace(
        current_ns=t_ns,
        charge_a2=charge_a2,
        discharge_a2=discharge_a2,
        ref_a=current_a if renew else state.ref_a,
        ref_ns=t_ns if renew else state.ref_ns,
        step_ns=t_ns if moved else state.step_ns,
    )
    return _charged(cfg, after, sample, current_a * passed_s / 3600.0, out)


def _charged(cfg: QuantitiesConfig, state: State, sample: Sample, ah: float, out: Measures) -> State:
    """Count Ah beyond full and beyond empty."""
    low, low_at, high, high_at = _all_extremes(sample.cell_v.values)
    if math.isnan(high):
        return state
    over_ah = state.over_ah + max(ah, 0.0) if high >= cfg.full_v else state.over_ah
    under_ah = state.under_ah + max(-ah, 0.0) if low <= cfg.empty_v else state.under_ah
    over_ah = 0.0 if high <= cfg.full_v - cfg.hysteresis_v else over_ah
    under_ah = 0.0 if low >= cfg.empty_v + cfg.hysteresis_v else under_ah
    out["overcharge_share"] = _single(over_ah / cfg.nominal_ah, high_at)
    out["overdischarge_share"] = _single(under_ah / cfg.nominal_ah, low_at)
    return state._replace(over_ah=over_ah, under_ah=under_ah)


def _extremes(values: Sequence[float], places: Sequence[int]) -> tuple[float, int, float, int]:
    """Give the lowest and the highest value at some places, with their numbers from 1; NaN where none is known."""
    found = [values[p] for p in places]
    if len(thermal_event.known_of(found)) < len(found):
        places = [p for p, v in zip(places, found, strict=True) if not math.isnan(v)]
        found = [values[p] for p in places]
    if not found:
        return math.nan, 0, math.nan, 0
    low, high = min(found), max(found)
    return low, places[found.index(low)] + 1, high, places[found.index(high)] + 1


def _all_extremes(values: Sequence[float]) -> tuple[float, int, float, int]:
    """Give them of all places: where all are known, which costs least, by looking at each once."""
    if not values or thermal_event.known_of(values) is not values:
        return _extremes(values, range(len(values)))
    low, high = min(values), max(values)
    return low, values.index(low) + 1, high, values.index(high) + 1


def _by_group(many: Many, groups: Sequence[Sequence[int]]) -> list[Measure]:
    return [Measure(g, *_extremes(many.values, groups[g])) for g in many.fresh]


def _cells(cfg: QuantitiesConfig, cells: Many, out: Measures) -> None:
    out["cell_v"] = out["deep_discharge_v"] = _by_group(cells, cfg.cell_groups)
    known = thermal_event.known_of(cells.values)
    if known:
        out["cell_dev_v"] = _off(out["cell_v"], median(known))


def _off(measures: Iterable[Measure], middle: float) -> list[Measure]:
    """Give the larger distance of each group from a middle."""
    out = []
    for group, low, low_at, high, high_at in measures:
        off, at = max((middle - low, low_at), (high - middle, high_at))
        out.append(Measure(group, off, at, off, at))
    return out


def _probes(cfg: QuantitiesConfig, state: State, sample: Sample, out: Measures) -> State:
    probes = sample.temp_c
    out["temp_c"] = _by_group(probes, cfg.probe_groups)
    known = thermal_event.known_of(probes.values)
    if known:
        out["temp_dev_c"] = _off(out["temp_c"], math.fsum(known) / len(known))
        low, _, high, high_at = _all_extremes(probes.values)
        out["temp_spread_c"] = _single(high - low, high_at)
    temps = dict(state.temps)
    rises = []
    for g in probes.fresh:
        values = tuple(probes.values[p] for p in cfg.probe_groups[g])
        rise, temps[g] = _rise(temps.get(g, ()), values, sample.t_ns)
        if rise is not None:
            probe = cfg.probe_groups[g][rise[1]] + 1
            rises.append(Measure(g, rise[0], probe, rise[0], probe))
    if rises:
        out["temp_rate_c_per_s"] = rises
    return state._replace(temps=temps)


def _rise(
    kept: tuple[tuple[int, tuple[float, ...]], ...], values: tuple[float, ...], now_ns: int
) -> tuple[tuple[float, int] | None, tuple[tuple[int, tuple[float, ...]], ...]]:
    """Give the fastest rise and its place over the oldest kept values, and what is kept now (at most two sets)."""
    rise = None
    if kept and now_ns - kept[0][0] >= _RATE_NS:
        seconds = (now_ns - kept[0][0]) / _NS
        rises = [((v - before) / seconds, k) for k, (v, before) in enumerate(zip(values, kept[0][1], strict=True))]
        rise = max((r for r in rises if not math.isnan(r[0])), default=None)
    if not kept or now_ns - kept[-1][0] >= _RATE_NS:
        kept = (*kept[-1:], (now_ns, values))
    return rise, kept


def _thermal(cfg: QuantitiesConfig, state: State, sample: Sample, out: Measures) -> State:
    cells, probes = sample.cell_v, sample.temp_c
    if not (cells.fresh or probes.fresh):
        return state
    thermal = state.thermal
    if cells.fresh:
        thermal = thermal_event.see_cells(thermal, cells.values, sample.t_ns)
    if probes.fresh:
        places = [p for g in probes.fresh for p in cfg.probe_groups[g]]
        thermal = thermal_event.see_probes(thermal, probes.values, places, sample.t_ns)
    burns, cell = thermal_event.event(thermal, probes.values, cfg.max_temp_c)
    out["thermal_event"] = _single(float(burns), cell)
    return state._replace(thermal=thermal)


def _pack(cfg: QuantitiesConfig, state: State, sample: Sample, out: Measures) -> None:
    """Measure what a fresh pack voltage says; sum of cells against it not while the current steps."""
    pack_v = sample.one["pack_v"]
    if pack_v.fresh and not math.isnan(pack_v.value):
        out["pack_v"] = _single(pack_v.value)
        steps = state.step_ns >= 0 and sample.t_ns - state.step_ns < _STEP_NS
        total = math.fsum(sample.cell_v.values)
        if sample.cell_v.state == OK and not steps and not math.isnan(sample.one["current_a"].value):
            out["sum_mismatch_v"] = _single(abs(pack_v.value - total - cfg.sum_offset_v))
    isolation = sample.one["isolation_ohm"]
    if isolation.fresh:
        out["isolation_ohm_per_v"] = _single(isolation.value / cfg.max_pack_v)


def _conditions(cfg: QuantitiesConfig, sample: Sample, own: Own, out: Measures) -> None:
    hvil, crash = sample.one["hvil"], sample.one["crash"]
    if hvil.fresh and hvil.state == OK:
        out["interlock_open"] = _single(float(hvil.value != 1.0))
    if crash.fresh:
        out["crash"] = _single(crash.value)
    if own.commanded is not None:
        told = [(g, k, sample.one[FEEDBACK[k]]) for g, k in enumerate(cfg.feedback)]
        wrong = [
            Measure(g, off, k + 1, off, k + 1)
            for g, k, now in told
            if now.fresh and now.state == OK
            for off in (float((now.value >= 0.5) != own.commanded[k]),)  # noqa: PLR2004 - 0 or 1
        ]
        if wrong:
            out["feedback_mismatch"] = wrong


def _unknowns(cfg: QuantitiesConfig, sample: Sample, out: Measures) -> None:
    """Measure what is not known; a source that never came is as old as the start."""
    for name, sources in cfg.silences:
        ages = [sample.ages[k] for k in sources]
        age = max(ages)
        out[name] = _single(age, sources[ages.index(age)] + 1)
    if sample.cell_v.fresh or not sample.came.isdisjoint(VITAL):
        out["frozen_s"] = _single(sample.frozen_s)
    places = (("cells_missing", sample.cell_v, cfg.cell_groups), ("probes_missing", sample.temp_c, cfg.probe_groups))
    for name, many, groups in places:
        if many.fresh:
            share = len(many.why) if name == "probes_missing" else 1
            lacking = (len(many.why) - many.why.count(OK)) / share
            bad = {g: next((p for p in groups[g] if many.why[p] != OK), -1) + 1 if lacking else 0 for g in many.fresh}
            out[name] = [_all_if(lacking, g, at) for g, at in bad.items()]
    for name, signals in (("invalid", cfg.vital_sent), ("invalid_minor", cfg.others_sent)) if sample.came else ():
        came = [(g, sample.one[signal]) for g, signal in enumerate(signals) if sample.one[signal].fresh]
        if came:
            wrong = float(sum(sample.one[signal].state != OK for signal in signals))
            out[name] = [_all_if(wrong, g, g + 1 if now.state != OK else 0) for g, now in came]


def _all_if(total: float, group: int, at: int) -> Measure:
    """Give a group the count of all groups where one of its own places is bad (`at`, 0: none): it counts by itself."""
    value = total if at else 0.0
    return Measure(group, value, at, value, at)
