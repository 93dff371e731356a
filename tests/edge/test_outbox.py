"""The outbox: what was synced survives any cut, nothing damaged is delivered, each lane in its order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.outbox import BACKFILL, LIVE, URGENT, Outbox, OutboxSettings, Record
from edge.retention import BLACKBOX, DAMAGED, DROPPED, FRAMES, INCIDENT
from tests.support.outbox import LANES, SMALL, S, copy, everything, notes_in, put


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory, where there is one: thousands of files are written and removed here."""
    memory = Path("/dev/shm")  # noqa: S108 - of this machine's users, as the temporary folder is
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk proves nothing here: tests cut files where they were synced."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_what_was_appended_comes_back_and_again_after_a_restart(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1")
    assert all(put(box, kind, n) for n, kind in enumerate([FRAMES, INCIDENT, BLACKBOX, FRAMES]))
    want = everything(box)
    assert {r.id: (r.kind, r.payload, r.content_type, r.t_ns, r.end_ns) for r in want.values()} == {
        f"id-{n}": (kind, bytes([n]) * 100, "t/x", n * S, (n + 1) * S)
        for n, kind in enumerate([FRAMES, INCIDENT, BLACKBOX, FRAMES])
    }
    box.close()
    assert everything(Outbox(tmp_path, "P1")) == want


