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
            raise row.bad("tier", "given once per quantity, side and direction", limit.tier)
        tiers[limit.tier] = limit.bound
        given = [tiers[t] for t in TIERS if t in tiers]
        if given != sorted(given, reverse=not limit.over):
            order = " ≤ ".join(TIERS if limit.over else TIERS[::-1])
            raise row.bad("bound", f"in the order {order} among the rows of {limit.quantity}", limit.bound)
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
        raise row.bad("max_detect_s", f"> for_s ({limit.for_s:g})", limit.max_detect_s)
    if limit.latch == (limit.reset == "auto"):
        raise row.bad("reset", "auto where latch is false, standby or service where it is true", limit.reset)
    if quantity == "current_a" and (not limit.over or limit.direction == "any"):
        raise row.bad("direction", "charge or discharge, with over = true, for current_a", limit.direction)
    return limit


# MOL, RSL, MSL of each chemistry.  Chosen so that healthy packs do not trip: recorded cells reach 4.209 V,
# and a fast-charging car 54.4 °C.
_CELL_MAX_V = {"nmc": (4.21, 4.23, 4.25), "lfp": (3.65, 3.70, 3.80)}
_CELL_MIN_V = {"nmc": (3.00, 2.85, 2.70), "lfp": (2.70, 2.60, 2.50)}
_TEMP_MAX_C = (50.0, 55.0, 60.0)
_CURRENT = (1.0, 1.1, 1.25)  # of the pack's largest current


def default_limits(chemistry: str, series: int, charge_max_a: float, discharge_max_a: float) -> tuple[Limit, ...]:
    """Give the default profile: debounce times after foxBMS 2, bounds by chemistry.

    MOL only writes state.  RSL warns and takes current back.  MSL opens: at speed only for over-current,
    otherwise after the stop.  Cold never opens: it takes the current to zero.
    """
    v_max, v_min = _CELL_MAX_V[chemistry], _CELL_MIN_V[chemistry]
    rows = [
        *_tiers("cell_v", v_max, 0.02, ("inform", "zero_current", "open_at_standstill")),
        *_tiers("cell_v", v_min, 0.05, ("inform", "derate", "open_at_standstill"), over=False),
        *_tiers("pack_v", [series * v for v in v_max], 0.02 * series, ("inform", "zero_current", "open_at_standstill")),
        *_tiers("pack_v", [series * v for v in v_min], 0.05 * series, ("inform", "derate", "open_at_standstill"), over=False),
    ]
    slow = {"for_s": 5.0, "max_detect_s": 15.0}
    for direction, cold_c, max_a in (("charge", 0.0, charge_max_a), ("discharge", -20.0, discharge_max_a)):
        rows += _tiers("temp_c", _TEMP_MAX_C, 2.0, ("derate", "derate", "open_at_standstill"), direction, **slow)
        rows += _tiers("temp_c", [cold_c], 2.0, ("zero_current",), direction, over=False, **slow)
        amps = [max_a * k for k in _CURRENT]
        quick = {"for_s": 0.1, "max_detect_s": 0.5}
        rows += _tiers("current_a", amps, 0.05 * max_a, ("inform", "derate", "open_now"), direction, **quick)
    isolation = {"for_s": 5.0, "max_detect_s": 30.0}
    rows += _tiers("isolation_ohm_per_v", [500.0, 100.0], 50.0, ("inform", "open_at_standstill"), over=False, **isolation)
    rows += _tiers("cell_dev_v", [0.3], 0.05, ("inform",), tiers=("RSL",), **slow)
    rows += _tiers("temp_dev_c", [10.0], 2.0, ("inform",), tiers=("RSL",), **slow)
    mismatch = max(3.0, 0.03 * series * (v_max[0] + v_min[0]) / 2)
    rows += _tiers("sum_mismatch_v", [mismatch], 1.0, ("inform",), tiers=("RSL",), **slow)
    return tuple(rows)


def _tiers(
    quantity: str,
    bounds: Iterable[float],
    hysteresis: float,
    actions: tuple[str, ...],
    direction: str = "any",
    *,
    tiers: tuple[str, ...] = (),
    over: bool = True,
    for_s: float = 0.5,
    max_detect_s: float = 2.0,
) -> list[Limit]:
    """Give a row per bound; two bounds are RSL and MSL, one is MOL unless `tiers` says otherwise."""
    names = tiers or {1: TIERS[:1], 2: TIERS[1:], 3: TIERS}[len(actions)]
    return [
        Limit(
            quantity=quantity,
            tier=tier,
            bound=round(bound, 3),
            over=over,
            direction=direction,
            for_s=for_s,
            min_samples=3,
            max_detect_s=max_detect_s,
            hysteresis=round(hysteresis, 3),
            action=action,
            latch=tier == "MSL",
            reset="auto" if tier != "MSL" else "service" if action == "open_now" else "standby",
        )
        for tier, bound, action in zip(names, bounds, actions, strict=True)
    ]
