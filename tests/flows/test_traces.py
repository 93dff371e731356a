"""Traces as items: the same frames by every way in, and an error before the first frame where one cannot be used."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.reading import Reading
from flows.traces import TraceOptions, trace_items, trace_models
from replay.frames_file import write_frames
from replay.readers import START_NS
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import FrameBlock, concat, make_block
from tests.support.blocks import assert_same_frames
from tests.support.fleet import MODEL


def _frames(options: TraceOptions, reading: Reading | None = None) -> FrameBlock:
    return concat([i for i in trace_items(options, reading) if isinstance(i, FrameBlock)])


@pytest.fixture
def car(can_log: Path) -> TraceOptions:
    return TraceOptions((str(can_log),), MODEL, "ibms_pack")


def test_a_file_of_frames_gives_back_what_was_written(frames_file: Path, frames: FrameBlock) -> None:
    got = _frames(TraceOptions((str(frames_file),)))
    known = {k: v for k, v in frames.context.items() if k in got.context}  # what is never available is no column
    assert len(known) > 5
    assert_same_frames(got, frames.with_frames(context=known))


def test_a_can_log_gives_the_frames_that_were_recorded(car: TraceOptions, frames: FrameBlock) -> None:
    got, want = _frames(car), frames.take(np.flatnonzero(frames.pack == 0))
    assert got.packs == ("car",)
    assert np.array_equal(got.t_ns // 1000, want.t_ns // 1000)  # candump writes microseconds
    assert np.abs(got.cell_v - want.cell_v).max() <= 0.0011
    assert np.abs(got.current_a - want.current_a).max() <= 0.11


def test_a_vehicle_can_be_named(car: TraceOptions) -> None:
    assert _frames(replace(car, vehicle="V7")).vehicles == ("V7",)


def test_each_frame_names_its_trace(car: TraceOptions) -> None:
    both = _frames(replace(car, paths=car.paths * 2))
    assert np.bincount(both.src_part).tolist() == [len(both) // 2] * 2


def test_times_between_from_and_to_are_replayed(frames_file: Path, frames: FrameBlock) -> None:
    t = np.sort(frames.t_ns)
    stamp = [str(np.datetime64(int(t[i]) // 1000 * 1000, "ns")) for i in (100, 300)]
    got = _frames(TraceOptions((str(frames_file),), from_time=stamp[0][:26], to_time=stamp[1][:26]))
    assert len(got) == 200
    assert got.t_ns.min() == t[100]


def test_a_reading_knows_how_far_it_is(car: TraceOptions) -> None:
    reading = Reading()
    shares = [reading.share for _ in trace_items(car, reading)]
    assert shares[-1] == pytest.approx(1.0, abs=0.05)
    assert reading.frames == 360
    assert reading.mapped == {}


def test_relative_times_are_laid_onto_the_start_and_named(can_log: Path, tmp_path: Path, car: TraceOptions) -> None:
    lines = can_log.read_text().splitlines()
    zero = float(lines[0][1:].split(")")[0])
    moved = [f"({float(x[1:].split(')')[0]) - zero:.6f}){x.split(')', 1)[1]}" for x in lines]
    path = tmp_path / "relative.log"
    path.write_text("\n".join(moved) + "\n")
    for start, want_ns in (("", START_NS), ("2026-01-05T08:00:00Z", 1_767_600_000 * 10**9)):
        reading = Reading()
        got = _frames(replace(car, paths=(str(path),), start=start), reading)
        assert list(reading.mapped) == ["relative.log"]
        assert 0 <= got.t_ns[0] - want_ns < 10**9


def test_a_table_with_relative_times_is_named_too(data_dir: Path) -> None:
    reading = Reading()
    options = TraceOptions((str(data_dir / "lg_hg2" / "lg_hg2_1hz.parquet"),))
    first = next(i for i in trace_items(options, reading) if isinstance(i, FrameBlock))
    assert list(reading.mapped) == ["lg_hg2_1hz.parquet"]
    assert first.t_ns[0] == START_NS
    assert trace_models(options) == ("lg-hg2",)


def test_models_of_a_file_of_frames_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "two.parquet"
    blocks = [
        make_block(f"generic-nmc@{c}c2t60ah", ["p"], pack=0, t_ns=np.arange(3), cell_v=np.ones((3, c)),
                   temp_c=np.ones((3, 2)))
        for c in (4, 6)
    ]  # fmt: skip
    write_frames(blocks, path)
    assert set(trace_models(TraceOptions((str(path),)))) == {"generic-nmc@4c2t60ah", "generic-nmc@6c2t60ah"}


def test_a_damaged_log_gives_what_is_left_and_says_what_is_not(
    can_log: Path, tmp_path: Path, car: TraceOptions
) -> None:
    packed = gzip.compress(can_log.read_bytes())
    path = tmp_path / "cut.log.gz"
    path.write_bytes(packed[: len(packed) // 2])
    reading = Reading()
    items = list(trace_items(replace(car, paths=(str(path),)), reading))
    assert any(isinstance(i, DeadLetter) for i in items)
    assert 0 < reading.frames < 360
    assert "gzip data ends early" in reading.refused() or reading.unreadable["undecodable"] > 1


def _garbage(path: Path) -> TraceOptions:
    bad = path / "bad.log"
    bad.write_bytes(np.random.default_rng(1).bytes(10_000))
    return TraceOptions((str(bad),), MODEL, "ibms_pack")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o, _: replace(o, paths=("none.log",)), "trace must be a readable file; got none.log"),
        (lambda o, p: replace(o, paths=(str(p),)), "trace must be a readable file"),
        (lambda o, _: replace(o, pack=""), "--pack must be the pack model of a CAN trace (bmw-i3-120ah, "),
        (lambda o, _: replace(o, pack="nothing"), "pack must be one of"),
        (lambda o, _: replace(o, dbc=""), "--dbc must be a DBC file, or one that ships ("),
        (lambda o, _: replace(o, dbc="none.dbc"), "got none.dbc"),
        (lambda o, _: replace(o, dbc=o.paths[0]), "dbc must be a DBC file"),
        (lambda o, _: replace(o, map="none.toml"), "signals must be a readable .toml"),
        (lambda o, _: replace(o, start="soon"), "--start must be a time"),
        (lambda o, _: replace(o, from_time="soon"), "--from must be a time"),
        (lambda o, _: replace(o, from_time="2026-01-02", to_time="2026-01-01"), "--to must be after --from"),
        (lambda o, _: replace(o, from_time="2030-01-01"), "trace must hold frames between --from and --to; got none"),
        (lambda _, p: _garbage(p), "trace must hold frames; got none"),
    ],
)
def test_what_cannot_be_used_is_an_error_at_start(
    car: TraceOptions, tmp_path: Path, change: Callable[[TraceOptions, Path], TraceOptions], said: str
) -> None:
    with pytest.raises(ConfigError) as wrong:
        trace_models(change(car, tmp_path))
    assert said in str(wrong.value)


def test_a_log_of_another_bus_says_that_the_dbc_does_not_fit(car: TraceOptions, tmp_path: Path) -> None:
    path = tmp_path / "other.log"
    path.write_text("".join(f"({1_600_000_000 + i}.000000) can0 7FF#00\n" for i in range(5)))
    with pytest.raises(ConfigError, match=r"got none in 5 records .*; no CAN frame drives a frame by ibms_pack.dbc"):
        trace_models(replace(car, paths=(str(path),)))


def test_a_file_of_frames_says_itself_what_it_is_of(frames_file: Path) -> None:
    options = TraceOptions((str(frames_file),))
    assert trace_models(replace(options, pack=MODEL)) == (MODEL,)
    with pytest.raises(ConfigError, match=f"--pack must be left out for this file of frames, of {MODEL}; got lg-hg2"):
        trace_models(replace(options, pack="lg-hg2"))
    with pytest.raises(ConfigError, match="--vehicle must be left out"):
        trace_models(replace(options, vehicle="V1"))


def test_garbage_beside_a_good_trace_is_reported_and_passed_over(car: TraceOptions, tmp_path: Path) -> None:
    options = replace(car, paths=(*_garbage(tmp_path).paths, *car.paths))
    assert trace_models(options) == (MODEL,)
    reading = Reading()
    assert len(_frames(options, reading)) == 360
    assert reading.unreadable["undecodable"] > 0
