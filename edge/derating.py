"""How much current and power the pack allows, for 2, 10 and 30 s, and what binds.

Pure.  From the cells' voltages (at which current would the highest or lowest cell reach its operating limit within that
time?), temperature, SOC, the load of the last minute, the broken limits and a cap from outside.  What is commanded is
the value for 10 s with ramps: knowledge takes current back at once, a broken limit within 1 s, want of knowledge
within 5 s, and it comes back within 10 s.  After a restart it begins with what was allowed, or with what flows.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from edge.protection import DERATE, FREE, ZERO, Verdict
from edge.sensing import Sample
from edge.thermal_event import known_of
from schemas.limits import RMS_TAU_S

HORIZONS_S = (2.0, 10.0, 30.0)
_KEPT = tuple(math.exp(-seconds / RMS_TAU_S) for seconds in HORIZONS_S)  # of the last minute's mean square
COMMANDED = 1  # the horizon that limits are commanded from
OUTSIDE = "cap from outside"
LARGEST = "largest current"
RISING = "coming back"  # what a broken limit, or the start, had taken
USUAL_C = 25.0  # where no probe says otherwise
_NS = 10**9


@dataclass(frozen=True, slots=True)
class DeratingConfig:
    """What a pack can take, per cell group.

    `temp_c` with `charge_share`, `discharge_share`: share of the largest current at a temperature.  `r_ohm` (horizon,
    temperature, SOC) over `r_temp_c` and `r_soc`; `r_factor`: how much more an aged pack may have.  `high_v`, `low_v`:
    operating limits of a cell.  `charge_rms_a`, `discharge_rms_a`: what the last minute may have.
    """

    series: int
    charge_max_a: float
    discharge_max_a: float
    charge_rms_a: float
    discharge_rms_a: float
    high_v: float
    low_v: float
    temp_c: tuple[float, ...]
    charge_share: tuple[float, ...]
    discharge_share: tuple[float, ...]
    r_temp_c: tuple[float, ...]
    r_soc: tuple[float, ...]
    r_ohm: tuple[tuple[tuple[float, ...], ...], ...]
    cells: bool = True  # cell voltages are sent
    probes: bool = True
    r_factor: float = 1.5
    high_soc: float = 0.95  # charging falls from here, discharging below low_soc, to end_share of the largest current
    low_soc: float = 0.08
    end_share: float = 0.05
    derate_share: float = 0.5  # of the largest current, where a broken limit asks for less
    known_s: float = 1.0
    unknown_s: float = 5.0
    rise_s: float = 10.0


class Caps(NamedTuple):
    """The largest currents that somebody else allows, A; NaN = no word.  They can only tighten."""

    charge_a: float = math.nan
    discharge_a: float = math.nan


class Limited(NamedTuple):
    """An allowed current (A) and power (W), both ≥ 0, and what binds: a name, and the cell or probe (0: neither)."""

    current_a: float
    power_w: float
    limit: str
    at: int


class Allowed(NamedTuple):
    """What is allowed: `charge_a` and `discharge_a` now, after ramps, and each horizon of HORIZONS_S."""

    charge_a: float
    discharge_a: float
    charge: tuple[Limited, ...]
    discharge: tuple[Limited, ...]


class State(NamedTuple):
    """What was allowed at the tick before, and what broken limits left of the current then.

    `view`, `whole` and `rows` are what was worked out then, `load` with what: it is worked out anew where a value has
    come.  `begun`: a current was known.
    """

    charge_a: float = 0.0
    discharge_a: float = 0.0
    charge_left_a: float = 0.0
    discharge_left_a: float = 0.0
    t_ns: int = -1
    view: _View | None = None
    whole: _Whole | None = None
    begun: bool = False
    load: Load | None = None
    rows: tuple[tuple[Limited, Limited], ...] = ()


class Load(NamedTuple):
    """Mean squares of the last minute, A² (edge.quantities)."""

    charge_a2: float
    discharge_a2: float


class _View(NamedTuple):
    """What of a sample matters here; (value, number from 1), NaN and 0 where unknown."""

    current_a: float
    soc: float
    low: tuple[float, int]
    high: tuple[float, int]
    mean_v: float
    cold: tuple[float, int]
    hot: tuple[float, int]
    cell_v: tuple[float, ...]
    temp_c: tuple[float, ...]
    known: bool  # voltages and current are


_Option = tuple[float, str, int]  # a current, what allows no more, and at which cell or probe
_NOTHING: _Option = (math.inf, "", 0)


class _Whole(NamedTuple):
    """What binds most of what is alike for every horizon, and a group's resistance for each, Ω.

    `least`: for each horizon, what binds most beside the cells' voltages: charging, discharging.
    """

    charge: _Option
    discharge: _Option
    ohm: list[float]
    least: list[tuple[_Option, _Option]]


NO_CAPS = Caps()


def fresh_state(charge_a: float = 0.0, discharge_a: float = 0.0) -> State:
    """Give the state at a start, with what the run before left allowed, A."""
    return State(charge_a, discharge_a, charge_a, discharge_a)


def limits(
    cfg: DeratingConfig, state: State, sample: Sample, load: Load, verdict: Verdict, caps: Caps = NO_CAPS
) -> tuple[State, Allowed]:
    """Say what is allowed at one tick."""
    passed_s = (sample.t_ns - state.t_ns) / _NS if state.t_ns >= 0 else 0.0
    view, word = _view(sample, state.view), verdict.causes[0] if verdict.causes else RISING
    if not state.begun and not math.isnan(view.current_a):
        state = _taken_up(state, view.current_a)
    whole = state.whole
    if whole is None or state.view is None or not _alike(view, state.view):
        whole = _whole(cfg, view, state)
    if whole is not state.whole or load != state.load:
        whole = whole._replace(least=[_least(cfg, load, k, whole) for k in range(len(_KEPT))])
    rows = state.rows
    kept = view.known and state.view is not None and whole is state.whole and _beside(view) == _beside(state.view)
    if not (rows and kept):
        rows = tuple([_horizon(cfg, view, state, k, whole) for k in range(len(_KEPT))])
    charge_left_a = _left(cfg, state.charge_left_a, cfg.charge_max_a, verdict.charge, passed_s, blind=verdict.blind)
    discharge_left_a = _left(
        cfg, state.discharge_left_a, cfg.discharge_max_a, verdict.discharge, passed_s, blind=verdict.blind
    )
    charge = tuple([_capped(_capped(row[0], charge_left_a, word), caps.charge_a, OUTSIDE) for row in rows])
    discharge = tuple([_capped(_capped(row[1], discharge_left_a, word), caps.discharge_a, OUTSIDE) for row in rows])
    rise = passed_s / cfg.rise_s
    charge_a = min(charge[COMMANDED].current_a, state.charge_a + cfg.charge_max_a * rise)
    discharge_a = min(discharge[COMMANDED].current_a, state.discharge_a + cfg.discharge_max_a * rise)
    after = State(
        charge_a, discharge_a, charge_left_a, discharge_left_a, sample.t_ns, view, whole, state.begun, load, rows
    )
    return after, Allowed(charge_a, discharge_a, charge, discharge)


def _taken_up(state: State, current_a: float) -> State:
    """Begin with what flows: somebody allowed it before a restart, and no step to 0 takes traction from a vehicle."""
    charge_a, discharge_a = max(state.charge_a, current_a), max(state.discharge_a, -current_a)
    return state._replace(
        charge_a=charge_a,
        discharge_a=discharge_a,
        charge_left_a=max(state.charge_left_a, charge_a),
        discharge_left_a=max(state.discharge_left_a, discharge_a),
        begun=True,
    )


def _view(sample: Sample, was: _View | None) -> _View:
    """Look for what matters; cells and probes that are still the same values need not be looked at again."""
    cell_v, temp_c = sample.cell_v.values, sample.temp_c.values
    current_a, soc = sample.one["current_a"].value, sample.one["soc"].value
    same = was is not None and was.cell_v is cell_v and was.temp_c is temp_c
    if was is not None and same and was.current_a == current_a and _equal(was.soc, soc):
        return was
    if was is not None and was.cell_v is cell_v:
        low, high, mean_v = was.low, was.high, was.mean_v
    else:
        cells = known_of(cell_v)
        low, high = _extremes(cell_v, cells)
        mean_v = sum(cells) / len(cells) if cells else math.nan
    if was is not None and was.temp_c is temp_c:
        cold, hot = was.cold, was.hot
    else:
        cold, hot = _extremes(temp_c, known_of(temp_c))
    known = not math.isnan(mean_v + current_a)
    return _View(current_a, soc, low, high, mean_v, cold, hot, cell_v, temp_c, known)


def _equal(a: float, b: float) -> bool:
    """Say whether two values are equal, or both unknown."""
    return a == b or (math.isnan(a) and math.isnan(b))


def _extremes(values: Sequence[float], known: Sequence[float]) -> tuple[tuple[float, int], tuple[float, int]]:
    """Give the lowest value with its first place, the highest with its last, both from 1."""
    if not known:
        return (math.nan, 0), (math.nan, 0)
    low, high = min(known), max(known)
    return (low, values.index(low) + 1), (high, len(values) - values[::-1].index(high))


def _alike(view: _View, was: _View) -> bool:
    """Say whether temperature and SOC are as before; what is unknown holds what was allowed, which changes."""
    return view.cold == was.cold and view.hot == was.hot and _equal(view.soc, was.soc) and not math.isnan(view.cold[0])


def _beside(view: _View) -> tuple[object, ...]:
    """Give what a horizon depends on beside that, where it is known."""
    return view.current_a, view.low, view.high, view.mean_v


def _left(cfg: DeratingConfig, left_a: float, max_a: float, asked: int, passed_s: float, *, blind: bool) -> float:
    """Ramp to what broken limits leave of the largest current."""
    target_a = {FREE: max_a, DERATE: cfg.derate_share * max_a, ZERO: 0.0}[asked]
    if target_a >= left_a:
        return min(target_a, left_a + max_a * passed_s / cfg.rise_s)
    return max(target_a, left_a - max_a * passed_s / (cfg.unknown_s if blind else cfg.known_s))


def _capped(was: Limited, cap_a: float, name: str) -> Limited:
    """Tighten to a cap: NaN says nothing, a negative one is 0."""
    if math.isnan(cap_a) or cap_a >= was.current_a:
        return was
    cap_a = max(cap_a, 0.0)
    share = cap_a / was.current_a if was.current_a > 0 else 0.0
    return Limited(cap_a, was.power_w * share, name, 0)


def _whole(cfg: DeratingConfig, view: _View, state: State) -> _Whole:
    """Work out what depends on temperature and SOC."""
    max_a, low_a = cfg.charge_max_a, cfg.discharge_max_a
    charge: list[_Option] = []
    discharge: list[_Option] = []
    if cfg.probes and math.isnan(view.cold[0]):
        charge.append((state.charge_a, "temperature unknown", 0))
        discharge.append((state.discharge_a, "temperature unknown", 0))
    elif cfg.probes:
        for temp_c, at in (view.cold, view.hot):
            charge.append((max_a * _between(cfg.temp_c, cfg.charge_share, temp_c), "temperature", at))
            discharge.append((low_a * _between(cfg.temp_c, cfg.discharge_share, temp_c), "temperature", at))
    if not math.isnan(view.soc):
        charge.append((max_a * _between((cfg.high_soc, 1.0), (1.0, cfg.end_share), view.soc), "SOC", 0))
        discharge.append((low_a * _between((0.0, cfg.low_soc), (cfg.end_share, 1.0), view.soc), "SOC", 0))
    cold_c = USUAL_C if math.isnan(view.cold[0]) else view.cold[0]
    least = [
        min(options, key=itemgetter(0), default=_NOTHING) for options in (charge, discharge)
    ]  # of equals the first
    return _Whole(least[0], least[1], _resistances(cfg, cold_c, view.soc), [])


def _least(cfg: DeratingConfig, load: Load, k: int, whole: _Whole) -> tuple[_Option, _Option]:
    """Find what binds most beside the cells' voltages within one horizon; of equals the first."""
    kept, why = _KEPT[k], "load of the last minute"
    charge: list[_Option] = [
        (cfg.charge_max_a, LARGEST, 0), whole.charge, (_rms_left(cfg.charge_rms_a, load.charge_a2, kept), why, 0)
    ]  # fmt: skip
    discharge: list[_Option] = [
        (cfg.discharge_max_a, LARGEST, 0), whole.discharge,
        (_rms_left(cfg.discharge_rms_a, load.discharge_a2, kept), why, 0),
    ]  # fmt: skip
    return min(charge, key=itemgetter(0)), min(discharge, key=itemgetter(0))


