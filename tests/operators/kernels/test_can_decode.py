from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest
from cantools.database.can import Message as DbcMessage
from cantools.database.can.signal import Signal as DbcSignal
from cantools.database.conversion import BaseConversion
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.dbc import Dbc, load_dbc
from operators.kernels.can_decode import Message, Signal, by_message, decode
from schemas.can import widen
from tests.support.can_data import CARS, dbc_path, logs

OURS = Path(__file__).parents[3] / "schemas" / "dbc" / "ibms_pack.dbc"
STEMS = ["bmw_i3_lim", "hyundai_kona_pcan", "tesla_model3", "foxbms", "ibms_pack"]


def path_of(stem: str) -> Path:
    return OURS if stem == "ibms_pack" else dbc_path(stem)


class Reference:
    """cantools' answer per signal; where it refuses a message as a whole, its answer for each signal alone."""

    def __init__(self, path: Path, dbc: Dbc) -> None:
        self.database: Any = cantools.database.load_file(path, strict=False)
        self.dbc = dbc
        self.alone: dict[tuple[str, str], Any] = {}

    def one(self, message: Message, name: str, payload: bytes) -> float:
        key = (message.name, name)
        if key not in self.alone:
            whole = self.database.get_message_by_name(message.name)
            s = next(s for s in whole.signals if s.name == name)
            # long enough for the signal: some files have signals that reach beyond their message
            length = max(whole.length, math.ceil((message.signals[name].start + s.length) / 8))
            plain = DbcSignal(s.name, s.start, s.length, s.byte_order, s.is_signed, conversion=s.conversion)
            self.alone[key] = DbcMessage(whole.frame_id, whole.name, length, [plain], is_extended_frame=message.ext)
        decoded = self.alone[key].decode(payload, decode_choices=False, allow_truncated=True)
        value = decoded.get(name, math.nan)
        signal = message.signals[name]
        if signal.mux is not None:
            page = self.one(message, signal.mux.name, payload)
            if math.isnan(page) or int(page) not in signal.mux_ids:
                return math.nan
        return float(value)

    def values(self, message: Message, payloads: list[bytes]) -> dict[str, NDArray[np.float64]]:
        whole = self.database.get_message_by_name(message.name)
        out = {name: np.full(len(payloads), np.nan) for name in message.signals}
        # a multiplexer that cantools renamed leaves its signals out of cantools' tree
        names = {s.name for s in whole.signals}
        renamed = {s.name for s in whole.signals if s.multiplexer_signal and s.multiplexer_signal not in names}
        for i, payload in enumerate(payloads):
            try:
                decoded = whole.decode(payload, decode_choices=False, allow_truncated=True)
            except (cantools.database.errors.DecodeError, KeyError):  # refused as a whole
                for name, column in out.items():
                    column[i] = self.one(message, name, payload)
                continue
            for name, value in decoded.items():
                out[name][i] = float(value)
            for name in renamed:
                out[name][i] = self.one(message, name, payload)
        return out


def assert_equal_to_cantools(
    reference: Reference, message: Message, data: NDArray[np.uint8], length: NDArray[np.uint8]
) -> int:
    payloads = [data[i, : length[i]].tobytes() for i in range(len(data))]
    want = reference.values(message, payloads)
    got = decode(message, data, length)
    assert set(got) == set(want)
    for name, value in got.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, want[name], err_msg=f"{message.name}.{name}")
    return len(data)


@pytest.mark.parametrize("car", CARS)
def test_every_recorded_frame_decodes_as_cantools_decodes_it(car: str) -> None:
    dbc = load_dbc(dbc_path(CARS[car]))
    reference = Reference(dbc.path, dbc)
    count = 0
    for _, block in logs(car):
        for message, rows in by_message(list(dbc.by_id.values()), block.can_id, block.ext):
            # equal payloads have equal values: each is compared once
            key = np.concatenate([block.data[rows], block.length[rows, None]], axis=1)
            distinct = np.unique(key, axis=0)
            assert_equal_to_cantools(reference, message, distinct[:, :-1].copy(), distinct[:, -1].copy())
            count += rows.size
    assert count == {"bmw_i3": 66_036, "hyundai_kona": 30_046, "tesla_model3": 47_176}[car]


