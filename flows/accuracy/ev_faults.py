"""Which cells of recorded cars the fleet flow names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from flows import fleet
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from flows.traces import TraceOptions, trace_items
from replay.source import ReplaySource, gather
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import pack_names
from sinks import ducklake
from sinks.lake import LakeSink


def weak_cells(data: Path) -> dict[str, list[str]]:
    """Give by car its incidents about cells, one line each: opening time, kind when it opened, subject at last."""
    return {path.stem: _incidents(path) for path in sorted((data / "ev_faults").glob("*.parquet"))}


def _incidents(path: Path) -> list[str]:
    pack = f"ev-faults-{path.stem}"
    options = TraceOptions((str(path),), pack if pack in pack_names() else "generic-nmc")
    first = next(i for i in trace_items(options) if isinstance(i, FrameBlock))
    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as where:
        lake = Path(where) / "lake"
        settings = FleetSettings()

        def items() -> Iterator[Item]:
            return gather(trace_items(options))

        sink = LakeSink(lake, "bench", recovery=False)
        run_flow(fleet.build(settings, ReplaySource(items), sink, (first.model,)), RecoverySettings(), settings.shards)
        with ducklake.attach(lake) as con:
            rows = con.execute(
                "SELECT i.opened_ns, r.kind, i.subject FROM incidents i JOIN raw.incidents r USING (id)"
                " WHERE r.revision = 0 AND i.subject LIKE 'cell%' ORDER BY i.opened_ns, i.subject"
            ).fetchall()
    return [f"{opened:%Y-%m-%dT%H:%MZ} {kind} {subject}" for opened, kind, subject in rows]
