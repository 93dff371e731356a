"""A full outbox or disk: frames are thinned from the oldest, incidents go last, and what goes is written down."""

from __future__ import annotations

import errno
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge.outbox import URGENT, Outbox, OutboxSettings
from edge.retention import BLACKBOX, DROPPED, FRAMES, FULL, INCIDENT, THINNED, TOO_OLD, UNWRITTEN
from tests.support.outbox import SMALL, S, everything, notes_in, put


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk proves nothing here: tests cut files where they were synced."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_frames_are_thinned_from_the_oldest_and_incidents_stay(tmp_path: Path) -> None:
    limits = OutboxSettings(max_bytes=40_000, segment_bytes=2000, sync_s=0)
    box = Outbox(tmp_path, "P1", limits)
    for n in range(1000):
        assert put(box, INCIDENT if n % 100 == 0 else FRAMES, n)
        assert box.size <= limits.max_bytes + 2500
    found = everything(box)
    kept = sorted(int(i[3:]) for i, r in found.items() if r.kind == FRAMES)
    assert {int(i[3:]) for i, r in found.items() if r.kind == INCIDENT} == set(range(0, 1000, 100))
    assert 999 in kept
    gaps = [b - a for a, b in pairwise(kept)]
    assert gaps[-1] == 1
    assert max(gaps[: len(gaps) // 2]) > max(gaps[-4:])
    notes = notes_in(box)
    assert {(n["kind"], n["why"]) for n in notes} <= {(FRAMES, THINNED), (FRAMES, FULL)}
    assert sum(n["records"] for n in notes) + len(kept) == 990
    box.close()
    again = Outbox(tmp_path, "P1", limits)
    assert {k for k, r in everything(again).items() if r.kind == FRAMES} == {f"id-{n}" for n in kept}


def test_incidents_go_last_and_oldest_first(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1", OutboxSettings(max_bytes=20_000, segment_bytes=2000, sync_s=0))
    for n in range(30):
        put(box, BLACKBOX, n, 300)
    for n in range(30, 200):
        assert put(box, INCIDENT, n, 300)
    kept = sorted(int(i[3:]) for i, r in everything(box).items() if r.kind in {INCIDENT, BLACKBOX})
    assert kept == list(range(kept[0], 200))
    assert kept[0] > 30
    assert box.dropped[BLACKBOX, FULL][0] == 30
    assert box.dropped[INCIDENT, FULL][0] == kept[0] - 30


def test_frames_go_after_their_days(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1", OutboxSettings(max_days=1.0, segment_bytes=1000, sync_s=0))
    for n in range(10):
        put(box, INCIDENT if n == 4 else FRAMES, n)
    for n in range(10, 20):
        put(box, FRAMES, n, at_s=100_000 + n)
    box.settle(200_000 * S)
    found = {k for k, r in everything(box).items() if r.kind != DROPPED}
    assert found == {"id-4", *(f"id-{n}" for n in range(10, 20))}
    assert {n["why"] for n in notes_in(box)} == {TOO_OLD}
    assert sum(n["records"] for n in notes_in(box)) == 9


def test_a_disk_that_takes_nothing_costs_new_frames_and_is_noted_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Outbox(tmp_path, "P1", SMALL)
    for n in range(20):
        put(box, FRAMES, n)
    before = everything(box)
    with monkeypatch.context() as full:
        full.setattr(os, "write", _refuses)
        assert not put(box, FRAMES, 20)
        assert not put(box, FRAMES, 21)
        assert not put(box, INCIDENT, 22)  # nothing helps: this disk takes no byte
    assert box.dropped[FRAMES, UNWRITTEN] == [2, 200]
    assert box.dropped[INCIDENT, UNWRITTEN][0] == 1
    assert put(box, INCIDENT, 23)
    assert put(box, FRAMES, 24)
    notes = notes_in(box)
    assert {(n["kind"], n["why"]): n["records"] for n in notes if n["why"] == UNWRITTEN} == {
        (FRAMES, UNWRITTEN): 2,
        (INCIDENT, UNWRITTEN): 1,
    }
    freed = {(n["kind"], n["why"]): n["records"] for n in notes if n["why"] == FULL}
    assert freed == {(FRAMES, FULL): len(before)}
    assert {k for k, r in everything(box).items() if r.kind != DROPPED} == {"id-23", "id-24"}


def test_room_for_an_incident_comes_from_the_oldest_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(tmp_path, "P1", SMALL)
    for n in range(40):
        put(box, FRAMES, n)
    files = len(list(tmp_path.glob("*.seg")))
    real = os.write

    def write(file: int, data: Any) -> int:
        if len(list(tmp_path.glob("*.seg"))) > files - 1:
            raise OSError(errno.ENOSPC, "no room")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    assert put(box, INCIDENT, 99)
    found = everything(box)
    assert "id-99" in found
    assert "id-39" in found
    assert "id-0" not in found


def _refuses(_file: int, _data: object) -> int:
    raise OSError(errno.ENOSPC, "no room")


def test_a_torn_write_is_no_record_and_the_next_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(tmp_path, "P1")
    put(box, FRAMES, 1)
    real = os.write

    def half(file: int, data: Any) -> int:
        real(file, bytes(data)[: len(data) // 2])
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as torn:
        torn.setattr(os, "write", half)
        assert not put(box, FRAMES, 2)
    assert put(box, FRAMES, 3)
    assert {k for k, r in everything(box).items() if r.kind == FRAMES} == {"id-1", "id-3"}
    box.close()
    again = Outbox(tmp_path, "P1")
    assert {k for k, r in everything(again).items() if r.kind == FRAMES} == {"id-1", "id-3"}


def test_there_is_one_note_for_a_reason_and_its_id_is_the_same_in_every_run(tmp_path: Path) -> None:
    def notes(folder: Path) -> list[tuple[str, bytes]]:
        box = Outbox(folder, "P1", OutboxSettings(max_bytes=20_000, segment_bytes=1000, sync_s=0))
        found: list[tuple[str, bytes]] = []
        for n in range(400):
            put(box, FRAMES, n)
            if n % 100 == 99:
                taken = box.take(URGENT, 0, 1 << 20)
                assert len(taken) == len({json.loads(r.payload)["why"] for r in taken})
                found += [(r.id, r.payload) for r in taken]
                box.delivered(r.number for r in taken)
        assert len({name for name, _ in found}) == len(found) > 4
        told = sum(json.loads(payload)["records"] for _, payload in found)
        assert told + box.waiting[FRAMES] == 400
        return found

    assert notes(tmp_path / "a") == notes(tmp_path / "b")
