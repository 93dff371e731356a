"""A message that is laid out as one before is read by its places: what comes out is what a full reading gives."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import wire, wire_arrow
from schemas.events import DeadLetter
from schemas.frames import BACKFILL, FrameBlock
from schemas.message import Message
from schemas.wire import Decoder, decode_all
from schemas.wire_arrow import ARROW, encode_arrow
from tests.support.blocks import blocks
from tests.support.frames import frames
from tests.support.wire import rows

BLOCK = frames([0, 10, 20], [-5.0, 0.0, 5.0], cell_v=[3.7, 3.71, 3.72], names=("P1",), vehicles=("V1",))


def arrow(*sent: bytes) -> list[Message]:
    """Messages from one partition."""
    return [Message(data, ARROW, "frames", 0, i) for i, data in enumerate(sent)]


@pytest.fixture
def in_full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Places of the messages that are read in full."""
    seen: list[int] = []
    inner = wire_arrow.open_arrow

    def counted(order: int, *rest: Any) -> Any:
        seen.append(order)
        return inner(order, *rest)

    monkeypatch.setattr(wire, "open_arrow", counted)
    return seen


@given(st.lists(blocks(rows=st.integers(1, 4)), min_size=1, max_size=5))
def test_a_second_reading_gives_what_the_first_gave(sent: list[FrameBlock]) -> None:
    decoder, messages = Decoder(), arrow(*map(encode_arrow, sent))
    want = decode_all(messages)
    assert rows(decoder.decode(messages)) == rows(want)
    assert rows(decoder.decode(messages)) == rows(want)


def test_only_the_first_message_with_names_of_a_length_is_read_in_full(in_full: list[int]) -> None:
    decoder = Decoder()
    later = BLOCK.with_frames(t_ns=BLOCK.t_ns + 10**10, cell_v=BLOCK.cell_v + np.float32(0.1))
    other = BLOCK.with_frames(packs=("P2",), vehicles=("V2",))
    longer = BLOCK.with_frames(packs=("P1",), vehicles=("a vehicle of another length",))
    messages = arrow(*map(encode_arrow, (BLOCK, later, other, longer)))
    for _ in range(2):
        got = decoder.decode(messages)
        assert in_full == [0, 3]
    in_full.clear()
    assert rows(got) == rows(decode_all(messages))


@pytest.mark.parametrize("vehicle", ["P1", "V1", "s", "@", "ack"])
def test_packs_and_vehicles_are_told_apart_by_their_places(vehicle: str, in_full: list[int]) -> None:
    first = BLOCK.with_frames(packs=("P1",), vehicles=(vehicle,))
    pack = "".join(chr(ord(c) + 1) for c in vehicle)
    second = BLOCK.with_frames(packs=("Q7",), vehicles=(pack,))
    decoder = Decoder()
    messages = arrow(encode_arrow(first), encode_arrow(second))
    decoder.decode(messages[:1])
    got = decoder.decode(messages[1:])
    assert in_full == [0]
    assert rows(got) == rows(decode_all(messages[1:]))


@pytest.mark.parametrize("names", [b'["P1" ', b"[12345", b'{"P":1', b'["P\xff"', b'["P1"]'])
def test_names_of_the_same_length_that_are_no_names_are_refused_as_ever(names: bytes) -> None:
    sound = encode_arrow(BLOCK)
    decoder = Decoder()
    decoder.decode(arrow(sound))
    messages = arrow(sound.replace(b'["P1"]', names.ljust(6)[:6]), sound)
    assert rows(decoder.decode(messages)) == rows(decode_all(messages))


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_message_is_read_as_if_nothing_had_been_before(data: st.DataObject) -> None:
    whole = bytearray(encode_arrow(BLOCK))
    decoder = Decoder()
    decoder.decode(arrow(bytes(whole)))
    if data.draw(st.booleans()):
        for at, bit in data.draw(
            st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 7)), min_size=1, max_size=3)
        ):
            whole[at] ^= 1 << bit
    else:
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))] + bytearray(data.draw(st.binary(max_size=20)))
    messages = arrow(bytes(whole))
    assert rows(decoder.decode(messages)) == rows(decode_all(messages))


def test_a_row_of_no_pack_or_no_lane_is_refused_alone_in_a_known_layout() -> None:
    two = frames(range(4), names=("A", "B"), pack=[0, 1, 0, 1]).with_frames(lane=np.full(4, BACKFILL, np.uint8))
    decoder = Decoder()
    sound = encode_arrow(two)
    decoder.decode(arrow(sound))
    for column, values in (("pack", np.array([0, 2, 0, -1], np.int32)), ("lane", np.array([1, 1, 7, 1], np.uint8))):
        raw = np.array(getattr(two, column)).tobytes()
        assert sound.count(raw) == 1
        messages = arrow(sound, sound.replace(raw, values.tobytes()), sound)
        got = decoder.decode(messages)
        assert rows(got) == rows(decode_all(messages))
        assert {i.offset for i in got if isinstance(i, DeadLetter)} == {1}


def test_columns_cut_out_are_ours_to_write() -> None:
    decoder = Decoder()
    decoder.decode(arrow(encode_arrow(BLOCK)))
    block = decoder.decode(arrow(encode_arrow(BLOCK)))[0]
    assert isinstance(block, FrameBlock)
    for f in fields(block):
        column = getattr(block, f.name)
        if isinstance(column, np.ndarray):
            assert column.flags.writeable, f.name
            assert column.flags.c_contiguous, f.name


def test_columns_with_nulls_or_of_others_are_never_read_by_place(in_full: list[int]) -> None:
    batch = pa.ipc.open_stream(encode_arrow(BLOCK)).read_next_batch()
    with_null = batch.set_column(
        batch.schema.get_field_index("pack_v"), "pack_v", pa.array([1.0, None, 3.0], pa.float32())
    )
    with_more = batch.append_column("note", pa.array(["a", "b", "c"]))
    decoder = Decoder()
    for one in (with_null, with_more):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, one.schema) as stream:
            stream.write_batch(one)
        messages = arrow(sink.getvalue().to_pybytes())
        in_full.clear()
        first, second = decoder.decode(messages), decoder.decode(messages)
        assert in_full == [0, 0]
        assert rows(second) == rows(first)
