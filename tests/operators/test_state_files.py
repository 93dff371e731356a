"""Files of state: whole, of their turn, or refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from operators.state_files import open_turn, read_into, write

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, "estimate", 1, {"packs": ["A", "B"]}, [NUMBERS, np.empty(0), NUMBERS[::2]])
    header, file = open_turn(tmp_path, "estimate", 1)
    with file:
        assert header["packs"] == ["A", "B"]
        for wanted in (NUMBERS, np.empty(0), NUMBERS[::2]):
            got = np.empty(wanted.shape, wanted.dtype)
            read_into(file, got)
            assert np.array_equal(got, wanted)
        with pytest.raises(ValueError, match="is cut off"):
            read_into(file, np.empty(1, np.uint8))


def test_more_pieces_than_one_call_takes_are_written(tmp_path: Path) -> None:
    write(tmp_path, "clean", 1, {}, [np.full(3, k, np.int64) for k in range(2500)])
    _, file = open_turn(tmp_path, "clean", 1)
    got = np.empty((2500, 3), np.int64)
    with file:
        read_into(file, got)
    assert np.array_equal(got, np.repeat(np.arange(2500), 3).reshape(2500, 3))


def test_a_turn_leaves_the_one_before_it_alone(tmp_path: Path) -> None:
    for turn in (1, 2, 3):
        write(tmp_path, "window", turn, {}, [np.full(2, turn)])
    for turn in (2, 3):
        _, file = open_turn(tmp_path, "window", turn)
        with file:
            got = np.empty(2, np.int64)
            read_into(file, got)
        assert got.tolist() == [turn, turn]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["window.0", "window.1"]


def test_a_file_of_another_turn_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has lost .*window\.1"):
        open_turn(tmp_path, "window", 1)
    write(tmp_path, "window", 1, {}, [])
    with pytest.raises(ValueError, match="is of turn 1, not 3"):
        open_turn(tmp_path, "window", 3)


def test_a_file_grows_and_shrinks_with_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, "window", 1, {"packs": ["A"] * 100}, [np.zeros(1000)])
    write(tmp_path, "window", 3, {}, [NUMBERS])
    header, file = open_turn(tmp_path, "window", 3)
    with file:
        got = np.empty_like(NUMBERS)
        read_into(file, got)
        assert np.array_equal(got, NUMBERS)
        assert file.read() == b""
    assert "packs" not in header


def test_a_write_that_fails_spoils_no_file_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for turn in (1, 2):
        write(tmp_path, "window", turn, {}, [np.full(12, turn)])
    real = os.writev

    def full(handle: int, pieces: list[memoryview]) -> int:
        real(handle, [pieces[0], pieces[1][:8]])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, "window", 3, {}, [np.full(12, 3)])
    monkeypatch.undo()
    for turn in (1, 3):
        with pytest.raises(ValueError, match=f"is of turn none, half written, not {turn}"):
            open_turn(tmp_path, "window", turn)
    assert open_turn(tmp_path, "window", 2)[0]["turn"] == 2
    write(tmp_path, "window", 3, {}, [NUMBERS])  # as the restarted flow does
    assert open_turn(tmp_path, "window", 3)[0]["turn"] == 3
