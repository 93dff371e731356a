"""What a lake knows of packs becomes signed words that their gateways take."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edge import cloud_soc, local_soc
from edge.cloud_limits import CloudConfig, State, caps_of, receive
from flows.calibrate import Known, content, currents
from schemas.arrow import SCHEMAS
from schemas.pack import load_pack
from schemas.signed import opened, read_public
from sinks.lake import LakeSink
from tests.support.commands import Ibms
from tests.support.frames import NS, frames

MODEL = "generic-nmc@4c2t60ah"
PACK = load_pack(MODEL)


def _batch(table: str, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    made = [pa.array([row.get(f.name) for row in rows]).cast(f.type) for f in SCHEMAS[table]]
    return pa.RecordBatch.from_arrays(made, schema=SCHEMAS[table])


def _lake(folder: Path, end_ns: int) -> Path:
    who = {"pack_id": "P", "model": MODEL, "revision": 0}
    window = {**who, "start_ns": end_ns - 60 * NS, "end_ns": end_ns, "soc_end": 0.6, "soc_std": 0.005, "frames": 6}
    window |= {"provisional": False, "pack_hash": 1, "current_offset_a": 0.3, "current_offset_std_a": 0.02}
    health = {**who, "session_id": "s", "pack_hash": 1, "t_ns": end_ns - 3600 * NS, "soh": 0.88, "soh_low": 0.85}
    health |= {"soh_high": 0.91, "capacity_ah": 0.88 * PACK.usable_ah, "r0_rel": 1.44}
    part = LakeSink(folder, "made", recovery=False).build_part("lake", "lake", None)
    vehicles = ("V1", "V/2")
    part.write_batch([("windows", _batch("windows", [{**window, "vehicle_id": v} for v in vehicles]))])
    part.write_batch([("health", _batch("health", [{**health, "vehicle_id": "V1"}]))])
    part.snapshot()
    part.close()
    return folder


@pytest.fixture
def key(tmp_path: Path, ibms: Ibms) -> Path:
    assert ibms("order", "key", str(tmp_path / "fleet.key")).code == 0
    return tmp_path / "fleet.key"


def test_a_gateway_takes_what_the_lake_knows_of_its_pack(key: Path, tmp_path: Path, ibms: Ibms) -> None:
    end_ns = time.time_ns() - 300 * NS
    told = ["order", "calibrate", "--key", str(key), "--lake", str(_lake(tmp_path / "lake", end_ns))]
    ran = ibms(*told, "--limits", "--out", str(tmp_path / "out"))
    assert ran.code == 0, ran.err
    assert ran.out == "2 vehicles told what to count on with, 1 get limits, 0 are unknown\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["V%2F2.soc", "V1.limits", "V1.soc"]
    keys = (read_public(tmp_path / "fleet.key.pub"),)
    now_ns = time.time_ns()
    cfg = local_soc.local_soc_config(PACK)
    block = frames([0.0, 1.0], cell_v=3.7).with_frames(t_ns=np.array([end_ns - 60 * NS, now_ns]))
    state = local_soc.step(cfg, local_soc.fresh_state(cfg), block, None, now_ns)[0]
    state = state._replace(kept=((end_ns - 60 * NS, 0.0), (now_ns, 0.0)))
    state, judged = cloud_soc.receive(cfg, state, (tmp_path / "out/V1.soc").read_bytes(), keys, "V1", now_ns)
    assert judged.reason == "", judged.text
    assert state.known.capacity_ah == pytest.approx(52.8)
    assert state.known.capacity_std_ah == pytest.approx(0.06 / 3.29 * 60.0, rel=1e-3)
    assert state.known.offset_a == pytest.approx(0.3)
    limits = CloudConfig("V1", keys, PACK.limits, PACK.charge_max_a, PACK.discharge_max_a)
    caps = caps_of(receive(limits, State(), (tmp_path / "out/V1.limits").read_bytes(), now_ns)[0])
    assert caps.charge_a == pytest.approx(0.88 * PACK.charge_max_a)
    assert caps.discharge_a == pytest.approx(PACK.discharge_max_a / 1.2)


def test_a_soc_of_yesterday_is_left_out_and_an_unknown_vehicle_is_named(key: Path, tmp_path: Path, ibms: Ibms) -> None:
    lake = _lake(tmp_path / "lake", time.time_ns() - 86_400 * NS)
    told = ["order", "calibrate", "--key", str(key), "--lake", str(lake), "--out", str(tmp_path / "out")]
    assert ibms(*told, "--vehicle", "V1").code == 0
    message = opened((tmp_path / "out/V1.soc").read_bytes(), [read_public(tmp_path / "fleet.key.pub")])
    assert set(message.content) == {"capacity_ah", "capacity_std_ah", "offset_a", "offset_std_a"}
    assert not (tmp_path / "out/V%2F2.soc").exists()
    assert "the lake must hold vehicle V9; got none" in ibms(*told, "--vehicle", "V9").error
    assert "an order must go somewhere" in ibms(*told[:-2]).error


def test_what_is_not_known_is_not_told_and_a_pack_like_new_keeps_its_limits() -> None:
    nothing = Known("V1", MODEL, 0, math.nan, 0.01)
    assert content(nothing) == {}
    assert currents(nothing, PACK) == (None, None)
    new = Known("V1", MODEL, 0, 1.02, 1e-6, capacity_ah=PACK.usable_ah, capacity_std_ah=0.5, r0_rel=0.9)
    assert content(new) == {"soc": 1.0, "std": 0.001, "t_ns": 0, "capacity_ah": 60.0, "capacity_std_ah": 0.5}
    assert currents(new, PACK) == (None, None)
