"""How soon simulated faults are found, and how often a pack without one is blamed.

Every vehicle of a case has its own draws and its own fault.  Beside the fleet flow stands what an ordinary BMS does:
fixed thresholds, taken from the pack file's rows that inform.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.accuracy.thresholds import Crossed
from flows.accuracy.told import VOTES, Told, incidents_of
from replay.simulate.faults import Fault
from replay.simulate.fleet import FleetConfig, simulate, vehicle_id
from schemas.frames import FrameBlock
from schemas.pack import load_pack

NMC, LFP = "generic-nmc@96c16t50ah", "generic-lfp@96c16t50ah"
SEED = 7001  # seeds from here on score; those below 7000 were looked at when thresholds were set
_HOURS_PER_MONTH = 730.5
_CELLS = 4  # flapping ones; as many probes


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of fault in `vehicles` vehicles, each from a time of its own in the day after `from_h`.

    `size` and `field` are those of the fault; its cell or probe is drawn.  With `shows_k` the delay counts from
    the first frame in which a temperature differs by more than that from the same vehicle's without the fault: nobody
    can see a pump that stands while nothing warms.  A fault of the pack is unobservable, and not scored, where the mean
    of its probes never differs by as much: then one probe's rounding made the difference, and less heat has stayed
    than what the probes may all be wrong by.
    """

    name: str
    kind: str
    cause: str  # that should be named, of operators/kernels/causes
    size: float = 0.0
    field: str = ""
    hours: float = 120.0
    from_h: float = 72.0
    ramp_h: float = 0.0
    sleep: bool = True
    shows_k: float = 0.0
    period_s: float = 30.0
    model: str = NMC


CASES = (
    Case("short_10_ohm", "internal_short", "self_discharge", 10.0, hours=120.0, sleep=False),
    Case("short_30_ohm", "internal_short", "self_discharge", 30.0, hours=132.0, sleep=False),
    Case("short_100_ohm", "internal_short", "self_discharge", 100.0, hours=192.0, sleep=False),
    Case("short_10_ohm_sleeping", "internal_short", "self_discharge", 10.0, hours=168.0),
    Case(
        "resistance_50_pct_in_30_d",
        "rising_resistance",
        "rising_resistance",
        0.5,
        hours=864.0,
        from_h=120.0,
        ramp_h=720.0,
    ),
    Case("cooling_off", "cooling_fault", "cooling", 1.0, shows_k=1.0, sleep=False),
    Case("cooling_off_sleeping", "cooling_fault", "cooling", 1.0, shows_k=1.0),
    Case("bias_20_mv", "sensor_bias", "cell_sensor", 0.02, "cell_v", sleep=False),
    Case("bias_20_mv_down", "sensor_bias", "cell_sensor", -0.02, "cell_v", sleep=False),
    Case("bias_20_mv_sleeping", "sensor_bias", "cell_sensor", 0.02, "cell_v"),
    Case("capacity_10_pct_lost", "capacity_loss", "capacity_loss", 0.1, hours=192.0, sleep=False),
    Case("probe_stuck", "stuck_value", "temperature_sensor", 0.0, "temp_c", shows_k=1.0, sleep=False),
    Case("probe_stuck_sleeping", "stuck_value", "temperature_sensor", 0.0, "temp_c", shows_k=1.0),
    Case("probe_3_k_warmer", "sensor_bias", "temperature_sensor", 3.0, "temp_c"),
)


# name, pack model, hours, period, whether a parked vehicle sleeps
HEALTHY = (
    ("nmc", NMC, _HOURS_PER_MONTH, 30.0, False),
    ("nmc_sleeping", NMC, 720.0, 60.0, True),
    ("lfp_sleeping", LFP, 720.0, 60.0, True),
)


@dataclass(frozen=True, slots=True)
class Score:
    """What came of one case."""

    delay_h: NDArray[np.float64]  # by vehicle in which the fault showed; inf where it was not found
    since_h: NDArray[np.float64]  # by vehicle in which it was found: what its incident has for it at last, − truth
    unobservable: int  # vehicles in which it showed in a probe, and could not be known
    threshold_h: NDArray[np.float64]  # the same by fixed thresholds
    first: dict[str, int]  # of those found, by kind that the incident had at first
    named: int  # of those found, vehicles whose incident at last names the right cause as the likeliest
    votes: dict[str, int]  # of those found, whose incident a kind that only votes has joined
    others: int  # incidents that are not about the fault
    pack_months: float


