"""JSON messages of a poll, read by the kernel that walks their bytes; what it does not take stays for `wire_json`."""

from __future__ import annotations

import re
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels import json_scan
from schemas.frames import CONTEXT, NO_SEQ, FrameBlock, make_block, missing_context
from schemas.message import Message, Models, RefusedError
from schemas.wire_json import CELLS, CURRENT, NAMES, PROBES, VOLTAGE, WHOLE, scaled

Text = tuple[int, Message, bytes]  # order, message, its bytes unpacked
Ordered = tuple[NDArray[np.int64], FrameBlock]
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')
FEW = 8  # texts; for fewer it is not worth the while
_MODELS = 8  # pack models in one poll; of more the rest is read one by one


def _keys() -> dict[bytes, tuple[int, Any]]:
    """Say what the kernel shall look for: every key of a frame but the lane."""
    missing = {"t_ns": 0, "seq": NO_SEQ} | {
        NAMES[column][0]: missing_context(column, 1)[0].item()
        for column, dtype in CONTEXT.items()
        if issubclass(dtype, np.integer)
    }
    most = np.iinfo(np.int64).max
    keys: dict[bytes, tuple[int, Any]] = {
        name.encode(): (json_scan.WHOLE, (low, min(high, most), missing[name])) for name, (low, high) in WHOLE.items()
    }
    floats = [CURRENT, VOLTAGE, *(name for name, _ in NAMES.values() if name not in WHOLE)]
    keys |= {name.encode(): (json_scan.NUMBER, None) for name in floats}
    return keys | {CELLS.encode(): (json_scan.CELLS, None), PROBES.encode(): (json_scan.PROBES, None)}


_KEYS = _keys()


def scan_json(texts: list[Text], models: Models) -> tuple[list[Ordered], list[Text]]:
    """Give blocks, each with the order of its rows, and the texts that must be read one by one."""
    blocks: list[Ordered] = []
    left: list[Text] = []
    for _ in range(_MODELS):
        if len(texts) < FEW:
            break
        found = _MODEL.search(texts[0][2])
        block, rest = (None, texts) if found is None else _of_model(texts, found[1], models)
        if block is not None:
            blocks.append(block)
        if rest and rest[0] is texts[0]:
            left.append(rest.pop(0))
        texts = rest
    return blocks, left + texts


def _of_model(texts: list[Text], name: bytes, models: Models) -> tuple[Ordered | None, list[Text]]:
    """Read the texts of one model; gives the others."""
    try:
        model = models.get(name.decode())
    except (RefusedError, UnicodeDecodeError):
        return None, list(texts)
    plain = [data for _, _, data in texts]
    rows_of, ids, values, (cell_v, temp_c) = json_scan.scan(plain, name, _KEYS, (model.series, model.probes))
    good = rows_of > 0
    every = bool(good.all())
    taken = texts if every else list(compress(texts, good.tolist()))
    if not taken:
        return None, list(texts)
    where = ids if every else ids[good]
    spans = zip(taken, where[:, 0].tolist(), where[:, 1].tolist(), strict=True)
    packs = [data[a:b] for (_, _, data), a, b in spans]
    vehicles = packs
    if where[:, 3].any():
        spans = zip(taken, where[:, 2].tolist(), where[:, 3].tolist(), strict=True)
        vehicles = [data[a:b] or pack for ((_, _, data), a, b), pack in zip(spans, packs, strict=True)]
    owner = dict(zip(packs, vehicles, strict=True))
    if vehicles != packs and any(owner[p] != v for p, v in zip(packs, vehicles, strict=True)):
        return None, list(texts)  # a pack has moved: rare, and `wire_json` knows where to cut
    numbers = {pack: i for i, pack in enumerate(owner)}
    place = np.fromiter(map(numbers.__getitem__, packs), np.int32, len(packs))
    table, owners = [p.decode() for p in owner], [v.decode() for v in owner.values()]
    counts = rows_of if every else rows_of[good]
    of_row = np.repeat(np.arange(counts.size), counts)
    messages = [message for _, message, _ in taken]
    block = make_block(
        model.name,
        table,
        vehicles=owners,
        pack=place[of_row],
        t_ns=values[b"t_ns"],
        cell_v=cell_v,
        temp_c=temp_c,
        recv_ns=np.array([m.recv_ns for m in messages], np.int64)[of_row],
        src_part=np.array([m.partition for m in messages], np.int32)[of_row],
        src_offset=np.array([m.offset for m in messages], np.int64)[of_row],
        src_row=np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts),
        context={column: _context(values, column) for column in CONTEXT if NAMES[column][0].encode() in values},
        **({"seq": values[b"seq"]} if b"seq" in values else {}),
        **{n: scaled(values[key]) for n, key in _SINGLE.items() if key in values},
    )
    order = np.array([order for order, _, _ in taken], np.int64)
    return (order[of_row], block), [] if every else list(compress(texts, (~good).tolist()))


_SINGLE = {"current_a": CURRENT.encode(), "pack_v": VOLTAGE.encode()}


def _context(values: dict[bytes, NDArray[Any]], column: str) -> NDArray[Any]:
    name, factor = NAMES[column]
    dtype = CONTEXT[column]
    if issubclass(dtype, np.floating):
        return scaled(values[name.encode()], dtype, factor)
    return values[name.encode()].astype(dtype)
