"""Which cells of recorded cars the fleet flow names."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flows import fleet
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from flows.traces import TraceOptions, trace_items
from replay.source import ReplaySource, gather
from replay.tabular import CSV, PARQUET, open_table
from schemas.checked import ConfigError
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import load_pack, pack_names
from sinks import ducklake
from sinks.lake import LakeSink


def weak_cells(data: Path, notes: list[str] | None = None) -> dict[str, list[str]]:
    """Give by car its incidents about cells, one line each: opening time, kind when it opened, subject at last.

    A file of no such car is told in `notes`.
    """
    found = {}
    for path in sorted((data / "ev_faults").iterdir()):
        if not path.name.endswith((*PARQUET, *CSV)):
            continue
        try:
            found[path.name.partition(".")[0]] = _incidents(path)
        except ConfigError as wrong:
            if notes is not None:
                notes.append(f"ev_faults/{path.name}: left out, {wrong}")
    return found


def _pack_of(path: Path, cells: int) -> str:
    """Name the pack file of a car of this name and size; any other car is a generic one."""
    own = f"ev-faults-{path.stem}"
    return own if own in pack_names() and load_pack(own).series == cells else "generic-nmc"


def _incidents(path: Path) -> list[str]:
    cells = sum(bool(re.fullmatch(r"cell_mv_\d{3}", name)) for name in open_table(path).names)
    options = TraceOptions((str(path),), _pack_of(path, cells), map="ev_faults")
    first = next((i for i in trace_items(options) if isinstance(i, FrameBlock)), None)
    if first is None:
        msg = "it must hold frames of a car; got none"
        raise ConfigError(msg)
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
