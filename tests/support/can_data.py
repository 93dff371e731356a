"""The recorded CAN traces, where they are there."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.can import CanBlock, make_can_block

DATA = (Path(__file__).parents[2] / os.environ.get("IBMS_DATA", "../shared/data")).resolve()
TRACES = DATA / "can_traces"
CARS = {"bmw_i3": "bmw_i3_lim", "hyundai_kona": "hyundai_kona_pcan", "tesla_model3": "tesla_model3"}


def need_traces() -> None:
    if TRACES.is_dir():
        return
    reason = f"{TRACES} is not there (IBMS_DATA says where the recorded traces are)"
    if os.environ.get("IBMS_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def dbc_path(stem: str) -> Path:
    need_traces()
    return TRACES / "dbc" / f"{stem}.dbc"


def logs(car: str) -> Iterator[tuple[str, CanBlock]]:
    """Every log of a car, times as recorded on top of 1.6e9 s."""
    import pyarrow.parquet as pq

    need_traces()
    table = pq.read_table(TRACES / f"{car}.parquet")
    name = np.asarray(table["log"].cast("string"))
    _, starts = np.unique(name, return_index=True)
    for a in np.sort(starts).tolist():
        rows = np.flatnonzero(name == name[a])
        part = table.take(rows)
        payload = part["data"].to_pylist()
        data = np.frombuffer(b"".join(p.ljust(8, b"\0") for p in payload), np.uint8).reshape(-1, 8)
        buses = np.asarray(part["bus"])
        yield (
            str(name[a]),
            make_can_block(
                [f"can{b}" for b in range(int(buses.max()) + 1)],
                t_ns=1_600_000_000 * 10**9 + np.asarray(part["ts_us"]) * 1000,
                bus=buses,
                can_id=np.asarray(part["can_id"]),
                ext=np.asarray(part["ext"]),
                length=[len(p) for p in payload],
                data=data,
            ),
        )


def log(car: str, part_of_name: str) -> CanBlock:
    found = [block for name, block in logs(car) if part_of_name in name]
    assert len(found) == 1, part_of_name
    return found[0]


def candump_text(name: str) -> bytes:
    need_traces()
    return gzip.decompress((TRACES / f"{name}.candump.log.gz").read_bytes())
