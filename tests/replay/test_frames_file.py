"""Frames in a file: what is written is read, and a damaged file ends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.frames_file import is_frames_file, read_frames, write_frames
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import FrameBlock, concat, missing_context
from tests.support.blocks import ROW_COLUMNS, SOURCE_COLUMNS, blocks, same
from tests.support.frames import frames


@given(st.lists(blocks(), min_size=1, max_size=4))
def test_frames_written_are_frames_read(tmp_path_factory: pytest.TempPathFactory, wrote: list[FrameBlock]) -> None:
    path = tmp_path_factory.mktemp("f") / "frames.parquet"
    assert write_frames(wrote, path) == sum(map(len, wrote))
    assert is_frames_file(path)
    read = [b for b in read_frames(path) if isinstance(b, FrameBlock)]
    if not any(map(len, wrote)):
        assert read == []
        return
    got, want = concat(read), concat(wrote)
    for name in (*ROW_COLUMNS, *SOURCE_COLUMNS):
        assert same(getattr(got, name), getattr(want, name)), name
    assert [got.packs[i] for i in got.pack] == [want.packs[i] for i in want.pack]
    for name in {*got.context, *want.context}:  # a column without any value is left out
        a, b = (block.context.get(name, missing_context(name, len(got))) for block in (got, want))
        assert same(a, b), name


def test_models_of_different_size_share_a_file_in_order(tmp_path: Path) -> None:
    small, large = frames([0, 1]), frames([0, 1, 2], cells=6, probes=0, model="generic-lfp@6c0t")
    write_frames([small, large, small], tmp_path / "f.parquet")
    read = [(b.model, len(b)) for b in read_frames(tmp_path / "f.parquet") if isinstance(b, FrameBlock)]
    assert read == [("generic-nmc@4c2t60ah", 2), ("generic-lfp@6c0t", 3), ("generic-nmc@4c2t60ah", 2)]


def test_what_is_not_available_is_null_in_the_file(tmp_path: Path) -> None:
    block = frames([0, 1], context={"hvil": np.array([1, -1], np.int8)})
    block.cell_v[1, 2] = block.current_a[0] = np.nan
    write_frames([block], tmp_path / "f.parquet")
    table = pq.read_table(tmp_path / "f.parquet")
    assert table["current_a"].null_count == 1
    assert table["cell_v"][1].as_py()[2] is None
    assert table["hvil"].to_pylist() == [1, None]
    assert table["soc_bms"].null_count == 2


def test_reading_holds_one_batch_at_a_time(tmp_path: Path) -> None:
    write_frames((frames(range(i * 100, i * 100 + 100)) for i in range(20)), tmp_path / "f.parquet")
    read = [b for b in read_frames(tmp_path / "f.parquet", rows=64) if isinstance(b, FrameBlock)]
    assert max(map(len, read)) <= 64
    assert sum(map(len, read)) == 2000


def test_a_broken_off_write_leaves_no_file(tmp_path: Path) -> None:
    def half() -> Iterator[FrameBlock]:
        yield frames([0, 1])
        msg = "the trace ended"
        raise OSError(msg)

    with pytest.raises(OSError, match="the trace ended"):
        write_frames(half(), tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_row_group_is_a_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_frames(
        [
            frames(range(i * 5000, i * 5000 + 5000), current_a=np.random.default_rng(i).normal(size=5000))
            for i in (0, 1)
        ],
        path,
    )
    file = pq.ParquetFile(path)
    names = [file.metadata.row_group(0).column(i).path_in_schema for i in range(file.metadata.num_columns)]
    column = file.metadata.row_group(0).column(names.index("current_a"))
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    data[begin : begin + column.total_compressed_size] = b"\xaa" * column.total_compressed_size
    path.write_bytes(data)
    found = list(read_frames(path))
    assert [f.reason for f in found if isinstance(f, DeadLetter)] == ["undecodable"]


def test_rows_that_do_not_fit_their_model_are_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_frames([frames([0, 1], model="generic-nmc@5c2t")], path)
    found = list(read_frames(path))
    assert [(f.reason, f.offset, f.pack_id) for f in found if isinstance(f, DeadLetter)] == [
        ("cell_count", 0, "A"),
        ("cell_count", 1, "A"),
    ]
    assert len(found) == 2


def test_another_table_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,i\n1,2\n")
    assert not is_frames_file(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="file must hold frames"):
        read_frames(tmp_path / "a.csv")