def faults_of(case: Case, vehicles: int, seed: int) -> tuple[Fault, ...]:
    """Draw the fault of each vehicle."""
    pack, draws = load_pack(case.model), np.random.default_rng((seed, 17))
    out = []
    for vehicle in range(vehicles):
        start_s, cell = 3600.0 * (case.from_h + 24.0 * draws.random()), int(draws.integers(pack.series))
        subject = {"cooling_fault": -1, "temp_c": cell % max(pack.probes, 1)}.get(case.field or case.kind, cell)
        end_s, ramp_s = 3600.0 * case.hours, 3600.0 * case.ramp_h
        out.append(Fault(case.kind, vehicle, start_s, end_s, subject, case.size, "", ramp_s, 1.0, case.field))
    return tuple(out)


def score(case: Case, vehicles: int, seed: int = SEED) -> Score:
    """Simulate a case and look for each fault among the incidents of its vehicle and subject."""
    faults = faults_of(case, vehicles, seed)
    cfg = FleetConfig(vehicles, case.hours, case.period_s, (case.model,), seed, faults=faults, sleep=case.sleep)
    crossed = Crossed(load_pack(case.model), vehicles)
    told = incidents_of(crossed.watch(cfg), cfg.models)
    began = {f.vehicle: cfg.start_ns + int(f.start_s * 1e9) for f in faults}
    shows, whole = _shown(cfg, case.shows_k) if case.shows_k else (began, set(began))
    delay, threshold, since, named, others, unobservable = [], [], [], 0, 0, 0
    first: Counter[str] = Counter()
    votes = dict.fromkeys(VOTES, 0)
    for fault in faults:
        mine = [t for t in told if t.vehicle_id == vehicle_id(fault.vehicle)]
        about = [t for t in mine if _is_about(t, fault) and t.updated_ns >= began[fault.vehicle]]
        others += len({t.id for t in mine} - {t.id for t in about})
        first.update(t.kind for t in about[:1])
        named += bool(about) and about[-1].cause == case.cause
        if about:  # a fault of the pack, which is its heat, begins when that shows
            truth = began if fault.subject >= 0 else shows
            since += [(about[-1].since_ns - truth[fault.vehicle]) / 3.6e12] if fault.vehicle in truth else []
        for vote in about[-1].votes if about else ():
            votes[vote] += 1
        hidden = fault.subject < 0 and fault.vehicle in shows and fault.vehicle not in whole
        unobservable += hidden
        if fault.vehicle in shows and not hidden:
            delay.append(_hours(about[0].updated_ns if about else None, shows[fault.vehicle]))
            threshold.append(_hours(crossed.first(fault.vehicle, began[fault.vehicle]), shows[fault.vehicle]))
    months = vehicles * case.hours / _HOURS_PER_MONTH
    return Score(
        np.array(delay),
        np.array(since),
        unobservable,
        np.array(threshold),
        dict(first.most_common()),
        named,
        votes,
        others,
        months,
    )


def false_incidents(
    model: str, vehicles: int, hours: float, period_s: float, *, sleep: bool, seed: int = SEED
) -> dict[str, float]:
    """Count what is said of healthy packs: incidents, those of the first hour, and fixed thresholds, per pack-month."""
    cfg = FleetConfig(vehicles, hours, period_s, (model,), seed, sleep=sleep)
    crossed = Crossed(load_pack(model), vehicles)
    told = incidents_of(crossed.watch(cfg), cfg.models)
    months = vehicles * hours / _HOURS_PER_MONTH
    last = {t.id: t.kind for t in told}
    early = {t.id for t in told if t.opened_ns < cfg.start_ns + 3600 * 10**9}
    return {
        "false_per_pack_month": len(last) / months,
        **{f"{kind}_per_pack_month": n / months for kind, n in sorted(Counter(last.values()).items())},
        "false_in_first_hour": float(len(early)),
        "threshold_false_per_pack_month": crossed.packs() / months,
        "pack_months": months,
    }


