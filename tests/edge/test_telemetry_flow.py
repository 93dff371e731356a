"""The telemetry process: frames of the bus as columns, the maps of the bus as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge import plant
from edge.decode import Frame
from edge.telemetry_flow import Clock, can_block, joined
from operators.assemble import Assembler
from operators.dbc import Dbc, load_dbc
from schemas.checked import ConfigError
from schemas.pack import load_pack
from schemas.signals import DBC_DIR, SIGNALS_DIR, SignalMap, load_signals

MS = 10**6
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
