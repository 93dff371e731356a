"""How frames travel: Arrow IPC or JSON, with a size limit, and a dead letter for what cannot be read.

A message may be packed by zstd as a whole, never inside Arrow: that is twice as large for ten frames, since the
schema stays as it is, and takes several times as long to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.events import DeadLetter
from schemas.frames import FrameBlock, concat
from schemas.message import (
    CONTENT_TYPE,
    MAX_BYTES,
    TOO_LARGE,
    UNDECODABLE,
    Message,
    Models,
    Packs,
    RefusedError,
    dead_letter,
)
from schemas.pack import load_pack
from schemas.wire_arrow import ARROW, MALFORMED, Opened, decode_arrow, one_line, open_arrow
from schemas.wire_json import JSON, decode_json
from schemas.wire_layout import Layouts, Placed, decode_placed

_TEXTS = 256  # JSON messages parsed together: their objects stay in the processor's cache, 1.6 times as fast as 16,384
_KINDS = {ARROW, JSON}
_ZSTD = b"\x28\xb5\x2f\xfd"


Text = tuple[int, Message, bytes]  # order, message, its bytes unpacked
Scan = Callable[[list[Text], Models], tuple[list[tuple[NDArray[np.int64], FrameBlock]], list[Text]]]


def decode(
    data: bytes,
    content_type: str,
    source: str,
    partition: int,
    offset: int,
    *,
    max_bytes: int = MAX_BYTES,
    packs: Packs = load_pack,
) -> list[FrameBlock | DeadLetter]:
    """Read one message; see `decode_all`."""
    return decode_all([Message(data, content_type, source, partition, offset)], max_bytes=max_bytes, packs=packs)


def decode_all(
    messages: Iterable[Message], *, max_bytes: int = MAX_BYTES, packs: Packs = load_pack
) -> list[FrameBlock | DeadLetter]:
    """Read messages; see `Decoder.decode`."""
    return Decoder(max_bytes=max_bytes, packs=packs).decode(list(messages))


class Decoder:
    """Reads messages, and remembers how those were laid out that it has read."""

    def __init__(
        self, *, max_bytes: int = MAX_BYTES, packs: Packs = load_pack, scan: Scan = lambda texts, _: ([], texts)
    ) -> None:
        """Take the limit of a message's bytes, packed or unpacked, and where pack models come from.

        `scan` may read many JSON messages at once, and gives back those that it does not take; it is not from here,
        since gateways install no compiler.
        """
        self._scan = scan
        self.max_bytes = max_bytes
        self._models = Models(packs)
        self._layouts = Layouts()

    def decode(self, messages: Sequence[Message]) -> list[FrameBlock | DeadLetter]:
        """Read messages: for each pack model one block with rows in order of arrival, then what was refused.

        A block names one vehicle per pack: where a pack has moved to another, a new block begins.

        Bytes that cannot be read never raise: a message larger than the limit, of another encoding, version or model,
        or with another number of cells, is a dead letter with its reason and its original bytes; a row without a time
        is one with the row encoded again.
        """
        placed: list[Placed] = []
        opened: list[Opened] = []
        texts: list[Text] = []
        out: list[FrameBlock | DeadLetter] = []
        most, find = self.max_bytes, self._layouts.find
        for i, message in enumerate(messages):
            try:
                plain, kind = message.data, message.content_type
                if len(plain) > most or plain.startswith(_ZSTD):
                    plain = _unpacked(plain, most)
                if kind not in _KINDS:
                    kind = kind.partition(";")[0].strip().lower()
                if kind == JSON:
                    texts.append((i, message, plain))
                elif kind == ARROW:
                    known = find(i, message, plain)
                    if known is not None:
                        placed.append(known)
                    else:
                        opened.append(self._open(i, message, plain))
                else:
                    accepted = f"content type must be {ARROW} or {JSON}; got {message.content_type!r:.80}"
                    out.append(dead_letter(message, RefusedError(CONTENT_TYPE, accepted)))
            except RefusedError as why:
                out.append(dead_letter(message, why))
        blocks, strangers = decode_placed(placed)
        scanned, texts = self._scan(texts, self._models)
        blocks += scanned
        opened += [self._open(s.order, s.message, _unpacked(s.message.data, self.max_bytes)) for s in strangers]
        parts = (decode_json(texts[at : at + _TEXTS], self._models) for at in range(0, len(texts), _TEXTS))
        for found, refused in (decode_arrow(opened), *parts):
            blocks += found
            out += refused
        owners: list[tuple[Sequence[str], Sequence[str]]] = [(b.packs, b.vehicles) for _, b in blocks]
        owners += [(one.packs, one.vehicles) for one in placed] + [(one.packs, one.vehicles) for one in opened]
        if len(messages) > 1 and _moved(owners):
            middle = len(messages) // 2  # rare, so where may be found by halves
            return self.decode(messages[:middle]) + self.decode(messages[middle:])
        return [*_in_order(blocks), *out]

    def _open(self, order: int, message: Message, plain: bytes) -> Opened:
        opened = open_arrow(order, message, plain, self._models)
        self._layouts.learn(opened, plain)
        return opened


def _moved(tables: Iterable[tuple[Sequence[str], Sequence[str]]]) -> bool:
    """Say whether a pack has one vehicle in one of the tables and another in another."""
    owner: dict[str, str] = {}
    for packs, vehicles in tables:
        for pack, vehicle in zip(packs, vehicles, strict=True):
            if owner.setdefault(pack, vehicle) != vehicle:
                return True
    return False


def _unpacked(data: bytes, max_bytes: int) -> bytes:
    """Undo zstd, never making more than `max_bytes`."""
    if len(data) > max_bytes:
        raise RefusedError(TOO_LARGE, f"a message must have at most {max_bytes} bytes; got {len(data)}")
    if not data.startswith(_ZSTD):
        return data
    try:
        plain = bytes(pa.input_stream(pa.BufferReader(data), compression="zstd").read(max_bytes + 1))
    except MALFORMED as bad:
        raise RefusedError(UNDECODABLE, f"no zstd: {one_line(bad)}") from None
    if len(plain) > max_bytes:
        raise RefusedError(TOO_LARGE, f"a message must have at most {max_bytes} bytes; got more, unpacked")
    return plain


def _in_order(blocks: list[tuple[NDArray[np.int64], FrameBlock]]) -> list[FrameBlock]:
    """Join blocks of one model, rows in the order in which their messages came."""
    models: dict[str, list[tuple[NDArray[np.int64], FrameBlock]]] = {}
    for index, block in blocks:
        models.setdefault(block.model, []).append((index, block))
    joined = []
    for parts in models.values():
        block = concat([block for _, block in parts])
        if len(parts) > 1:
            block = block.take(np.argsort(np.concatenate([index for index, _ in parts]), kind="stable"))
        joined.append(block)
    return joined
