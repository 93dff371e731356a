"""Write a pack model as the TOML that schemas.pack reads, in a form that people can review."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from replay.fit.rc import Floats, Tables
from schemas.limit_profile import default_limits


@dataclass(frozen=True, slots=True)
class PackSpec:
    """Everything a pack file says; Ah, ohm and J/K per cell group, tables as in schemas.pack."""

    about: str
    chemistry: str
    series: int
    parallel: int
    probes: int
    nominal_ah: float
    usable_ah: float
    charge_max_a: float
    discharge_max_a: float
    break_current_a: float
    ocv_source: str
    ocv_from: str
    tables: Tables
    heat_capacity_j_per_k: float
    loss_w_per_k: float
    provenance: Mapping[str, str]
    coolant_w_per_k: float | None = None
    generic: bool = False
    capacity_std: float = 0.1  # of a pack of any age
    hysteresis_v: float = 0.0
    sum_offset_v: float = 0.0
    probe_of_cell: str | Sequence[int] = "even"


BREAK_CURRENT = "break current as in foxBMS 2's example, not the maker's"

# Share of the largest current by temperature.  Cold charging plates lithium on graphite, heat ages.
# LFP charging: Alpha APL-48 in C-rates over its 1 C, made continuous.
DERATING: dict[str, dict[str, Sequence[float]]] = {
    "nmc": {
        "temp_c": (-30, -20, -10, 0, 10, 20, 45, 50, 60),
        "charge": (0, 0, 0, 0, 0.3, 1, 1, 0.7, 0),
        "discharge": (0, 0, 0.3, 0.6, 0.85, 1, 1, 0.8, 0),
    },
    "lfp": {
        "temp_c": (-30, -20, -10, 0, 5, 10, 20, 45, 50, 60),
        "charge": (0, 0, 0, 0, 0.1, 0.2, 1, 1, 0.75, 0),
        "discharge": (0, 0, 0.2, 0.5, 0.65, 0.8, 1, 1, 0.8, 0),
    },
}


def render(spec: PackSpec) -> str:
    """Give the file's text; voltages to 0.1 mV, resistances to four digits."""
    derating, tables = DERATING[spec.chemistry], spec.tables
    limits = default_limits(spec.chemistry, spec.series, spec.charge_max_a, spec.discharge_max_a)
    lines = [
        f"# {spec.about}",
        "# Written by `just fit-packs`; [provenance] says from what. Ah, ohm and J/K are per cell group.",
        *_pairs(
            generic=spec.generic,
            chemistry=spec.chemistry,
            series=spec.series,
            parallel=spec.parallel,
            probes=spec.probes,
            probe_of_cell=spec.probe_of_cell,
            nominal_ah=spec.nominal_ah,
            usable_ah=spec.usable_ah,
            capacity_std=spec.capacity_std,
            charge_max_a=spec.charge_max_a,
            discharge_max_a=spec.discharge_max_a,
            break_current_a=spec.break_current_a,
            hysteresis_v=spec.hysteresis_v,
            sum_offset_v=spec.sum_offset_v,
        ),
        "",
        "# MOL writes state, RSL warns and takes current back, MSL opens. Comparison is inclusive.",
        "limits = [",
        *(f"  {{ {', '.join(_pairs(**asdict(row)))} }}," for row in limits),
        "]",
        "",
        "[ocv]",
        *_pairs(source=spec.ocv_source, **{"from": spec.ocv_from}),
        *_pairs(soc=tables.ocv_soc, temp_c=tables.ocv_temp_c),
        *_table("v", tables.ocv_v, 4),
        "",
        "[resistance]",
        *_pairs(soc=tables.r_soc, temp_c=tables.r_temp_c, tau_s=tables.tau_s),
        *_table("r0_ohm", tables.r_ohm[0]),
        *_table("rb_ohm", tables.r_ohm[1:]),
        "",
        "[thermal]",
        *_pairs(heat_capacity_j_per_k=spec.heat_capacity_j_per_k, loss_w_per_k=spec.loss_w_per_k),
        *(_pairs(coolant_w_per_k=spec.coolant_w_per_k) if spec.coolant_w_per_k is not None else ()),
        "",
        "[derating]",
        *_pairs(**derating),
        "",
        "[provenance]",
        *_pairs(**spec.provenance),
    ]
    return "\n".join(lines) + "\n"


def _pairs(**values: Any) -> Iterable[str]:  # noqa: ANN401 - whatever TOML holds
    return [f"{key} = {_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(round(float(value), 6))
    return f"[{', '.join(_value(v) for v in value)}]"


def _number(value: float, decimals: int | None = None) -> str:
    text = f"{value:.{decimals}f}" if decimals is not None else f"{value:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    return text if "." in text else f"{text}.0"


def _table(key: str, values: Floats, decimals: int | None = None) -> Iterable[str]:
    """Write nested lists, one innermost row a line."""

    def nested(array: Floats, indent: str) -> Iterable[str]:
        if array.ndim == 1:
            return [f"{indent}[{', '.join(_number(float(v), decimals) for v in array)}],"]
        inner = [line for part in array for line in nested(part, indent + "  ")]
        return [f"{indent}[", *inner, f"{indent}],"]

    lines = list(nested(np.asarray(values), ""))
    return [f"{key} = {lines[0]}", *lines[1:-1], "]"]
