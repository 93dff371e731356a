"""Latches: a record survives a power loss at any byte, and a damaged file is never believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.latches import SLOT_BYTES, LatchError, Record, create, dump, load, read, write

BEFORE = Record(7, ("cell_v/MSL/over/any",), {"commands": 41})
AFTER = Record(8, ("cell_v/MSL/over/any", "crash/MSL/over/any"), {"commands": 42, "cap": {"charge_a": 10.5}})
OLD, NEW = dump(BEFORE) * 2, dump(AFTER) * 2


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "latches"
    assert create(path) == Record(0, (), {})
    assert read(path) == Record(0, (), {})
    write(path, BEFORE)
    assert read(path) == BEFORE
    write(path, AFTER)
    assert read(path) == AFTER
    assert path.read_bytes() == NEW
    assert create(path, BEFORE) == BEFORE
    assert read(path) == BEFORE
    assert [p.name for p in tmp_path.iterdir()] == ["latches"]


@given(st.integers(0, 2 * SLOT_BYTES))
def test_a_power_loss_at_any_byte_of_a_writing_leaves_the_record_before_or_after(cut: int) -> None:
    got = load(NEW[:cut] + OLD[cut:])
    assert got == (AFTER if cut >= SLOT_BYTES else got)
    assert got in {0: (BEFORE,), 2 * SLOT_BYTES: (AFTER,)}.get(cut, (BEFORE, AFTER))


@pytest.mark.parametrize("slot", [0, SLOT_BYTES])
@given(at=st.integers(0, SLOT_BYTES - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_nothing_and_one_in_both_slots_is_refused(slot: int, at: int, bit: int) -> None:
    data = bytearray(NEW)
    data[slot + at] ^= 1 << bit
    assert load(bytes(data)) == AFTER
    data[SLOT_BYTES - slot + at] ^= 1 << bit
    with pytest.raises(LatchError, match=f"must have a whole slot; got {2 * SLOT_BYTES} bytes without one"):
        load(bytes(data))


@pytest.mark.parametrize("data", [b"", b"\0" * 2 * SLOT_BYTES, OLD[: SLOT_BYTES - 1], OLD[1:SLOT_BYTES]])
def test_what_is_no_latch_file_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(LatchError, match="whole slot"):
        load(data)
    path = tmp_path / "latches"
    path.write_bytes(data)
    with pytest.raises(LatchError, match=r"whole slot; got .* \(.*latches\)"):
        read(path)


def test_a_checksum_alone_does_not_make_a_slot() -> None:
    from hashlib import blake2b

    body = b"OTHERMAG" + dump(BEFORE)[8:-16]
    with pytest.raises(LatchError):
        load((body + blake2b(body, digest_size=16).digest()) * 2)


def test_one_whole_slot_is_enough_in_either_place() -> None:
    assert load(OLD[:SLOT_BYTES]) == BEFORE
    assert load(NEW[:SLOT_BYTES] + OLD[:5]) == AFTER
    assert load(OLD[:SLOT_BYTES] + NEW[:SLOT_BYTES]) == AFTER


def test_a_missing_file_is_no_empty_record(tmp_path: Path) -> None:
    with pytest.raises(LatchError, match="the latch file must be readable; got No such file"):
        read(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "none", BEFORE)


def test_what_cannot_be_kept_is_refused_before_the_file_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "latches"
    create(path, BEFORE)
    with pytest.raises(LatchError, match="must be JSON"):
        write(path, Record(9, (), {"cap": float("nan")}))
    with pytest.raises(LatchError, match="must be JSON"):
        write(path, Record(9, (), {"cap": object()}))
    with pytest.raises(LatchError, match=f"at most {SLOT_BYTES - 16} bytes; got"):
        write(path, Record(9, ("x" * SLOT_BYTES,), {}))
    assert read(path) == BEFORE
