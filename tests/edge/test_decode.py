from __future__ import annotations

import math
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.decode import Frame, Plan, plan
from edge.seal import COUNTS, crc8, opens, sealed
from operators.assemble import _values, resolve
from operators.dbc import Dbc, load_dbc
from operators.kernels.can_decode import on_page, reaches
from schemas.checked import ConfigError
from schemas.signals import DBC_DIR, PROTECTED, SIGNALS_DIR, SignalMap, load_signals, parse_signals
from tests.support.can_data import dbc_path, logs

SHIPPED = {"ibms_pack": (96, 24), "ibms_edge": (96, 24)}
RECORDED = {"foxbms": (216, 180), "bmw_i3_lim": (96, 4), "hyundai_kona_pcan": (98, 2), "tesla_model3": (96, 2)}


@cache
def _read(stem: str) -> tuple[SignalMap, Dbc]:
    path = DBC_DIR / f"{stem}.dbc" if stem in SHIPPED else dbc_path(stem)
    return load_signals(SIGNALS_DIR / f"{stem}.toml"), load_dbc(path)


@cache
def _plan(stem: str) -> Plan:
    signals, dbc = _read(stem)
    rest = [c for c in PROTECTED if c not in {*signals.required, *signals.absent}]
    return plan([(signals, dbc)], *{**SHIPPED, **RECORDED}[stem], absent=rest)


def _columnar(stem: str, frame: Frame) -> dict[tuple[str, int], float]:
    """Decode one frame with the column decoder, to (column, place) -> value."""
    signals, dbc = _read(stem)
    cells, probes = {**SHIPPED, **RECORDED}[stem]
    found = {}
    data = np.frombuffer(frame.data.ljust(8, b"\0"), np.uint8)[None]
    length = np.array([len(frame.data)], np.uint8)
    for group in resolve(signals, dbc, cells, probes):
        if (group.message.can_id, group.message.ext) != (frame.can_id, frame.ext):
            continue
        page = on_page(group.targets[0].signal, data, length, {})
        mux = group.targets[0].signal.mux
        there = reaches(mux, length) if mux is not None else None
        if page is not None and not page[0]:
            continue
        assert there is None or there[0]
        for target, value in zip(group.targets, _values(group, data, length, {})[0], strict=True):
            found[target.entry.column, target.place] = float(value)
    return {k: v for k, v in found.items() if k[0] in signals.required}


def _single(stem: str, frame: Frame) -> dict[tuple[str, int], float]:
    read = _plan(stem)
    arrivals, _ = read.decode([frame])
    return {
        ("soc_bms" if name == "soc" else name, place): value
        for a in arrivals
        for (name, place), value in zip(read.sources[a.source].fills, a.values, strict=True)
    }


def _same(stem: str, frame: Frame) -> None:
    one, many = _single(stem, frame), _columnar(stem, frame)
    assert one.keys() == many.keys()
    for key, value in many.items():
        assert one[key] == value or (math.isnan(value) and math.isnan(one[key])), (stem, frame, key)


@pytest.mark.parametrize("stem", [*SHIPPED, *RECORDED])
@settings(deadline=None, max_examples=150)
@given(payload=st.binary(min_size=0, max_size=8), pick=st.integers(0, 10_000), ones=st.booleans())
def test_one_message_decodes_to_what_the_column_decoder_gives(stem: str, payload: bytes, pick: int, ones: bool) -> None:
    keys = sorted(_plan(stem).pages)
    key = keys[pick % len(keys)]
    can_id, ext = key & 0x7FFF_FFFF, key >= 1 << 31
    data = bytes([payload[0], *b"\xff" * (len(payload) - 1)]) if ones and payload else payload
    if key in _plan(stem).sealed:
        data = sealed(can_id, data.ljust(8, b"\0"), random.randrange(COUNTS))
        _plan(stem).counters.clear()
    _same(stem, Frame(can_id, ext, data, 0))


@pytest.mark.parametrize("car", ["bmw_i3", "hyundai_kona", "tesla_model3"])
def test_recorded_frames_decode_to_what_the_column_decoder_gives(car: str) -> None:
    from tests.support.can_data import CARS

    stem, seen = CARS[car], 0
    for _, block in logs(car):
        wanted = {key & 0x7FFF_FFFF for key in _plan(stem).pages}
        rows = np.flatnonzero(np.isin(block.can_id, list(wanted)))[:: max(1, len(block) // 3000)]
        for r in rows.tolist():
            data = block.data[r, : block.length[r]].tobytes()
            _same(stem, Frame(int(block.can_id[r]), bool(block.ext[r]), data, 0))
            seen += 1
    assert seen > 300


def test_the_checksum_is_that_of_sae_j1850() -> None:
    assert crc8(b"123456789") == 0x4B  # the standard's own check value


@given(payload=st.binary(min_size=8, max_size=8), counter=st.integers(0, 14), bit=st.integers(0, 63))
def test_a_sealed_message_opens_and_one_with_a_flipped_bit_does_not(payload: bytes, counter: int, bit: int) -> None:
    whole = sealed(0x90, payload, counter)
    assert opens(0x90, whole) == counter
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    assert opens(0x90, bytes(flipped)) == -1
    assert opens(0x91, whole) == -1
    assert opens(0x90, whole[:7]) == -1


def test_a_repeated_or_broken_sealed_message_brings_nothing_and_is_counted() -> None:
    read = _plan("ibms_edge")
    read.counters.clear()
    refused = read.refused
    first = Frame(145, False, sealed(145, b"\x01" + bytes(7), 3), 0)
    assert read.decode([first])[1][0].close is True
    assert read.decode([first]) == ([], [])
    assert read.decode([first._replace(data=b"\x01" + bytes(7))]) == ([], [])
    assert read.refused == refused + 2
    assert read.decode([first._replace(data=sealed(145, bytes(8), 4))])[1][0].close is False


def _maps(**tables: str) -> list[tuple[SignalMap, Dbc]]:
    text = 'period_s = 0\nmax_age_s = 2\n[signal.pack_v]\nfrom = "PackState.PackVoltage"\n'
    dbc = load_dbc(Path(DBC_DIR / "ibms_pack.dbc"))
    return [(parse_signals((text + gateway).encode(), name), dbc) for name, gateway in tables.items()]


def test_a_signal_that_no_map_declares_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"cell_v must be declared required or absent under \[gateway\]"):
        plan(_maps(a='[gateway]\nrequired = ["pack_v"]\ncycle_s = { PackState = 0.1 }\n'), 96, 24)


def test_a_signal_that_two_maps_require_stops_the_start() -> None:
    gateway = '[gateway]\nrequired = ["pack_v"]\ncycle_s = { PackState = 0.1 }\n'
    with pytest.raises(ConfigError, match="pack_v must be required by one map; got a, b"):
        plan(_maps(a=gateway, b=gateway), 96, 24)


def test_a_message_without_a_period_stops_the_start() -> None:
    rest = [c for c in PROTECTED if c != "pack_v"]
    with pytest.raises(ConfigError, match=r"gateway\.cycle_s\.PackState must be a number > 0"):
        plan(_maps(a='[gateway]\nrequired = ["pack_v"]\n'), 96, 24, absent=rest)


def test_the_gateway_can_take_back_a_signal_that_its_map_requires() -> None:
    everything = plan([_read("ibms_pack"), _read("ibms_edge")], 96, 24)
    less = plan([_read("ibms_pack"), _read("ibms_edge")], 96, 24, absent=["current2_a"])
    assert set(everything.required) - set(less.required) == {"current2_a"}
    assert len(everything.sources) == len(less.sources) + 1
