"""What a battery pack is: cells, voltage and resistance tables, limits, from `packs/<model>.toml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.checked import ConfigError, Table, parse_toml, read_bytes, shown
from schemas.ids import file_hash
from schemas.limits import QUANTITIES, Limit, read_limits
from schemas.monotone import between, pchip

PACKS_DIR = Path(__file__).parent / "packs"
CHEMISTRIES = ("nmc", "lfp")
GRID_SOC = np.linspace(0.0, 1.0, 201)
GRID_TEMP_C = np.arange(-30.0, 60.1, 5.0)
OCV_SLOPE_MIN = 5e-3  # V per unit SOC: a flatter table would let an estimator divide by nothing

_PER_PACK_V = ("pack_v", "sum_mismatch_v")  # limits that grow with the number of groups in series
_SUFFIX = re.compile(r"(\d+)c(\d+)t(?:(\d+(?:\.\d+)?)ah)?")

Floats = NDArray[np.float64]


class PackError(ConfigError):
    """A pack file that cannot be used: one line with file, key, value and what is accepted."""


@dataclass(frozen=True, slots=True, eq=False)
class Ocv:
    """Open-circuit voltage of a cell group: v (T, K) over temp_c (T,) and soc (K,), rising in SOC."""

    soc: Floats
    temp_c: Floats
    v: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Resistance:
    """Resistance of a cell group: r0_ohm (T, K) and B branches rb_ohm (B, T, K) with tau_s (B,)."""

    soc: Floats
    temp_c: Floats
    r0_ohm: Floats
    tau_s: Floats
    rb_ohm: Floats


@dataclass(frozen=True, slots=True)
class Thermal:
    """Lumped thermal model of one cell group: its heat capacity, its loss to air, and to coolant that is pumped.

    The last is None where nobody knows it, or where no coolant passes the cells.
    """

    heat_capacity_j_per_k: float
    loss_w_per_k: float
    coolant_w_per_k: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Derating:
    """Share (0..1) of the largest current that is allowed at a temperature, linear between knots (K,)."""

    temp_c: Floats
    charge: Floats
    discharge: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PackGrid:
    """Tables on uniform axes, for bilinear look-up in kernels.

    soc (201,) = 0, 0.005 … 1; temp_c (19,) = −30, −25 … 60.  ocv, docv (V per unit SOC, > 0), r0 (ohm):
    (19, 201); rb (ohm): (B, 19, 201); tau_s (B,).  Monotone cubic in SOC, linear in temperature
    (resistances: of their logarithms), clamped at the edges of the file's tables.
    """

    soc: Floats
    temp_c: Floats
    ocv: Floats
    docv: Floats
    r0: Floats
    rb: Floats
    tau_s: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PackModel:
    """One kind of pack.

    A cell group is `parallel` cells; all Ah, ohm and J/K are per group.  `ocv_source` is "measured" (on
    this kind of cell) or "borrowed" (from `ocv_from`: estimates on it say so).  `probe_of_cell` (C,) counts
    from 0, −1 where there is no probe.  `hysteresis_v` is half the gap between the voltages after charge and
    discharge.  `capacity_std` is how far the capacity of one pack may be from `usable_ah`, new or aged, in proportion
    (standard deviation).  `sum_offset_v` is what the pack sensor shows above the sum of the cells.
    `break_current_a` is what the contactors may interrupt.  `sha` is the hash of the file, `provenance` says what
    its numbers are from.
    """

    name: str
    sha: str
    chemistry: str
    series: int
    parallel: int
    probes: int
    nominal_ah: float
    usable_ah: float
    capacity_std: float
    ocv_source: str
    ocv_from: str
    ocv: Ocv
    resistance: Resistance
    hysteresis_v: float
    sum_offset_v: float
    thermal: Thermal
    derating: Derating
    probe_of_cell: NDArray[np.int16]
    limits: tuple[Limit, ...]
    charge_max_a: float
    discharge_max_a: float
    break_current_a: float
    provenance: Mapping[str, str]

    def grid(self) -> PackGrid:
        """Give the tables on uniform axes, built once."""
        return _grid(self)


@lru_cache(maxsize=256)
def load_pack(name: str) -> PackModel:
    """Load a pack model by name, once.

    `name` is a file of schemas/packs ("leaf-24kwh") or a path to a .toml.  A generic file takes cell groups,
    probes and Ah from a suffix: "generic-nmc@96c24t60ah" ("…ah" may be left out).  Raises PackError.
    """
    base, at, suffix = name.partition("@") if "/" not in name else _split_path(name)
    path = Path(base) if base.endswith(".toml") else PACKS_DIR / f"{base}.toml"
    if not base.endswith(".toml") and base not in pack_names():
        accepted = f"one of {', '.join(pack_names())}, or a path to a .toml"
        msg = f"pack must be {accepted}; got {shown(base)} ({PACKS_DIR.name})"
        raise PackError(msg)
    data = read_bytes(path, "pack must be a readable .toml", PackError)
    file = f"packs/{path.name}" if path.parent == PACKS_DIR else str(path)
    return parse_pack(data, name, file, suffix if at else None)


def pack_names() -> list[str]:
    """Name the pack models that are shipped."""
    return sorted(p.stem for p in PACKS_DIR.glob("*.toml"))


def _split_path(name: str) -> tuple[str, str, str]:
    base, at, suffix = name.rpartition("@")
    return (base, at, suffix) if base.endswith(".toml") else (name, "", "")


def parse_pack(data: bytes, name: str, file: str, suffix: str | None = None) -> PackModel:
    """Build a pack model from the bytes of a TOML file; `file` is what errors call it."""
    top = Table(parse_toml(data, file, PackError), file, error=PackError)
    generic = top.truth("generic", default=False)
    series, probes = top.integer("series", 1, 2000), top.integer("probes", 0, 1000)
    nominal_ah = top.number("nominal_ah", 0, 10_000, above=True)
    groups, sensors, ah = _sizes(suffix, name, file, (series, probes, nominal_ah), generic=generic)
    sources = top.table("provenance")
    ocv = top.table("ocv")
    pack = PackModel(
        name=name,
        sha=file_hash(data),
        chemistry=top.text("chemistry", CHEMISTRIES),
        series=series,
        parallel=top.integer("parallel", 1, 1000),
        probes=probes,
        nominal_ah=nominal_ah,
        usable_ah=top.number("usable_ah", 0, 1.25 * nominal_ah, above=True),
        capacity_std=top.number("capacity_std", 0, 0.5, above=True),
        ocv_source=ocv.text("source", ("measured", "borrowed")),
        ocv_from=ocv.text("from"),
        ocv=_read_ocv(ocv),
        resistance=_read_resistance(top.table("resistance")),
        hysteresis_v=top.number("hysteresis_v", 0, 0.1),
        sum_offset_v=top.number("sum_offset_v", -20, 20),
        thermal=_read_thermal(top.table("thermal")),
        derating=_read_derating(top.table("derating")),
        probe_of_cell=_read_probes(top, series, probes, groups, sensors),
        limits=read_limits(top.tables("limits")),
        charge_max_a=top.number("charge_max_a", 0, 10_000, above=True),
        discharge_max_a=top.number("discharge_max_a", 0, 10_000, above=True),
        break_current_a=top.number("break_current_a", 0, 10_000, above=True),
        provenance={key: sources.text(key) for key in sources.keys},
    )
    top.done()
    return _sized(pack, groups, sensors, ah) if generic else pack


def _sizes(
    suffix: str | None, name: str, file: str, own: tuple[int, int, float], *, generic: bool
) -> tuple[int, int, float]:
    """Say cell groups, probes and Ah: the file's own, or those of a generic name's suffix."""
    if suffix is None:
        return own
    if not generic:
        msg = f"pack must be named without @ unless its file has generic = true; got {shown(name)} ({file})"
        raise PackError(msg)
    match = _SUFFIX.fullmatch(suffix)
    groups, sensors, ah = (int(match[1]), int(match[2]), float(match[3] or own[2])) if match else (0, 0, 0.0)
    if not (1 <= groups <= 2000 and sensors <= 1000 and 0 < ah <= 10_000):  # noqa: PLR2004 - as series, probes, nominal_ah
        accepted = "<1..2000>c<0..1000>t, then <Ah>ah where known, as in @96c24t60ah"
        msg = f"pack suffix must be {accepted}; got {shown('@' + suffix)} ({file})"
        raise PackError(msg)
    return groups, sensors, ah


def _sized(pack: PackModel, series: int, probes: int, ah: float) -> PackModel:
    """Turn a generic model into one of that size: ohm fall with Ah, amperes and heat capacity grow."""
    size, tall = ah / pack.nominal_ah, series / pack.series
    factor = {name: size for name in QUANTITIES if name.endswith("_a")} | dict.fromkeys(_PER_PACK_V, tall)
    r, thermal = pack.resistance, pack.thermal
    return replace(
        pack,
        series=series,
        probes=probes,
        nominal_ah=ah,
        usable_ah=pack.usable_ah * size,
        resistance=replace(r, r0_ohm=r.r0_ohm / size, rb_ohm=r.rb_ohm / size),
        thermal=Thermal(
            thermal.heat_capacity_j_per_k * size,
            thermal.loss_w_per_k * size,
            None if thermal.coolant_w_per_k is None else thermal.coolant_w_per_k * size,
        ),
        charge_max_a=pack.charge_max_a * size,
        discharge_max_a=pack.discharge_max_a * size,
        limits=tuple(
            replace(row, bound=row.bound * k, hysteresis=row.hysteresis * k)
            for row in pack.limits
            for k in (factor.get(row.quantity, 1.0),)
        ),
    )


def _read_ocv(t: Table) -> Ocv:
    soc = t.numbers("soc", 0, 1, rising=True)
    temp_c = t.numbers("temp_c", -60, 100, rising=True)
    if soc[0] != 0 or soc[-1] != 1:
        t.refuse("soc", "from 0 to 1", soc)
    v = t.matrix("v", (len(temp_c), len(soc)), 0.5, 6)
    for i, row in enumerate(v):
        for k in range(1, len(soc)):
            least = OCV_SLOPE_MIN * (soc[k] - soc[k - 1])
            if row[k] - row[k - 1] < least:
                t.refuse(f"v[{i}][{k}]", f"≥ {row[k - 1] + least:.6g}, since OCV rises with SOC", row[k])
    t.done()
    return Ocv(np.array(soc), np.array(temp_c), np.array(v, np.float64))


def _read_resistance(t: Table) -> Resistance:
    soc = t.numbers("soc", 0, 1, rising=True)
    temp_c = t.numbers("temp_c", -60, 100, rising=True)
    tau_s = t.numbers("tau_s", 0, 1e5, above=True, rising=True)
    shape = (len(temp_c), len(soc))
    r0 = t.matrix("r0_ohm", shape, 0, 10, above=True)
    rb = t.matrix("rb_ohm", (len(tau_s), *shape), 0, 10, above=True)
    t.done()
    return Resistance(*(np.array(a, np.float64) for a in (soc, temp_c, r0, tau_s, rb)))


def _read_thermal(t: Table) -> Thermal:
    cooled = t.raw("coolant_w_per_k") is not None
    thermal = Thermal(
        t.number("heat_capacity_j_per_k", 0, 1e7, above=True),
        t.number("loss_w_per_k", 0, 1e4, above=cooled),  # what coolant carries is told beside it
        t.number("coolant_w_per_k", 0, 1e5, above=True) if cooled else None,
    )
    t.done()
    return thermal


def _read_derating(t: Table) -> Derating:
    temp_c = t.numbers("temp_c", -60, 150, rising=True)
    shares = [t.matrix(key, (len(temp_c),), 0, 1) for key in ("charge", "discharge")]
    t.done()
    return Derating(np.array(temp_c), *(np.array(s, np.float64) for s in shares))


def _read_probes(top: Table, series: int, probes: int, groups: int, sensors: int) -> NDArray[np.int16]:
    """Read which probe is nearest to each cell group: "even", or one number (from 1, 0 = none) per group."""
    value = top.raw("probe_of_cell")
    if value == "even":
        even = np.arange(groups) * sensors // groups if sensors else np.full(groups, -1)
        return even.astype(np.int16)
    if not isinstance(value, list) or len(value) != series or groups != series or sensors != probes:
        top.refuse("probe_of_cell", f'"even" or a list of {series} probe numbers', value)
    for i, item in enumerate(value):
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= probes:
            top.refuse(f"probe_of_cell[{i}]", f"a probe, 1..{probes}, or 0 for none", item)
    return (np.array(value) - 1).astype(np.int16)


@lru_cache(maxsize=256)
def _grid(pack: PackModel) -> PackGrid:
    return build_grid(pack.ocv, pack.resistance)


def build_grid(ocv: Ocv, res: Resistance) -> PackGrid:
    """Evaluate tables on the uniform axes of PackGrid; its arrays are read-only, since many share them."""
    v, dv = pchip(ocv.soc, ocv.v, GRID_SOC)
    log_r, _ = pchip(res.soc, np.log(np.concatenate([res.r0_ohm[None], res.rb_ohm])), GRID_SOC)
    r = np.exp(between(res.temp_c, log_r, GRID_TEMP_C))
    grid = PackGrid(
        soc=GRID_SOC,
        temp_c=GRID_TEMP_C,
        ocv=between(ocv.temp_c, v, GRID_TEMP_C),
        docv=np.maximum(between(ocv.temp_c, dv, GRID_TEMP_C), OCV_SLOPE_MIN),
        r0=np.ascontiguousarray(r[0]),
        rb=np.ascontiguousarray(r[1:]),
        tau_s=res.tau_s,
    )
    for table in (grid.ocv, grid.docv, grid.r0, grid.rb, grid.tau_s):
        table.setflags(write=False)
    return grid
