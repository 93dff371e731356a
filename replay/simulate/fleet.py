"""A fleet of simulated vehicles: frames as a real fleet would send them, with the truth beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.simulate import state as w
from replay.simulate.duty import Calendar, calendar
from replay.simulate.faults import ALL, PHYSICAL, Fault, check_subjects
from replay.simulate.pack import Model, Packs, draw_packs, model_of
from replay.simulate.stream import Stream
from replay.simulate.tracks import places, road_km
from replay.simulate.truth import Truth
from replay.simulate.walk import CHECK_S, walk
from replay.simulate.weather import REGIONS, Region, ambient_c
from schemas.frames import FrameBlock, make_block
from schemas.pack import PackModel, load_pack

START_NS = 1_767_571_200_000_000_000  # 2026-01-05T00:00Z, a Monday
BLOCK_ROWS = 16_384
_RANGE_KM = 100.0  # longest trip of a car, one way
_CONTEXT = (
    "soc_bms", "speed_kmh", "odo_km", "lat_deg", "lon_deg", "ambient_c", "coolant_c", "isolation_ohm",
    "contactor_state", "hvil", "drive_state", "charge_type", "balancing_mask",
)  # fmt: skip
_TRUE = ("soc", "soc_low", "soc_high", "capacity_ah", "r0_ohm", "current_a", "temp_max_c")


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """What to simulate.

    Vehicle n is the same whatever `vehicles` and `first` are: its model is `models[n % len(models)]`, its draws
    come from (seed, n).  With `sleep` a parked vehicle sends nothing but a check every four hours (as real ones
    do); without, every vehicle sends a frame every `period_s`.  `sensor_offset_a` fixes the error of all current
    sensors.  `truth_cells` adds columns per cell group to the truth.
    """

    vehicles: int
    hours: float = 24.0
    period_s: float = 10.0
    models: tuple[str, ...] = ("generic-nmc",)
    seed: int = 1
    start_ns: int = START_NS
    faults: tuple[Fault, ...] = ()
    first: int = 0
    sleep: bool = True
    sensor_offset_a: float | None = None
    truth_cells: bool = False
    block_rows: int = BLOCK_ROWS

    def __post_init__(self) -> None:
        _check("vehicles", self.vehicles, 1, 10_000_000)
        _check("hours", self.hours, 0.0, 24.0 * 366 * 10)
        _check("period_s", self.period_s, 0.01, 600.0)
        _check("first", self.first, 0, 10_000_000)
        _check("seed", self.seed, 0, 2**63 - 1)
        _check("block_rows", self.block_rows, 1, 1 << 24)
        if not self.models:
            msg = "models must name at least one pack model; got ()"
            raise ValueError(msg)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"{name} must be {low}..{high}; got {value}"
        raise ValueError(msg)


def vehicle_id(n: int) -> str:
    """Name vehicle `n`; a pack has its vehicle's name."""
    return f"sim-{n:06d}"


def model_name(cfg: FleetConfig, number: int) -> str:
    """Say which pack model vehicle `number` has."""
    return cfg.models[number % len(cfg.models)]


def region_of(cfg: FleetConfig, number: int) -> Region:
    """Say where vehicle `number` lives."""
    return REGIONS[int(_draws(cfg, number, 4).integers(len(REGIONS)))]


def calendar_of(cfg: FleetConfig, number: int) -> Calendar:
    """Give the trips of vehicle `number`."""
    return calendar(_draws(cfg, number, 5), cfg.start_ns, cfg.hours, region_of(cfg, number).utc_h)


def true_soh(cfg: FleetConfig) -> list[float]:
    """Give each vehicle's SOH: its smallest cell group over a new one's, before any fault."""
    out = []
    for n in range(cfg.first, cfg.first + cfg.vehicles):
        pack = load_pack(model_name(cfg, n))
        capacity_as = draw_packs(pack, [_draws(cfg, n, 1)], cfg.sensor_offset_a).capacity_as
        out.append(float(capacity_as.min()) / (3600.0 * pack.usable_ah))
    return out


def simulate(cfg: FleetConfig) -> Iterator[tuple[FrameBlock, Truth]]:
    """Give the frames of the fleet in time order, in blocks of `block_rows`, each with its truth.

    A block is of one model; with several models, the one that is furthest behind comes next.
    Frames that faults delay come at the time they arrive.  Raises PackError for a model that does not exist,
    ValueError for a fault whose subject a pack does not have.
    """
    groups = [_Group(cfg, name) for name in dict.fromkeys(cfg.models)]
    groups = [g for g in groups if g.numbers.size]
    while groups:
        group = min(groups, key=lambda g: (g.tick, g.at))
        made = group.next_block()
        if made is None:
            groups.remove(group)
            made = group.stream.rest()
        elif group.stream.faults:
            made = group.stream.send(*made)
        if made is not None and len(made[0]):
            yield made