def _is_about(told: Told, fault: Fault) -> bool:
    """Say whether an incident names the fault's cell or probe, or for a fault of the pack the pack's heat."""
    if fault.subject < 0:
        return told.kind in {"cooling", "overtemperature", "thermal_event"}
    return told.subject == f"{fault.subject_kind} {fault.subject + 1}"


def _hours(found_ns: int | None, from_ns: int) -> float:
    return np.inf if found_ns is None else max(found_ns - from_ns, 0) / 3.6e12


def _shown(cfg: FleetConfig, kelvin: float) -> tuple[dict[int, int], set[int]]:
    """Find, by vehicle, the first frame with a probe warmer or colder than without the fault by more than `kelvin`.

    Gives also the vehicles in which the mean of the probes comes to be so.
    """
    sound = {(int(t), p): row for block, _ in simulate(replace(cfg, faults=())) for t, p, row in _temperatures(block)}
    first: dict[int, int] = {}
    whole: set[int] = set()
    for block, _ in simulate(cfg):
        for t, p, row in _temperatures(block):
            same = sound.get((int(t), p))
            if same is None or p in whole:
                continue
            if np.abs(row - same).max() > kelvin:
                first.setdefault(p, int(t))
                if abs(float(np.mean(row - same))) > kelvin:
                    whole.add(p)
    return first, whole


def _temperatures(block: FrameBlock) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    number = [int(name.rpartition("-")[2]) for name in block.packs]
    return ((int(t), number[p], row) for t, p, row in zip(block.t_ns, block.pack, block.temp_c, strict=True))


def flapping(seed: int = SEED) -> tuple[int, int]:
    """Let eight sensors of eight vehicles flap at 1 Hz for an hour; give the most incidents and the most updates."""
    faults = tuple(
        Fault("sensor_bias", v, 3600.0, 7200.0, v, 0.5 if v < _CELLS else 30.0, "", 0.0, 0.5, field)
        for v, field in enumerate(["cell_v"] * _CELLS + ["temp_c"] * _CELLS)
    )
    cfg = FleetConfig(len(faults), 3.0, 1.0, (NMC,), seed, faults=faults, sleep=False)
    told = incidents_of((block for block, _ in simulate(cfg)), cfg.models)
    by_vehicle = [[t.id for t in told if t.vehicle_id == vehicle_id(f.vehicle)] for f in faults]
    return max(len(set(ids)) for ids in by_vehicle), max(len(ids) - len(set(ids)) for ids in by_vehicle)


def figures(vehicles: int, healthy: int, note: Callable[[str], None] = lambda _: None) -> dict[str, float]:
    """Give every figure: each case in so many vehicles, and about so many pack-months without a fault, three ways."""
    found: dict[str, float] = {}
    others = months = 0.0
    for case in CASES:
        note(case.name)
        s = score(case, vehicles)
        others, months = others + s.others, months + s.pack_months
        found[f"{case.name}_found_pct"] = 100.0 * float(np.isfinite(s.delay_h).mean())
        found[f"{case.name}_since_error_median_h"] = float(np.median(np.abs(s.since_h))) if s.since_h.size else np.nan
        if s.unobservable:
            found[f"{case.name}_unobservable_pct"] = 100.0 * s.unobservable / (s.delay_h.size + s.unobservable)
        found[f"{case.name}_median_delay_h"] = float(np.median(s.delay_h))
        hits = max(sum(s.first.values()), 1)
        found[f"{case.name}_cause_named_pct"] = 100.0 * s.named / hits
        found |= {f"{case.name}_first_told_as_{kind}_pct": 100.0 * n / hits for kind, n in s.first.items()}
        found |= {f"{case.name}_{vote}_votes_pct": 100.0 * n / hits for vote, n in s.votes.items()}
        found[f"{case.name}_threshold_median_delay_h"] = float(np.median(s.threshold_h))
        if case.ramp_h:
            found[f"{case.name}_found_at_pct"] = float(np.median(s.delay_h)) / case.ramp_h * 100.0 * case.size
    found["faulty_others_named_per_pack_month"] = others / months
    note("flapping")
    found["flapping_most_incidents"], found["flapping_most_updates"] = map(float, flapping())
    for name, model, hours, period_s, sleep in HEALTHY:
        note(f"healthy {name}")
        made = false_incidents(model, healthy, hours, period_s, sleep=sleep)
        found |= {f"healthy_{name}_{key}": value for key, value in made.items()}
    return found