@pytest.mark.parametrize("stem", STEMS)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_message_decodes_random_payloads_as_cantools_does(stem: str, seed: int) -> None:
    path = path_of(stem)
    dbc = load_dbc(path)
    reference = Reference(path, dbc)
    rng = np.random.default_rng(seed)
    pages = 12
    for message in dbc.by_name.values():
        width = 64 if message.length > 8 else 8
        length = np.full(pages, message.length, np.uint8)
        length[-2:] = rng.integers(0, message.length + 1, 2)
        data = rng.integers(0, 256, (pages, width), np.uint8)
        for mux in {s.mux.name: s.mux for s in message.signals.values() if s.mux}.values():
            known = sorted({i for s in message.signals.values() if s.mux is mux for i in s.mux_ids})
            for row in range(pages - 3):
                _put(data[row], mux, int(rng.choice(known)))
        data[np.arange(width)[None, :] >= length[:, None]] = 0
        assert_equal_to_cantools(reference, message, data, length)


def _put(payload: NDArray[np.uint8], signal: Signal, raw: int) -> None:
    for k in range(signal.length):
        bit = raw >> (k if signal.little else signal.length - 1 - k) & 1
        place = signal.start + k
        shift = place % 8 if signal.little else 7 - place % 8
        payload[place // 8] = (int(payload[place // 8]) & ~(1 << shift)) | (bit << shift)


@st.composite
def any_signal(draw: st.DrawFn) -> tuple[Signal, int]:
    size = draw(st.sampled_from([8, 12, 64]))
    is_float = draw(st.booleans())
    length = draw(st.sampled_from([16, 32, 64])) if is_float else draw(st.integers(1, 64))
    start = draw(st.integers(0, size * 8 - length))
    scale, offset = draw(
        st.sampled_from([(1, 0), (0.1, 0), (3, -40), (0.1, -819.2), (2.0, 5), (-0.05, 500), (10**6, 1)])
    )
    signed = draw(st.booleans()) and not is_float
    return Signal("s", start, length, draw(st.booleans()), signed, is_float, scale, offset), size


@given(any_signal(), st.integers(0, 2**32 - 1))
def test_a_signal_of_any_place_size_order_sign_and_scale_decodes_as_cantools_does(
    case: tuple[Signal, int], seed: int
) -> None:
    signal, size = case
    start = signal.start if signal.little else 8 * (signal.start // 8) + 7 - signal.start % 8
    order = "little_endian" if signal.little else "big_endian"
    conversion = BaseConversion.factory(signal.scale, signal.offset, None, signal.is_float)
    theirs = DbcSignal("s", start, signal.length, order, signal.signed, conversion=conversion)  # type: ignore[arg-type]
    message: Any = DbcMessage(1, "m", size, [theirs], is_fd=size > 8)
    rng = np.random.default_rng(seed)
    length = rng.integers(0, size + 1, 20).astype(np.uint8)
    length[:15] = size
    data = rng.integers(0, 256, (20, size), np.uint8)
    data[np.arange(size)[None, :] >= length[:, None]] = 0
    want = [message.decode(data[i, : length[i]].tobytes(), allow_truncated=True).get("s", math.nan) for i in range(20)]
    got = decode(Message("m", 1, False, size, {"s": signal}), widen(data, 8 if size == 8 else 64), length)
    np.testing.assert_array_equal(got["s"], np.array(want, np.float64))


EXTENDED = """VERSION ""
BU_: A
BO_ 2566848512 Nested: 8 A
 SG_ Outer M : 0|4@1+ (1,0) [0|15] "" A
 SG_ Inner m1M : 4|4@1+ (1,0) [0|15] "" A
 SG_ Deep m2 : 8|16@1- (0.5,-10) [0|0] "V" A
 SG_ Wide m3 : 24|32@1- (1,0) [0|0] "" A
 SG_ Plain : 63|8@0+ (1,0) [0|0] "" A
SIG_VALTYPE_ 2566848512 Wide : 1;
SG_MUL_VAL_ 2566848512 Inner Outer 1-2, 5-5;
SG_MUL_VAL_ 2566848512 Deep Inner 2-3, 7-7;
SG_MUL_VAL_ 2566848512 Wide Outer 3-3, 8-15;
VAL_ 2566848512 Deep 32767 "SNA" -1 "Signal invalid" 5 "Five" ;
"""


@pytest.fixture
def nested(tmp_path: Path) -> Dbc:
    path = tmp_path / "nested.dbc"
    path.write_text(EXTENDED)
    return load_dbc(path)


def every_page() -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)
    for outer in range(16):
        for inner in range(16):
            payload = rng.integers(0, 256, 8, np.uint8)
            payload[0] = inner << 4 | outer
            yield payload


def test_extended_multiplexing_is_followed_to_its_end(nested: Dbc) -> None:
    reference = Reference(nested.path, nested)
    message = nested.by_name["Nested"]
    assert message.ext
    assert message.can_id == 2566848512 & 0x1FFFFFFF
    data = np.array(list(every_page()))
    got = decode(message, data, np.full(256, 8, np.uint8))
    held = {name: int(np.isfinite(v).sum()) for name, v in got.items()}
    assert held == {"Outer": 256, "Inner": 48, "Deep": 9, "Wide": held["Wide"], "Plain": 256}
    assert 0 < held["Wide"] <= 9 * 16
    # a page that names no signal is an error to cantools; the signals themselves are still the same
    assert_equal_to_cantools(reference, message, data, np.full(256, 8, np.uint8))


def test_a_label_that_says_no_value_becomes_nan_only_when_asked(nested: Dbc) -> None:
    message = nested.by_name["Nested"]
    data = np.zeros((3, 8), np.uint8)
    data[:, 0] = 2 << 4 | 1
    data[:, 1:3] = np.array([32767, -1, 5], "<i2").view(np.uint8).reshape(3, 2)
    full = np.full(3, 8, np.uint8)
    assert decode(message, data, full)["Deep"].tolist() == [32767 * 0.5 - 10, -10.5, -7.5]
    np.testing.assert_array_equal(decode(message, data, full, invalid_as_nan=True)["Deep"], [np.nan, np.nan, -7.5])


def test_labels_that_say_no_value_are_known_as_the_real_files_write_them() -> None:
    bmw, tesla = load_dbc(dbc_path("bmw_i3_lim")), load_dbc(dbc_path("tesla_model3"))
    assert bmw.by_name["LIMMsg3B4"].signals["FC_Voltage"].invalid == (252, 254)
    assert bmw.by_name["LIMMsg3B4"].signals["DC_Chg_Volts"].invalid == (509, 510, 511)
    assert tesla.by_name["ID212BMS_status"].signals["BMS_isolationResistance"].invalid == (1023,)
    assert tesla.by_name["ID2F3UI_hvacRequest"].signals["UI_hvacReqTempSetpointLeft"].invalid == ()


def test_frames_are_sorted_to_messages_by_id_and_kind_of_id() -> None:
    std, ext = Message("std", 5, False, 8, {}), Message("ext", 5, True, 8, {})
    can_id = np.array([5, 5, 7, 5, 0x1FFFFFFF, 5], np.uint32)
    is_ext = np.array([False, True, False, False, True, True])
    usable = np.array([True, True, True, False, True, True])
    found = {m.name: rows.tolist() for m, rows in by_message([std, ext], can_id, is_ext, usable)}
    assert found == {"std": [0], "ext": [1, 5]}
    assert by_message([], can_id, is_ext) == []


def test_decoding_leaves_its_input_alone_and_takes_nothing(nested: Dbc) -> None:
    message = nested.by_name["Nested"]
    data = np.zeros((0, 8), np.uint8)
    assert all(v.shape == (0,) for v in decode(message, data, np.zeros(0, np.uint8)).values())
    data = np.arange(64, dtype=np.uint8).reshape(8, 8)
    before = data.copy()
    decode(message, data, np.full(8, 8, np.uint8), invalid_as_nan=True)
    np.testing.assert_array_equal(data, before)
