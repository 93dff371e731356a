"""Protection rows, tables and facts for tests of the edge."""

from __future__ import annotations

from typing import Any

from edge.protection import Decision, Facts, Measure, State, Table, step, table_of
from schemas.limits import Limit


def limit(**changes: Any) -> Limit:
    fields: dict[str, Any] = {
        "quantity": "cell_v", "tier": "MSL", "bound": 4.25, "over": True, "direction": "any", "for_s": 0.5,
        "min_samples": 3, "max_detect_s": 2.0, "hysteresis": 0.02, "action": "open_at_standstill", "latch": True,
        "reset": "standby",
    }  # fmt: skip
    return Limit(**(fields | changes))


def quick(action: str = "open_at_standstill", quantity: str = "cell_v", **changes: Any) -> Limit:
    opens = action.startswith("open")
    reset = "standby" if opens else "auto"
    fields = {"for_s": 0.0, "min_samples": 1, "latch": opens, "reset": reset, "action": action, "quantity": quantity}
    return limit(**(fields | changes))


def table_for(*rows: Limit, groups: int = 1) -> Table:
    return table_of(rows, 1.0, {rows[0].quantity: groups} if rows else {})


def seen(quantity: str, value: float, at: int = 5, group: int = 0, **more: Any) -> Facts:
    return Facts({quantity: (Measure(group, value, at, value, at),)}, **({"speed_kmh": 0.0} | more))


def run(table: Table, state: State, *steps: tuple[float, Facts]) -> tuple[State, list[Decision]]:
    """Feed facts at times in seconds; gives every decision."""
    decisions: list[Decision] = []
    for t_s, facts in steps:
        state, new = step(table, state, facts, round(t_s * 1e9))
        decisions += new
    return state, decisions
