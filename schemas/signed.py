"""What is a message to a vehicle that only the fleet can have written? Ed25519 over its exact bytes.

A message is `IBMSIGN1`, the signature (64 bytes), and JSON in UTF-8:

    {"kind": "limits", "vehicle": "V1", "sequence": 17, "issued_ns": …, "expires_ns": …, "content": {…}}

The signature (RFC 8032) is over `IBMSIGN1` and the JSON, so that one made for another purpose is none here.  Who may
sign holds a private key (PEM, PKCS #8); a gateway holds public ones (PEM), several while keys change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from schemas.checked import ConfigError, read_bytes

KINDS = LIMITS, SOC = "limits", "soc"
UNSIGNED, MALFORMED = "unsigned", "malformed"  # why a message is not to be believed
CONTENT_TYPE = "application/vnd.ibms.signed"
MAX_BYTES = 65_536
_MARK = b"IBMSIGN1"
_SIGNATURE_BYTES = 64
_WHOLE = ("sequence", "issued_ns", "expires_ns")
_INT64_END = 1 << 63


class Signed(NamedTuple):
    """What somebody with a key has said to one vehicle, until when; `sequence` grows from message to message."""

    kind: str
    vehicle: str
    sequence: int
    issued_ns: int
    expires_ns: int
    content: Mapping[str, Any]


class SignedError(ValueError):
    """A message that is not to be believed; `reason` is UNSIGNED or MALFORMED."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def sign(message: Signed, key: Ed25519PrivateKey) -> bytes:
    """Write and sign a message."""
    body = json.dumps(message._asdict(), separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    return _MARK + key.sign(_MARK + body) + body


def opened(data: bytes, keys: Iterable[Ed25519PublicKey]) -> Signed:
    """Read a message that one of the keys has signed; raises SignedError."""
    begin = len(_MARK) + _SIGNATURE_BYTES
    if not data.startswith(_MARK) or not begin < len(data) <= MAX_BYTES:
        raise SignedError(MALFORMED, f"a message must be {_MARK.decode()}, a signature and JSON; got {len(data)} bytes")
    signature, body = data[len(_MARK) : begin], data[begin:]
    if not any(_verifies(key, signature, _MARK + body) for key in keys):
        raise SignedError(UNSIGNED, "the signature must be by a known key")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as bad:
        raise SignedError(MALFORMED, f"no JSON: {type(bad).__name__}") from None
    if not isinstance(told, dict) or told.keys() != set(Signed._fields):
        raise SignedError(MALFORMED, f"a message must have {', '.join(Signed._fields)}")
    texts = isinstance(told["kind"], str) and isinstance(told["vehicle"], str)
    whole = all(type(told[name]) is int and 0 <= told[name] < _INT64_END for name in _WHOLE)
    if not texts or not whole or not isinstance(told["content"], dict):
        raise SignedError(MALFORMED, "kind and vehicle must be texts, sequence and times whole numbers ≥ 0")
    return Signed(**told)


def said_kind(data: bytes) -> str:
    """Read what kind a message says it is, for who has just signed it: nothing else is judged."""
    return str(json.loads(data[len(_MARK) + _SIGNATURE_BYTES :])["kind"])


def _verifies(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def make_key(private: Path, public: Path) -> None:
    """Make a pair of key files; an existing file is never replaced: raises FileExistsError."""
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    told = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for path, data, mode in ((private, secret, 0o600), (public, told, 0o644)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key file; raises ConfigError."""
    data = read_bytes(path, "a key must be a readable file")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"a key must be an Ed25519 private key as PEM, not encrypted ({path})"
        raise ConfigError(msg)
    return key


def read_public(path: Path) -> Ed25519PublicKey:
    """Read a public key file; raises ConfigError."""
    data = read_bytes(path, "a key must be a readable file")
    try:
        key = load_pem_public_key(data)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        msg = f"a key must be an Ed25519 public key as PEM ({path})"
        raise ConfigError(msg)
    return key
