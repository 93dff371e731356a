"""Files of records: begun once, synced before older ones go, written anew whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edge.segment_files import SegmentFiles


def _files(folder: Path, segment_bytes: int = 300) -> SegmentFiles:
    return SegmentFiles(folder, segment_bytes, lambda: {"first": True})


def _told(folder: Path) -> list[Any]:
    return [entry.about.get("n") for _, found, _ in _files(folder).load() for entry in found if "n" in entry.about]


def test_a_new_file_begins_where_one_is_full_and_numbers_go_on(tmp_path: Path) -> None:
    files = _files(tmp_path)
    numbers = [files.write({"n": n}, b"x" * 50)[0] for n in range(10)]
    assert numbers == sorted(set(numbers))
    assert len(files.segments) > 2
    assert all(s.size < 300 + 150 for s in files.segments.values())
    assert files.size == sum(p.stat().st_size for p in tmp_path.iterdir())
    again = _files(tmp_path)
    read = list(again.load())
    assert [e.about["n"] for _, found, _ in read for e in found if "n" in e.about] == list(range(10))
    assert {damaged for _, _, damaged in read} == {0}
    assert again.next > numbers[-1]
    assert again.write({"n": 10})[1].segment not in files.segments  # an old file is never written again


def test_a_file_that_is_written_anew_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    files = _files(tmp_path)
    places = [files.write({"n": n}, b"x" * 50)[1] for n in range(10)]
    first = [p for p in places if p.segment == places[0].segment]
    moved = files.rewrite(files.segments[first[0].segment], first[1:2])
    entry = files.read(moved[first[1].offset])
    assert entry is not None
    assert entry.about == {"n": 1}
    assert _told(tmp_path) == [1, *range(len(first), 10)]
    files.rewrite(files.segments[first[0].segment], [])
    assert _told(tmp_path) == list(range(len(first), 10))


def test_the_current_file_is_followed_by_another_before_it_is_written_anew(tmp_path: Path) -> None:
    files = _files(tmp_path, 10_000)
    places = [files.write({"n": n})[1] for n in range(3)]
    files.rewrite(files.segments[places[0].segment], places[2:])
    assert files.current is not None
    assert files.current.number != places[0].segment
    assert _told(tmp_path) == [2]


def test_who_is_cut_off_while_a_file_is_written_anew_finds_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _files(tmp_path, 10_000)
    places = [files.write({"n": n})[1] for n in range(3)]
    files.begin()

    def cut_off(_self: Path, _target: Path) -> None:
        raise OSError(errno.EIO, "cut")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", cut_off)
        with pytest.raises(OSError, match="cut"):
            files.rewrite(files.segments[places[0].segment], places[2:])
    assert list(tmp_path.glob("*.new"))
    assert _told(tmp_path) == [0, 1, 2]
    assert not list(tmp_path.glob("*.new"))


def test_a_file_that_cannot_be_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = _files(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda _file, data: 1 if len(data) > 60 else _refuse())
        for _ in range(3):
            with pytest.raises(OSError, match="no room"):
                files.write({"n": 1})
    assert list(tmp_path.iterdir()) == []
    files.write({"n": 2})
    assert _told(tmp_path) == [2]


def _refuse() -> int:
    raise OSError(errno.ENOSPC, "no room")


def test_after_a_failed_sync_nothing_is_written_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = _files(tmp_path, 10_000)
    _, place = files.write({"n": 1})
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda _: _refuse())
        with pytest.raises(OSError, match="no room"):
            files.sync()
    assert files.write({"n": 2})[1].segment != place.segment
    assert _told(tmp_path) == [1, 2]
