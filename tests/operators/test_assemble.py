from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import cantools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.assemble import Assembler
from operators.dbc import Dbc, load_dbc
from schemas.can import REMOTE, CanBlock, make_can_block
from schemas.frames import CONTEXT, FrameBlock, concat
from schemas.signals import DBC_DIR, SIGNALS_DIR, SignalMap, SignalsError, load_signals, parse_signals
from tests.support.can_data import dbc_path, log

S = 10**9
DBC = """VERSION ""
BU_: A
BO_ 1 Fast: 4 A
 SG_ V : 0|16@1+ (0.1,0) [0|0] "V" A
 SG_ I : 16|16@1- (0.1,0) [0|0] "A" A
BO_ 2 Slow: 2 A
 SG_ Soc : 0|8@1+ (1,0) [0|0] "%" A
 SG_ State : 8|8@1+ (1,0) [0|0] "" A
BO_ 3 Cells: 8 A
 SG_ Page M : 0|8@1+ (1,0) [0|0] "" A
 SG_ C_1 m0 : 8|16@1+ (1,0) [0|0] "mV" A
 SG_ C_2 m0 : 24|16@1+ (1,0) [0|0] "mV" A
 SG_ C_3 m1 : 8|16@1+ (1,0) [0|0] "mV" A
 SG_ Ok_1 m0 : 56|1@1+ (1,0) [0|0] "" A
 SG_ Ok_2 m0 : 57|1@1+ (1,0) [0|0] "" A
 SG_ Ok_3 m1 : 56|1@1+ (1,0) [0|0] "" A
VAL_ 2 Soc 255 "SNA" ;
"""
MAP = """
period_s = 1
max_age_s = 3
[signal.pack_v]
from = "Fast.V"
invalid_raw = [65535]
[signal.current_a]
from = "Fast.I"
positive = "discharge"
low = -100
high = 100
[signal.soc_bms]
from = "Slow.Soc"
scale = 0.01
max_age_s = 10
[signal.contactor_state]
from = "Slow.State"
values = { "7" = 2, "8" = 0 }
[signal.cell_v]
from = "Cells.C_{n}"
scale = 0.001
valid = "Cells.Ok_{n}"
"""


@pytest.fixture(scope="module")
def dbc(tmp_path_factory: pytest.TempPathFactory) -> Dbc:
    path = tmp_path_factory.mktemp("dbc") / "small.dbc"
    path.write_text(DBC)
    return load_dbc(path)


def machine(dbc: Dbc, text: str = MAP, **more: Any) -> Assembler:
    return Assembler(
        parse_signals(text.encode(), "small.toml"),
        dbc,
        **{"model": "m", "cells": 3, "probes": 1, "pack_id": "P", "vehicle_id": "V", **more},
    )


def frames(*rows: tuple[float, int, bytes]) -> CanBlock:
    data = np.zeros((len(rows), 8), np.uint8)
    for i, (_, _, payload) in enumerate(rows):
        data[i, : len(payload)] = list(payload)
    return make_can_block(
        ["can0", "can1"],
        t_ns=[round(t * S) for t, _, _ in rows],
        can_id=[i for _, i, _ in rows],
        ext=False,
        length=[len(p) for _, _, p in rows],
        data=data,
    )


def fast(v: float, i: float) -> bytes:
    return round(v * 10).to_bytes(2, "little") + round(i * 10).to_bytes(2, "little", signed=True)


def page(number: int, first_mv: int, second_mv: int = 0, ok: int = 3) -> bytes:
    return bytes([number]) + first_mv.to_bytes(2, "little") + second_mv.to_bytes(2, "little") + bytes([0, 0, ok])


def run(machine: Assembler, *blocks: CanBlock) -> FrameBlock:
    parts = [*(machine.push(b) for b in blocks), machine.flush()]
    return concat([p for p in parts if p is not None])


def test_a_frame_holds_the_last_value_of_each_signal_at_the_end_of_its_period(dbc: Dbc) -> None:
    got = run(
        machine(dbc),
        frames(
            (0.1, 1, fast(400, 5)),
            (0.2, 2, bytes([55, 7])),
            (0.9, 1, fast(401, -6)),
            (1.0, 3, page(0, 3700, 3800)),
            (1.1, 3, page(1, 3900)),
            (1.2, 1, fast(402, 7)),
            (2.5, 99, b""),
        ),
    )
    assert got.t_ns.tolist() == [1 * S, 2 * S]
    assert got.seq.tolist() == [0, 1]
    assert got.src_offset.tolist() == [4, 6]
    np.testing.assert_allclose(got.pack_v, [401, 402])
    np.testing.assert_allclose(got.current_a, [6, -7])  # + was discharge
    np.testing.assert_allclose(got.cell_v, [[3.7, 3.8, np.nan], [3.7, 3.8, 3.9]])
    np.testing.assert_allclose(got.context["soc_bms"], [0.55, 0.55])
    assert got.context["contactor_state"].tolist() == [2, 2]
    assert (got.packs, got.vehicles, got.model) == (("P",), ("V",), "m")
    assert got.temp_c.shape == (2, 1)
    assert np.isnan(got.temp_c).all()