def _horizon(cfg: DeratingConfig, view: _View, state: State, k: int, whole: _Whole) -> tuple[Limited, Limited]:
    """Give what is allowed for one horizon before broken limits and caps: charging, discharging.

    What is not known holds what was allowed: the protection rows about it take the current back, in a ramp.
    """
    ohm = cfg.r_factor * whole.ohm[k]
    if not cfg.cells:
        by_cells = _NOTHING, _NOTHING
    elif not view.known:
        why = "voltage or current unknown"
        by_cells = (state.charge_a, why, 0), (state.discharge_a, why, 0)
    else:
        by_cells = (
            (view.current_a + (cfg.high_v - view.high[0]) / ohm, "cell voltage", view.high[1]),
            (-view.current_a + (view.low[0] - cfg.low_v) / ohm, "cell voltage", view.low[1]),
        )
    charge, discharge = whole.least[k]
    return (
        _limited(cfg, _tighter(by_cells[0], charge), view, 1, ohm),
        _limited(cfg, _tighter(by_cells[1], discharge), view, -1, ohm),
    )


def _tighter(by_cells: _Option, other: _Option) -> _Option:
    """Give what binds more; of equals the cells, but for the largest current."""
    return by_cells if by_cells[0] < other[0] or (by_cells[0] == other[0] and other[1] != LARGEST) else other


