"""Records in a file: found whole, found again after damage, and never believed where anything was changed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.segments import DIGEST_BYTES, HEAD_BYTES, MARK, dump, read, scan, spans

RECORDS = [(7, {"kind": "frames", "id": "a"}, b"\x00" * 40), (8, {"kind": "incident"}, b""), (9, {}, b"x" + MARK * 3)]
PARTS = [dump(5, *record) for record in RECORDS]
DATA = b"".join(PARTS)


def _told(data: bytes, segment: int = 5) -> list[tuple[int, dict[str, object], bytes]]:
    return [(e.number, e.about, e.payload) for e in scan(segment, data)[0]]


def test_records_come_back_in_order_with_their_places() -> None:
    found, damaged = scan(5, DATA)
    assert _told(DATA) == RECORDS
    assert damaged == 0
    assert [DATA[e.offset : e.offset + e.length] for e in found] == PARTS
    assert len(PARTS[1]) == HEAD_BYTES + len('{"kind":"incident"}') + DIGEST_BYTES


def test_records_of_another_file_are_none() -> None:
    assert scan(6, DATA) == ([], len(DATA))
    assert _told(PARTS[0] + dump(6, 1, {}, b"") + PARTS[1]) == RECORDS[:2]


@given(st.integers(0, len(DATA)))
def test_a_cut_loses_what_it_cuts_and_nothing_before(cut: int) -> None:
    ends = [sum(map(len, PARTS[: k + 1])) for k in range(3)]
    found, damaged = scan(5, DATA[:cut])
    assert [e.number for e in found] == [r[0] for r, end in zip(RECORDS, ends, strict=True) if end <= cut]
    assert damaged == cut - sum(e.length for e in found)


@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_a_flipped_bit_loses_the_record_that_it_is_in_and_no_other(at: int, bit: int) -> None:
    data = bytearray(DATA)
    data[at] ^= 1 << bit
    hit = 0 if at < len(PARTS[0]) else 1 if at < len(PARTS[0]) + len(PARTS[1]) else 2
    assert _told(bytes(data)) == RECORDS[:hit] + RECORDS[hit + 1 :]


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_what_lies_between_records_is_passed_over(before: bytes, between: bytes) -> None:
    found, damaged = scan(5, before + PARTS[0] + between + PARTS[1])
    assert [e.number for e in found] == [7, 8]
    assert damaged == len(before) + len(between)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_record(data: bytes) -> None:
    assert read(5, data) is None
    assert scan(5, data) == ([], len(data))


@given(st.lists(st.integers(0, 60), unique=True).map(sorted))
def test_spans_name_each_number_once(numbers: list[int]) -> None:
    made = spans(numbers)
    assert [n for first, last in made for n in range(first, last + 1)] == numbers
    assert all(a[1] + 1 < b[0] for a, b in pairwise(made))
