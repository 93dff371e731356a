"""How full is the pack, as far as the vehicle itself can say? Ah counted from an anchor, cell group by cell group.

Pure.  Anchors are the open-circuit voltage at rest, weighed against what was counted, and the fleet's estimate, which
is signed and must be plausible.  Where neither has come yet, the first voltages are a poor anchor, and say so.  The
fleet may also tell the pack's capacity and the error of its current sensor, and these are counted with.  Two
errors are kept apart, as the fleet does: that of the whole pack, and that of a cell against the others.  A current that
nobody saw (a gap) widens the first.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge import calibration
from edge.calibration import Calibration
from schemas.frames import FrameBlock
from schemas.pack import PackModel

Floats = NDArray[np.float64]
NOTHING, VOLTAGE, OCV, CLOUD, KEPT = "nothing", "voltage", "ocv", "cloud", "kept"  # what an anchor is from
UNKNOWN_STD = 0.3  # of a SOC that may be anything
_NS = 10**9
_HOUR_NS = 3600 * _NS
_KEPT_NS = 60 * _NS  # between entries of what was counted
_AHEAD_NS = 60 * _NS  # by which the clock of who estimates may be ahead
_KEPT = 90  # entries: what an estimate from afar may be old
_USUAL_C = 25.0
_HALF_SOC, _ROOM_T = 100, 11  # places in the pack's grid
_COUNTS = 0.1  # share of a voltage in an anchor that is then called by it
_MEASURED_V = 0.005  # by which a voltage at rest differs from the table of this kind of cell
_BORROWED_V = 0.08  # … of another kind of cell: what the two recorded cars with such tables are off by
_BORROWED_SOC = 0.11  # and along its SOC, where an anchor is its own: what empty is to another cell it cannot tell
_BEYOND_V = 0.5  # the open-circuit voltages, under load
_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class LocalSocConfig:
    """What a pack's charge is reckoned with.

    `ocv`, `docv` (T, K) over `temp_c` (T,) and `soc` (K,).  Errors are standard deviations: `table_v` of a rested
    voltage, `cell_v` of a cell against the others, `early_v` of a voltage that has not rested, `offset_a` of the
    current sensor, `table_soc` of all SOC that voltages tell; `capacity_std` in proportion.  A pack rests below
    `rest_a`, and an anchor is taken after `rest_s` of that, then every `again_s`.  `bleed_a` flows out of a cell group
    whose bleed is on.
    """

    series: int
    capacity_ah: float
    soc: Floats
    temp_c: Floats
    ocv: Floats
    docv: Floats
    r_ohm: float
    hysteresis_v: float
    sum_offset_v: float
    capacity_std: float
    rest_a: float
    bleed_a: float = 0.1
    rest_s: float = 1800.0
    again_s: float = 3600.0
    quiet_s: float = 60.0  # without a bleed before a voltage is one of rest
    gap_s: float = 60.0
    table_v: float = _MEASURED_V
    cell_v: float = 0.003
    early_v: float = 0.03
    offset_a: float = 0.3
    table_soc: float = 0.0


def local_soc_config(pack: PackModel, *, bleed_a: float = 0.1) -> LocalSocConfig:
    """Take from a pack model what its charge is reckoned with."""
    grid = pack.grid()
    return LocalSocConfig(
        series=pack.series,
        capacity_ah=pack.usable_ah,
        soc=grid.soc,
        temp_c=grid.temp_c,
        ocv=grid.ocv,
        docv=grid.docv,
        r_ohm=float(grid.r0[_ROOM_T, _HALF_SOC] + grid.rb[:, _ROOM_T, _HALF_SOC].sum()),
        hysteresis_v=pack.hysteresis_v,
        sum_offset_v=pack.sum_offset_v,
        capacity_std=pack.capacity_std,
        rest_a=0.02 * pack.usable_ah,
        bleed_a=bleed_a,
        offset_a=max(0.02, 0.002 * pack.charge_max_a),
        table_v=_BORROWED_V if pack.ocv_source == "borrowed" else _MEASURED_V,
        table_soc=_BORROWED_SOC if pack.ocv_source == "borrowed" else 0.0,
    )


class State(NamedTuple):
    """SOC of each cell group (C,), how well it is known, and what has been counted.

    `anchor_std` at the anchor; since then `net` of SOC was counted in `counted_s`.  `spread_std`: of a cell against the
    others, NaN where the cells are not told apart.  `kept`: (time ns, Ah) for estimates that come late.
    """

    cell_soc: Floats
    anchor_std: float = UNKNOWN_STD
    net: float = 0.0
    counted_s: float = 0.0
    spread_std: float = math.nan
    source: str = NOTHING
    t_ns: int = -1
    current_a: float = math.nan
    direction: float = 0.0  # of the last current that was more than rest
    rest_ns: int = -1  # since when it rests
    anchored_ns: int = -1
    bled_ns: int = -1  # when a bleed was on last
    early: bool = True  # an anchor from a voltage that has not rested is welcome
    ah: float = 0.0
    kept: tuple[tuple[int, float], ...] = ()
    sequence: int = -1  # of the last signed estimate
    known: Calibration = calibration.NONE  # what the fleet has told of the pack


class Soc(NamedTuple):
    """What is known now.

    `soc` is what is usable of the pack (0..1, NaN: unknown), `std` its standard deviation, `source` of its anchor;
    `cell_soc` (C,) and `spread_std` as in State; `rest_s` since current flowed (0: it flows or is unknown).
    """

    t_ns: int
    soc: float
    std: float
    source: str
    cell_soc: Floats
    spread_std: float
    rest_s: float
    ah: float


def fresh_state(cfg: LocalSocConfig) -> State:
    """Give the state of a gateway that knows nothing."""
    return State(np.full(cfg.series, 0.5))


def step(
    cfg: LocalSocConfig, state: State, block: FrameBlock | None, bleeding: NDArray[np.bool_] | None, now_ns: int
) -> tuple[State, Soc]:
    """Take frames in their order; `bleeding` (C,): bleeds that were on meanwhile; `now_ns`: of the frames' clock."""
    on = bleeding if bleeding is not None and bleeding.any() else None
    for row in range(0 if block is None else len(block)):
        assert block is not None
        state = _row(cfg, state, block, row, on)
    return state, told(cfg, state, now_ns)


