"""What is asked of pack and vehicle beside limits: which cells bleed, how much cooling or heating.

Pure.  It never stands in protection's way: it asks, of cell monitors and the vehicle, which stop by themselves what is
no longer asked for.  An observer asks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge import balancing, local_soc, thermal, words
from edge.balancing import Balance, BalancingConfig
from edge.commands import BALANCING, THERMAL, Sent, Writer, balancing_pages
from edge.link import Told
from edge.local_soc import LocalSocConfig, Soc
from edge.telemetry_settings import BalancingSettings
from edge.thermal import Request, ThermalConfig
from edge.words import Words
from schemas.frames import FrameBlock
from schemas.pack import PackModel

_PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class CareConfig:
    """Settings of the parts; `balancing` None: this gateway does not balance."""

    soc: LocalSocConfig
    balancing: BalancingConfig | None
    thermal: ThermalConfig


class State(NamedTuple):
    """What the parts remember."""

    soc: local_soc.State
    balancing: balancing.State | None
    thermal: thermal.State
    words: Words = Words()


class Asked(NamedTuple):
    """How full the pack is, and what is asked for; `balance` None: nobody asks."""

    soc: Soc
    balance: Balance | None
    request: Request


def care_config(pack: PackModel, asked: BalancingSettings | None) -> CareConfig:
    """Take a pack's settings; `asked`: how it is balanced, where it is."""
    if asked is None:
        return CareConfig(local_soc.local_soc_config(pack), None, thermal.thermal_config(pack))
    return CareConfig(
        local_soc.local_soc_config(pack, bleed_a=asked.bleed_a),
        balancing.balancing_config(pack, by=asked.by, bleed_a=asked.bleed_a, budget_w=asked.budget_w),
        thermal.thermal_config(pack),
    )


def fresh_state(cfg: CareConfig, kept: object = None) -> State:
    """Begin; `kept` is the charge as the run before left it (edge.local_soc.dump)."""
    cells = None if cfg.balancing is None else balancing.fresh_state(cfg.balancing)
    return State(local_soc.load(cfg.soc, kept), cells, thermal.fresh_state())


def step(
    cfg: CareConfig, state: State, block: FrameBlock | None, told: Sequence[Told], now_ns: int
) -> tuple[State, Asked]:
    """Take frames in their order, and protection's words; `now_ns` is of the frames' clock, since 1970."""
    heard = words.hear(state.words, told, now_ns)
    bleeding = None if state.balancing is None else state.balancing.on
    charge, soc = local_soc.step(cfg.soc, state.soc, block, bleeding, now_ns)
    cells, balance = state.balancing, None
    if cfg.balancing is not None and cells is not None:
        cells, balance = balancing.step(cfg.balancing, cells, block, (soc, heard), now_ns)
    heat, request = thermal.step(cfg.thermal, state.thermal, block, (soc, heard), now_ns)
    return State(charge, cells, heat, heard), Asked(soc, balance, request)


@dataclass(slots=True)
class Asking:
    """When it is said on the bus: at once where it changes, otherwise in its period."""

    writer: Writer
    last: dict[str, object] = field(default_factory=dict)
    sent_ns: dict[str, int] = field(default_factory=dict)

    def due(self, asked: Asked, now_ns: int) -> list[Sent]:
        """Give what is to be sent now; `now_ns` is of a monotonic clock."""
        out: list[Sent] = []
        request = {"Cooling": _PERCENT * asked.request.cooling, "Heating": _PERCENT * asked.request.heating}
        if self._is_due(THERMAL, request, now_ns):
            out.append(self.writer.write(THERMAL, request))
        if asked.balance is not None:
            mask = asked.balance.mask.tolist()
            if self._is_due(BALANCING, mask, now_ns):
                out += [self.writer.write(BALANCING, page) for page in balancing_pages(mask)]
        return out

    def _is_due(self, name: str, said: object, now_ns: int) -> bool:
        period_ns = round(1e9 * self.writer.messages[name].cycle_s)
        if self.last.get(name) == said and now_ns - self.sent_ns[name] < period_ns:
            return False
        self.last[name], self.sent_ns[name] = said, now_ns
        return True
