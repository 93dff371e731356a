"""How much cooling and heating is asked of the vehicle? As much as brings the pack to where it charges fully.

Pure.  In proportion between two temperatures, with hysteresis and a shortest time on, so that pumps and compressors do
not chatter.  A vehicle that is plugged in gets most; a parked one spends energy on cooling only near its limits, and
none on heating.  A thermal event is cooled whatever else holds; where no probe speaks, what
the vehicle does is cooled moderately, and nothing is heated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge.local_soc import Soc
from edge.words import CHARGE, DRIVE, PARK, Words, usage
from schemas.frames import FrameBlock
from schemas.pack import PackModel

_NS = 10**9
_BLIND = 0.5  # cooling where no probe speaks and the vehicle is used


@dataclass(frozen=True, slots=True)
class Band:
    """From where on is asked, °C, where everything is asked for, and how far back it goes before it ends, K."""

    begin_c: float
    full_c: float
    back_c: float

    def share(self, temp_c: float, *, on: bool) -> float:
        """Give 0..1, at least a fifth where it is on: less would be no flow."""
        way = 1.0 if self.full_c > self.begin_c else -1.0
        over = way * (temp_c - self.begin_c)
        if over < (-self.back_c if on else 0.0):
            return 0.0
        return min(max(over / abs(self.full_c - self.begin_c), _LEAST), 1.0)


_LEAST = 0.2


@dataclass(frozen=True, slots=True)
class ThermalConfig:
    """Bands of cooling (by the hottest probe) and heating (by the coldest), by what the vehicle does.

    Heating while driving needs `heat_soc` of charge.  What is on stays on for `shortest_s`.
    """

    cool: dict[str, Band]
    heat: dict[str, Band]
    capacity_ah: float
    heat_soc: float = 0.15
    shortest_s: float = 60.0
    unknown_s: float = 30.0


def thermal_config(pack: PackModel) -> ThermalConfig:
    """Take from a pack's derating where it may be charged fully, which is where it should be."""
    derating = pack.derating
    full = derating.temp_c[derating.charge >= derating.charge.max()]
    takes = derating.temp_c[derating.charge > 0]
    high, low, least = float(full.max()), float(full.min()), float(takes.min())
    return ThermalConfig(
        cool={
            CHARGE: Band(high - 12.0, high - 2.0, 3.0),
            DRIVE: Band(high - 8.0, high, 3.0),
            PARK: Band(high + 3.0, high + 8.0, 4.0),
        },
        heat={
            CHARGE: Band(0.5 * (low + least), least - 5.0, 2.0),
            DRIVE: Band(least - 5.0, least - 15.0, 3.0),
        },
        capacity_ah=pack.usable_ah,
    )


class State(NamedTuple):
    """What is on, since when (0: long ago), and the extremes that were known last, with their time."""

    cooling: bool = False
    heating: bool = False
    since_ns: int = 0
    mode: str = PARK
    hot_c: float = np.nan
    cold_c: float = np.nan
    known_ns: int = -1


class Request(NamedTuple):
    """Cooling and heating asked for, 0..1 each and never both, and why."""

    cooling: float
    heating: float
    why: str


def fresh_state() -> State:
    """Begin without a request."""
    return State()


def step(
    cfg: ThermalConfig, state: State, block: FrameBlock | None, told: tuple[Soc, Words], now_ns: int
) -> tuple[State, Request]:
    """Take frames in their order, what is known of the charge, and protection's words."""
    soc, words = told
    request: Request | None = None
    for row in range(0 if block is None else len(block)):
        assert block is not None
        known = block.temp_c[row][np.isfinite(block.temp_c[row])]
        t_ns = int(block.t_ns[row])
        state = state._replace(mode=usage(block, row, cfg.capacity_ah))
        if known.size:
            state = state._replace(hot_c=float(known.max()), cold_c=float(known.min()), known_ns=t_ns)
        state, request = _asked(cfg, state, soc, words, t_ns)
    return (state, request) if request is not None else _asked(cfg, state, soc, words, now_ns)


def _asked(cfg: ThermalConfig, state: State, soc: Soc, words: Words, t_ns: int) -> tuple[State, Request]:
    if words.broken(quantity="thermal_event"):
        return _switched(state, t_ns, cooling=True, heating=False), Request(1.0, 0.0, "thermal event")
    if state.known_ns < 0 or not 0 <= t_ns - state.known_ns <= cfg.unknown_s * _NS:
        cooling = _BLIND if state.mode != PARK else 0.0
        return _switched(state, t_ns, cooling=cooling > 0, heating=False), Request(cooling, 0.0, "temperature unknown")
    cool, heat = cfg.cool[state.mode], cfg.heat.get(state.mode)
    cooling = cool.share(state.hot_c, on=state.cooling)
    heating = heat.share(state.cold_c, on=state.heating) if heat and not cooling else 0.0
    why = f"{state.hot_c:.1f} °C" if cooling else f"{state.cold_c:.1f} °C" if heating else ""
    if heating and state.mode == DRIVE and not soc.soc >= cfg.heat_soc:
        heating, why = 0.0, "too little charge to heat"
    held = 0 <= t_ns - state.since_ns < cfg.shortest_s * _NS and state.mode != PARK
    if held and state.cooling and not cooling:
        cooling, heating = _LEAST, 0.0
    if held and state.heating and not heating and not cooling:
        heating = _LEAST
    return _switched(state, t_ns, cooling=cooling > 0, heating=heating > 0), Request(cooling, heating, why)


def _switched(state: State, t_ns: int, *, cooling: bool, heating: bool) -> State:
    changed = (cooling, heating) != (state.cooling, state.heating)
    return state._replace(cooling=cooling, heating=heating, since_ns=t_ns if changed else state.since_ns)
