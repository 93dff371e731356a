"""Files of state: whole, of their turn, or refused."""

from __future__ import annotations

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


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path) -> None:
    write(tmp_path, "window", 1, {}, [NUMBERS])
    (tmp_path / "window.1.new").mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path, "window", 3, {}, [NUMBERS])
    assert open_turn(tmp_path, "window", 1)[0]["turn"] == 1
