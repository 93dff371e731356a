"""Signed messages: what a key has signed comes back, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schemas.checked import ConfigError
from schemas.signed import (
    MALFORMED,
    MAX_BYTES,
    UNSIGNED,
    Signed,
    SignedError,
    make_key,
    opened,
    read_private,
    read_public,
    sign,
)

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([k]) * 32) for k in (1, 2))
MESSAGE = Signed("limits", "V1", 7, 100, 200, {"charge_a": 10.5})
DATA = sign(MESSAGE, KEY)


def _raw(body: bytes, key: Ed25519PrivateKey = KEY) -> bytes:
    return b"IBMSIGN1" + key.sign(b"IBMSIGN1" + body) + body


def test_what_was_signed_comes_back_under_any_of_the_known_keys() -> None:
    assert opened(DATA, [KEY.public_key()]) == MESSAGE
    assert opened(DATA, [OTHER.public_key(), KEY.public_key()]) == MESSAGE
    assert sign(MESSAGE, KEY) == DATA


@pytest.mark.parametrize("keys", [[], [OTHER.public_key()]])
def test_without_the_key_it_is_unsigned(keys: list[object]) -> None:
    with pytest.raises(SignedError) as bad:
        opened(DATA, keys)  # type: ignore[arg-type] # a list of keys, or none
    assert bad.value.reason == UNSIGNED


@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_no_bit_of_it_can_be_changed(at: int, bit: int) -> None:
    data = bytearray(DATA)
    data[at] ^= 1 << bit
    with pytest.raises(SignedError):
        opened(bytes(data), [KEY.public_key()])


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(data: bytes) -> None:
    for told in (data, b"IBMSIGN1" + data, _raw(data)):
        with pytest.raises(SignedError):
            opened(told, [KEY.public_key()])


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"kind":"limits"}',
        b'{"kind":"limits","vehicle":"V1","sequence":1.0,"issued_ns":1,"expires_ns":2,"content":{}}',
        b'{"kind":"limits","vehicle":"V1","sequence":true,"issued_ns":1,"expires_ns":2,"content":{}}',
        b'{"kind":"limits","vehicle":"V1","sequence":-1,"issued_ns":1,"expires_ns":2,"content":{}}',
        b'{"kind":"limits","vehicle":"V1","sequence":9223372036854775808,"issued_ns":1,"expires_ns":2,"content":{}}',
        b'{"kind":"limits","vehicle":1,"sequence":1,"issued_ns":1,"expires_ns":2,"content":{}}',
        b'{"kind":"limits","vehicle":"V1","sequence":1,"issued_ns":1,"expires_ns":2,"content":[]}',
        b'{"kind":"limits","vehicle":"V1","sequence":1,"issued_ns":1,"expires_ns":2,"content":{},"more":1}',
        b"[" * 20_000,
        b" " * MAX_BYTES,
    ],
)
def test_a_signature_does_not_make_any_bytes_a_message(body: bytes) -> None:
    with pytest.raises(SignedError) as bad:
        opened(_raw(body), [KEY.public_key()])
    assert bad.value.reason == MALFORMED


def test_key_files_are_made_once_and_read_again(tmp_path: Path) -> None:
    private, public = tmp_path / "fleet.key", tmp_path / "fleet.pub"
    make_key(private, public)
    assert private.stat().st_mode & 0o777 == 0o600
    assert opened(sign(MESSAGE, read_private(private)), [read_public(public)]) == MESSAGE
    with pytest.raises(FileExistsError):
        make_key(private, tmp_path / "other.pub")


def test_what_is_no_key_file_is_refused_with_its_name(tmp_path: Path) -> None:
    private, public = tmp_path / "fleet.key", tmp_path / "fleet.pub"
    make_key(private, public)
    (tmp_path / "junk").write_text("junk")
    for path in (public, tmp_path / "junk"):
        with pytest.raises(ConfigError, match=rf"a key must be an Ed25519 private key .*{path.name}"):
            read_private(path)
    for path in (private, tmp_path / "junk"):
        with pytest.raises(ConfigError, match=rf"a key must be an Ed25519 public key .*{path.name}"):
            read_public(path)
    for read in (read_private, read_public):
        with pytest.raises(ConfigError, match=r"a key must be a readable file; got No such file .*none"):
            read(tmp_path / "none")
