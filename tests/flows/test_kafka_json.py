"""JSON read by the kernel is JSON read by `wire_json`, bit for bit, and refused for the same reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kafka_json import scan_json
from schemas.frames import FrameBlock
from schemas.message import Message, Models
from schemas.pack import load_pack
from schemas.wire import Decoder, decode_all
from schemas.wire_json import CELLS, JSON, encode_json
from tests.support.blocks import blocks
from tests.support.frames import frames
from tests.support.wire import rows

BLOCK = frames([0, 10, 20], [-5.0, 0.25, 5.0], cell_v=[3.7, 3.71, 3.72], names=("P1",), vehicles=("V1",))
SOUND = encode_json(BLOCK)[0][1]
SPEED, LATITUDE, HVIL = "Vehicle.Speed", "Vehicle.CurrentLocation.Latitude", "Vehicle.Ibms.hvil"
MASK = "Vehicle.Ibms.balancing_mask"
DAMAGE = b'{}[],:"0123456789-+.eEnul tf\\\x00\xff'
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers().map(str)


def texts(*sent: bytes) -> list[Message]:
    """Enough messages for the kernel: sound ones around those that are sent."""
    around = [SOUND] * 8
    return [Message(data, JSON, "frames", 0, i) for i, data in enumerate([*around, *sent, *around])]


def both(*sent: bytes) -> None:
    """Read with and without the kernel, and compare."""
    messages = texts(*sent)
    assert rows(Decoder(scan=scan_json).decode(messages)) == rows(decode_all(messages))


def with_frame(**changes: Any) -> bytes:
    """One message whose second frame is changed; a change to `...` takes the key away."""
    message = orjson.loads(SOUND)
    message["frames"][1] |= changes
    message["frames"][1] = {k: v for k, v in message["frames"][1].items() if v is not ...}
    return orjson.dumps(message)


@given(st.lists(blocks(rows=st.integers(1, 4)), min_size=1, max_size=4))
def test_what_encode_json_writes_is_read_bit_for_bit(sent: list[FrameBlock]) -> None:
    both(*(data for block in sent for _, data in encode_json(block)))


def test_messages_as_encoders_write_them_are_all_taken_by_the_kernel() -> None:
    spaced = str(orjson.loads(SOUND)).replace("'", '"').encode()  # with blanks, as most encoders set them
    sent = [(i, m, m.data) for i, m in enumerate(texts(spaced, with_frame(**{SPEED: None, "seq": ...})))]
    blocks_, left = scan_json(sent, Models(load_pack))
    assert left == []
    assert len(blocks_[0][1]) == 3 * len(sent)


@pytest.mark.parametrize("times", [1, 200])
def test_messages_longer_than_the_first_are_all_taken_too(times: int) -> None:
    long, timeless = orjson.loads(SOUND), orjson.loads(SOUND)
    long["frames"] = [f | {"seq": i} for i, f in enumerate(long["frames"] * times)]
    timeless["frames"].append({"seq": 1})
    first = orjson.dumps(long | {"frames": long["frames"][:1]})
    sent = [first] * 8 + [orjson.dumps(long), orjson.dumps(timeless)] * 4
    given_ = [(i, Message(data, JSON, "frames", 0, i), data) for i, data in enumerate(sent)]
    blocks_, left = scan_json(given_, Models(load_pack))
    assert [text for _, _, text in left] == [orjson.dumps(timeless)] * 4
    assert sum(len(block) for _, block in blocks_) == 8 + 4 * len(long["frames"])
    messages = [message for _, message, _ in given_]
    assert rows(Decoder(scan=scan_json).decode(messages)) == rows(decode_all(messages))


@settings(max_examples=400)
@given(st.data())
def test_damaged_texts_are_read_or_refused_as_without_the_kernel(data: st.DataObject) -> None:
    whole = bytearray(SOUND)
    places = st.integers(0, len(whole) - 1)
    for at, what in data.draw(st.lists(st.tuples(places, st.sampled_from(b'{}[],:"0123456789-+.eEnul tf\\\x00\xff'))))[
        :3
    ]:
        whole[at] = what
    for at, many in data.draw(st.lists(st.tuples(places, st.integers(1, 30)), max_size=2)):
        del whole[at : at + many]
    both(bytes(whole))


@pytest.mark.parametrize(
    "text",
    [
        "0", "-0", "-0.0", "0.0", "1", "-1", "01", "1.", ".5", "+1", "-", "1e3", "1E-3", "1e400", "0.1e-400", "NaN",
        "Infinity",
        "3.7249999046325684", "33.34984616327631", "-112.06613711319557", "9007199254740993", "9007199254740993.0",
        "0.000000000000000000000000000001", "123456789012345678901234567890", "18446744073709551615",
        "-9223372036854775809",
        "1.7976931348623157", "0." + "1" * 50, "1" * 19 + ".5", "true", '"1"', "[1]", "{}", "", "nul", "null", "nulll",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", [SPEED, "Vehicle.CurrentLocation.Latitude", HVIL, "seq", "t_ns", "schema"])
def test_a_number_is_what_python_reads_whatever_its_form(key: str, text: str) -> None:
    message = orjson.loads(with_frame(**{SPEED: 1.5, LATITUDE: 2.5, HVIL: 1}))
    target = message if key == "schema" else message["frames"][1]
    target[key] = "HERE"
    both(orjson.dumps(message).replace(b'"HERE"', text.encode()))


@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers().map(str), min_size=4, max_size=4
    )
)
def test_cells_are_what_python_reads(cells: list[str]) -> None:
    both(with_frame(**{CELLS: "HERE"}).replace(b'"HERE"', f"[{','.join(cells)}]".encode()))


@pytest.mark.parametrize(
    "changed",
    [
        with_frame(t_ns=...), with_frame(t_ns=None), with_frame(t_ns=2**63), with_frame(t_ns=-(2**63)),
        with_frame(seq=None), with_frame(lane="backfill"), with_frame(lane="live"), with_frame(lane=None),
        with_frame(**{CELLS: None}), with_frame(**{CELLS: ...}), with_frame(**{CELLS: []}),
        with_frame(**{CELLS: [1, 2, 3, None]}), with_frame(**{CELLS: [1, 2, 3]}), with_frame(**{CELLS: [1] * 5}),
        with_frame(**{"Vehicle.Later": {"a": [1]}}), with_frame(**{HVIL: 300}), with_frame(**{HVIL: None}),
        with_frame(**{MASK: 2**64 - 1}), with_frame(**{MASK: 2**63 - 1}),
        SOUND.replace(b'"P1"', b'"P\\u0031"'), SOUND.replace(b'"P1"', '"Pä"'.encode()), SOUND.replace(b'"P1"', b'""'),
        SOUND.replace(b'"P1"', b'"' + b"P" * 129 + b'"'), SOUND.replace(b'"pack":"P1"', b'"pack":"P1","pack":"P2"'),
        SOUND.replace(b'"frames"', b'"more":{"frames":[]},"frames"'), SOUND + b" \n", SOUND + b"x", SOUND[:-1],
        b"\xef\xbb\xbf" + SOUND, SOUND.replace(b"@4c2t60ah", b"@5c2t60ah"), SOUND.replace(b"generic", b"nobody"),
        SOUND.replace(b'"vehicle":"V1",', b""), SOUND.replace(b'"V1"', b'"V2"'),
        SOUND.replace(b'{"t_ns"', b'{},{"t_ns"'), b'{"t_ns":1}', b"", SOUND.replace(b'"seq":0', b'"seq":0,"seq":5'),
    ],
)  # fmt: skip
def test_a_message_out_of_the_ordinary_is_as_without_the_kernel(changed: bytes) -> None:
    both(changed)


def test_a_number_that_is_null_is_not_available() -> None:
    block = decode_all([Message(with_frame(seq=None), JSON, "frames", 0, 0)])[0]
    assert isinstance(block, FrameBlock)
    assert block.seq.tolist() == [0, -1, 2]


def test_many_models_in_one_poll_are_each_read() -> None:
    others = [frames([0, 1], model=f"generic-nmc@{c}c2t60ah", cells=c, names=(f"Q{c}",)) for c in range(5, 20)]
    both(*(encode_json(block)[0][1] for block in others))
    assert np.isfinite(others[0].cell_v).all()
