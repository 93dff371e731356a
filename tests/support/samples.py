"""Samples in which only what is named is new, for tests of what is measured on them."""

from __future__ import annotations

import math
from typing import Any

from edge.protection import Measure
from edge.quantities import Own, QuantitiesConfig, State, step
from edge.sensing import MISSING, OK, ONE, Many, Sample, Scalar

S = 10**9
NAN = math.nan
CFG = QuantitiesConfig(
    cell_groups=((0, 1), (3, 2)),
    probe_groups=((0,), (1, 2)),
    nominal_ah=50.0,
    max_pack_v=400.0,
    sum_offset_v=0.5,
    full_v=4.2,
    empty_v=2.8,
    hysteresis_v=0.02,
    max_temp_c=60.0,
    step_a=10.0,
    feedback=(0, 2),
    vital=(True, True, False),
    vital_sent=("current_a", "pack_v"),
    others_sent=("hvil", "crash", "soc"),
)
ALL_OPEN, CLOSED = (False, False, False), (True, True, False)


def scalar(value: float, *, fresh: bool = True, state: str | None = None) -> Scalar:
    return Scalar(value, 1, fresh, state or (MISSING if math.isnan(value) else OK))


def sample(
    t_s: float = 0.0,
    cells: tuple[float, ...] = (3.7, 3.7, 3.7, 3.7),
    temps: tuple[float, ...] = (20.0, 20.0, 20.0),
    fresh: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
    *,
    ages: tuple[float, ...] = (0.0, 0.0, 0.0),
    heard: tuple[bool, ...] = (True, True, True),
    frozen_s: float = 0.0,
    **one: Scalar,
) -> Sample:
    """A sample in which only the named single values and the groups in `fresh` are new."""

    def many(values: tuple[float, ...], groups: tuple[int, ...]) -> Many:
        return Many(values, tuple(MISSING if math.isnan(v) else OK for v in values), groups)

    held = {name: Scalar(NAN, 0, fresh=False, state="absent") for name in ONE}
    held["current_a"] = held["pack_v"] = Scalar(0.0, 1, fresh=False, state=OK)
    came = frozenset(name for name, now in one.items() if now.fresh)
    return Sample(round(t_s * S), many(cells, fresh[0]), many(temps, fresh[1]), held | one, ages, heard, frozen_s, came)


def measured(own: Own | None = None, **more: Any) -> dict[str, list[Measure]]:
    return dict(step(CFG, State(), sample(**more), own or Own())[1].measures)  # type: ignore[arg-type]


def one(value: float, at: int = 0) -> list[Measure]:
    return [Measure(0, value, at, value, at)]
