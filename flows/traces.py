"""Recorded traces as items of a flow: CAN logs through DBC and mapping, tables through their mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from operators.assemble import Assembler
from operators.dbc import load_dbc
from replay.readers import START_NS, read_can
from replay.source import between
from replay.tables import find_mapping, read_table
from schemas.can import CanBlock
from schemas.checked import ConfigError
from schemas.events import DeadLetter, Item
from schemas.frames import FrameBlock
from schemas.mapping import load_mapping, mapping_names
from schemas.pack import load_pack
from schemas.signals import DBC_DIR, load_signals, signals_for


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Which traces, what they are of, and how they are read."""

    paths: tuple[str, ...]
    pack: str
    dbc: str = ""
    map: str = ""
    vehicle: str = ""
    period_s: float | None = None
    start: str = ""
    from_time: str = ""
    to_time: str = ""


def trace_items(options: TraceOptions) -> Iterator[Item]:
    """Read every trace in the order given: frames, and what could not be read.

    Raises ConfigError, before the first frame, where a file, pack, DBC or mapping cannot be used.
    """
    for path in options.paths:
        if not Path(path).is_file():
            msg = f"trace must be a readable file; got {path}"
            raise ConfigError(msg)
    start_ns = START_NS if not options.start else time_ns(options.start, "--start")
    from_ns = time_ns(options.from_time, "--from") if options.from_time else None
    to_ns = time_ns(options.to_time, "--to") if options.to_time else None
    readers = [_reader(Path(path), options, start_ns) for path in options.paths]
    return between((item for reader in readers for item in reader), from_ns, to_ns)


def time_ns(text: str, key: str) -> int:
    """Read an ISO 8601 time, UTC where it names no zone, as ns since 1970."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{key} must be a time as 2026-01-05T08:00:00Z; got {text}"
        raise ConfigError(msg) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def dbc_path(dbc: str) -> Path:
    """Find a DBC: a file, or the name of one that ships."""
    shipped = DBC_DIR / f"{dbc}.dbc"
    if shipped.is_file():
        return shipped
    if not dbc or not Path(dbc).is_file():
        known = ", ".join(sorted(p.stem for p in DBC_DIR.glob("*.dbc")))
        msg = f"--dbc must be a DBC file, or one that ships ({known}), to read a CAN trace; got {dbc or 'nothing'}"
        raise ConfigError(msg)
    return Path(dbc)


def _reader(path: Path, options: TraceOptions, start_ns: int) -> Iterator[FrameBlock | DeadLetter]:
    if _is_table(path, options):
        mapping = load_mapping(options.map) if options.map else find_mapping(path)
        return read_table(path, mapping, options.pack, options.vehicle, start_ns=start_ns)
    vehicle = options.vehicle or path.name.partition(".")[0]
    dbc = load_dbc(dbc_path(options.dbc))
    signals = load_signals(options.map) if options.map else load_signals(signals_for(dbc.path))
    pack = load_pack(options.pack)
    assembler = Assembler(
        signals, dbc, model=options.pack, cells=pack.series, probes=pack.probes, pack_id=vehicle,
        period_s=options.period_s,
    )  # fmt: skip
    return _frames(read_can(path, start_ns), assembler)


def _is_table(path: Path, options: TraceOptions) -> bool:
    """Tell telemetry tables from CAN traces: .csv may be either, and is a trace where a DBC is given."""
    kinds = {s.lower() for s in path.suffixes}
    return ".parquet" in kinds or options.map in mapping_names() or (".csv" in kinds and not options.dbc)


def _frames(trace: Iterator[CanBlock | DeadLetter], assembler: Assembler) -> Iterator[FrameBlock | DeadLetter]:
    for item in trace:
        made = assembler.push(item) if isinstance(item, CanBlock) else item
        if made is not None:
            yield made
    last = assembler.flush()
    if last is not None:
        yield last
