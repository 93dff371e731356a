"""From frames to incidents: the step, faults in simulated packs, and recorded ones."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from operators.clean import CleanStep
from operators.diagnose import FINDINGS, DiagnoseStep
from operators.estimate import EstimateStep
from operators.incidents import IncidentsStep
from operators.kernels import slots
from operators.kernels.clean import CleanConfig
from operators.kernels.diagnose import DiagnoseConfig
from operators.kernels.estimate import EstimateConfig
from operators.kernels.incidents import IncidentsConfig
from operators.kernels.kinds import INDEX
from operators.step import Slots, Step
from replay.simulate.faults import Fault
from replay.simulate.fleet import START_NS, FleetConfig, simulate, vehicle_id
from schemas.events import Incident, Item, Rows
from schemas.frames import FrameBlock, make_block
from schemas.ids import hash64
from schemas.pack import load_pack

DAY_NS = 86_400 * 10**9


class Chain:
    """clean, estimate, diagnose and incidents of one shard, without the runtime."""

    def __init__(self, model: str, packs: tuple[str, ...]) -> None:
        pack, self.slots = load_pack(model), Slots()
        self.slots.add(packs, packs)
        self.steps: list[Step] = [
            CleanStep(pack, self.slots, CleanConfig(), "test"),
            EstimateStep(pack, EstimateConfig()),
            DiagnoseStep(pack, DiagnoseConfig.of(pack)),
            IncidentsStep(pack, self.slots, IncidentsConfig()),
        ]
        for step in self.steps:
            step.state = slots.moved(step.state, slice(None), len(packs), pack.series, pack.probes)
        self.incidents: list[Incident] = []

    def send(self, block: FrameBlock) -> None:
        self._through(0, [block.with_derived(slot=block.pack.copy(), pack_hash=self.slots.pack_hash[block.pack])])

    def end(self) -> None:
        for k, step in enumerate(self.steps):
            self._through(k + 1, step.eof())

    def _through(self, first: int, items: Iterable[Item]) -> None:
        for k, step in enumerate(self.steps[first:]):
            out: list[Item] = []
            for item in items:
                known = k + first < 3
                if isinstance(item, FrameBlock) and known:
                    out += step.block(item)
                else:
                    out += step.rows(item) if isinstance(item, Rows) and not known else [item]
            items = out
        self.incidents += [i for i in items if isinstance(i, Incident)]


def findings(*rows: tuple[str, int, str, int, int]) -> Rows:
    """Rows of (pack, minute, kind, subject, level)."""
    packs = tuple(dict.fromkeys(r[0] for r in rows))
    n = len(rows)
    return Rows(
        FINDINGS,
        "generic-nmc",
        packs,
        tuple(f"vehicle of {p}" for p in packs),
        np.array([packs.index(r[0]) for r in rows], np.int32),
        {
            "slot": np.array([packs.index(r[0]) for r in rows], np.int32),
            "pack_hash": np.array([hash64(r[0]) for r in rows]),
            "t_ns": np.array([START_NS + r[1] * 60 * 10**9 for r in rows]),
            "kind": np.array([INDEX[r[2]] for r in rows], np.int8),
            "subject": np.array([r[3] for r in rows], np.int16),
            "subject_kind": np.ones(n, np.int8),
            "level": np.array([r[4] for r in rows], np.int8),
            "value": np.full(n, 0.05, np.float32),
            "normal": np.full(n, 0.01, np.float32),
            "sigma": np.full(n, 0.005, np.float32),
            "since_ns": np.full(n, START_NS),
        },
    )


def step_for(packs: tuple[str, ...]) -> IncidentsStep:
    known = Slots()
    known.add(packs, packs)
    step = IncidentsStep(load_pack("generic-nmc"), known, IncidentsConfig())
    step.state = slots.moved(step.state, slice(None), len(packs), 96, 16)
    return step


def test_findings_become_incidents_of_their_vehicles_and_other_rows_pass() -> None:
    step = step_for(("A", "B"))
    out = step.rows(findings(("A", 1, "leak", 4, 2), ("B", 1, "leak", 4, 2), ("A", 9, "leak", 4, 0)))
    assert [(i.pack_id, i.vehicle_id, i.status) for i in out if isinstance(i, Incident)] == [
        ("A", "vehicle of A", "open"),
        ("B", "vehicle of B", "open"),
        ("A", "vehicle of A", "clear"),
    ]
    assert step.state.opened.tolist() == [1, 1]
    windows = replace(findings(("A", 1, "leak", 4, 2)), table="windows")
    assert step.rows(windows) == [windows]


def test_a_snapshot_carries_open_incidents_as_plain_values() -> None:
    one, two = step_for(("A",)), step_for(("A",))
    one.rows(findings(("A", 1, "leak", 4, 2)))
    data = one.dump()
    two.load(data)
    later = findings(("A", 5, "leak", 4, 3))
    assert two.rows(later) == one.rows(later)


def test_evicted_packs_are_forgotten() -> None:
    step = step_for(("A", "B"))
    step.rows(findings(("A", 1, "leak", 4, 2), ("B", 1, "leak", 4, 2)))
    step._slots.keep(np.array([1]))
    step.keep(np.array([1]))
    assert [p for p, _ in step.dump()["known"]] == ["B"]


def test_eight_sensors_that_flap_for_an_hour_are_one_incident_each_with_few_updates() -> None:
    names = tuple(f"P{k}" for k in range(8))
    chain = Chain("generic-nmc@16c4t60ah", names)
    n = 3600
    rng = np.random.default_rng(0)
    v = (4.1 + 0.02 * np.sin(np.arange(n) / 60.0)[:, None] + rng.normal(0, 1e-3, (n, 16))).round(3)
    flap = v.copy()
    flap[::2, 7] = 4.245
    for k in range(8):
        chain.send(
            make_block(
                "generic-nmc@16c4t60ah", names, pack=np.full(n, k), t_ns=START_NS + np.arange(n) * 10**9,
                seq=np.arange(n), cell_v=flap, temp_c=np.full((n, 4), 25.0), current_a=rng.normal(0, 0.2, n),
                pack_v=flap.sum(axis=1),
            )
        )  # fmt: skip
    chain.end()
    for name in names:
        of = [i for i in chain.incidents if i.pack_id == name]
        assert len({i.id for i in of}) == 1
        assert max(i.revision for i in of) <= 5


def test_a_healthy_fleet_is_silent() -> None:
    cfg = FleetConfig(vehicles=20, hours=96, period_s=60, models=("generic-nmc@48c8t60ah",), seed=7)
    chain = Chain(cfg.models[0], tuple(vehicle_id(n) for n in range(20)))
    for block, _ in simulate(cfg):
        chain.send(named(block, 20))
    assert [(i.pack_id, i.kind, i.subject, i.text) for i in chain.incidents] == []


def named(block: FrameBlock, vehicles: int) -> FrameBlock:
    """Give rows the slots of vehicles by number."""
    of = np.array([int(p.rsplit("-", 1)[1]) for p in block.packs], np.int32)
    table = tuple(vehicle_id(n) for n in range(vehicles))
    return replace(block, packs=table, vehicles=table, pack=of[block.pack])


def test_physical_faults_are_found_in_time_and_named_by_their_cell() -> None:
    start, h = 3 * 86_400.0, 3600.0
    faults = (
        Fault("internal_short", 0, start, 1e9, subject=11, size=10.0),
        Fault("internal_short", 1, start, 1e9, subject=30, size=10.0),
        Fault("thermal_runaway", 2, start, 1e9, subject=20, size=2000.0),
        Fault("rising_resistance", 3, start, 1e9, subject=5, size=2.0, ramp_s=h),
    )
    cfg = FleetConfig(
        vehicles=4, hours=24 * 5, period_s=30, models=("generic-nmc@48c8t60ah",), seed=3, faults=faults, sleep=False
    )
    chain = Chain(cfg.models[0], tuple(vehicle_id(n) for n in range(4)))
    for block, _ in simulate(cfg):
        chain.send(named(block, 4))
    at = START_NS + int(start * 1e9)
    first = {p: [i for i in chain.incidents if i.pack_id == vehicle_id(p) and i.status != "clear"] for p in range(4)}
    assert min(i.updated_ns for p in range(4) for i in first[p]) >= at
    for p, cell, hours in ((0, "cell 12", 6.0), (1, "cell 31", 6.0)):
        leak = next(i for i in first[p] if i.kind == "leak")
        assert (leak.subject, (leak.updated_ns - at) / 3.6e12 <= hours) == (cell, True)
    event = next(i for i in first[2] if i.kind == "thermal_event")
    assert (event.updated_ns - at) / 1e9 <= 3600.0
    assert event.severity == 4
    resistance = next(i for i in first[3] if i.kind == "resistance")
    assert (resistance.subject, (resistance.updated_ns - at) / 3.6e12 <= 24.0) == ("cell 6", True)


def car(data_dir: Path, name: str) -> FrameBlock:
    """Frames of a recorded car, as its layout says."""
    t = pq.read_table(data_dir / "ev_faults" / f"{name}.parquet")
    cells = sorted(n for n in t.column_names if n.startswith("cell_mv_"))
    probes = sorted(n for n in t.column_names if n.startswith("temp_raw_"))
    temp = np.stack([t[n].to_numpy() for n in probes], axis=1).astype(np.float32)
    invalid = np.isin(temp, (0, 255, 511))
    temp -= 40.0 if name == "car2" else 0.0
    temp[invalid] = np.nan
    t_ns = t["tboxTime"].to_numpy().astype("M8[ns]").astype(np.int64)
    return make_block(
        f"ev-faults-{name}", (name,), pack=np.zeros(len(t_ns)), t_ns=t_ns, temp_c=temp,
        cell_v=np.stack([t[n].to_numpy() for n in cells], axis=1).astype(np.float32) / 1000.0,
        current_a=-t["BMSBatteryCurrent"].to_numpy(), pack_v=t["BMSBatteryVoltage"].to_numpy(),
    )  # fmt: skip


def incidents_of(data_dir: Path, name: str) -> list[Incident]:
    block = car(data_dir, name)
    chain = Chain(block.model, (name,))
    for a in range(0, len(block), 4096):
        chain.send(block.take(slice(a, a + 4096)))
    chain.end()
    return chain.incidents


def test_the_weak_cell_of_a_recorded_car_is_named_and_its_step_is_an_update(data_dir: Path) -> None:
    found = incidents_of(data_dir, "car2")
    of_82 = [i for i in found if i.subject == "cell 82"]
    assert of_82[0].kind == "cell_spread"
    assert np.datetime64(of_82[0].opened_ns, "ns") < np.datetime64("2019-05-10")  # before the car's own alarm
    assert len({i.id for i in of_82}) == 1
    worse = next(i for i in of_82 if i.severity == 2)
    assert worse.status == "update"
    assert np.datetime64("2019-07-08") < np.datetime64(worse.updated_ns, "ns")
    others = {i.subject for i in found if i.subject.startswith("cell")} - {"cell 82"}
    assert len(others) <= 2


def test_the_high_block_of_a_recorded_car_is_one_incident(data_dir: Path) -> None:
    found = incidents_of(data_dir, "car1")
    blocks = {i.id: i.subject for i in found if i.subject.startswith("cells")}
    assert list(blocks.values()) == ["cells 85-96"]


@pytest.mark.parametrize("name", ["car1", "car2"])
def test_a_recorded_car_has_few_incidents(data_dir: Path, name: str) -> None:
    assert len({i.id for i in incidents_of(data_dir, name)}) <= 8
