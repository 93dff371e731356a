"""How a shard's state lies in files beside the recovery store: two per step and shard, written in turns.

A snapshot of many vehicles is hundreds of megabytes of arrays.  Through a pickle and a database they are copied six
times; here they go straight from the arrays to a file, and the snapshot holds the file's name.

Of one step and shard the snapshot before the newest is durable when the newest is taken (bytewax polls no source for
an epoch before the one before it is durable), so the files older than that are free.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.durable import sync_folder

_LENGTH = 8  # bytes of the header's length, little-endian, at the beginning of a file; 0 until all else is written
_MOST = 1024  # pieces that one call writes (IOV_MAX)


def write(
    directory: Path,
    name: str,
    turn: int,
    header: dict[str, Any],
    parts: Sequence[NDArray[Any]],
    *,
    again: bool = False,
) -> None:
    """Write the file of this turn over that of the turn before the last; it outlasts a loss of power.

    `again`: the caller has written that one, so its name is on disk.  What is left by a write that fails is refused by
    `open_turn`.
    """
    path = _path(directory, name, turn)
    head = orjson.dumps({**header, "turn": turn})
    pieces = [memoryview(head), *(np.ascontiguousarray(p).data.cast("B") for p in parts if p.nbytes)]
    # Over the old bytes: a file made anew costs ten times as much, all of it in finding pages and blocks for it.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb", buffering=0) as file:
        file.write(bytes(_LENGTH))  # not whole
        for first in range(0, len(pieces), _MOST):
            _write_all(file.fileno(), pieces[first : first + _MOST])
        file.truncate()
        os.pwrite(file.fileno(), len(head).to_bytes(_LENGTH, "little"), 0)
        os.fdatasync(file.fileno())
    if not again:
        sync_folder(directory)  # the name is on disk before the snapshot that mentions it


def _write_all(handle: int, pieces: list[memoryview]) -> None:
    while pieces:
        done = os.writev(handle, pieces)
        while pieces and done >= pieces[0].nbytes:
            done -= pieces.pop(0).nbytes
        if done:
            pieces[0] = pieces[0][done:]


def open_turn(directory: Path, name: str, turn: int) -> tuple[dict[str, Any], BinaryIO]:
    """Give a file's header, and the file at its first part.

    Raises ValueError where it is not the file that the snapshot means: a recovery store is whole or useless.
    """
    path = _path(directory, name, turn)
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        msg = f"the recovery store has lost {path}"
        raise ValueError(msg) from None
    head = file.read(int.from_bytes(file.read(_LENGTH), "little"))
    header: dict[str, Any] = orjson.loads(head) if head else {"turn": "none, half written"}
    if header["turn"] != turn:
        msg = f"the recovery store and its files must be of one time; {path} is of turn {header['turn']}, not {turn}"
        raise ValueError(msg)
    return header, file


def read_into(file: BinaryIO, array: NDArray[Any]) -> None:
    """Fill a contiguous array with the next bytes; raises ValueError where the file ends before."""
    left = array.data.cast("B") if array.nbytes else memoryview(b"")
    while left:
        got = os.readv(file.fileno(), [left])
        if not got:
            msg = f"the recovery store's file {file.name} is cut off"
            raise ValueError(msg)
        left = left[got:]


def _path(directory: Path, name: str, turn: int) -> Path:
    return directory / f"{name}.{turn % 2}"
