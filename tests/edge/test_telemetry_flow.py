"""The telemetry process: frames of the bus as columns, the maps of the bus as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bytewax.testing import run_main

from edge import plant
from edge.commands import Sent
from edge.decode import Frame
from edge.link import Link, Told, pair
from edge.telemetry_flow import Clock, Parts, build, can_block, joined
from operators.assemble import Assembler
from operators.dbc import Dbc, load_dbc
from schemas.checked import ConfigError
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from schemas.signals import DBC_DIR, SIGNALS_DIR, SignalMap, load_signals

MS = 10**6
WALL_NS = 1_800_000_000 * 10**9
PACK = load_pack("generic-nmc@6c2t60ah")
SHIPPED = ("ibms_pack", "ibms_edge")


def _maps(*stems: str) -> list[tuple[SignalMap, Dbc]]:
    return [(load_signals(SIGNALS_DIR / f"{stem}.toml"), load_dbc(DBC_DIR / f"{stem}.dbc")) for stem in stems]


def test_time_since_1970_follows_a_clock_that_is_set_and_not_its_jitter() -> None:
    clock = Clock()
    assert clock.offset(1000, 5000) == 4000
    assert clock.offset(2000, 6000 + 49 * MS) == 4000
    assert clock.offset(3000, 7000 + 10**12) == 4000 + 10**12


def test_frames_become_columns_in_their_order() -> None:
    frames = [Frame(0x600, False, b"\x01\x02", 10), Frame(0x18FF0102, True, b"", 20), Frame(0x601, False, bytes(8), 20)]
    block = can_block(frames, 1000)
    assert block.t_ns.tolist() == [1010, 1020, 1020]
    assert block.can_id.tolist() == [0x600, 0x18FF0102, 0x601]
    assert (block.ext.tolist(), block.length.tolist()) == ([False, True, False], [2, 0, 8])
    assert block.data[0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    assert can_block([Frame(1, False, bytes(12), 0)], 0).data.shape == (1, 64)
    assert len(can_block([], 0)) == 0


def test_a_simulated_vehicle_becomes_the_frames_that_it_sent() -> None:
    vehicle = plant.plant(load_pack("generic-nmc@6c2t60ah"), 0.1, cell_v=3.7)
    vehicle.pack.speed_kmh = 50.0
    signals, dbc = joined(_maps(*SHIPPED), ())
    assembler = Assembler(signals, dbc, model="m", cells=6, probes=2, pack_id="v")
    frames = [Frame(*sent, ms * MS) for ms in range(1000) for sent in vehicle.step(ms * MS)]
    block = assembler.push(can_block(frames, 0))
    assert block is not None
    assert len(block) == 10
    assert block.cell_v[-1] == pytest.approx(np.full(6, 3.7), abs=0.0011)
    assert block.pack_v[-1] == pytest.approx(22.2, abs=0.15)
    assert block.context["speed_kmh"][-1] == 50.0
    assert block.context["link_v"][-1] == 0.0, "the junction box's, not the pack's own"


def test_a_column_comes_from_the_map_that_requires_it_and_what_is_absent_from_none() -> None:
    signals, _ = joined(_maps(*SHIPPED), ["current2_a"])
    by_column = {e.column: e.message for e in signals.entries}
    assert by_column["link_v"] == "JunctionStatus"
    assert by_column["cell_v"] == "CellVoltages"
    assert "current2_a" not in by_column
    assert len([e for e in signals.entries if e.column == "link_v"]) == 1
    assert signals.drives == ("PackFrame",)
    alone, _ = joined(_maps("ibms_pack"), ())
    assert {e.column: e.message for e in alone.entries}["link_v"] == "PackSafety"


def test_two_descriptions_of_one_message_stop_the_start(tmp_path: Path) -> None:
    other = tmp_path / "ibms_edge.dbc"
    other.write_text((DBC_DIR / "ibms_edge.dbc").read_text().replace("JunctionStatus", "PackState"))
    signals = tmp_path / "edge.toml"
    signals.write_text((SIGNALS_DIR / "ibms_edge.toml").read_text().replace("JunctionStatus", "PackState"))
    twice = [*_maps("ibms_pack"), (load_signals(signals), load_dbc(other))]
    with pytest.raises(ConfigError, match="mapped messages differ in name; got PackState twice"):
        joined(twice, ())


class Bus:
    """A vehicle's frames, as time is taken; `now` is a clock that only waiting moves."""

    def __init__(self, seconds: float) -> None:
        self.vehicle, self.now_ns, self.end_ns = plant.plant(PACK, 0.1, cell_v=3.7), 0, round(seconds * 1e9)
        self.sent: list[Sent] = []

    def take(self, wait_s: float) -> list[Frame]:
        self.now_ns += min(10 * MS, round(wait_s * 1e9))
        return [Frame(*one, self.now_ns) for one in self.vehicle.step(self.now_ns)]

    def send(self, sent: list[Sent]) -> None:
        self.sent += sent

    def now(self) -> int:
        return self.now_ns

    def over(self) -> bool:
        return self.now_ns >= self.end_ns


