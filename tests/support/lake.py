"""A small lake for tests: records, a sink's partition, and questions to what it wrote."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.arrow import LakeItem, Provenance, to_arrow
from schemas.events import Item, Rows, Session, Tick
from sinks import ducklake
from sinks.lake import LakePartition, LakeSink

MADE_BY = Provenance({"m": "abc"}, "1", "p")
T0_NS = 1_767_571_200 * 10**9
NEVER: dict[str, Any] = {"publish_s": 1e9, "publish_bytes": 1 << 60, "publish_epochs": 1 << 30}


def windows(
    n: int = 1, *, first: int = 0, pack: str = "A", revision: int = 0, provisional: bool = False, soc: float = 0.5
) -> Rows:
    """Closed windows of one pack, one a minute."""
    start = T0_NS + np.arange(first, first + n) * 60 * 10**9
    data: dict[str, Any] = {"start_ns": start, "end_ns": start + 60 * 10**9}
    data |= {"revision": np.full(n, revision, np.int32), "provisional": np.full(n, provisional)}
    data |= {"soc_end": np.full(n, soc, np.float32)}
    return Rows("windows", "m", (pack,), (pack,), np.zeros(n, np.int32), data)


def session(revision: int = 0, *, provisional: bool = False) -> Session:
    return Session("s1", revision, "m", "A", "A", "park", T0_NS, T0_NS + 1, 5, *(0.5,) * 21, provisional=provisional)


def records(*items: Item) -> list[LakeItem]:
    return to_arrow(items, MADE_BY)


@cache
def _empty_lake() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    ducklake.open_writer(folder).close()
    return folder


def part(lake: Path, resume: dict[str, Any] | None = None, *, recovery: bool = True, **due: Any) -> LakePartition:
    if not (lake / ducklake.CATALOG).exists():
        shutil.copytree(_empty_lake(), lake, dirs_exist_ok=True)  # quicker than making one
    sink = LakeSink(lake, "test", recovery=recovery, **(NEVER | due))
    return sink.build_part("lake", "lake", resume)


def ask(lake: Path, sql: str) -> list[tuple[Any, ...]]:
    with ducklake.attach(lake) as con:
        return con.execute(sql).fetchall()


def count(lake: Path, table: str = "windows") -> int:
    return int(ask(lake, f"SELECT count(*) FROM raw.{table}")[0][0])


def tables(*items: Item) -> dict[str, Any]:
    """Give records as tables by name, as a publish takes them."""
    return {item[0]: pa.Table.from_batches([item[1]]) for item in records(*items) if not isinstance(item, Tick)}


def publish(lake: Path, *epochs: Sequence[Item]) -> None:
    """Run the sink without recovery over a few epochs."""
    sink = part(lake, recovery=False, publish_epochs=1)
    for items in epochs:
        sink.write_batch(records(*items))
        sink.snapshot()
    sink.close()
