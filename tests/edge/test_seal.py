"""The seal: what a receiver can tell of a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.seal import BYTES, COUNTS, crc8, opens, sealed

payloads = st.binary(min_size=BYTES, max_size=BYTES)
counts = st.integers(0, COUNTS - 1)


def test_the_checksum_is_crc_8_sae_j1850() -> None:
    assert crc8(b"123456789") == 0x4B
    assert crc8(b"") == 0


@given(payloads, counts)
def test_what_was_sealed_opens_with_its_counter_and_keeps_its_values(data: bytes, counter: int) -> None:
    whole = sealed(0x80, data, counter)
    assert opens(0x80, whole) == counter
    assert whole[:6] == data[:6]
    assert whole[6] & 0x0F == data[6] & 0x0F


@given(payloads, counts, st.integers(0, 8 * BYTES - 1))
def test_one_wrong_bit_anywhere_is_noticed(data: bytes, counter: int, bit: int) -> None:
    broken = bytearray(sealed(0x80, data, counter))
    broken[bit // 8] ^= 1 << bit % 8
    assert opens(0x80, bytes(broken)) == -1


@given(payloads, counts)
def test_a_message_under_another_identifier_is_not_meant(data: bytes, counter: int) -> None:
    assert opens(0x81, sealed(0x80, data, counter)) == -1
    assert opens(0x180, sealed(0x80, data, counter)) == -1


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9)])
def test_another_length_does_not_open(data: bytes) -> None:
    assert opens(0x80, data) == -1


def test_a_counter_of_15_is_none_though_its_checksum_fits() -> None:
    body = bytes(6) + b"\xf0"
    assert opens(0x80, body + bytes([crc8(b"\x80\x00" + body)])) == -1
    assert opens(0x80, sealed(0x80, bytes(8), COUNTS)) == 0, "it counts round"