def told(cfg: LocalSocConfig, state: State, now_ns: int) -> Soc:
    """Say what is known at a time."""
    rest_s = 0.0 if state.rest_ns < 0 or now_ns - state.t_ns > cfg.gap_s * _NS else (state.t_ns - state.rest_ns) / _NS
    known = state.source != NOTHING
    soc = usable(state.cell_soc) if known else math.nan
    # what all voltages share weighs in none of them against another, but is an error of what is told
    shared = 0.0 if state.source == CLOUD else cfg.table_soc
    std = min(math.hypot(std_of(cfg, state), shared), UNKNOWN_STD) if known else math.nan
    return Soc(state.t_ns, soc, std, state.source, state.cell_soc, state.spread_std, rest_s, state.ah)


def usable(cell_soc: Floats) -> float:
    """Give what can be taken out of a pack of equal cells, of what can be taken out and put in."""
    low, high = float(cell_soc.min()), float(cell_soc.max())
    return min(max(low / max(low + 1.0 - high, 1e-3), 0.0), 1.0)


def std_of(cfg: LocalSocConfig, state: State) -> float:
    """Give the standard deviation of the pack's SOC: the anchor's, the capacity's and the current sensor's."""
    ah, known = capacity_of(cfg, state), state.known
    offset_a = cfg.offset_a if math.isnan(known.offset_a) else known.offset_std_a
    share = cfg.capacity_std if math.isnan(known.capacity_ah) else known.capacity_std_ah / ah
    drift = offset_a * state.counted_s / 3600.0 / ah
    return min(math.hypot(state.anchor_std, share * state.net, drift), UNKNOWN_STD)


def capacity_of(cfg: LocalSocConfig, state: State) -> float:
    """Give the capacity that is counted with, Ah: the fleet's word, else that of a new pack."""
    return cfg.capacity_ah if math.isnan(state.known.capacity_ah) else state.known.capacity_ah


def _row(cfg: LocalSocConfig, state: State, block: FrameBlock, row: int, on: NDArray[np.bool_] | None) -> State:
    t_ns, current_a = int(block.t_ns[row]), float(block.current_a[row])
    if not math.isfinite(current_a):
        return state._replace(rest_ns=-1)
    state = _counted(cfg, state, t_ns, current_a, on)
    at_rest = abs(current_a) <= cfg.rest_a
    state = state._replace(
        t_ns=t_ns,
        current_a=current_a,
        direction=state.direction if at_rest else math.copysign(1.0, current_a),
        rest_ns=-1 if not at_rest else t_ns if state.rest_ns < 0 else state.rest_ns,
        bled_ns=state.bled_ns if on is None else t_ns,
    )
    if not state.kept or not 0 <= t_ns - state.kept[-1][0] < _KEPT_NS:
        state = state._replace(kept=(*state.kept[1 - _KEPT :], (t_ns, state.ah)))
    rested = at_rest and t_ns - state.rest_ns >= cfg.rest_s * _NS
    since_ns = max(state.anchored_ns, state.rest_ns)
    quiet = state.bled_ns < 0 or t_ns - state.bled_ns >= cfg.quiet_s * _NS
    if rested and quiet and (state.anchored_ns < state.rest_ns or t_ns - since_ns >= cfg.again_s * _NS):
        return _anchored(cfg, state, block, row, OCV)
    return _anchored(cfg, state, block, row, VOLTAGE) if state.early else state


