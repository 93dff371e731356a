"""The keeper of latches: on disk soon, and nobody waits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge.keeper import Keeper
from edge.latches import Record, create, read


def _until(true: object) -> None:
    end_s = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_what_is_kept_is_on_disk_soon_and_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "latches"
    create(path)
    keeper = Keeper(path)
    keeper.start()
    keeper.keep(("cell_v/MSL/over/any",), {"limits": {"sequence": 3}})
    _until(lambda: read(path).latched == ("cell_v/MSL/over/any",))
    number = read(path).sequence
    keeper.keep(("cell_v/MSL/over/any",), {"limits": {"sequence": 3}})
    keeper.stop()
    assert read(path).sequence == number, "the same is not written again"
    again = Keeper(path)
    again.start()
    assert again.record == Record(number, ("cell_v/MSL/over/any",), {"limits": {"sequence": 3}})
    again.stop()


def test_the_newest_wins_and_stop_writes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "latches"
    create(path)
    keeper = Keeper(path)
    keeper.start()
    for n in range(50):
        keeper.keep((f"row {n}",), {})
    keeper.stop(10)
    assert read(path).latched == ("row 49",)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 131_072])
def test_a_file_that_cannot_be_trusted_is_not_written_until_it_is_made_anew(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "latches"
    if content is not None:
        path.write_bytes(content)
    keeper = Keeper(path)
    keeper.start()
    assert keeper.record is None
    assert keeper.lost
    keeper.keep(("row",), {})
    time.sleep(0.05)
    assert (path.read_bytes() if path.exists() else None) == content
    keeper.anew(("row",), {"limits": {"sequence": 3}})
    assert (keeper.lost, read(path).latched) == ("", ("row",))
    keeper.keep((), {})
    keeper.stop(10)
    assert read(path).latched == ()


def test_a_disk_that_does_not_take_it_is_said_and_a_record_that_is_no_json_too(tmp_path: Path) -> None:
    path = tmp_path / "latches"
    create(path)
    keeper = Keeper(path)
    keeper.start()
    path.unlink()
    keeper.keep(("row",), {})
    _until(lambda: "No such file" in keeper.failed)
    create(path)
    keeper.keep(("other",), {})
    _until(lambda: keeper.failed == "")
    keeper.keep(("row",), {"x": object()})
    _until(lambda: "must be JSON" in keeper.failed)
    keeper.stop()