class _Group:
    """All vehicles of one model, and how far they have come."""

    def __init__(self, cfg: FleetConfig, name: str) -> None:
        numbers = np.arange(cfg.first, cfg.first + cfg.vehicles)
        numbers = np.array([n for n in numbers.tolist() if model_name(cfg, n) == name], np.int64)
        self.cfg, self.pack = cfg, load_pack(name)
        pack = self.pack
        self.period_ns = round(cfg.period_s * 1e9)
        self.tick = self.at = 0
        self.ticks = int(np.ceil(cfg.hours * 3600.0 / cfg.period_s))
        phase_ns = np.array([_draws(cfg, n, 0).integers(0, self.period_ns) for n in numbers.tolist()], np.int64)
        order = np.lexsort((numbers, phase_ns))
        self.numbers, self.phase_ns = numbers[order], phase_ns[order]
        if self.numbers.size:
            self.ids = tuple(vehicle_id(int(n)) for n in self.numbers)
            mine = {*self.numbers.tolist(), ALL}
            faults = tuple((i, f) for i, f in enumerate(cfg.faults) if f.vehicle in mine)
            check_subjects([f for _, f in faults], pack.name, pack.series, pack.probes)
            self.stream = Stream(faults, cfg.start_ns, cfg.seed)
            self.model: Model = model_of(pack)
            self.packs: Packs = draw_packs(pack, [_draws(cfg, n, 1) for n in self.numbers], cfg.sensor_offset_a)
            self.fleet = _fleet(cfg, pack, self.model, self.packs, self.numbers, self.phase_ns)

    def next_block(self) -> tuple[FrameBlock, Truth] | None:
        """Build the next block; None at the end of time."""
        out = _empty(self.cfg.block_rows, self.pack, cells=self.cfg.truth_cells)
        period_s = self.period_ns / 1e9
        self.tick, self.at, n = walk(
            self.fleet, self.packs, self.model, out, self.tick, self.at, self.ticks, period_s, self.cfg.sleep
        )
        if not n:
            return None
        col = {name: getattr(out, name)[:n] for name in out._fields}
        t_ns = self.cfg.start_ns + self.phase_ns[col["pack"]] + col["tick"] * self.period_ns
        block = make_block(
            self.pack.name,
            self.ids,
            pack=col["pack"],
            t_ns=t_ns,
            seq=col["seq"],
            current_a=col["current_a"],
            pack_v=col["pack_v"],
            cell_v=col["cell_v"],
            temp_c=col["temp_c"],
            src_part=self.numbers[col["pack"]],
            src_offset=col["seq"],
            context={name: col[name] for name in _CONTEXT},
        )
        scalars = {name: np.ascontiguousarray(col["true_scalars"][:, i]) for i, name in enumerate(_TRUE)}
        per_cell: dict[str, Any] = {}
        if self.cfg.truth_cells:
            per_cell = {
                "soc_cell": col["true_soc_cell"],
                "r0_cell_ohm": col["true_r0_cell"],
                "capacity_cell_ah": col["true_capacity_cell"],
            }
        return block, Truth(**scalars, fault=np.zeros(n, np.uint32), **per_cell)