class Kept:
    """What the flow hands over, for edge.telemetry.Telemetry."""

    def __init__(self) -> None:
        self.rows = 0
        self.heard: list[Told] = []
        self.times: list[tuple[int, int]] = []
        self.closed_ns = -1

    def step(
        self, block: FrameBlock | None, heard: list[Told], now_ns: int, wall_ns: int
    ) -> tuple[list[Sent], list[Told]]:
        self.rows += 0 if block is None else len(block)
        self.heard += heard
        self.times.append((now_ns, wall_ns))
        return [Sent(0x85, False, bytes(8))], [{"kind": "journal", "text": str(len(self.times))}]

    def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        return [("rows", {}, self.rows)]

    def close(self, wall_ns: int) -> None:
        self.closed_ns = wall_ns


def _run(seconds: float, *told: Told, gone: bool = False) -> tuple[Bus, Kept, list[Told]]:
    ours, theirs = pair()
    supervisor = Link(theirs)
    for message in told:
        supervisor.tell(message)
    if gone:
        theirs.close()
    bus, kept = Bus(seconds), Kept()
    signals, dbc = joined(_maps(*SHIPPED), ())
    assembler = Assembler(signals, dbc, model=PACK.name, cells=PACK.series, probes=PACK.probes, pack_id="v")
    parts = Parts(
        bus,  # type: ignore[arg-type]
        ours,
        assembler,
        kept,  # type: ignore[arg-type]
        bus.now,
        lambda: bus.now() + WALL_NS,
        bus.over,
    )
    run_main(build(parts))
    said = [] if gone else list(supervisor.hear())
    return bus, kept, said


def test_rounds_of_a_tenth_of_a_second_go_through_and_words_both_ways() -> None:
    bus, kept, said = _run(2.05, {"kind": "beat", "phase": "open"})
    assert kept.heard == [{"kind": "beat", "phase": "open"}]
    assert [now_ns for now_ns, _ in kept.times] == [100 * MS * k for k in range(1, len(kept.times) + 1)]
    assert {wall_ns - now_ns for now_ns, wall_ns in kept.times} == {WALL_NS}
    assert kept.rows == pytest.approx(19, abs=1)
    assert len(bus.sent) == len(kept.times)
    assert [one["text"] for one in said if one["kind"] == "journal"] == [str(k + 1) for k in range(len(kept.times))]
    assert len([one for one in said if one["kind"] == "metrics"]) == 1 + 2000 // 500 - 1


def test_what_is_gathered_is_kept_when_it_is_asked_to_end_and_when_its_supervisor_is_gone() -> None:
    _, kept, _ = _run(0.5)
    assert kept.closed_ns == kept.times[-1][1]
    _, kept, _ = _run(60.0, gone=True)
    assert (kept.times, kept.closed_ns) == ([], 0)
