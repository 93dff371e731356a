"""Frames in a Parquet file of our own: one row a frame, written and read block by block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from replay.tabular import ROWS, BadPart, Part, batches, open_table
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import CONTEXT, FrameBlock, make_block, missing_context, pack_table
from schemas.ids import dead_letter_id
from schemas.message import CELL_COUNT, PROBE_COUNT, UNDECODABLE, Packs
from schemas.pack import PackModel, load_pack

VERSION = "1"
_ABOUT = b"ibms.frames"  # the key of the version in the file's metadata
_TEXT = pa.dictionary(pa.int32(), pa.string())
_LIST = pa.list_(pa.float32())
_FIXED: dict[str, pa.DataType] = {
    "model": _TEXT,
    "pack_id": _TEXT,
    "vehicle_id": _TEXT,
    "t_ns": pa.timestamp("ns", "UTC"),
    "seq": pa.int64(),
    "lane": pa.uint8(),
    "recv_ns": pa.int64(),
    "src_part": pa.int32(),
    "src_offset": pa.int64(),
    "src_row": pa.int32(),
    "current_a": pa.float32(),
    "pack_v": pa.float32(),
    "cell_v": _LIST,
    "temp_c": _LIST,
}
_WHOLE = ("seq", "lane", "recv_ns", "src_part", "src_offset", "src_row")
# Every context column is there in every file, null where no vehicle has it: a later block may.
SCHEMA = pa.schema(
    [*_FIXED.items(), *((name, pa.from_numpy_dtype(dtype)) for name, dtype in sorted(CONTEXT.items()))],
    metadata={_ABOUT: VERSION},
)


def write_frames(blocks: Iterable[FrameBlock], path: str | Path) -> int:
    """Write frames of any models to Parquet; gives how many.

    What is not available is null.  The file appears under its name when it is complete.
    """
    path, written = Path(path), 0
    part = path.with_name(f".{path.name}.part")
    try:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd", compression_level=3) as file:
            for block in blocks:
                if len(block):
                    file.write_batch(_batch(block))
                    written += len(block)
        os.replace(part, path)  # noqa: PTH105 - one step on every system
    finally:
        part.unlink(missing_ok=True)
    return written


def is_frames_file(path: str | Path) -> bool:
    """Say whether `write_frames` made a file."""
    try:
        return _ABOUT in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def read_frames(path: str | Path, *, packs: Packs = load_pack, rows: int = ROWS) -> Iterator[FrameBlock | DeadLetter]:
    """Read what `write_frames` wrote, in its order, in blocks of at most `rows` frames of one model.

    A damaged row group, and rows with another number of cells or probes than their model, are dead letters.
    Raises ConfigError before the first frame where the file is none of ours.
    """
    table = open_table(path)
    version = (pq.read_schema(path).metadata or {}).get(_ABOUT) if not table.delimiter else None
    if version != VERSION.encode() or not set(SCHEMA.names) <= set(table.names):
        msg = f"file must hold frames, version {VERSION}, as ibms writes them; got another table ({path})"
        raise ConfigError(msg)
    return _read(table.path, packs, rows)


def _batch(block: FrameBlock) -> pa.RecordBatch:
    zeros = np.zeros(len(block), np.int32)
    columns = [
        pa.DictionaryArray.from_arrays(zeros, pa.array([block.model])),
        pa.DictionaryArray.from_arrays(block.pack, pa.array(block.packs, pa.string())),
        pa.DictionaryArray.from_arrays(block.pack, pa.array(block.vehicles, pa.string())),
        pa.array(block.t_ns).view(SCHEMA.field("t_ns").type),
        *(pa.array(getattr(block, name)) for name in _WHOLE),
        *(pa.array(getattr(block, name), from_pandas=True) for name in ("current_a", "pack_v")),
        *(_lists(getattr(block, name)) for name in ("cell_v", "temp_c")),
        *(_context(block, name) for name in sorted(CONTEXT)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _lists(values: NDArray[np.float32]) -> pa.ListArray:
    n, width = values.shape
    flat = pa.array(values.reshape(-1), from_pandas=True)
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(width)), flat)


def _context(block: FrameBlock, name: str) -> pa.Array:
    values = block.context.get(name)
    if values is None:
        return pa.nulls(len(block), SCHEMA.field(name).type)
    if values.dtype.kind == "f":
        return pa.array(values, from_pandas=True)
    return pa.array(values, mask=values == missing_context(name, 1)[0])


def _read(path: Path, packs: Packs, rows: int) -> Iterator[FrameBlock | DeadLetter]:
    for part in batches(open_table(path), SCHEMA.names, rows=rows):
        if isinstance(part, BadPart):
            yield _letter(path, part.row, UNDECODABLE, part.detail, "")
            continue
        models = _names(part.batch.column("model"))
        which = np.array(models.indices)
        cuts = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
        for a, b in pairwise(cuts):
            pack = packs(models.dictionary[int(which[a])].as_py())
            yield from _frames(path, Part(part.rows[a:b], part.batch.slice(a, b - a)), pack)


def _frames(path: Path, part: Part, pack: PackModel) -> Iterator[FrameBlock | DeadLetter]:
    batch, n = part.batch, part.batch.num_rows
    good = np.ones(n, np.bool_)
    for name, want, reason in (("cell_v", pack.series, CELL_COUNT), ("temp_c", pack.probes, PROBE_COUNT)):
        widths = np.diff(np.array(batch.column(name).offsets))
        for i in np.flatnonzero(good & (widths != want)).tolist():
            detail = f"{name} must have {want} values, as {pack.name} has; got {widths[i]}"
            yield _letter(path, int(part.rows[i]), reason, detail, batch.column("pack_id")[i].as_py() or "")
        good &= widths == want
    if not good.any():
        return
    if not good.all():
        batch = batch.filter(pa.array(good))
        n = batch.num_rows
    owner, vehicle = (_names(batch.column(name)) for name in ("pack_id", "vehicle_id"))
    both = np.array(owner.indices, np.int64) * len(vehicle.dictionary) + np.array(vehicle.indices)
    pairs, index = np.unique(both, return_inverse=True)
    names, owners = owner.dictionary.to_pylist(), vehicle.dictionary.to_pylist()
    ids, vehicles, place = pack_table(
        [names[p // len(owners)] for p in pairs.tolist()], [owners[p % len(owners)] for p in pairs.tolist()]
    )
    yield make_block(
        pack.name,
        ids,
        vehicles=vehicles,
        pack=place[index.reshape(-1)],
        t_ns=np.array(batch.column("t_ns").view(pa.int64()).fill_null(0)),
        cell_v=_matrix(batch.column("cell_v"), n, pack.series),
        temp_c=_matrix(batch.column("temp_c"), n, pack.probes),
        current_a=_floats(batch.column("current_a")),
        pack_v=_floats(batch.column("pack_v")),
        context={name: _optional(batch.column(name), name) for name in CONTEXT if batch.column(name).null_count < n},
        **{name: np.array(batch.column(name).fill_null(0)) for name in _WHOLE},
    )


def _names(column: pa.Array) -> Any:  # noqa: ANN401 - pyarrow has no types
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()).fill_null("").dictionary_encode()


def _floats(column: pa.Array) -> NDArray[Any]:
    return np.array(column.to_numpy(zero_copy_only=False))  # null becomes NaN


def _matrix(column: pa.ListArray, n: int, width: int) -> NDArray[np.float32]:
    return _floats(column.flatten()).astype(np.float32).reshape(n, width)


def _optional(column: pa.Array, name: str) -> NDArray[Any]:
    if issubclass(CONTEXT[name], np.floating):
        return _floats(column)
    return np.array(column.fill_null(missing_context(name, 1)[0].item()))


def _letter(path: Path, row: int, reason: str, detail: str, pack_id: str) -> DeadLetter:
    kind = "application/octet-stream"
    return DeadLetter(
        dead_letter_id(path.name, 0, row, 0), path.name, 0, row, 0, reason, detail, pack_id, 0, 0, kind, b""
    )
