"""What does a configuration protect, and what not: in words, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from edge.protection import key_of
from edge.settings import Prepared
from schemas.limits import NEEDS, Limit


def lines(prepared: Prepared) -> list[str]:
    """Say what was read, which rows are not evaluated, and which would come too late."""
    settings, plan, found = prepared.settings, prepared.plan, prepared.guard
    frames_s = sum(1.0 / source.period_s for source in plan.sources)
    out = [
        f"vehicle        {settings.vehicle}",
        f"pack           {prepared.pack.name}: {prepared.pack.series} cell groups, {prepared.pack.probes} probes",
        f"bus            {settings.can.interface} {settings.can.channel}",
        f"messages       {len(plan.sources)} and pages of messages, {frames_s:.0f} a second",
        f"signals        {', '.join(plan.required)}",
        f"rows           {len(found.config.table.rows)} evaluated",
    ]
    out += [f"not evaluated  {key_of(row)}: needs {_needs(row, plan.required)}" for row in found.not_evaluated]
    out += [f"too slow       {line}" for line in found.too_slow]
    out += [f"warning        {line}" for line in found.warnings]
    return out


def may_start(prepared: Prepared) -> bool:
    """Say whether each row comes in time; an observer commands nothing, so it may be late."""
    return not prepared.guard.too_slow or prepared.guard.config.observer


def _needs(row: Limit, sent: Iterable[str]) -> str:
    lacking = [names for names in NEEDS[row.quantity] if not set(names) & {*sent}]
    return " and ".join(" or ".join(names) for names in lacking)