def test_incidents_go_before_black_boxes_and_live_frames_apart_from_old_ones(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1")
    for n, kind in enumerate([FRAMES, BLACKBOX, FRAMES, INCIDENT, FRAMES, FRAMES]):
        put(box, kind, n, at_s=100 * n)
    assert [r.id for r in box.take(URGENT, 0, 1 << 20)] == ["id-3", "id-1"]
    assert [r.id for r in box.take(LIVE, 431 * S, 1 << 20)] == ["id-4", "id-5"]
    assert [r.id for r in box.take(BACKFILL, 431 * S, 1 << 20)] == ["id-0", "id-2"]
    assert [box.take(lane, 431 * S, 1 << 20) for lane in LANES] == [[], [], []]
    box.give_back([r.number for r in everything(box).values()])


def test_every_frame_is_in_one_lane_whatever_its_stamp(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1")
    for n, at_s in enumerate([500, 5e6, 10, 510, 505, 520]):
        put(box, FRAMES, n, at_s=at_s)
    assert [r.id for r in box.take(LIVE, 520 * S, 1 << 20)] == ["id-3", "id-4", "id-5"]
    assert [r.id for r in box.take(BACKFILL, 520 * S, 1 << 20)] == ["id-0", "id-1", "id-2"]


def test_a_taking_is_bounded_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1")
    for n in range(10):
        put(box, FRAMES, n, 1000)
    sizes = [[r.id for r in box.take(BACKFILL, 1000 * S, most)] for most in (1, 3600, 3600, 1 << 20)]
    assert [len(s) for s in sizes] == [1, 3, 3, 3]
    assert [i for s in sizes for i in s] == [f"id-{n}" for n in range(10)]


def test_what_was_delivered_never_comes_back(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1", SMALL)
    for n in range(60):
        put(box, INCIDENT if n % 7 == 0 else FRAMES, n)
    taken = [r for lane in LANES for r in box.take(lane, 40 * S, 1 << 20)]
    done = {r.id for r in taken if r.number % 3}
    box.delivered(r.number for r in taken if r.number % 3)
    left = everything(box).keys() | {r.id for r in taken if not r.number % 3}
    assert left == {f"id-{n}" for n in range(60)} - done
    box.close()
    again = Outbox(tmp_path, "P1", SMALL)
    assert everything(again).keys() == left
    again.delivered(r.number for r in everything(again).values())
    assert again.waiting == dict.fromkeys([INCIDENT, DROPPED, BLACKBOX, FRAMES], 0)
    again.close()
    assert len(list(tmp_path.iterdir())) <= 1
    assert everything(Outbox(tmp_path, "P1", SMALL)) == {}


def test_an_incident_that_was_delivered_stays_delivered_without_a_close(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1", SMALL)
    put(box, INCIDENT, 1)
    put(box, BLACKBOX, 2)
    box.delivered(r.number for r in box.take(URGENT, 0, 1 << 20))
    assert everything(Outbox(copy(tmp_path, tmp_path.with_name("after")), "P1")) == {}


# power


def _written(folder: Path) -> tuple[dict[str, Record], Path, int]:
    """Fill a folder of several files; gives its records, its last file and how much of that was synced."""
    box = Outbox(folder, "P1", SMALL)
    for n in range(10):
        put(box, INCIDENT if n == 3 else FRAMES, n)
        if n == 2:
            box.delivered(r.number for r in box.take(BACKFILL, 1000 * S, 500))
    box.sync()
    last = max(folder.glob("*.seg"))
    synced = last.stat().st_size
    put(box, FRAMES, 30, 60)
    put(box, FRAMES, 31, 60)
    want = everything(box)
    assert max(folder.glob("*.seg")) == last
    assert len(list(folder.glob("*.seg"))) > 2
    return want, last, synced


def test_a_cut_at_any_byte_loses_only_what_was_not_synced(tmp_path: Path) -> None:
    want, last, synced = _written(tmp_path / "box")
    data = last.read_bytes()
    ids = list(want)
    for cut in range(len(data) + 1):
        after = copy(tmp_path / "box", tmp_path / "after")
        (after / last.name).write_bytes(data[:cut])
        with closing(Outbox(after, "P1", SMALL)) as box:
            found = {k: r for k, r in everything(box).items() if r.kind != DROPPED}
            assert found.items() <= want.items(), cut
            if cut >= synced:
                assert set(ids) - found.keys() <= {"id-30", "id-31"}, cut
            if cut % 7:
                continue
            assert put(box, FRAMES, 99)
        with closing(Outbox(after, "P1", SMALL)) as box:
            more = {k: r for k, r in everything(box).items() if r.kind != DROPPED}
        assert more.keys() == found.keys() | {"id-99"}, cut


def test_a_flipped_bit_costs_one_record_and_is_never_delivered(tmp_path: Path) -> None:
    want, last, _ = _written(tmp_path / "box")
    data = last.read_bytes()
    for at in range(len(data)):
        after = copy(tmp_path / "box", tmp_path / "after")
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        (after / last.name).write_bytes(flipped)
        with closing(Outbox(after, "P1", SMALL)) as box:
            notes = notes_in(box)
            found = {k: r for k, r in everything(box).items() if r.kind != DROPPED}
        # a flip in the list of what was delivered brings those back; they have the same ids
        assert all(r == want[k] for k, r in found.items() if k in want), at
        assert len(want.keys() - found.keys()) <= 1, at
        assert [n["why"] for n in notes] == [DAMAGED], at
        if at % 7 == 0:
            with closing(Outbox(after, "P1", SMALL)) as box:
                assert len(notes_in(box)) == 1, at  # and it is noted once


def test_what_rots_while_it_waits_is_noted_and_never_delivered(tmp_path: Path) -> None:
    box = Outbox(tmp_path, "P1", SMALL)
    for n in range(5):
        put(box, FRAMES, n)
    path = next(path for path in tmp_path.glob("*.seg") if bytes([2]) * 100 in path.read_bytes())
    data = bytearray(path.read_bytes())
    data[data.index(bytes([2]) * 100) + 50] ^= 1
    path.write_bytes(data)
    assert [r.id for r in box.take(BACKFILL, 1000 * S, 1 << 20)] == ["id-0", "id-1", "id-3", "id-4"]
    box.give_back(range(100))
    box.sync()
    (note,) = notes_in(box)
    assert (note["kind"], note["why"], note["records"], note["from_ns"], note["to_ns"]) == (
        FRAMES, DAMAGED, 1, 2 * S, 3 * S,
    )  # fmt: skip
    assert box.dropped[FRAMES, DAMAGED][0] == 1


def test_frames_are_synced_after_their_seconds_and_incidents_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))

    box = Outbox(tmp_path, "P1", OutboxSettings(sync_s=10.0))
    put(box, FRAMES, 100)
    monkeypatch.setattr(os, "fsync", fsync)
    for n in range(101, 110):
        put(box, FRAMES, n)
    assert synced == []
    put(box, FRAMES, 110)
    assert [Path(p).suffix for p in synced] == [".seg"]
    put(box, INCIDENT, 111)
    put(box, BLACKBOX, 112)
    assert len(synced) == 3
    put(box, FRAMES, 5)  # the clock was set back
    assert len(synced) == 4


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([FRAMES, FRAMES, INCIDENT, BLACKBOX]), st.integers(0, 400)),
        st.tuples(st.just("send"), st.sampled_from(LANES), st.integers(0, 1500)),
        st.tuples(st.just("fail"), st.sampled_from(LANES), st.integers(0, 1500)),
        st.tuples(st.just("cut"), st.just(""), st.integers(0, 100)),
    ),
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS)
def test_whatever_happens_no_synced_record_is_lost_and_none_is_changed(
    tmp_path: Path, steps: list[tuple[str, str, int]]
) -> None:
    folder = copy(tmp_path / "none", tmp_path / "box") if (tmp_path / "none").exists() else tmp_path / "box"
    shutil.rmtree(folder, ignore_errors=True)
    box = Outbox(folder, "P1", SMALL)
    payloads: dict[str, bytes] = {}
    sent: set[str] = set()
    synced: set[str] = set()
    for n, (what, which, size) in enumerate(steps):
        if what == "put":
            payloads[f"id-{n}"] = bytes([n]) * size
            assert put(box, which, n, size)
            if which != FRAMES:
                synced = set(payloads)
        elif what == "cut":  # the process ends, and what it had not synced may or may not be there
            if size < 50:
                box.sync()
                synced = set(payloads)
            box = Outbox(folder, "P1", SMALL)
            back = everything(box)
            twice = sent & back.keys()  # that a frame was delivered may be forgotten; its id drops the repeat
            assert all(back[k].kind == FRAMES for k in twice)
            assert not (twice and size < 50)
            sent -= twice
            payloads = {k: v for k, v in payloads.items() if k in back or k in sent}
        else:
            taken = box.take(which, n * S + 15 * S, size)
            assert all(r.kind == DROPPED or r.payload == payloads[r.id] for r in taken)
            assert not sent & {r.id for r in taken}
            if what == "send":
                box.delivered(r.number for r in taken)
                sent |= {r.id for r in taken}
            else:
                box.give_back(r.number for r in taken)
        assert synced - sent <= {k for k, r in everything(box).items() if r.kind != DROPPED} | sent
    box.close()
