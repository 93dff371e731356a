"""What `ibms repair` does: a pack's kept frames run once more, in order, and the lake's records corrected by them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from flows import fleet
from flows.settings import FleetSettings, load_settings, time_ns
from replay.kept_frames import Kept, kept_frames
from schemas.arrow import to_arrow
from schemas.checked import ConfigError
from schemas.events import Item, Tick
from schemas.frames import FrameBlock
from schemas.pack import PackModel, load_pack
from sinks import corrections, ducklake
from sinks.corrections import CORRECTED, Correction, Span

_END_NS = 2**63 - 2


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """The command's arguments; `lake` None: that of the settings, or ./lake."""

    pack: str
    begin: str = ""
    end: str = ""
    lake: Path | None = None
    config: Path | None = None
    dry_run: bool = False


def run_repair(options: RepairOptions) -> None:
    """Correct the lake and say what was corrected; raises ConfigError or LakeError where that cannot be done."""
    settings, lake = FleetSettings(), Path("lake")
    if options.config is not None:
        run = load_settings(options.config)
        settings, lake = run.fleet, run.lake.dir
    lake = options.lake or lake
    span = Span(
        time_ns(options.begin, "--from") if options.begin else 0,
        time_ns(options.end, "--to") if options.end else _END_NS,
    )
    if not span.begin_ns < span.end_ns:
        msg = f"--from must be before --to; got {options.begin} and {options.end}"
        raise ConfigError(msg)
    ducklake.check(lake)
    if options.dry_run:
        with ducklake.attach(lake) as con:
            _tell(options, *_repair(con, options.pack, settings, span, write=False))
        return
    handle = ducklake.lock(lake)
    try:
        with ducklake.open_writer(lake) as con:
            _tell(options, *_repair(con, options.pack, settings, span, write=True))
    finally:
        os.close(handle)


def _repair(
    con: duckdb.DuckDBPyConnection, pack: str, settings: FleetSettings, span: Span, *, write: bool
) -> tuple[Kept, dict[str, Correction]]:
    kept = Kept.find(con, pack)
    _check_made_alike(con, kept, settings)
    settings = replace(settings, shards=1, keep_frames=True)
    fresh = rerun(settings, kept_frames(con, kept), span)
    found = corrections.find(con, pack, span, fresh)
    if write:
        corrections.publish(con, pack, found)
    return kept, found


def _check_made_alike(con: duckdb.DuckDBPyConnection, kept: Kept, settings: FleetSettings) -> None:
    """Refuse settings other than those of the run: its records would not be comparable."""
    own = (settings.params(), fleet.provenance(settings, (kept.model,)).models)
    rows = con.execute("SELECT DISTINCT params, models FROM windows WHERE pack_id = ? ORDER BY ALL", [kept.pack])
    others = [f"{params} {models}".strip() for params, models in rows.fetchall() if (params, models) != own]
    if others:
        msg = (
            f"--config must hold the settings of the run that wrote the windows of {kept.pack} "
            f"(hash {', '.join(others)}); got {' '.join(own).strip()}"
        )
        raise ConfigError(msg)


def rerun(
    settings: FleetSettings,
    blocks: Iterable[FrameBlock],
    span: Span,
    packs: Callable[[str], PackModel] = load_pack,
) -> dict[str, pa.Table]:
    """Run frames through all steps, as one shard without a runtime; gives the records by table.

    A column `at_end` tells the records that only the end of the frames closed.  Of windows, states and frames those
    of the span are given, of rarer records all.
    """
    logics = list(fleet.logics(settings, packs).values())
    made: dict[str, list[pa.Table]] = {}
    made_by = None

    def through(items: list[Item], first: int, *, at_end: bool) -> None:
        for logic in logics[first:]:
            items = list(logic.on_batch(items)[0])
        assert made_by is not None
        for record in to_arrow(fleet.outward(items), made_by):
            assert not isinstance(record, Tick)
            table, batch = record
            if table in CORRECTED:
                rows = corrections.within(table, pa.Table.from_batches([batch]), span)
                made.setdefault(table, []).append(
                    rows.append_column("at_end", pa.array([at_end] * len(rows), pa.bool_()))
                )

    for block in blocks:
        made_by = made_by or fleet.provenance(settings, (block.model,), packs)
        through([block], 0, at_end=False)
    for k, logic in enumerate(logics):
        through(list(logic.on_eof()[0]), k + 1, at_end=True)
    return {table: pa.concat_tables(rows).unify_dictionaries() for table, rows in made.items()}


def _tell(options: RepairOptions, kept: Kept, found: dict[str, Correction]) -> None:
    began, ended = (datetime.fromtimestamp(t // 10**9, UTC).isoformat() for t in (kept.begin_ns, kept.end_ns))
    out = (
        f"{options.pack}: {kept.frames:,} frames kept from {began} to {ended}, {kept.letters:,} of them dead letters\n"
    )
    if not kept.whole:
        out += f"not exact: frames of {options.pack} before {began} are not kept, and the run began without them\n"
    out += f"{'table':<12}{'as they were':>14}{'corrected':>11}{'new':>9}{'withdrawn':>11}\n"
    for table, one in found.items():
        out += f"{table:<12}{one.equal:>14,}{one.corrected:>11,}{one.new:>9,}{one.withdrawn:>11,}\n"
    sys.stdout.write(out + ("nothing was written (--dry-run)\n" if options.dry_run else ""))