def _draws(cfg: FleetConfig, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((cfg.seed, int(number), purpose))


def _fleet(
    cfg: FleetConfig, pack: PackModel, model: Model, packs: Packs, numbers: NDArray[Any], phase_ns: NDArray[np.int64]
) -> w.Fleet:
    v, c, b, p = numbers.size, pack.series, packs.tau_s.shape[1], pack.probes
    s, fixed = np.zeros((v, w.SCALARS)), np.zeros((v, w.FIXED))
    keys = np.empty(v, np.uint64)
    hours = int(np.ceil(cfg.hours)) + 3
    where, weather, calendars = [], [], []
    fixed[:, w.PHASE_S] = phase_ns / 1e9
    for i, n in enumerate(numbers):
        d, region = _draws(cfg, n, 2), region_of(cfg, n)
        keys[i] = d.integers(0, 2**64 - 1, dtype=np.uint64)
        fixed[i, w.AC_W] = d.choice([3_600.0, 7_200.0, 11_000.0], p=[0.25, 0.5, 0.25])
        fixed[i, w.HABIT] = 1.0 if d.random() < 0.65 else 0.55
        fixed[i, w.NIGHT_S] = (22.0 + 2.0 * d.random()) * 3600.0 if d.random() < 0.4 else 0.0
        fixed[i, w.LOCAL_S] = (cfg.start_ns / 1e9 + region.utc_h * 3600.0) % 86_400.0
        fixed[i, w.CLIMATE_W] = d.uniform(40.0, 110.0)
        s[i, w.ODO_M] = d.uniform(1e6, 1.2e8)
        s[i, w.CHECK_AT_S] = d.uniform(0.0, CHECK_S) - CHECK_S / 2
        s[i, w.CHARGE_AT_S] = d.uniform(0.0, 3600.0)
        s[i, w.AWAKE_S] = -1.0
        where.append(places(region.lat_deg, region.lon_deg, d, _RANGE_KM))
        weather.append(ambient_c(region, _draws(cfg, n, 3), cfg.start_ns, hours))
        calendars.append(calendar_of(cfg, n))
        s[i, w.PLACE] = calendars[-1].place
    ambient = np.stack(weather)
    now_c = ambient[:, 0].astype(np.float64)
    s[:, w.COOLANT_C] = s[:, w.T_MIN] = s[:, w.T_MAX] = now_c
    s[:, w.SOC_BMS] = np.clip(packs.soc.mean(axis=1) + packs.bms_bias, 0, 1)
    s[:, w.REST_S] = 4 * 3600.0
    row, kind, when, size, subject = _fault_columns(cfg, numbers)
    decay = np.exp(-cfg.period_s / packs.tau_s).astype(np.float32)
    return w.Fleet(
        s=s,
        p=fixed,
        key=keys,
        z=packs.soc.copy(),
        u=np.zeros((v, c, b), np.float32),
        temp_c=np.repeat(ambient[:, :1], c, axis=1),
        v=np.full((v, c), model.v_max, np.float32),
        bleed=np.zeros((v, c), np.bool_),
        burnt=np.zeros((v, c), np.float32),
        probe=np.repeat(ambient[:, :1], p, axis=1),
        capacity_as=packs.capacity_as.copy(),
        per_as=1.0 / packs.capacity_as,
        r_factor=packs.r_factor.copy(),
        shunt_s=np.zeros((v, c), np.float32),
        decay=decay,
        probe_decay=np.exp(-cfg.period_s / packs.probe_tau_s),
        drive=np.zeros((2, b)),
        drive32=np.zeros((2, b), np.float32),
        places=np.stack(where),
        road_m=np.stack([road_km(x) * 1e3 for x in where]),
        ambient_c=ambient,
        leave_s=_padded([x.leave_s for x in calendars]),
        goal=_padded([x.goal for x in calendars]),
        charge_to=np.stack([x.charge_to for x in calendars]),
        fast=np.stack([x.fast for x in calendars]),
        fault_row=row,
        fault_kind=kind,
        fault_s=when,
        fault_size=size,
        fault_subject=subject,
    )


def _padded(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """Stack rows of different length; the last value goes on."""
    longest = max(map(len, rows))
    return np.stack([np.concatenate([r, np.repeat(r[-1:], longest - len(r))]) for r in rows])


def _fault_columns(cfg: FleetConfig, numbers: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Turn physical faults into columns, grouped by vehicle in the order of `numbers`."""
    slot = {int(n): i for i, n in enumerate(numbers)}
    rows: list[tuple[int, Fault]] = []
    for fault in cfg.faults:
        if fault.kind in PHYSICAL:
            rows += [(i, fault) for n, i in slot.items() if fault.vehicle in (n, ALL)]
    rows.sort(key=lambda x: x[0])
    count = np.bincount([i for i, _ in rows], minlength=numbers.size) if rows else np.zeros(numbers.size, np.int64)
    return (
        np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        np.array([PHYSICAL.index(x.kind) for _, x in rows], np.int8),
        np.array([[x.start_s, x.end_s, x.ramp_s] for _, x in rows], np.float64).reshape(-1, 3),
        np.array([x.size for _, x in rows], np.float64),
        np.array([x.subject for _, x in rows], np.int64),
    )


def _empty(n: int, pack: PackModel, *, cells: bool) -> w.Out:
    per_cell = [np.empty((n if cells else 0, pack.series), np.float32) for _ in range(3)]
    f4, f8, i1 = np.float32, np.float64, np.int8
    return w.Out(
        pack=np.empty(n, np.int32),
        tick=np.empty(n, np.int64),
        seq=np.empty(n, np.int64),
        current_a=np.empty(n, f4),
        pack_v=np.empty(n, f4),
        cell_v=np.empty((n, pack.series), f4),
        temp_c=np.empty((n, pack.probes), f4),
        soc_bms=np.empty(n, f4),
        speed_kmh=np.empty(n, f4),
        odo_km=np.empty(n, f8),
        lat_deg=np.empty(n, f8),
        lon_deg=np.empty(n, f8),
        ambient_c=np.empty(n, f4),
        coolant_c=np.empty(n, f4),
        isolation_ohm=np.empty(n, f4),
        contactor_state=np.empty(n, i1),
        hvil=np.empty(n, i1),
        drive_state=np.empty(n, i1),
        charge_type=np.empty(n, i1),
        balancing_mask=np.empty(n, np.uint64),
        true_scalars=np.empty((n, len(_TRUE)), f8),
        true_soc_cell=per_cell[0],
        true_r0_cell=per_cell[1],
        true_capacity_cell=per_cell[2],
    )
