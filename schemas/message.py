"""One message on the wire: its bytes, where it came from, and what becomes of one that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from schemas.events import DeadLetter
from schemas.frames import NO_RECV
from schemas.ids import dead_letter_id
from schemas.pack import PackError, PackModel

VERSION = 1  # of what a message holds, in both encodings
MAX_BYTES = 1 << 20  # of a message, packed or unpacked; Kafka's own default limit
ID_MAX = 128  # characters of a pack or vehicle id

# Why a message, or a row of it, is refused.
TOO_LARGE = "too_large"
CONTENT_TYPE = "unknown_content_type"
UNDECODABLE = "undecodable"  # no zstd, Arrow or JSON of this schema
UNKNOWN_VERSION = "unknown_version"
UNKNOWN_MODEL = "unknown_model"
BAD_ID = "bad_id"
EMPTY = "empty"
WRONG_TYPE = "wrong_type"
CELL_COUNT = "cell_count"  # another number of cells than the model has
PROBE_COUNT = "probe_count"
NO_TIME = "no_time"
UNKNOWN_KIND = "unknown_kind"  # of what gateways say

# A name, never a path: what comes over the wire must not open files.
_MODEL = re.compile(r"(?!.*\.toml)[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.IGNORECASE)

Packs = Callable[[str], PackModel]


class Message(NamedTuple):
    """Bytes as a broker or a file gave them."""

    data: bytes
    content_type: str
    source: str  # topic, file or bus
    partition: int
    offset: int
    recv_ns: int = NO_RECV
    headers: str = ""  # JSON of the original headers


class RefusedError(Exception):
    """A message or a row of it that cannot be used; never leaves the codecs."""

    def __init__(self, reason: str, detail: str, pack_id: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail, self.pack_id = reason, detail, pack_id


def dead_letter(message: Message, why: RefusedError, row: int = 0, payload: bytes | None = None) -> DeadLetter:
    """Make the dead letter of a message, or of one row of it with that row's own payload."""
    return DeadLetter(
        id=dead_letter_id(message.source, message.partition, message.offset, row),
        source=message.source,
        partition=message.partition,
        offset=message.offset,
        row=row,
        reason=why.reason,
        detail=why.detail,
        pack_id=why.pack_id,
        t_ns=0,
        expected_ns=0,
        content_type=message.content_type,
        payload=message.data if payload is None else payload,
        headers=message.headers,
    )


class Models:
    """Pack models by the name that messages give, each looked up once."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs
        self._known: dict[str, PackModel | RefusedError] = {}

    def get(self, name: object) -> PackModel:
        """Give the model; raises RefusedError where the name is no name, or not known."""
        if not isinstance(name, str) or not _MODEL.fullmatch(name):
            raise RefusedError(UNKNOWN_MODEL, f"model must be the name of a pack model; got {name!r:.80}")
        found = self._known.get(name)
        if found is None:
            try:
                found = self._packs(name)
            except PackError as bad:
                found = RefusedError(UNKNOWN_MODEL, str(bad))
            self._known[name] = found
        if isinstance(found, RefusedError):
            raise RefusedError(found.reason, found.detail)  # a new one: a raised one grows by its traceback
        return found


def check_id(value: object, what: str) -> str:
    """Give a pack or vehicle id; raises RefusedError where it is none."""
    if not isinstance(value, str) or not 0 < len(value) <= ID_MAX:
        raise RefusedError(BAD_ID, f"{what} must be a text of 1..{ID_MAX} characters; got {value!r:.80}")
    return value


def check_version(value: object) -> None:
    """Refuse what another version wrote."""
    if value != VERSION or isinstance(value, bool):
        raise RefusedError(UNKNOWN_VERSION, f"schema must be {VERSION}; got {value!r:.80}")


def check_width(what: str, got: int, pack: PackModel, want: int) -> None:
    """Refuse frames with another number of cells or probes than the model has."""
    if got != want:
        reason = CELL_COUNT if what == "cell_v" else PROBE_COUNT
        raise RefusedError(reason, f"{what} must have {want} values, as {pack.name} has; got {got}")
