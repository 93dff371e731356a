"""What does a configuration protect, and what not: in words, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from edge.protection import key_of
from edge.settings import Prepared
from edge.telemetry_settings import FILE, NONE, TelemetrySettings
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


def telemetry_lines(told: TelemetrySettings) -> list[str]:
    """Say what is kept and sent, and who may give orders."""
    frames, outbox, box, uplink = told.frames, told.outbox, told.blackbox, told.uplink
    goes = "none: frames stay in the outbox until they are too old"
    if uplink.kind == FILE:
        goes = f"files in {uplink.folder}"
    if uplink.kafka is not None:
        goes = f"Kafka at {uplink.kafka.bootstrap}, {uplink.kafka.security}"
    if uplink.kind != NONE:
        goes += f"; {uplink.budget_bytes / 1e6:g} MB a day, then history waits"
    cells = told.balancing
    return [
        f"frames         one each {frames.period_s:g} s, sent after {frames.batch_s:g} s or {frames.batch_bytes} bytes",
        f"outbox         {told.folder}: at most {outbox.max_bytes / (1 << 20):g} MiB and {outbox.max_days:g} days",
        f"black box      {box.before_s:g} s before a trip to {box.after_s:g} s after it",
        f"uplink         {goes}",
        f"orders         {f'signed by one of {len(told.keys)} keys' if told.keys else 'none are taken: no keys'}",
        f"balancing      {f'{cells.bleed_a:g} A a bleed' if cells else 'not asked for'}",
    ]


def may_start(prepared: Prepared) -> bool:
    """Say whether each row comes in time; an observer commands nothing, so it may be late."""
    return not prepared.guard.too_slow or prepared.guard.config.observer


def _needs(row: Limit, sent: Iterable[str]) -> str:
    lacking = [names for names in NEEDS[row.quantity] if not set(names) & {*sent}]
    return " and ".join(" or ".join(names) for names in lacking)