def test_a_value_older_than_its_age_is_not_available(dbc: Dbc) -> None:
    got = run(
        machine(dbc),
        frames((1, 1, fast(400, 0)), (1, 2, bytes([50, 7])), *((t, 3, page(0, 3700)) for t in (4, 5, 11, 12))),
    )
    assert (got.t_ns // S).tolist() == [1, 4, 5, 11, 12]
    np.testing.assert_array_equal(np.isnan(got.pack_v), [False, False, True, True, True])
    np.testing.assert_array_equal(np.isnan(got.context["soc_bms"]), [False, False, False, False, True])


def test_what_says_not_available_is_nan_at_once_and_never_a_number(dbc: Dbc) -> None:
    got = run(
        machine(dbc),
        frames(
            (1, 1, fast(400, 5)),
            (1, 2, bytes([50, 7])),
            (1, 3, page(0, 3700, 3800)),
            (2, 1, b"\xff\xff\x00\x00"),  # start-up value
            (2, 2, bytes([255, 9])),  # a label says so; a state nobody named
            (2, 3, page(0, 3700, 3800, ok=1)),  # a flag says so
            (3, 1, fast(400, 300)),  # beyond what the mapping accepts
            (4, 1, fast(400, 5)[:3]),  # short: the current is cut
            (4, 2, b""),
        ),
    )
    np.testing.assert_array_equal(np.isnan(got.pack_v), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(got.current_a), [False, False, True, True])
    np.testing.assert_array_equal(np.isnan(got.context["soc_bms"]), [False, True, True, True])
    assert got.context["contactor_state"].tolist() == [2, -1, -1, -1]
    np.testing.assert_array_equal(np.isnan(got.cell_v[:, 1]), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(got.cell_v[:, 0]), [False, False, False, False])


def test_only_the_driving_message_makes_a_frame(dbc: Dbc) -> None:
    text = MAP.replace("max_age_s = 3\n", 'max_age_s = 3\ndrives = ["Slow"]\n', 1)
    block = frames((0.5, 1, fast(400, 0)), (1.5, 2, bytes([50, 7])), (2.5, 1, fast(400, 0)), (3.5, 99, b""))
    assert run(machine(dbc, text), block).t_ns.tolist() == [2 * S]


def test_with_period_zero_a_frame_stands_at_each_driving_message(dbc: Dbc) -> None:
    text = MAP.replace("max_age_s = 3\n", 'max_age_s = 3\ndrives = ["Slow"]\n', 1)
    got = run(
        machine(dbc, text, period_s=0),
        frames((0.1, 1, fast(1, 0)), (0.25, 2, bytes([50, 7])), (0.3, 1, fast(2, 0)), (0.35, 2, bytes([51, 7]))),
    )
    assert got.t_ns.tolist() == [S // 4, round(0.35 * S)]
    np.testing.assert_allclose(got.pack_v, [1, 2])


def test_remote_frames_and_other_buses_are_not_decoded(dbc: Dbc) -> None:
    block = frames((0.5, 1, fast(400, 0)), (0.6, 1, fast(500, 0)), (0.7, 1, fast(600, 0)))
    block.flags[1] = REMOTE
    block.bus[2] = 1
    np.testing.assert_allclose(run(machine(dbc, 'bus = "can0"\n' + MAP), block).pack_v, [400])
    np.testing.assert_allclose(run(machine(dbc), block).pack_v, [600])
    assert machine(dbc, 'bus = "can7"\n' + MAP).push(block) is None


def test_a_clock_that_is_set_back_opens_a_new_period_and_ages_nothing_wrongly(dbc: Dbc) -> None:
    got = run(
        machine(dbc),
        frames((100.5, 2, bytes([50, 7])), (400.5, 1, fast(9, 0)), (100.9, 3, page(0, 3700)), (101.5, 1, fast(8, 0))),
    )
    assert (got.t_ns // S).tolist() == [101, 401, 101, 102]
    np.testing.assert_array_equal(np.isnan(got.context["soc_bms"]), [False, True, False, False])
    np.testing.assert_allclose(got.pack_v, [np.nan, 9, np.nan, 8])


rows = st.lists(
    st.tuples(
        st.floats(-1.2, 2.5).map(lambda x: round(x, 3)),  # time since the frame before, also backwards
        st.sampled_from([1, 2, 3, 99]),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=40,
)


@given(rows, st.lists(st.integers(0, 40), max_size=4), st.sampled_from([0, 0.5, 1, 7]), st.booleans())
def test_frames_do_not_depend_on_how_the_stream_was_cut(
    dbc: Dbc, rows: list[tuple[float, int, bytes]], cuts: list[int], period_s: float, restart: bool
) -> None:
    t = np.cumsum([100.0, *(dt for dt, _, _ in rows)])[1:]
    block = frames(*((float(now), i, p) for now, (_, i, p) in zip(t, rows, strict=True)))
    first = machine(dbc, period_s=period_s)
    whole = [first.push(block), first.flush()]
    second = machine(dbc, period_s=period_s)
    parts = []
    edges = [0, *sorted(min(c, len(block)) for c in cuts), len(block)]
    for a, b in pairwise(edges):
        parts.append(second.push(block.take(slice(a, b))))
        if restart:
            state = second.dump()
            second = machine(dbc, period_s=period_s)
            second.load(state)
    parts.append(second.flush())
    assert_equal([w for w in whole if w is not None], [p for p in parts if p is not None])


def assert_equal(want: list[FrameBlock], got: list[FrameBlock]) -> None:
    assert bool(want) == bool(got)
    if not want:
        return
    a, b = concat(want), concat(got)
    for name in ("t_ns", "seq", "pack_v", "current_a", "cell_v", "temp_c", "src_offset"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name, column in a.context.items():
        np.testing.assert_array_equal(column, b.context[name], err_msg=name)


def test_a_dumped_state_shares_no_memory_and_fits_only_its_own_mapping(dbc: Dbc) -> None:
    one = machine(dbc)
    one.push(frames((0.5, 1, fast(400, 0))))
    state = one.dump()
    before = state["held"].copy()
    one.push(frames((0.6, 1, fast(500, 0))))
    np.testing.assert_array_equal(state["held"], before)
    with pytest.raises(ValueError, match="state must be of the same mapping and pack"):
        machine(dbc, cells=2).load(state)


def test_a_mapping_that_does_not_fit_the_dbc_is_refused_with_file_key_and_value(dbc: Dbc) -> None:
    with pytest.raises(
        SignalsError, match=r"signal\.pack_v\.from must be of a message of small\.dbc; got Nope \(small\.toml\)"
    ):
        machine(dbc, MAP.replace("Fast.V", "Nope.V"))
    with pytest.raises(
        SignalsError, match=r"signal\.pack_v\.from must be signals of small\.dbc, .*; got W \(small\.toml\)"
    ):
        machine(dbc, MAP.replace("Fast.V", "Fast.W"))
    with pytest.raises(SignalsError, match=r"one for each of 4 places; got C_4"):
        machine(dbc, cells=4)
    with pytest.raises(SignalsError, match=r"signal\.cell_v\.valid must be a signal on the page of C_1; got Ok_4"):
        machine(dbc, MAP.replace("Ok_{n}", "Ok_4"), cells=3)


@cache
def ours(stem: str) -> Dbc:
    return load_dbc(dbc_path(stem))


@cache
def theirs(stem: str) -> Any:
    return cantools.database.load_file(dbc_path(stem), strict=False)


def car(stem: str, cells: int, probes: int, **more: Any) -> Assembler:
    signals: SignalMap = load_signals(SIGNALS_DIR / f"{stem}.toml")
    return Assembler(signals, ours(stem), model="m", cells=cells, probes=probes, pack_id="P", **more)


def test_an_i3_on_a_fast_charger_reads_as_recorded() -> None:
    got = run(car("bmw_i3_lim", 96, 8), log("bmw_i3", "2019_ionity_mida"))
    assert len(got) == 42  # 41 s of log
    assert got.cell_v.shape == (42, 96)
    assert np.isnan(got.cell_v).all()
    assert 358.69 < got.pack_v.min() < got.pack_v.max() < 359.61
    assert 123.4 < got.current_a.min() < got.current_a.max() < 125.1  # + is charging
    soc = got.context["soc_bms"]
    assert (round(float(soc[0]), 3), round(float(soc[-1]), 3)) == (0.416, 0.427)
    assert set(got.context["charge_type"].tolist()) == {2}


def test_an_i3_whose_charge_ends_falls_to_no_current() -> None:
    got = run(car("bmw_i3_lim", 96, 8, period_s=0.1), log("bmw_i3", "2019_Circontrol_end"))
    assert 361 <= got.pack_v.min() < got.pack_v.max() < 369.1
    assert got.current_a[0] == pytest.approx(121.6, abs=0.5)
    assert got.current_a[-1] == pytest.approx(-0.8, abs=0.2)


@pytest.mark.parametrize("name", ["4.ptcan_fully", "charging ptcan", "2013i3_switched on"])
def test_start_up_values_of_an_i3_never_become_numbers(name: str) -> None:
    got = run(car("bmw_i3_lim", 96, 8, period_s=0), log("bmw_i3", name))
    assert np.isnan(got.pack_v).any()
    for column, limit in ((got.pack_v, 420), (np.abs(got.current_a), 410), (got.context["soc_bms"], 1)):
        assert np.nanmax(column) <= limit
    assert np.nanmax(got.context["link_v"]) < 500


def test_a_tesla_under_load_shows_discharge_and_its_voltage_rises_with_the_current() -> None:
    got = run(car("tesla_model3", 96, 2, period_s=0), log("tesla_model3", "openccs"))
    assert len(got) == 690
    assert (got.current_a < 0).all()  # 4 to 7 A out of the battery, nothing plugged in
    # v = ocv + i·r0: with the right sign the slope is a resistance, some 10 to 500 mΩ
    slope = np.polyfit(got.current_a, got.pack_v, 1)[0]
    assert 0.01 < slope < 0.5
    assert 370 < got.pack_v.min() < got.pack_v.max() < 371
    assert np.nanmax(got.context["soc_bms"]) == pytest.approx(0.627)
    assert set(np.unique(got.context["contactor_state"])) <= {-1, 2}
    assert np.nanmin(got.temp_c) == pytest.approx(13.5)
    assert np.nanmax(got.temp_c) == pytest.approx(18.25)


def test_a_kona_pack_reads_its_voltage_soc_and_temperatures() -> None:
    got = run(car("hyundai_kona_pcan", 98, 2), log("hyundai_kona", "30sec"))
    assert len(got) == 31
    np.testing.assert_allclose(got.pack_v, 360.8, atol=0.11)
    np.testing.assert_array_equal(got.current_a, 0)
    np.testing.assert_allclose(got.context["soc_bms"], 0.485, atol=1e-6)
    np.testing.assert_array_equal(got.temp_c, 11)


def test_a_kona_current_out_of_the_battery_is_negative() -> None:
    message = theirs("hyundai_kona_pcan").get_message_by_name("Batt_HV_Status")
    payload = message.encode(
        {s.name: {"IBatt": 50.0, "VBatt": 350.0}.get(s.name, 0) for s in message.signals}, strict=False
    )
    got = run(car("hyundai_kona_pcan", 98, 2), frames((0.5, message.frame_id, payload)))
    assert (got.current_a[0], got.pack_v[0]) == (-50, 350)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_multiplexed_cells_of_foxbms_land_in_their_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    database = theirs("foxbms")
    cells, probes = 96, 12
    cell_mv, temp_c = rng.integers(2500, 4200, cells), rng.integers(-40, 80, probes)
    bad_cell, bad_probe = int(rng.integers(cells)), int(rng.integers(probes))
    rows: list[tuple[float, int, bytes]] = []
    for name, kind, per_page, values, bad in (
        ("f_CellVoltages", "CellVoltage", 4, cell_mv, bad_cell),
        ("f_CellTemperatures", "CellTemperature", 6, temp_c, bad_probe),
    ):
        message = database.get_message_by_name(name)
        for number in range(len(values) // per_page):
            content: dict[str, Any] = {f"{name}_Mux": number}
            for k in range(number * per_page, (number + 1) * per_page):
                content[f"{kind}_{k:03}"] = int(values[k])
                content[f"{kind}_{k:03}_invalidFlag"] = int(k != bad)
            rows.append((0.01 + 0.01 * len(rows), message.frame_id, message.encode(content, strict=False)))
    pack = database.get_message_by_name("f_PackValuesP0")
    content = {"BatteryVoltage": 350.0, "BusVoltage": 349.0, "Power": 0, "Current": 20.0}
    rows.append((0.01 + 0.01 * len(rows), pack.frame_id, pack.encode(content, strict=False)))
    got = run(car("foxbms", cells, probes), frames(*rows))
    assert len(got) == 1
    want_v, want_t = cell_mv / 1000, temp_c.astype(float)
    want_v[bad_cell] = want_t[bad_probe] = np.nan
    np.testing.assert_allclose(got.cell_v[0], want_v, rtol=1e-6)
    np.testing.assert_allclose(got.temp_c[0], want_t)
    assert got.current_a[0] == -20  # foxBMS: + is discharge
    assert set(got.context) <= set(CONTEXT)


def test_every_shipped_mapping_fits_its_dbc() -> None:
    for stem in ("bmw_i3_lim", "hyundai_kona_pcan", "tesla_model3", "foxbms"):
        car(stem, 96, 2)
    signals = load_signals(SIGNALS_DIR / "ibms_pack.toml")
    Assembler(signals, load_dbc(DBC_DIR / "ibms_pack.dbc"), model="m", cells=255, probes=64, pack_id="P")
