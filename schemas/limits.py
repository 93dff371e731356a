"""Protection limits as data: rows of three tiers, and the default profile of a chemistry."""

from __future__ import annotations

from collections.abc import Iterable
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
    "temp_c": (-60.0, 150.0),  # any probe, °C
    "current_a": (0.0, 10_000.0),  # magnitude in the row's direction, A
    "pack_v": (0.0, 6_000.0),  # V
    "isolation_ohm_per_v": (0.0, 1e6),  # isolation resistance over maximum pack voltage, Ω/V (UN R100)
    "cell_dev_v": (0.0, 6.0),  # |cell - median|, V
    "temp_dev_c": (0.0, 150.0),  # |probe - mean|, K
    "sum_mismatch_v": (0.0, 1_000.0),  # |sum of cells - pack_v - sum_offset_v|, V
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One protection row.

    Comparison is inclusive: `over` means value ≥ bound, otherwise value ≤ bound.  `direction` says for
    which sign of current the row holds.  It fires when the bound was crossed for `for_s` seconds in at
    least `min_samples` fresh samples in a row, and must do so within `max_detect_s`; it clears once the
    value is `hysteresis` (≥ 0, in the quantity's unit) inside the bound.  A latched row clears by `reset` only.
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


def too_slow(limits: Iterable[Limit], period_s: float, delay_s: float = 0.0) -> list[str]:
    """Say, one line a row, which rows cannot act within their `max_detect_s` at that period."""
    return [
        f"{row.quantity} {row.tier} ({row.direction}, {'over' if row.over else 'under'} {row.bound:g}): "
        f"worst detection must be ≤ {row.max_detect_s:g} s; got {worst:g} s "
        f"(period {period_s:g} s, delay {delay_s:g} s)"
        for row in limits
        if (worst := worst_detection_s(row, period_s, delay_s)) > row.max_detect_s
    ]


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
    if quantity == "current_a" and (not limit.over or limit.direction == "any"):
        row.refuse("direction", "charge or discharge, with over = true, for current_a", limit.direction)
    return limit


# MOL, RSL, MSL of each chemistry.  Chosen so that healthy packs do not trip: recorded cells reach 4.209 V,
# and a fast-charging car 54.4 °C.
_CELL_MAX_V = {"nmc": (4.21, 4.23, 4.25), "lfp": (3.65, 3.70, 3.80)}
_CELL_MIN_V = {"nmc": (3.00, 2.85, 2.70), "lfp": (2.70, 2.60, 2.50)}
_TEMP_MAX_C = (50.0, 55.0, 60.0)
_CURRENT = (1.0, 1.1, 1.25)  # of the pack's largest current
# for_s and max_detect_s.  for_s follows foxBMS 2's counters; max_detect_s leaves room for a bus that sends a value
# every 100 ms (current) to 2 s (temperature).
_VOLTAGE_S = (0.5, 2.0)
_CURRENT_S = (0.1, 0.6)
_SLOW_S = (5.0, 15.0)
_ISOLATION_S = (5.0, 30.0)


def default_limits(chemistry: str, series: int, charge_max_a: float, discharge_max_a: float) -> tuple[Limit, ...]:
    """Give the default profile: debounce times after foxBMS 2, bounds by chemistry.

    MOL only writes state.  RSL warns and takes current back.  MSL opens: at speed only for over-current,
    otherwise after the stop.  Cold never opens: it takes the current to zero.
    """
    v_max, v_min = _CELL_MAX_V[chemistry], _CELL_MIN_V[chemistry]
    high, low = ("inform", "zero_current", "open_at_standstill"), ("inform", "derate", "open_at_standstill")
    rows = [
        *_tiers("cell_v", v_max, high, 0.02, _VOLTAGE_S),
        *_tiers("cell_v", v_min, low, 0.05, _VOLTAGE_S, over=False),
        *_tiers("pack_v", [series * v for v in v_max], high, 0.02 * series, _VOLTAGE_S),
        *_tiers("pack_v", [series * v for v in v_min], low, 0.05 * series, _VOLTAGE_S, over=False),
    ]
    hot, fast = ("derate", "derate", "open_at_standstill"), ("inform", "derate", "open_now")
    for way, cold_c, max_a in (("charge", 0.0, charge_max_a), ("discharge", -20.0, discharge_max_a)):
        rows += _tiers("temp_c", _TEMP_MAX_C, hot, 2.0, _SLOW_S, way)
        rows += _tiers("temp_c", [cold_c], ("zero_current",), 2.0, _SLOW_S, way, over=False)
        rows += _tiers("current_a", [max_a * k for k in _CURRENT], fast, 0.05 * max_a, _CURRENT_S, way)
    rows += _tiers("isolation_ohm_per_v", [500.0, 100.0], high[::2], 50.0, _ISOLATION_S, over=False)
    rows += _tiers("cell_dev_v", [0.3], ("inform",), 0.05, _SLOW_S)
    rows += _tiers("temp_dev_c", [10.0], ("inform",), 2.0, _SLOW_S)
    mismatch = max(3.0, 0.03 * series * (v_max[0] + v_min[0]) / 2)
    rows += _tiers("sum_mismatch_v", [mismatch], ("inform",), 1.0, _SLOW_S)
    return tuple(rows)


def _tiers(
    quantity: str,
    bounds: Iterable[float],
    actions: tuple[str, ...],
    hysteresis: float,
    seconds: tuple[float, float],
    direction: str = "any",
    *,
    over: bool = True,
) -> list[Limit]:
    """Give a row per bound: three are MOL, RSL and MSL, two RSL and MSL, one MOL if it acts, otherwise RSL."""
    single = "RSL" if actions == ("inform",) else "MOL"
    names = {1: (single,), 2: TIERS[1:], 3: TIERS}[len(actions)]
    return [
        Limit(
            quantity=quantity,
            tier=tier,
            bound=round(bound, 3),
            over=over,
            direction=direction,
            for_s=seconds[0],
            min_samples=3,
            max_detect_s=seconds[1],
            hysteresis=round(hysteresis, 3),
            action=action,
            latch=tier == "MSL",
            reset="auto" if tier != "MSL" else "service" if action == "open_now" else "standby",
        )
        for tier, bound, action in zip(names, bounds, actions, strict=True)
    ]
