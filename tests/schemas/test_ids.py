"""Names of records: the same in every run, on every machine, for ever."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import dead_letter_id, file_hash, hash64, record_id, shard_of
from tests.support.blocks import IDS


def test_ids_are_those_of_earlier_versions() -> None:
    # golden: a change here orphans every record and every recovery store in the field
    assert hash64("P1") == -7150166472307249110
    assert shard_of("P1", 64) == 42
    assert record_id("P1", "gap", "sequence 5", 7) == "e8b2f619-d15a-534c-adb6-6e453571eab3"
    assert dead_letter_id("frames", 3, 44, 0) == "b6565690-036f-5797-bbf8-186dfbec6849"
    assert file_hash(b"series = 96") == "3f9c5179257653bf"


@given(st.text(st.characters(codec="utf-8")))
def test_a_hash_is_a_signed_number_of_64_bits(text: str) -> None:
    assert -(2**63) <= hash64(text) < 2**63


@given(IDS, st.integers(1, 4096))
def test_a_shard_is_one_of_those_there_are(pack: str, shards: int) -> None:
    assert 0 <= shard_of(pack, shards) < shards


def test_packs_spread_evenly_over_shards() -> None:
    counts = [0] * 64
    for i in range(64_000):
        counts[shard_of(f"VIN{i:08d}", 64)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_records_that_differ_in_anything_have_different_ids() -> None:
    ids = [record_id(p, k, s, t) for p in "AB" for k in ("gap", "session") for s in ("", "1") for t in (1, 2)]
    assert len(set(ids)) == 16
    letters = [dead_letter_id(s, p, o, r) for s in "ab" for p in (0, 1) for o in (0, 1) for r in (0, 1)]
    assert len({*ids, *letters}) == 32
    assert {UUID(i).version for i in ids} == {5}
