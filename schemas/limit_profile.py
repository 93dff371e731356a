"""The default profile: which protection rows a pack has where its maker gives none."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.limits import TIERS, Limit

# MOL, RSL, MSL of each chemistry.  Chosen so that healthy packs do not trip: recorded cells reach 4.209 V,
# and a fast-charging car 54.4 °C.
_CELL_MAX_V = {"nmc": (4.21, 4.23, 4.25), "lfp": (3.65, 3.70, 3.80)}
_CELL_MIN_V = {"nmc": (3.00, 2.85, 2.70), "lfp": (2.70, 2.60, 2.50)}
_CELL_DEEP_V = {"nmc": (2.0,), "lfp": (1.5,)}
_TEMP_MAX_C = (50.0, 55.0, 60.0)
_CURRENT = (1.0, 1.1, 1.25)  # of the pack's largest current
_RMS = (0.95, 1.05)  # of the pack's largest current, over a minute
_SHORT = 2.0  # times the pack's largest current
# for_s and max_detect_s.  for_s follows foxBMS 2's counters; max_detect_s leaves room for a bus that sends a value
# every 100 ms (current, loops) to 2 s (temperature).
_VOLTAGE_S = (0.5, 2.0)
_CURRENT_S = (0.1, 0.6)
_LOOP_S = (0.1, 0.6)
_FEEDBACK_S = (0.2, 1.0)
_SLOW_S = (5.0, 15.0)
_ISOLATION_S = (5.0, 30.0)
_ONCE_S = (0.0, 0.5)  # one sample
_EVENT_S = (0.0, 10.0)  # one sample of a rule that looks back by itself
_OBEY_S = (3.0, 5.0)
_UNKNOWN_S = (0.5, 2.0)
_FROZEN_S = (0.5, 10.0)
_UNKNOWN_LONG_S = (20.0, 25.0)  # the ramp to zero takes 5 s, and one lost message is no reason to strand a car
_PROBES_LONG_S = (20.0, 30.0)
_PERIODS = 5.0  # without a message: it is lost
_FAST = ("inform", "derate", "open_now")
_CONDITION = ("open_at_standstill",)  # for the MSL row of a flag


def default_limits(chemistry: str, series: int, charge_max_a: float, discharge_max_a: float) -> tuple[Limit, ...]:
    """Give the default profile: debounce times after foxBMS 2, bounds by chemistry.

    MOL only writes state.  RSL warns and takes current back.  MSL opens: at speed only for over-current and a
    crash, otherwise after the stop.  Cold never opens: it takes the current to zero.
    """
    return tuple(
        _voltage(chemistry, series)
        + _currents(charge_max_a, discharge_max_a)
        + _temperature()
        + _consistency(chemistry, series, discharge_max_a)
        + _conditions(discharge_max_a)
        + _unknowns()
    )


def _voltage(chemistry: str, series: int) -> list[Limit]:
    v_max, v_min = _CELL_MAX_V[chemistry], _CELL_MIN_V[chemistry]
    high, low = ("inform", "zero_current", "open_at_standstill"), ("inform", "derate", "open_at_standstill")
    return [
        *_tiers("cell_v", v_max, high, 0.02, _VOLTAGE_S),
        *_tiers("cell_v", v_min, low, 0.05, _VOLTAGE_S, over=False),
        *_tiers("deep_discharge_v", _CELL_DEEP_V[chemistry], _CONDITION, 0.05, _VOLTAGE_S, over=False, reset="service"),
        *_tiers("pack_v", [series * v for v in v_max], high, 0.02 * series, _VOLTAGE_S),
        *_tiers("pack_v", [series * v for v in v_min], low, 0.05 * series, _VOLTAGE_S, over=False),
        *_tiers("overcharge_share", (0.01, 0.05), high[1:], 0.005, _VOLTAGE_S),
        *_tiers("overdischarge_share", (0.02, 0.05), low[1:], 0.005, _VOLTAGE_S),
    ]


def _currents(charge_max_a: float, discharge_max_a: float) -> list[Limit]:
    rows = []
    for way, max_a in (("charge", charge_max_a), ("discharge", discharge_max_a)):
        little = 0.05 * max_a
        rows += _tiers("current_a", [max_a * k for k in _CURRENT], _FAST, little, _CURRENT_S, way)
        rows += _tiers("rms_a", [max_a * k for k in _RMS], _FAST[1:], little, _CURRENT_S, way)
        rows += _tiers("disobeyed_a", [0.1 * max_a], ("inform",), little, _OBEY_S, way)
    largest = max(charge_max_a, discharge_max_a)
    return [*rows, *_tiers("short_a", [_SHORT * largest], ("open_now",), 0.1 * largest, _ONCE_S, samples=1)]


def _temperature() -> list[Limit]:
    hot, rows = ("derate", "derate", "open_at_standstill"), []
    for way, cold_c in (("charge", 0.0), ("discharge", -20.0)):
        rows += _tiers("temp_c", _TEMP_MAX_C, hot, 2.0, _SLOW_S, way)
        rows += _tiers("temp_c", [cold_c], ("zero_current",), 2.0, _SLOW_S, way, over=False)
    rows += _tiers("temp_rate_c_per_s", [0.5], ("inform",), 0.3, _EVENT_S, samples=1)
    rows += _tiers("temp_spread_c", [20.0], ("inform",), 2.0, _SLOW_S)
    rows += _tiers("temp_dev_c", [10.0], ("inform",), 2.0, _SLOW_S)
    return rows + _tiers("thermal_event", [1.0], _CONDITION, 0.5, _EVENT_S, samples=1, reset="service")


def _consistency(chemistry: str, series: int, discharge_max_a: float) -> list[Limit]:
    middle_v = series * (_CELL_MAX_V[chemistry][0] + _CELL_MIN_V[chemistry][0]) / 2
    return [
        *_tiers("cell_dev_v", [0.3], ("inform",), 0.05, _SLOW_S),
        *_tiers("sum_mismatch_v", [max(3.0, 0.03 * middle_v)], ("inform",), 1.0, _SLOW_S),
        *_tiers(
            "current_mismatch_a", [0.05 * discharge_max_a], ("derate",), 0.02 * discharge_max_a, _OBEY_S, tier="RSL"
        ),
        *_tiers("frozen_s", [120.0], ("derate",), 60.0, _FROZEN_S, tier="RSL"),
    ]


def _conditions(discharge_max_a: float) -> list[Limit]:
    isolation = ("inform", "open_at_standstill")
    little = 0.02 * discharge_max_a
    return [
        *_tiers("isolation_ohm_per_v", [500.0, 100.0], isolation, 50.0, _ISOLATION_S, over=False),
        *_tiers("interlock_open", [1.0], _CONDITION, 0.5, _LOOP_S),
        *_tiers("crash", [1.0], ("open_now",), 0.5, _ONCE_S, samples=1),
        *_tiers("feedback_mismatch", [1.0], _CONDITION, 0.5, _FEEDBACK_S),
        *_tiers("weld", [1.0], _CONDITION, 0.5, _FEEDBACK_S, reset="service"),
        *_tiers("precharge_failures", [3.0], _CONDITION, 0.5, _ONCE_S, samples=1),
        *_tiers("open_current_a", [little], _CONDITION, little / 2, _LOOP_S, reset="service"),
    ]


def _unknowns() -> list[Limit]:
    rows = []
    for quantity, bound, back in (("silence", _PERIODS, 3.0), ("cells_missing", 1.0, 0.5), ("invalid", 1.0, 0.5)):
        seconds = _ONCE_S if quantity == "silence" else _UNKNOWN_S
        first = 1 if quantity == "silence" else 3
        rows += _tiers(quantity, [bound], ("zero_current",), back, seconds, samples=first, tier="RSL")
        rows += _tiers(quantity, [bound], _CONDITION, back, _UNKNOWN_LONG_S)
    rows += _tiers("probes_missing", (1e-3, 0.25), ("inform", "derate"), 1e-4, _SLOW_S, tier="MOL")
    rows += _tiers("probes_missing", (0.5,), _CONDITION, 1e-4, _PROBES_LONG_S)
    rows += _tiers("silence_minor", [_PERIODS], ("inform",), 3.0, _ONCE_S, samples=1)
    return rows + _tiers("invalid_minor", [1.0], ("inform",), 0.5, _ISOLATION_S)


def _tiers(  # noqa: PLR0913 - what differs between rows
    quantity: str,
    bounds: Iterable[float],
    actions: tuple[str, ...],
    hysteresis: float,
    seconds: tuple[float, float],
    direction: str = "any",
    *,
    over: bool = True,
    samples: int = 3,
    reset: str = "",
    tier: str = "",
) -> list[Limit]:
    """Give a row per bound, the last action's tier telling which: MSL opens, RSL acts or warns, MOL is below both.

    `tier` names the first; `reset` is how a latch clears where it is not by the action's own rule.
    """
    last = "MSL" if actions[-1].startswith("open") else "RSL" if actions == ("inform",) or len(actions) > 1 else "MOL"
    first = TIERS.index(tier) if tier else TIERS.index(last) + 1 - len(actions)
    return [
        Limit(
            quantity=quantity,
            tier=name,
            bound=round(bound, 3),
            over=over,
            direction=direction,
            for_s=seconds[0],
            min_samples=samples,
            max_detect_s=seconds[1],
            hysteresis=round(hysteresis, 4),
            action=action,
            latch=name == "MSL",
            reset="auto" if name != "MSL" else reset or ("service" if action == "open_now" else "standby"),
        )
        for name, bound, action in zip(TIERS[first:], bounds, actions, strict=False)
    ]
