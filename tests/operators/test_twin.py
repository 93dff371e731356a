"""The twin step: which charges tell of the circuit, and what is told of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.kernels import circuit_error as kernel
from operators.session_step import SESSIONS
from operators.shard import ShardLogic
from operators.twin import TwinStep, charges, reason
from schemas.events import Item, Rows
from schemas.pack import load_pack
from tests.support import sessions
from tests.support.sessions import CELLS, MODEL

PACK = load_pack(MODEL)


def logic() -> ShardLogic:
    build = lambda pack, _: TwinStep(pack, kernel.CircuitErrorConfig())  # noqa: E731 - one line of wiring
    return ShardLogic(build, load_pack, None, assigns=True, admits=SESSIONS)


def told(rows: Rows, step: ShardLogic | None = None) -> list[Item]:
    return list((step or logic()).on_batch([rows])[0])


def of_table(items: list[Item], table: str = "twins") -> Any:
    (rows,) = (item for item in items if isinstance(item, Rows) and item.table == table)
    return rows.data


def off_by(v: float, n: int = 40, **more: Any) -> Rows:
    """N charges whose mean voltage is `v` a cell group above what the circuit says."""
    draw = np.random.default_rng(1)
    start = draw.uniform(0.1, 0.4, n)
    more = {
        "soc_start_std": 0.0,
        "soc_end_std": 0.0,
        "soc_start": start,
        "soc_end": start + 0.4,
        "temp_mean_c": draw.uniform(5, 35, n),
        **more,
    }
    rows = sessions.charges(n, 54.0, **more)
    given = charges(PACK, {**rows.data, "slot": np.zeros(n, np.int32)})
    mean_v = kernel.circuit_v(PACK, given) + v + draw.normal(0, 0.001, n)
    energy = rows.data["charge_in_ah"] * (mean_v * CELLS + PACK.sum_offset_v) / 1e3
    return sessions.charges(n, 54.0, energy_in_kwh=energy, **more)


def test_sessions_pass_and_each_charge_says_what_the_circuit_missed() -> None:
    rows = off_by(0.012)
    out = told(rows)
    assert isinstance(out[0], Rows)
    assert out[0].table == SESSIONS
    assert len(out[0]) == len(rows)
    got = of_table(out)
    assert got["v_charge"] - got["v_circuit"] == pytest.approx(np.full(40, 0.012), abs=0.004)
    assert got["event"].tolist().count("kept") == 1
    assert got["kept"][-1]
    assert got["v_residual"][-1] == pytest.approx(0.012, abs=0.003)
    words = got["reason"][got["event"] == "kept"][0]
    assert words.startswith("the residual leaves ")
    assert got["weights"].shape == (40, kernel.COUNT)


def test_a_drift_is_told_with_its_reason_and_what_was_learned_is_renewed() -> None:
    step = logic()
    told(off_by(0.012), step)
    got = of_table(told(off_by(0.035, 30, first=40), step))
    (at,) = np.flatnonzero(got["event"] == "retrained").tolist()
    assert not got["kept"][at]
    assert "learned anew from the newest 8 charges" in got["reason"][at]
    assert "Page-Hinkley" in got["reason"][at]
    assert got["v_residual"][-1] == pytest.approx(0.035, abs=0.004)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"charge": False}, {"coverage": 0.5}, {"soc_end": 0.32}, {"charge_out_ah": 3.0}, {"temp_mean_c": np.nan},
        {"r0_rel": np.nan}, {"charge_in_ah": 0.0},
    ],
)  # fmt: skip
def test_a_session_that_tells_nothing_of_the_circuit_is_left_out(spoiled: dict[str, Any]) -> None:
    rows = sessions.charges(3, 54.0, **{"soc_start": 0.3, "soc_end": 0.8, **spoiled})
    out = told(rows)
    assert [item.table for item in out if isinstance(item, Rows)] == [SESSIONS]


def test_the_current_of_a_charge_is_weighted_by_charge() -> None:
    """Six hours: 5 h at 8 A, then 1 h that falls from 8 to 0 A, evenly: 24 minutes' worth of squares."""
    rows = sessions.charges(
        1, 54.0, charge_in_ah=44.0, hold_ah=4.0, hold_s=3600.0, hold_a_mean=4.0, hold_a_std=8 / 12**0.5,
        start_ns=0, end_ns=6 * 3600 * 10**9,
    )  # fmt: skip
    given = charges(PACK, {**rows.data, "slot": np.zeros(1, np.int32)})
    assert given.current_a[0] == pytest.approx((5 * 64 + 64 / 3) / 44)


def test_nothing_that_happened_needs_no_reason() -> None:
    assert not reason(0, np.zeros(len(kernel.OUT_COLUMNS)))
    assert "alone" in reason(kernel.DROPPED, np.zeros(len(kernel.OUT_COLUMNS)))