def _counted(cfg: LocalSocConfig, state: State, t_ns: int, current_a: float, on: NDArray[np.bool_] | None) -> State:
    dt_s = (t_ns - state.t_ns) / _NS
    if state.t_ns < 0:
        return state
    if not 0 <= dt_s <= cfg.gap_s:  # nobody saw the current; a clock that was set back hides as much
        lost = UNKNOWN_STD if dt_s < 0 else min(0.5 * dt_s / 3600.0, UNKNOWN_STD)  # half the capacity in an hour
        std = min(math.hypot(std_of(cfg, state), lost), UNKNOWN_STD)
        return state._replace(anchor_std=std, net=0.0, counted_s=0.0, rest_ns=-1, early=True, bled_ns=-1, kept=())
    shown_a = 0.5 * (state.current_a + current_a)
    offset_a = state.known.offset_a
    ah = (shown_a if math.isnan(offset_a) else shown_a - offset_a) * dt_s / 3600.0
    capacity_ah = capacity_of(cfg, state)
    cells = state.cell_soc + ah / capacity_ah
    if on is not None:
        cells = cells - np.where(on, cfg.bleed_a * dt_s / 3600.0 / capacity_ah, 0.0)
    net = state.net + ah / capacity_ah
    return state._replace(cell_soc=cells, net=net, counted_s=state.counted_s + dt_s, ah=state.ah + ah)


def _anchored(cfg: LocalSocConfig, state: State, block: FrameBlock, row: int, source: str) -> State:
    """Weigh voltages against what was counted; nothing changes where there is none."""
    cell_v = block.cell_v[row].astype(np.float64)
    known = _likely(cfg, cell_v)  # a cell that is not wired reads 0 V, a sensor that starts anything
    if not known.any():
        cell_v = np.full(cfg.series, (float(block.pack_v[row]) - cfg.sum_offset_v) / cfg.series)
    cell_v = np.where(_likely(cfg, cell_v), cell_v, np.nan)
    if np.isnan(cell_v).all():
        return state
    temp_c = block.temp_c[row]
    room = float(temp_c[np.isfinite(temp_c)].mean()) if np.isfinite(temp_c).any() else _USUAL_C
    ocv, docv = _at(cfg, cfg.ocv, room), _at(cfg, cfg.docv, room)
    early = source == VOLTAGE
    fall_v = state.current_a * cfg.r_ohm if early else state.direction * cfg.hysteresis_v
    seen = np.interp(cell_v - fall_v, ocv, cfg.soc)  # NaN stays
    middle = float(np.nanmedian(seen))
    slope = float(np.interp(middle, cfg.soc, docv))
    error_v = math.hypot(cfg.table_v, *((cfg.early_v, 0.5 * fall_v) if early else (0.5 * cfg.hysteresis_v,)))
    seen_std = error_v / slope
    first = state.source == NOTHING
    own_std = UNKNOWN_STD if first else std_of(cfg, state)
    gain = own_std**2 / (own_std**2 + seen_std**2)
    own_middle = float(np.median(state.cell_soc))
    new_middle = middle if first else own_middle + gain * (middle - own_middle)
    # errors that all rested voltages share (the table's) do not average out; what was known better stays so
    new_std = min(max(math.sqrt(gain) * seen_std, 0.5 * seen_std), UNKNOWN_STD if first else own_std)
    spread, spread_std = state.cell_soc - own_middle, state.spread_std
    if known.any():
        cell_std = (3.0 if early else 1.0) * cfg.cell_v / slope
        share = 1.0 if math.isnan(spread_std) else spread_std**2 / (spread_std**2 + cell_std**2)
        spread = spread + np.where(known, share * (seen - middle - spread), 0.0)
        spread_std = cell_std if math.isnan(spread_std) else max(math.sqrt(share) * cell_std, 0.5 * cell_std)
    return state._replace(
        cell_soc=np.clip(new_middle + spread, 0.0, 1.0),
        anchor_std=new_std,
        net=0.0,
        counted_s=0.0,
        spread_std=spread_std,
        source=source if first or gain > _COUNTS else state.source,
        anchored_ns=state.anchored_ns if early else state.t_ns,
        early=False,
    )


def _likely(cfg: LocalSocConfig, cell_v: Floats) -> NDArray[np.bool_]:
    """Say which voltages a cell of this kind may have; NaN is none."""
    return np.asarray((cell_v >= cfg.ocv.min() - _BEYOND_V) & (cell_v <= cfg.ocv.max() + _BEYOND_V))


