from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.assemble import Assembler
from operators.dbc import load_dbc
from replay.candump import write_candump
from replay.readers import read_can
from replay.record import record_pack
from schemas.can import CanBlock
from schemas.frames import CONTEXT, FrameBlock, concat, make_block
from schemas.signals import DBC_DIR, SIGNALS_DIR, SignalsError, load_signals

STEPS = {  # half a step of each column as the DBC quantises it
    "cell_v": 0.0005,
    "temp_c": 0.05,
    "pack_v": 0.01,
    "current_a": 0.0005,
    "soc_bms": 1e-5,
    "soh_bms": 0.0025,
    "speed_kmh": 0.005,
    "odo_km": 0.005,
    "lat_deg": 5e-8,
    "lon_deg": 5e-8,
    "altitude_m": 0.25,
    "ambient_c": 0.005,
    "coolant_c": 0.005,
    "isolation_ohm": 0.0,
    "link_v": 0.01,
    "current2_a": 0.0005,
    "humidity_pct": 0.25,
    "pressure_kpa": 0.005,
    "vibration_g": 0.0005,
}
RANGES = {
    "soc_bms": (0, 1),
    "soh_bms": (0, 1.1),
    "odo_km": (0, 1e6),
    "lat_deg": (-90, 90),
    "lon_deg": (-180, 180),
    "isolation_ohm": (0, 1e9),
    "link_v": (0, 900),
    "humidity_pct": (0, 100),
    "pressure_kpa": (50, 110),
    "vibration_g": (0, 10),
    "speed_kmh": (0, 250),
}
STATES = {"contactor_state": 3, "hvil": 2, "drive_state": 3, "charge_type": 3, "alarm_level": 5}


def some_frames(n: int, cells: int, probes: int, seed: int, context: bool = True) -> FrameBlock:
    rng = np.random.default_rng(seed)

    def holed(low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        values = rng.uniform(low, high, shape)
        values[rng.random(shape) < 0.1] = np.nan
        return values

    extra: dict[str, np.ndarray] = {}
    if context:
        for name in CONTEXT:
            if name in STATES:
                extra[name] = rng.integers(-1, STATES[name], n)
            elif name == "balancing_mask":
                extra[name] = rng.integers(0, 2**64 - 1, n, np.uint64)
            else:
                extra[name] = holed(*RANGES.get(name, (-40, 90)), (n,))
    return make_block(
        "generic-nmc",
        ["P"],
        vehicles=["V"],
        pack=0,
        t_ns=1_600_000_000 * 10**9 + np.cumsum(rng.integers(10_000, 10**6, n)) * 1000,
        seq=np.arange(n),
        cell_v=holed(0, 5, (n, cells)),
        temp_c=holed(-60, 300, (n, probes)),
        pack_v=holed(0, 1000, (n,)),
        current_a=holed(-800, 800, (n,)),
        context=extra,
    )


def assembler(block: FrameBlock) -> Assembler:
    dbc = load_dbc(DBC_DIR / "ibms_pack.dbc")
    signals = load_signals(SIGNALS_DIR / "ibms_pack.toml")
    return Assembler(
        signals, dbc, model=block.model, cells=block.cells, probes=block.probes, pack_id="P", vehicle_id="V"
    )


def assert_same_within_steps(got: FrameBlock, want: FrameBlock) -> None:
    np.testing.assert_array_equal(got.t_ns, want.t_ns)
    np.testing.assert_array_equal(got.seq, want.seq)
    assert (got.packs, got.vehicles, got.model) == (want.packs, want.vehicles, want.model)
    for name, step in STEPS.items():
        a = got.context[name] if name in CONTEXT else getattr(got, name)
        if name in CONTEXT and name not in want.context:
            assert np.isnan(a).all(), name
            continue
        b = want.context[name] if name in CONTEXT else getattr(want, name)
        tiny = 2e-7 * np.nanmax(np.abs(b), initial=0) if b.dtype == np.float32 else 1e-9
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=name)
        np.testing.assert_allclose(a, b, rtol=0, atol=step + tiny, err_msg=name)
    for name in (*STATES, "balancing_mask"):
        if name in want.context:
            np.testing.assert_array_equal(got.context[name], want.context[name], err_msg=name)


@settings(max_examples=12)
@given(
    st.integers(1, 30),
    st.sampled_from([1, 3, 4, 96, 255]),
    st.sampled_from([0, 1, 16, 64]),
    st.integers(0, 999),
    st.booleans(),
)
def test_frames_come_back_from_can_within_half_a_step_of_the_dbc(
    n: int, cells: int, probes: int, seed: int, context: bool
) -> None:
    block = some_frames(n, cells, probes, seed, context)
    got = assembler(block).push(record_pack(block))
    assert got is not None
    assert_same_within_steps(got, block)


def test_frames_come_back_from_a_candump_file(tmp_path: Path) -> None:
    block = some_frames(200, 96, 16, 1)
    path = tmp_path / "pack.candump.log.gz"
    assert write_candump(path, record_pack(block)) == 200 * (24 + 4 + 8)
    machine = assembler(block)
    parts = [machine.push(item) for item in read_can(path, chunk=50_000) if isinstance(item, CanBlock)]
    assert len(parts) > 3
    assert_same_within_steps(concat([p for p in parts if p is not None]), block)
    assert machine.flush() is None


def test_recording_in_parts_gives_the_same_bytes() -> None:
    block = some_frames(20, 96, 16, 2)
    whole = record_pack(block)
    parts = [record_pack(block.take(slice(a, a + 7))) for a in range(0, 20, 7)]
    np.testing.assert_array_equal(whole.data, np.concatenate([p.data for p in parts]))
    np.testing.assert_array_equal(whole.t_ns, np.concatenate([p.t_ns for p in parts]))
    assert np.all(np.diff(whole.t_ns) > 0)


def test_a_value_beyond_the_bus_is_sent_as_its_limit_not_as_not_available() -> None:
    block = make_block(
        "m", ["P"], pack=0, t_ns=[10**18], cell_v=[[66.5, -1.0]], temp_c=[[2000.0]], pack_v=[9e9], current_a=[-9e9]
    )
    got = assembler(block).push(record_pack(block))
    assert got is not None
    np.testing.assert_allclose(got.cell_v, [[16.382, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(
        [got.temp_c[0, 0], got.pack_v[0], got.current_a[0]], [1578.2, 1310.68, -8388.607], rtol=1e-6
    )


def test_a_pack_with_more_cells_than_the_bus_carries_is_refused() -> None:
    with pytest.raises(SignalsError, match=r"signal\.cell_v\.from .* one for each of 256 places; got CellVoltage_256"):
        record_pack(some_frames(1, 256, 1, 0))
