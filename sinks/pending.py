"""Epochs on disk that wait to be published: one file an epoch, beside the lake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from schemas.durable import sync_folder

SPILL_BYTES = 8 << 20  # more than this is not held in memory until the epoch ends
_SUFFIX = ".arrows"  # Arrow IPC streams, one after another
_OPEN = "open.tmp"  # the epoch that is being collected


class Pending:
    """The waiting epochs of one sink: `add` rows, `seal` them under a number, read and `drop` them.

    A sealed file is whole: it is written elsewhere, synced, and renamed.  What was being collected when
    the process died is not an epoch and is removed here.
    """

    def __init__(self, lake: Path, sink: str) -> None:
        """Open, or make, `<lake>/pending/sink-<name>`."""
        self.folder = lake / "pending" / ("sink-" + quote(sink, safe=""))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _OPEN).unlink(missing_ok=True)
        self._rows: dict[str, list[pa.RecordBatch]] = {}
        self._bytes = 0
        self.collected = 0  # bytes since the last `seal`, on disk or not
        self._file: pa.NativeFile | None = None

    def add(self, table: str, batch: pa.RecordBatch) -> None:
        """Collect rows of the current epoch."""
        self._rows.setdefault(table, []).append(batch)
        self._bytes += batch.nbytes
        self.collected += batch.nbytes
        if self._bytes >= SPILL_BYTES:
            self._spill()

    def seal(self, seq: int) -> int:
        """Make what was collected durable as epoch `seq`; gives its bytes, 0 where there was nothing."""
        self._spill()
        self.collected = 0
        if self._file is None:
            return 0
        self._file.close()
        self._file = None
        path = self.folder / _OPEN
        with path.open("rb") as file:
            os.fsync(file.fileno())
        size = path.stat().st_size
        path.rename(self._path(seq))
        sync_folder(self.folder)
        return size

    def sizes(self) -> dict[int, int]:
        """Give the bytes of each sealed epoch, in ascending order of their numbers."""
        return {int(p.stem): p.stat().st_size for p in sorted(self.folder.glob(f"*{_SUFFIX}"))}

    def tables(self, epochs: list[int]) -> dict[str, pa.Table]:
        """Read the rows of some epochs, mapped from the files and not copied."""
        parts: dict[str, list[pa.Table]] = {}
        for seq in epochs:
            for table, rows in _read(self._path(seq)):
                parts.setdefault(table, []).append(rows)
        return {table: pa.concat_tables(rows) for table, rows in parts.items()}

    def drop(self, epochs: list[int]) -> None:
        """Delete epochs: published, or newer than the snapshot that a flow resumed from."""
        for seq in epochs:
            self._path(seq).unlink(missing_ok=True)
        if epochs:
            sync_folder(self.folder)

    def _path(self, seq: int) -> Path:
        return self.folder / f"{seq:012d}{_SUFFIX}"

    def _spill(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            self._file = pa.OSFile(str(self.folder / _OPEN), "wb")
        for table, batches in self._rows.items():
            rows = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
            rows = rows.replace_schema_metadata({"table": table})
            with pa.ipc.new_stream(self._file, rows.schema) as writer:
                writer.write_table(rows)
        self._rows = {}
        self._bytes = 0


def _read(path: Path) -> Iterator[tuple[str, pa.Table]]:
    with pa.memory_map(str(path)) as file:
        while file.tell() < file.size():
            rows = pa.ipc.open_stream(file).read_all()
            yield rows.schema.metadata[b"table"].decode(), rows