def _at(cfg: LocalSocConfig, table: Floats, temp_c: float) -> Floats:
    """Read a table (T, K) at a temperature, clamped."""
    k = min(max(bisect_right(cfg.temp_c, temp_c) - 1, 0), cfg.temp_c.size - 2)
    w = min(max((temp_c - cfg.temp_c[k]) / (cfg.temp_c[k + 1] - cfg.temp_c[k]), 0.0), 1.0)
    return np.asarray((1.0 - w) * table[k] + w * table[k + 1])


def taken(cfg: LocalSocConfig, state: State, soc: float, std: float, t_ns: int) -> tuple[State, str]:
    """Take an estimate of the usable SOC at a time from the fleet; gives also why it was not taken ("": it was).

    It must be from the time that was counted, and fit what is known here; it counts by what it says of its own error.
    """
    if not state.kept or not state.kept[0][0] <= t_ns <= state.t_ns + _AHEAD_NS:
        return state, "it must be from a time at which this vehicle counted"
    times, counted = zip(*state.kept, (state.t_ns, state.ah), strict=True)
    first_ns = times[0]  # differences, for doubles do not hold times since 1970 to the ns
    then_ah = float(np.interp(t_ns - first_ns, np.array(times) - first_ns, counted))
    now = soc + (state.ah - then_ah) / capacity_of(cfg, state)
    own, own_std = usable(state.cell_soc), std_of(cfg, state) if state.source != NOTHING else UNKNOWN_STD
    far = max(0.05, 4.0 * math.hypot(std, own_std))
    if abs(now - own) > far and state.source != NOTHING:
        return state, f"it must be within {far:.2f} of {own:.2f}, the vehicle's own; got {now:.2f}"
    gain = own_std**2 / (own_std**2 + std**2)
    low, high = float(state.cell_soc.min()), float(state.cell_soc.max())
    shift = gain * (min(max(now, 0.0), 1.0) - own) * (low + 1.0 - high)
    cells = np.clip(state.cell_soc + shift, 0.0, 1.0)
    std_now = min(own_std, std)  # the fleet's words share their errors: many of them are no better than one
    return state._replace(cell_soc=cells, anchor_std=std_now, net=0.0, counted_s=0.0, source=CLOUD, early=False), ""


def calibrated(cfg: LocalSocConfig, state: State, told: Calibration) -> tuple[State, str]:
    """Count with what the fleet knows of the pack from now on; gives also why it does not ("": it does)."""
    why = calibration.wrong(told, cfg.capacity_ah, cfg.offset_a)
    if why:
        return state, why
    std = std_of(cfg, state)  # what was counted so far has the errors that it had
    return state._replace(known=calibration.joined(state.known, told), anchor_std=std, net=0.0, counted_s=0.0), ""


def dump(state: State) -> dict[str, Any]:
    """Write what is worth keeping over a restart as JSON values."""
    return {
        "version": _VERSION, "t_ns": state.t_ns, "source": state.source,
        "cell_soc": np.clip(state.cell_soc, 0.0, 1.0).round(6).tolist(),
        "anchor_std": state.anchor_std, "net": state.net, "counted_s": state.counted_s, "direction": state.direction,
        "spread_std": None if math.isnan(state.spread_std) else state.spread_std, "sequence": state.sequence,
        **calibration.dump(state.known),
    }  # fmt: skip


def load(cfg: LocalSocConfig, kept: object) -> State:
    """Read what `dump` wrote for such a pack; anything else is a gateway that knows nothing."""
    state = fresh_state(cfg)
    if not isinstance(kept, Mapping) or kept.get("version") != _VERSION or kept.get("source") in {None, NOTHING}:
        return state
    try:
        cells = np.array(kept["cell_soc"], np.float64)
        spread = math.nan if kept["spread_std"] is None else float(kept["spread_std"])
        made = state._replace(
            cell_soc=cells,
            anchor_std=float(kept["anchor_std"]),
            net=float(kept["net"]),
            counted_s=float(kept["counted_s"]),
            direction=float(kept["direction"]),
            spread_std=spread,
            source=KEPT,
            t_ns=int(kept["t_ns"]),  # so that what flowed while nobody counted is a gap
            current_a=0.0,
            sequence=int(kept["sequence"]),
            known=calibration.load(kept, cfg.capacity_ah, cfg.offset_a),
        )
    except (KeyError, TypeError, ValueError):
        return state
    good = cells.shape == (cfg.series,) and ((cells >= 0) & (cells <= 1)).all()
    return made if good and made.anchor_std > 0 else state
