"""Frames as changes of whole steps: every bit comes back, from one message or many, and no bytes at all raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from replay.tables import find_mapping, read_table
from schemas.events import DeadLetter
from schemas.frames import BACKFILL, FrameBlock, make_block
from schemas.message import Message
from schemas.wire import decode, decode_all
from schemas.wire_arrow import ARROW, encode_arrow, encode_delta
from schemas.wire_delta import SCALES, delta_columns
from tests.support.blocks import assert_same_frames, blocks, same

SOME = st.integers(1, 12)


def _one(data: bytes) -> FrameBlock:
    (block,) = decode(data, ARROW, "frames", 0, 0)
    assert isinstance(block, FrameBlock), block
    return block


def _plain(data: bytes) -> bytes:
    return bytes(pa.input_stream(pa.BufferReader(data), compression="zstd").read())


@st.composite
def _measured(draw: st.DrawFn, rows: int = 8) -> FrameBlock:
    """Frames as sensors give them: multiples of a step, some not available."""

    def column(shape: Any, scale: int, most: int, dtype: Any = np.float32) -> Any:
        steps = draw(hnp.arrays(np.int32, shape, elements=st.integers(-most, most)))
        unknown = draw(hnp.arrays(np.bool_, shape))
        return np.where(unknown, np.nan, (steps / scale).astype(dtype))

    t_ns = np.cumsum(draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 10**10))))
    return make_block(
        "generic-nmc@4c2t",
        ["P1"],
        pack=0,
        t_ns=t_ns + 1_700_000_000 * 10**9,
        seq=np.arange(rows),
        current_a=column(rows, 10, 5000),
        pack_v=column(rows, 20, 16_000),
        cell_v=column((rows, 4), draw(st.sampled_from([1000, 10_000])), 5000),
        temp_c=column((rows, 2), 2, 200),
        context={"odo_km": column(rows, 10, 10**6, np.float64), "speed_kmh": column(rows, 10, 2000)},
    )


@given(st.one_of(blocks(rows=SOME), _measured()))
def test_every_frame_comes_back(block: FrameBlock) -> None:
    got = _one(encode_delta(block, 1))
    kept = {k: v for k, v in block.context.items() if v.dtype.kind != "f" or not np.isnan(v).all()}
    lost = set(block.context) - set(kept)  # nowhere available
    assert not lost & set(got.context)
    want = block.with_frames(context=kept)
    assert_same_frames(got, want, source=False)


@given(st.lists(st.one_of(_measured(), _measured(rows=1), _measured(rows=3)), min_size=1, max_size=4))
def test_messages_read_together_give_the_rows_of_messages_read_alone(parts: list[FrameBlock]) -> None:
    data = [encode(part) for part in parts for encode in (lambda b: encode_delta(b, 1), encode_arrow)]
    found = decode_all([Message(d, ARROW, "frames", 0, k) for k, d in enumerate(data)])
    (whole,) = (b for b in found if isinstance(b, FrameBlock))
    alone = [_one(d) for d in data]
    assert len(found) == 1
    for name in ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c"):
        assert same(getattr(whole, name), np.concatenate([getattr(b, name) for b in alone])), name


@settings(max_examples=200)
@given(st.data())
def test_flipped_bits_are_never_an_exception(data: st.DataObject) -> None:
    block = data.draw(_measured(rows=3))
    plain = bytearray(_plain(encode_delta(block, 1)))
    for _ in range(data.draw(st.integers(1, 4))):
        plain[data.draw(st.integers(0, len(plain) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert all(isinstance(i, DeadLetter | FrameBlock) for i in decode(bytes(plain), ARROW, "frames", 0, 0))


def test_values_between_steps_stay_as_they_are() -> None:
    third = np.float32(1) / np.float32(3)
    block = make_block(
        "generic-nmc@2c0t", ["P1"], pack=0, t_ns=[1, 2], cell_v=[[3.7, third]] * 2, temp_c=np.zeros((2, 0))
    )
    columns, scales = delta_columns(block)
    assert scales == {}
    assert columns["cell_v"].type == pa.list_(pa.float32(), 2)
    assert_same_frames(_one(encode_delta(block)), block, source=False)


def test_columns_are_the_changes_of_whole_steps() -> None:
    cell_v = np.array([[3.701, 3.702], [np.nan, 3.7], [3.703, 3.7]], np.float32)
    block = make_block("generic-nmc@2c0t", ["P1"], pack=0, t_ns=[10, 30, 60], cell_v=cell_v, temp_c=np.zeros((3, 0)))
    columns, scales = delta_columns(block)
    assert scales == {"cell_v": 1000}
    assert columns["cell_v"].to_pylist() == [[3701, 3702], [None, -2], [2, 0]]
    assert columns["cell_v"].type == pa.list_(pa.int16(), 2)
    assert columns["t_ns"].to_pylist() == [10, 20, 30]
    assert set(columns) == {"t_ns", "cell_v"}
    assert tuple(sorted(SCALES)) == SCALES


def test_the_backfill_lane_and_several_packs_travel_too() -> None:
    block = make_block(
        "generic-nmc@1c0t", ["P1", "P2"], vehicles=["V", "V"], pack=[0, 1, 0], t_ns=[5, 6, 7],
        lane=[BACKFILL, 0, BACKFILL], cell_v=[[3.7], [3.8], [3.9]], temp_c=np.zeros((3, 0)),
    )  # fmt: skip
    assert_same_frames(_one(encode_delta(block)), block, source=False)


def _message(columns: dict[str, pa.Array], scale: object) -> bytes:
    told = {b"schema": b"2", b"model": b"generic-nmc@1c0t", b"packs": b'["P1"]', b"vehicles": b'["V1"]'}
    if scale is not None:
        told[b"scale"] = orjson.dumps(scale)
    schema = pa.schema([(n, c.type) for n, c in columns.items()], metadata=told)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(list(columns.values()), schema=schema))
    return bytes(sink.getvalue().to_pybytes())


T = {"t_ns": pa.array([5, 1], pa.int64())}
CELL = pa.FixedSizeListArray.from_arrays(pa.array([3700, 1], pa.int16()), 1)


@pytest.mark.parametrize(
    ("columns", "scale", "reason"),
    [
        (T | {"cell_v": CELL}, {"cell_v": 1000}, None),
        (T, {}, None),
        (T, {"cell_v": 1000}, None),  # of a column that is not there
        (T | {"cell_v": CELL}, None, "undecodable"),
        (T | {"cell_v": CELL}, {}, "undecodable"),
        (T | {"cell_v": CELL}, {"cell_v": 0}, "undecodable"),
        (T | {"cell_v": CELL}, {"cell_v": 1.5}, "undecodable"),
        (T | {"cell_v": CELL}, {"cell_v": True}, "undecodable"),
        (T | {"cell_v": CELL}, [1000], "undecodable"),
        (T | {"current_a": pa.array([1.0, 2.0], pa.float32())}, {"current_a": 10}, "undecodable"),
        (T | {"current_a": pa.array([1, 2], pa.int64())}, {"current_a": 10}, "wrong_type"),
        (T | {"cell_v": pa.array([1, 2], pa.int16())}, {"cell_v": 10}, "wrong_type"),
        ({"cell_v": CELL}, {"cell_v": 1000}, "no_time"),
        ({"t_ns": pa.array([5, None], pa.int64())}, {}, "wrong_type"),
        ({"t_ns": pa.array([5, 6], pa.int32())}, {}, "wrong_type"),
        (T | {"seq": pa.array([1, None], pa.int64())}, {}, "wrong_type"),
        (T | {"lane": pa.array([0, 2], pa.uint8())}, {}, "wrong_type"),
        (T | {"pack": pa.array([0, 1], pa.int32())}, {}, "wrong_type"),
    ],
)
def test_a_message_that_does_not_hold_together_is_refused_whole(
    columns: dict[str, pa.Array], scale: object, reason: str | None
) -> None:
    (found,) = decode(_message(columns, scale), ARROW, "frames", 0, 0)
    if reason is None:
        assert isinstance(found, FrameBlock)
        assert found.t_ns.tolist() == [5, 6]
    else:
        assert isinstance(found, DeadLetter)
        assert found.reason == reason


def test_numbers_that_overflow_are_a_frame_or_a_dead_letter() -> None:
    ends = pa.array([2**63 - 1, 2**63 - 1], pa.int64())
    (found,) = decode(_message({"t_ns": ends}, {}), ARROW, "frames", 0, 0)
    assert isinstance(found, FrameBlock | DeadLetter)


def test_a_recorded_car_comes_back_bit_for_bit_in_less_than_half_of_the_bytes(data_dir: Path) -> None:
    path = data_dir / "ev_faults/car1.parquet"
    block = next(b for b in read_table(path, find_mapping(path)) if isinstance(b, FrameBlock))
    parts = [block.take(slice(at, at + 60)) for at in range(0, 3000, 60)]
    small = [encode_delta(p) for p in parts]
    for part, data in zip(parts, small, strict=True):
        assert_same_frames(_one(data), part, source=False)
    assert sum(map(len, small)) < 0.5 * sum(len(encode_arrow(p, zstd=True)) for p in parts)