def _limited(cfg: DeratingConfig, option: _Option, view: _View, sign: int, ohm: float) -> Limited:
    """Give the power at the voltage that a current leads to."""
    allowed_a = max(option[0], 0.0)
    if not view.known:
        end_v = cfg.low_v
    else:
        end_v = min(max(view.mean_v + (sign * allowed_a - view.current_a) * ohm, cfg.low_v), cfg.high_v)
    return Limited(allowed_a, allowed_a * end_v * cfg.series, option[1], option[2])


def _rms_left(bound_a: float, now_a2: float, keep: float) -> float:
    """Give the current that takes the mean square of the last minute, of which `keep` is left, to its bound."""
    return math.sqrt(max(bound_a**2 - now_a2 * keep, 0.0) / (1 - keep))


def _resistances(cfg: DeratingConfig, temp_c: float, soc: float) -> list[float]:
    """Look up a group's resistance for each horizon; the largest over SOC where that is not known."""
    upper = min(bisect_right(cfg.r_temp_c, temp_c), len(cfg.r_temp_c) - 1)
    knots = slice(max(upper - 1, 0), upper + 1)
    at_temp = _position(cfg.r_temp_c[knots], temp_c)
    at_soc = None if math.isnan(soc) else _position(cfg.r_soc, soc)
    return [
        _read([max(row) if at_soc is None else _read(row, at_soc) for row in table[knots]], at_temp)
        for table in cfg.r_ohm
    ]


def _between(knots: Sequence[float], values: Sequence[float], x: float) -> float:
    """Interpolate in a straight line, clamped at the ends."""
    return _read(values, _position(knots, x))


def _position(knots: Sequence[float], x: float) -> tuple[int, float, float]:
    """Find the knot below, the distance from it and to the next one; at the ends no distance."""
    if x <= knots[0]:
        return 0, 0.0, 0.0
    if x >= knots[-1]:
        return len(knots) - 1, 0.0, 0.0
    k = bisect_right(knots, x) - 1
    return k, x - knots[k], knots[k + 1] - knots[k]


def _read(values: Sequence[float], at: tuple[int, float, float]) -> float:
    k, past, width = at
    return values[k] + (values[k + 1] - values[k]) * past / width if width else values[k]
