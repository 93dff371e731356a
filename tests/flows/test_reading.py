"""How many records a trace holds, and what is remembered of a reading."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from flows.reading import Reading, records_of
from schemas.events import DeadLetter
from schemas.frames import FrameBlock

LINES = "".join(f"({1_600_000_000 + i}.000000) can0 123#{i:04X}\n" for i in range(20_000))


def _letter(reason: str, detail: str) -> DeadLetter:
    return DeadLetter("id", "file", 0, 0, 0, reason, detail, "", 0, 0, "text/plain", b"")


def test_lines_of_a_text_are_known_without_reading_it(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.log", tmp_path / "a.log.gz"
    plain.write_text(LINES)
    packed.write_bytes(gzip.compress(LINES.encode()))
    assert records_of(plain) == pytest.approx(20_000, rel=0.01)
    assert records_of(packed) == pytest.approx(20_000, rel=0.01)


def test_rows_of_a_table_are_known_exactly(frames_file: Path, frames: FrameBlock) -> None:
    assert records_of(frames_file) == len(frames)


@pytest.mark.parametrize("name", ["a.blf", "a.mf4.gz", "a.log", "a.log.gz", "a.parquet", "a", ".gz"])
def test_nobody_guesses_what_cannot_be_known(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b no gzip, no line, no table")
    assert records_of(tmp_path / name) is None


def test_an_empty_trace_has_no_share() -> None:
    assert Reading().share is None
    assert Reading(total=0.0).share is None


def test_the_share_never_passes_the_whole() -> None:
    assert Reading(done=30, total=40).share == 0.75
    assert Reading(done=50, total=40).share == 1.0


def test_a_reading_counts_frames_and_keeps_the_first_of_each_reason(frames: FrameBlock) -> None:
    reading = Reading()
    for item in (frames, _letter("late", "by 9 s"), frames, _letter("late", "by 7 s"), _letter("clock_past", "1970")):
        reading.take(item)
    assert reading.frames == 2 * len(frames)
    assert reading.refused() == "1 clock_past (first: 1970); 2 late (first: by 9 s)"
    assert Reading().refused() == ""
