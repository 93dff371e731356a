"""Key and headers of a Kafka message as one text, so that a dead letter gives them back verbatim.

JSON: {"key": K, "headers": [[name, V], …]}; K and V are null, a text where the bytes are UTF-8, or {"base64": "…"}.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any

import orjson

Headers = list[tuple[str, bytes | None]]


def pack_headers(key: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None) -> str:
    """Write key and headers; `unpack_headers` gives back exactly those bytes."""
    made = {"key": _text(key), "headers": [[name, _text(value)] for name, value in headers or ()]}
    return orjson.dumps(made).decode()


def unpack_headers(text: str) -> tuple[bytes | None, Headers]:
    """Read key and headers; a text that is not of `pack_headers` (input that was no Kafka message) has neither."""
    try:
        made = orjson.loads(text)
        return _bytes(made["key"]), [(name, _bytes(value)) for name, value in made["headers"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None, []


def _text(value: bytes | None) -> Any:  # noqa: ANN401 - JSON
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _bytes(value: Any) -> bytes | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else b64decode(value["base64"])
