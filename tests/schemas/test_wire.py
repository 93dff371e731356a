"""Frames on the wire: what goes in comes out, and no bytes at all raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import DeadLetter
from schemas.frames import CONTEXT, FrameBlock, concat, missing_context
from schemas.ids import dead_letter_id
from schemas.message import Message
from schemas.wire import decode, decode_all
from schemas.wire_arrow import ARROW, encode_arrow
from schemas.wire_json import JSON, encode_json, row_json
from tests.support.blocks import assert_same_frames, blocks, same
from tests.support.frames import frames

SOME = st.integers(1, 12)
BLOCK = frames([0, 10, 20], [-5.0, 0.0, 5.0], cell_v=[3.7, 3.71, 3.72], names=("P1",), vehicles=("V1",))


def one(found: Sequence[FrameBlock | DeadLetter]) -> FrameBlock:
    assert len(found) == 1, found
    assert isinstance(found[0], FrameBlock), found
    return found[0]


def refused(data: bytes, kind: str, **options: Any) -> DeadLetter:
    found = decode(data, kind, "frames", 3, 44, **options)
    assert len(found) == 1, found
    assert isinstance(found[0], DeadLetter), found
    return found[0]


def arrow_of(batch: pa.RecordBatch, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def batch_of(block: FrameBlock) -> pa.RecordBatch:
    return pa.ipc.open_stream(encode_arrow(block)).read_next_batch()


def json_of(block: FrameBlock = BLOCK, **changes: Any) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(encode_json(block)[0][1])
    return message | changes


@given(blocks(rows=SOME), st.booleans())
def test_arrow_gives_back_every_frame(block: FrameBlock, zstd: bool) -> None:
    got = one(decode(encode_arrow(block, zstd=zstd), ARROW, "frames", 3, 44))
    assert_same_frames(got, block, source=False)
    assert got.src_row.tolist() == list(range(len(block)))
    assert set(got.src_part.tolist()) == {3}
    assert set(got.src_offset.tolist()) == {44}


@given(blocks(rows=SOME))
def test_json_gives_back_every_frame_with_the_odometer_in_whole_metres(block: FrameBlock) -> None:
    odo = block.context.get("odo_km")
    if odo is not None:  # VSS: uint32 metres
        block.context["odo_km"][:] = np.where(np.abs(odo) < 4e6, odo, np.nan)
    sent = encode_json(block)
    assert len(sent) == len(set(block.pack.tolist()))
    for pack, data in sent:
        want = block.take(np.flatnonzero(block.pack == block.packs.index(pack)))
        got = one(decode(data, JSON, "frames", 0, 0))
        for name in ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane"):
            assert same(getattr(got, name), getattr(want, name)), name
        assert got.packs == (pack,)
        assert got.vehicles == (block.vehicles[block.packs.index(pack)],)
        for name, values in want.context.items():
            there = got.context.get(name, missing_context(name, len(want)))
            if name == "odo_km":
                assert np.allclose(there, values, rtol=0, atol=5.1e-4, equal_nan=True)
            else:
                assert same(there, values), name


def test_json_speaks_vss_with_percent_and_metres() -> None:
    context = {"soc_bms": np.full(3, 0.5, np.float32), "odo_km": np.full(3, 12.3456), "hvil": np.ones(3, np.int8)}
    first = json_of(frames([0, 1, 2], [-5.0, 0.0, 5.0], context=context))["frames"][0]
    assert first["Vehicle.Powertrain.TractionBattery.CurrentCurrent"] == -5.0  # + into the battery, as ours
    assert first["Vehicle.Powertrain.TractionBattery.StateOfCharge.Current"] == 50.0
    assert first["Vehicle.TraveledDistance"] == 12346
    assert first["Vehicle.Ibms.hvil"] == 1
    assert first["Vehicle.Powertrain.TractionBattery.CellVoltage.CellVoltages"] == [3.7] * 4


def test_a_refused_row_is_written_as_a_message_that_can_be_read_again() -> None:
    got = one(decode(row_json(BLOCK, 1), JSON, "frames", 0, 0))
    assert_same_frames(got, BLOCK.take(slice(1, 2)), source=False)


@given(st.lists(blocks(rows=st.integers(1, 3)), min_size=1, max_size=6), st.data())
def test_messages_read_together_give_the_rows_of_messages_read_alone(
    sent: list[FrameBlock], data: st.DataObject
) -> None:
    messages = []
    for i, block in enumerate(sent):
        as_json = data.draw(st.booleans())
        block.context.pop("odo_km", None)  # type: ignore[attr-defined]
        parts = [d for _, d in encode_json(block)] if as_json else [encode_arrow(block)]
        messages += [Message(d, JSON if as_json else ARROW, "frames", i, j) for j, d in enumerate(parts)]
    alone = [one(decode_all([m])) for m in messages]
    together, want = concat([one([b]) for b in decode_all(messages)]), concat(alone)
    for name in ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane", "src_part", "src_offset", "src_row"):
        assert same(getattr(together, name), getattr(want, name)), name
    assert [together.packs[i] for i in together.pack] == [want.packs[i] for i in want.pack]
    for name, values in want.context.items():
        assert same(together.context[name], values), name


def test_many_json_messages_come_as_one_block_in_their_order() -> None:
    block = frames(range(600), names=("A", "B"), pack=[i % 2 for i in range(600)])
    sent = [Message(row_json(block, i), JSON, "frames", 0, i) for i in range(600)]
    sent.insert(300, Message(encode_arrow(BLOCK), ARROW, "frames", 0, 600))
    got = one(decode_all(sent))
    assert got.src_offset.tolist() == [*range(300), 600, 600, 600, *range(300, 600)]


def test_columns_read_are_ours_to_write() -> None:
    for data, kind in ((encode_arrow(BLOCK), ARROW), (encode_json(BLOCK)[0][1], JSON)):
        got = one(decode(data, kind, "frames", 0, 0))
        for name in ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane", "pack"):
            column = getattr(got, name)
            assert column.flags.c_contiguous, name
            assert column.flags.writeable, name


# -- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ARROW, JSON, "text/plain", ""])
@given(data=st.binary(max_size=300))
def test_random_bytes_are_one_dead_letter(kind: str, data: bytes) -> None:
    letter = refused(data, kind)
    assert letter.payload == data
    assert letter.reason in {"undecodable", "unknown_content_type"}
    assert letter.id == dead_letter_id("frames", 3, 44, 0)
    assert "\n" not in letter.detail


@pytest.mark.parametrize("zstd", [False, True])
def test_a_truncated_arrow_message_is_never_an_exception(zstd: bool) -> None:
    whole = encode_arrow(BLOCK, zstd=zstd)
    ends = range(len(whole))
    found = [decode(whole[:end], ARROW, "frames", 0, 0) for end in ends]
    # the last bytes of a stream only say that it ends
    lost = [f for f, end in zip(found, ends, strict=True) if end < len(whole) * 0.9]
    assert all(isinstance(f[0], DeadLetter) for f in lost)
    assert all(len(f) == 1 for f in found)


def test_a_truncated_json_message_is_a_dead_letter_at_any_length() -> None:
    whole = encode_json(BLOCK)[0][1]
    assert {refused(whole[:end], JSON).reason for end in range(len(whole))} == {"undecodable"}


@settings(max_examples=400)
@given(st.data(), st.sampled_from([(False, ARROW), (True, ARROW), (False, JSON)]))
def test_flipped_bits_are_never_an_exception(data: st.DataObject, how: tuple[bool, str]) -> None:
    zstd, kind = how
    whole = bytearray(encode_arrow(BLOCK, zstd=zstd) if kind == ARROW else encode_json(BLOCK)[0][1])
    for at, bit in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 7)), min_size=1, max_size=4)
    ):
        whole[at] ^= 1 << bit
    for found in decode(bytes(whole), kind, "frames", 0, 0):
        if isinstance(found, FrameBlock):  # flipped values are clean's to judge
            assert found.cell_v.shape == (len(found), 4)
            assert found.pack.max(initial=0) < len(found.packs)
            assert set(found.context) <= set(CONTEXT)
        else:
            assert found.reason


def test_a_column_name_that_is_no_text_is_refused() -> None:
    data = encode_arrow(BLOCK).replace(b"pack_v", b"\xff\xfeck_v")
    assert refused(data, ARROW).reason == "undecodable"


def test_a_message_over_the_limit_is_refused_before_it_is_decoded() -> None:
    data = b"\xff" * 101
    letter = refused(data, ARROW, max_bytes=100)
    assert letter.reason == "too_large"
    assert letter.payload == data
    assert "100" in letter.detail
    assert "101" in letter.detail


def test_a_small_message_that_unpacks_to_a_large_one_is_refused() -> None:
    bomb = bytes(pa.compress(b" " * (64 << 20), "zstd", asbytes=True))
    assert len(bomb) < 10_000
    assert refused(bomb, JSON).reason == "too_large"


def test_a_message_packed_inside_arrow_is_refused() -> None:
    letter = refused(arrow_of(batch_of(BLOCK), "zstd"), ARROW)
    assert letter.reason == "undecodable"
    assert "not inside Arrow" in letter.detail


def test_two_record_batches_are_refused_whole() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch_of(BLOCK).schema) as stream:
        stream.write_batch(batch_of(BLOCK))
        stream.write_batch(batch_of(BLOCK))
    assert "one record batch" in refused(sink.getvalue().to_pybytes(), ARROW).detail


def test_a_message_without_frames_is_refused() -> None:
    assert refused(encode_arrow(BLOCK.take(slice(0, 0)).with_frames(packs=("P1",))), ARROW).reason in {
        "empty",
        "undecodable",
    }
    assert refused(orjson.dumps(json_of(frames=[])), JSON).reason == "undecodable"


ABOUT = {b"schema": b"1", b"model": b"generic-nmc@4c2t", b"packs": b'["P1"]', b"vehicles": b'["V1"]'}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({b"schema": b"3"}, "unknown_version"),
        ({b"schema": b"one"}, "unknown_version"),
        ({b"schema": None}, "unknown_version"),
        ({b"model": b"generic-nmc@5c2t"}, "cell_count"),
        ({b"model": b"generic-nmc@4c3t"}, "probe_count"),
        ({b"model": b"no-such-pack"}, "unknown_model"),
        ({b"model": b"../packs/generic-nmc.toml"}, "unknown_model"),
        ({b"model": b"generic-nmc.toml"}, "unknown_model"),
        ({b"model": None}, "unknown_model"),
        ({b"model": b"\xff"}, "undecodable"),
        ({b"packs": b"[]"}, "undecodable"),
        ({b"packs": b"{}"}, "undecodable"),
        ({b"packs": b'["P1", "P2"]'}, "undecodable"),
        ({b"packs": b"[7]"}, "bad_id"),
        ({b"packs": b'[""]'}, "bad_id"),
        ({b"vehicles": b'["' + b"v" * 129 + b'"]'}, "bad_id"),
    ],
)
def test_arrow_of_another_schema_or_pack_says_what_is_wrong(changed: dict[bytes, bytes | None], reason: str) -> None:
    about = {k: v for k, v in (ABOUT | changed).items() if v is not None}
    assert refused(arrow_of(batch_of(BLOCK).replace_schema_metadata(about)), ARROW).reason == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"schema": 2}, "unknown_version"),
        ({"schema": True}, "unknown_version"),
        ({"model": "generic-nmc@5c2t"}, "cell_count"),
        ({"model": "../packs/generic-nmc.toml"}, "unknown_model"),
        ({"model": ["generic-nmc"]}, "unknown_model"),
        ({"pack": None}, "bad_id"),
        ({"vehicle": 5}, "bad_id"),
        ({"frames": {}}, "undecodable"),
        ({"frames": None}, "undecodable"),
    ],
)
def test_json_of_another_schema_or_pack_says_what_is_wrong(changed: dict[str, Any], reason: str) -> None:
    assert {f.reason for f in decode(orjson.dumps(json_of(**changed)), JSON, "f", 0, 0)} == {reason}  # type: ignore[union-attr]


CELLS = "Vehicle.Powertrain.TractionBattery.CellVoltage.CellVoltages"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("t_ns", None, "no_time"),
        ("t_ns", 1.5, "wrong_type"),
        ("t_ns", 2**63, "wrong_type"),
        ("t_ns", "2026-01-05", "wrong_type"),
        ("seq", "7", "wrong_type"),
        ("lane", "late", "wrong_type"),
        ("lane", ["live"], "wrong_type"),
        ("lane", 1, "wrong_type"),
        (CELLS, [3.7, 3.7, 3.7], "cell_count"),
        (CELLS, [3.7, 3.7, 3.7, "3.7"], "wrong_type"),
        (CELLS, [3.7, 3.7, 3.7, True], "wrong_type"),
        (CELLS, [3.7, 3.7, 3.7, [3.7]], "wrong_type"),
        (CELLS, 3.7, "wrong_type"),
        ("Vehicle.Powertrain.TractionBattery.CurrentCurrent", [1.0], "wrong_type"),
        ("Vehicle.Speed", "fast", "wrong_type"),
        ("Vehicle.Speed", {"value": 1}, "wrong_type"),
        ("Vehicle.Ibms.hvil", 300, "wrong_type"),
        ("Vehicle.Ibms.hvil", 0.5, "wrong_type"),
    ],
)
def test_one_bad_json_frame_is_refused_and_its_neighbours_pass(name: str, value: object, reason: str) -> None:
    message = json_of()
    message["frames"][1][name] = value
    block, letter = decode(orjson.dumps(message), JSON, "frames", 3, 44)
    assert isinstance(block, FrameBlock)
    assert isinstance(letter, DeadLetter)
    assert block.src_row.tolist() == [0, 2]
    assert (letter.reason, letter.row, letter.pack_id) == (reason, 1, "P1")
    assert refused(letter.payload, JSON).reason == reason  # read again, it is refused again


def test_what_json_leaves_out_is_not_available() -> None:
    bare = json_of(frames=[{"t_ns": 5}, {"t_ns": 6, CELLS: [3.7, None, 3.7, 4], "Vehicle.Later": {"a": 1}}])
    got = one(decode(orjson.dumps(bare), JSON, "frames", 0, 0))
    assert np.isnan(got.cell_v[0]).all()
    assert np.isnan(got.cell_v[1]).tolist() == [False, True, False, False]
    assert np.isnan(got.current_a).all()
    assert np.isnan(got.temp_c).all()
    assert got.seq.tolist() == [-1, -1]
    assert got.context == {}


def test_columns_that_arrow_leaves_out_are_not_available() -> None:
    got = one(decode(arrow_of(batch_of(BLOCK).select(["t_ns"])), ARROW, "frames", 0, 0))
    assert got.cell_v.shape == (3, 4)
    assert np.isnan(got.cell_v).all()
    assert np.isnan(got.temp_c).all()
    assert np.isnan(got.current_a).all()
    assert got.seq.tolist() == [-1, -1, -1]


def test_a_null_of_arrow_is_not_available_and_a_row_without_time_is_refused_alone() -> None:
    cells = pa.array([[3.7, None, 3.7, 3.7], None, [3.5, 3.5, 3.5, 3.5]], pa.list_(pa.float32(), 4))
    batch = batch_of(BLOCK).select(["seq"])
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1, 2, None]), pa.array([5, None, 7]), cells, pa.array([1.0, 2.0, None], pa.float32())],
        schema=pa.schema(
            [("t_ns", pa.int64()), ("seq", pa.int64()), ("cell_v", cells.type), ("pack_v", pa.float32())],
            batch.schema.metadata,
        ),
    )
    block, letter = decode(arrow_of(batch), ARROW, "frames", 3, 44)
    assert isinstance(block, FrameBlock)
    assert isinstance(letter, DeadLetter)
    assert np.isnan(block.cell_v).tolist() == [[False, True, False, False], [True] * 4]
    assert block.seq.tolist() == [5, -1]
    assert (letter.reason, letter.row, letter.pack_id) == ("no_time", 2, "P1")
    assert refused(letter.payload, ARROW).reason == "no_time"


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("t_ns", pa.array(["a", "b", "c"]), "wrong_type"),
        ("t_ns", pa.array([1.0, 2.0, 3.0]), "wrong_type"),
        ("cell_v", pa.array([[3.7] * 4] * 3, pa.list_(pa.float64(), 4)), "wrong_type"),
        ("cell_v", pa.array([[3.7] * 5] * 3, pa.list_(pa.float32(), 5)), "cell_count"),
        ("temp_c", pa.array([[25.0] * 9] * 3, pa.list_(pa.float32(), 9)), "probe_count"),
        ("current_a", pa.array([b"1", b"2", b"3"]), "wrong_type"),
        ("pack", pa.array([0, 1, 0], pa.int32()), None),
        ("pack", pa.array([0, -1, 0], pa.int32()), None),
        ("lane", pa.array([0, 7, 0], pa.uint8()), None),
    ],
)
def test_an_arrow_column_of_another_type_is_refused(name: str, values: pa.Array, reason: str | None) -> None:
    batch = batch_of(BLOCK)
    at = batch.schema.get_field_index(name)
    batch = batch.append_column(name, values) if at < 0 else batch.set_column(at, name, values)
    found = decode(arrow_of(batch), ARROW, "frames", 0, 0)
    letters = [f for f in found if isinstance(f, DeadLetter)]
    if reason is None:  # a value, not a type: only its row
        assert [(f.reason, f.row) for f in letters] == [("wrong_type", 1)]
        assert sum(len(f) for f in found if isinstance(f, FrameBlock)) == 2
    else:
        assert [f.reason for f in found if isinstance(f, DeadLetter)] == [reason]
        assert len(found) == 1


def test_bad_messages_among_good_ones_leave_the_good_ones_whole() -> None:
    good = [Message(encode_arrow(BLOCK.take(slice(i, i + 1))), ARROW, "frames", 0, i) for i in range(3)]
    bad = Message(b"junk", ARROW, "frames", 0, 9, headers='{"a":"b"}')
    block, letter = decode_all([good[0], bad, good[1], good[2]])
    assert isinstance(block, FrameBlock)
    assert isinstance(letter, DeadLetter)
    assert block.src_offset.tolist() == [0, 1, 2]
    assert letter.headers == '{"a":"b"}'


def test_a_pack_message_of_another_vehicle_type_makes_a_block_of_its_own() -> None:
    other = frames([0.0], cells=6, probes=1, model="generic-lfp@6c1t")
    found = decode_all([Message(encode_arrow(b), ARROW, "frames", 0, i) for i, b in enumerate((BLOCK, other, BLOCK))])
    assert [(f.model, len(f)) for f in found if isinstance(f, FrameBlock)] == [
        ("generic-nmc@4c2t60ah", 6),
        ("generic-lfp@6c1t", 1),
    ]
