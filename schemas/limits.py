"""Protection limits as data: rows of three tiers, what they may watch, and what they need for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.checked import Table

TIERS = ("MOL", "RSL", "MSL")  # operating < recommended < maximum safety, after foxBMS 2
DIRECTIONS = ("charge", "discharge", "any")
ACTIONS = ("inform", "derate", "zero_current", "open_at_standstill", "open_now")
RESETS = (
    "auto",  # clears with hysteresis when the cause is gone
    "standby",  # the cause is gone and standby was requested
    "service",  # only somebody with a tool
)

# What a row may watch, and the bounds it may have.
QUANTITIES: dict[str, tuple[float, float]] = {
    "cell_v": (0.0, 6.0),  # any cell group, V
    "deep_discharge_v": (0.0, 6.0),  # any cell group, V: below it a cell is damaged for good
    "pack_v": (0.0, 6_000.0),  # V
    "overcharge_share": (0.0, 1.0),  # of nominal Ah, charged since a cell is at its operating maximum
    "overdischarge_share": (0.0, 1.0),  # of nominal Ah, discharged since a cell is at its recommended minimum
    "temp_c": (-60.0, 150.0),  # any probe, °C
    "temp_rate_c_per_s": (0.0, 100.0),  # rise of any probe over 10 s, K/s
    "temp_spread_c": (0.0, 150.0),  # hottest - coldest probe, K
    "current_a": (0.0, 10_000.0),  # magnitude in the row's direction, A
    "rms_a": (0.0, 10_000.0),  # root mean square in the row's direction over RMS_TAU_S (I²t), A
    "short_a": (0.0, 100_000.0),  # magnitude in either direction, A: evidence of a short circuit
    "current_mismatch_a": (0.0, 10_000.0),  # |current_a - current2_a|, A
    "open_current_a": (0.0, 10_000.0),  # magnitude while the contactors are commanded open, A
    "disobeyed_a": (0.0, 10_000.0),  # beyond the allowed current in the row's direction, A
    "isolation_ohm_per_v": (0.0, 1e6),  # isolation resistance over maximum pack voltage, Ω/V (UN R100)
    "cell_dev_v": (0.0, 6.0),  # |cell - median|, V
    "temp_dev_c": (0.0, 150.0),  # |probe - mean|, K
    "sum_mismatch_v": (0.0, 1_000.0),  # |sum of cells - pack_v - sum_offset_v|, V, not while the current steps
    "interlock_open": (0.5, 1.0),  # 1 where the high-voltage interlock loop is open
    "crash": (0.5, 1.0),  # 1 where the vehicle reports a crash
    "thermal_event": (0.5, 1.0),  # 1 where a cell or probe meets the rule of GB 38031-2025 in its vehicle form
    "feedback_mismatch": (0.5, 1.0),  # 1 where a contactor is not as commanded
    "weld": (0.5, 1.0),  # 1 where a contactor commanded open conducts
    "precharge_failures": (1.0, 100.0),  # tries in a row
    "silence": (1.0, 100.0),  # age of a message with cell voltages, temperatures, current or pack voltage, in periods
    "silence_minor": (1.0, 100.0),  # age of any other message, in periods
    "cells_missing": (1.0, 2000.0),  # cell groups without a usable value
    "probes_missing": (1e-4, 1.0),  # share of the probes without a usable value
    "invalid": (1.0, 10.0),  # how many of current and pack voltage came out of range, stuck or empty
    "invalid_minor": (1.0, 20.0),  # how many other values did
    "frozen_s": (1.0, 3600.0),  # since any voltage or current changed while current flows, s
}
RMS_TAU_S = 60.0  # time constant of the thermal image (first order, as IEC 60255-149)
DIRECTED = frozenset({"current_a", "rms_a", "disobeyed_a"})  # need over = true and a direction
# Over-current evidence and a crash: all that may open at speed.
FAST = frozenset({"current_a", "rms_a", "short_a", "crash"})

_MINOR = (
    "current2_a", "link_v", "isolation_ohm", "hvil", "crash", "speed_kmh", "drive_state", "charge_type", "soc",
    "plus_closed", "minus_closed", "precharge_closed",
)  # fmt: skip
# The signals that a quantity needs, each one of its alternatives; () is watched at every tick, whatever is sent.
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cell_v": (("cell_v",),),
    "deep_discharge_v": (("cell_v",),),
    "pack_v": (("pack_v",),),
    "overcharge_share": (("cell_v",), ("current_a",)),
    "overdischarge_share": (("cell_v",), ("current_a",)),
    "temp_c": (("temp_c",),),
    "temp_rate_c_per_s": (("temp_c",),),
    "temp_spread_c": (("temp_c",),),
    "current_a": (("current_a",),),
    "rms_a": (("current_a",),),
    "short_a": (("current_a",),),
    "current_mismatch_a": (("current_a",), ("current2_a",)),
    "open_current_a": (("current_a",),),
    "disobeyed_a": (("current_a",),),
    "isolation_ohm_per_v": (("isolation_ohm",),),
    "cell_dev_v": (("cell_v",),),
    "temp_dev_c": (("temp_c",),),
    "sum_mismatch_v": (("cell_v",), ("pack_v",), ("current_a",)),
    "interlock_open": (("hvil",),),
    "crash": (("crash",),),
    "thermal_event": (("cell_v",), ("temp_c",)),
    "feedback_mismatch": (("plus_closed", "minus_closed", "precharge_closed"),),
    "weld": (("link_v", "plus_closed", "minus_closed"),),
    "precharge_failures": (("link_v",),),
    "silence": (),
    "silence_minor": (),
    "cells_missing": (("cell_v",),),
    "probes_missing": (("temp_c",),),
    "invalid": (("current_a", "pack_v"),),
    "invalid_minor": (_MINOR,),
    "frozen_s": (("current_a",),),
}
# Judged at every tick, not when a message comes: it is about what does not come, or about commands of our own.
AT_TICKS = frozenset({"weld", "precharge_failures", "silence", "silence_minor"})


@dataclass(frozen=True, slots=True)
class Limit:
    """One protection row.

    Comparison is inclusive: `over` means value ≥ bound, otherwise value ≤ bound.  `direction` says for
    which sign of current the row holds; a temperature at rest counts as one under discharge.  It fires when the
    bound was crossed for `for_s` seconds in at least `min_samples` fresh samples in a row, and must do so within
    `max_detect_s`; it clears once the value is `hysteresis` (≥ 0, in the quantity's unit) inside the bound.  A
    latched row clears by `reset` only.
    """

    quantity: str
    tier: str
    bound: float
    over: bool
    direction: str
    for_s: float
    min_samples: int
    max_detect_s: float
    hysteresis: float
    action: str
    latch: bool
    reset: str


def worst_detection_s(limit: Limit, period_s: float, delay_s: float = 0.0) -> float:
    """Give the longest time from crossing the bound to acting, s.

    `for_s + (min_samples + 1) × period + delay`: the crossing may fall just after a sample, and only
    fresh samples count.
    """
    return limit.for_s + (limit.min_samples + 1) * period_s + delay_s


def too_slow(limits: Iterable[Limit], period_s: Mapping[str, float], tick_s: float, delay_s: float = 0.0) -> list[str]:
    """Say, one line a row, which rows cannot act within their `max_detect_s`.

    `period_s`: of each signal that is sent.  Rows judged at ticks have the tick for a period; the others the
    slowest signal they need, of alternatives the slowest that is sent.  Rows without a signal are left out.
    """
    lines = []
    for row in limits:
        period = tick_s if row.quantity in AT_TICKS else slowest(row.quantity, period_s)
        if period is None or (worst := worst_detection_s(row, period, delay_s)) <= row.max_detect_s:
            continue
        side = "over" if row.over else "under"
        lines.append(
            f"{row.quantity} {row.tier} ({row.direction}, {side} {row.bound:g}): worst detection must be "
            f"≤ {row.max_detect_s:g} s; got {worst:g} s (period {period:g} s, delay {delay_s:g} s)"
        )
    return lines


def slowest(quantity: str, period_s: Mapping[str, float]) -> float | None:
    """Give the longest period among the signals of a quantity, s; None where one that it needs is not sent."""
    longest = 0.0
    for alternatives in NEEDS[quantity]:
        sent = [period_s[name] for name in alternatives if name in period_s]
        if not sent:
            return None
        longest = max(longest, *sent)
    return longest


def read_limits(rows: list[Table]) -> tuple[Limit, ...]:
    """Read and check the rows of a pack file, errors as `checked.Table` gives them."""
    limits = tuple(_read(row) for row in rows)
    seen: dict[tuple[str, bool, str], dict[str, float]] = {}
    for row, limit in zip(rows, limits, strict=True):
        tiers = seen.setdefault((limit.quantity, limit.over, limit.direction), {})
        if limit.tier in tiers:
            row.refuse("tier", "given once per quantity, side and direction", limit.tier)
        tiers[limit.tier] = limit.bound
        given = [tiers[t] for t in TIERS if t in tiers]
        if given != sorted(given, reverse=not limit.over):
            order = " ≤ ".join(TIERS if limit.over else TIERS[::-1])
            row.refuse("bound", f"in the order {order} among the rows of {limit.quantity}", limit.bound)
    return limits


def _read(row: Table) -> Limit:
    quantity = row.text("quantity", QUANTITIES)
    limit = Limit(
        quantity=quantity,
        tier=row.text("tier", TIERS),
        bound=row.number("bound", *QUANTITIES[quantity]),
        over=row.truth("over"),
        direction=row.text("direction", DIRECTIONS),
        for_s=row.number("for_s", 0.0, 3600.0),
        min_samples=row.integer("min_samples", 1, 1000),
        max_detect_s=row.number("max_detect_s", 0.0, 3600.0, above=True),
        hysteresis=row.number("hysteresis", 0.0, 1e6),
        action=row.text("action", ACTIONS),
        latch=row.truth("latch"),
        reset=row.text("reset", RESETS),
    )
    row.done()
    if limit.for_s >= limit.max_detect_s:
        row.refuse("max_detect_s", f"> for_s ({limit.for_s:g})", limit.max_detect_s)
    if limit.latch == (limit.reset == "auto"):
        row.refuse("reset", "auto where latch is false, standby or service where it is true", limit.reset)
    if quantity in DIRECTED and (not limit.over or limit.direction == "any"):
        row.refuse("direction", f"charge or discharge, with over = true, for {quantity}", limit.direction)
    if limit.for_s > 0 and limit.min_samples == 1:
        row.refuse("min_samples", "≥ 2 where for_s > 0: one sample spans no time", limit.min_samples)
    if limit.action == "open_now" and quantity not in FAST:
        row.refuse("action", f"open_now only for {', '.join(sorted(FAST))}", limit.action)
    return limit
