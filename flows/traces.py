"""Recorded traces as items of a flow: CAN logs through DBC and mapping, tables through theirs, our files of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from flows.reading import Reading, records_of
from flows.settings import time_ns
from operators.assemble import Assembler
from operators.dbc import load_dbc
from replay.frames_file import is_frames_file, read_frames
from replay.readers import START_NS, read_can
from replay.source import between
from replay.tables import find_mapping, read_table
from replay.tabular import PARQUET
from schemas.can import CanBlock
from schemas.checked import ConfigError
from schemas.events import DeadLetter, Item
from schemas.frames import FrameBlock
from schemas.mapping import RELATIVE, load_mapping, mapping_names
from schemas.pack import load_pack, pack_names
from schemas.signals import DBC_DIR, load_signals, signals_for


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Which traces, what they are of, and how they are read."""

    paths: tuple[str, ...]
    pack: str = ""  # may be left out where the file says it
    dbc: str = ""
    map: str = ""
    vehicle: str = ""
    period_s: float | None = None  # None: the mapping's
    start: str = ""
    from_time: str = ""
    to_time: str = ""

    @property
    def start_ns(self) -> int:
        """Where relative times are laid."""
        return time_ns(self.start, "--start") if self.start else START_NS

    @property
    def span_ns(self) -> tuple[int | None, int | None]:
        """The times to replay from, and to stop before; None where not given."""
        from_ns = time_ns(self.from_time, "--from") if self.from_time else None
        to_ns = time_ns(self.to_time, "--to") if self.to_time else None
        if from_ns is not None and to_ns is not None and from_ns >= to_ns:
            msg = f"--to must be after --from, {self.from_time}; got {self.to_time}"
            raise ConfigError(msg)
        return from_ns, to_ns


def trace_items(options: TraceOptions, reading: Reading | None = None) -> Iterator[Item]:
    """Read every trace in the order given: frames, and what could not be read; `reading` is kept up to date.

    A frame's src_part is the number of its trace, except where a file of frames says where they came from.
    Raises ConfigError, before the first frame, where a file, pack, DBC or mapping cannot be used.
    """
    reading = Reading() if reading is None else reading
    check_files(options)
    from_ns, to_ns = options.span_ns
    totals = [records_of(Path(path)) for path in options.paths]
    reading.total = None if None in totals else sum(n for n in totals if n is not None)
    readers = [_reader(i, Path(path), options, reading) for i, path in enumerate(options.paths)]
    return _noted(between((item for reader in readers for item in reader), from_ns, to_ns), reading)


def trace_models(options: TraceOptions) -> tuple[str, ...]:
    """Name the pack models of the traces, generic ones in their size; reads each trace up to its first frame.

    Raises ConfigError as `trace_items`, and where no trace has a frame to replay.
    """
    check_files(options)
    models: dict[str, None] = {}
    lost = Reading()
    for path in options.paths:
        if is_frames_file(path):
            models |= dict.fromkeys(_models_in(Path(path)))
        frames = (i for i in trace_items(replace(options, paths=(path,)), lost) if isinstance(i, FrameBlock))
        models |= dict.fromkeys(block.model for block in [next(frames, None)] if block is not None)
    if not lost.frames:
        span = " between --from and --to" if options.from_time or options.to_time else ""
        seen = f" in {lost.done:,.0f} records" if lost.done else ""
        why = f"; unreadable: {lost.refused()}" if lost.unreadable else ""
        if not span and not why and options.dbc:
            why = f"; no CAN frame drives a frame by {dbc_path(options.dbc).name} and its mapping"
        msg = f"trace must hold frames{span}; got none{seen} ({', '.join(options.paths)}){why}"
        raise ConfigError(msg)
    return tuple(models)


def check_files(options: TraceOptions) -> None:
    """Raise ConfigError for a trace that is no file."""
    for path in options.paths:
        if not Path(path).is_file():
            msg = f"trace must be a readable file; got {path}"
            raise ConfigError(msg)


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


def _reader(number: int, path: Path, options: TraceOptions, reading: Reading) -> Iterator[FrameBlock | DeadLetter]:
    if is_frames_file(path):
        _check_frames_file(path, options)
        return _by_rows(read_frames(path), reading)
    if _is_table(path, options):
        mapping = load_mapping(options.map) if options.map else find_mapping(path)
        table = read_table(path, mapping, options.pack, options.vehicle, start_ns=options.start_ns, part=number)
        if mapping.time.format in RELATIVE:
            reading.mapped[path.name] = None
        return _by_rows(table, reading)
    if not options.pack:
        msg = f"--pack must be the pack model of a CAN trace ({', '.join(pack_names())}); got nothing"
        raise ConfigError(msg)
    trace = read_can(path, options.start_ns)
    return _assembled(trace, _assembler(path, options), number, path.name, reading)


def _is_table(path: Path, options: TraceOptions) -> bool:
    """Tell telemetry tables from CAN traces: .csv may be either, and is a trace where a DBC is given."""
    kinds = {s.lower() for s in path.suffixes}
    return bool(kinds & set(PARQUET)) or options.map in mapping_names() or (".csv" in kinds and not options.dbc)


def _check_frames_file(path: Path, options: TraceOptions) -> None:
    """Refuse what contradicts a file that says itself what its frames are of."""
    if options.vehicle:
        msg = f"--vehicle must be left out for a file of frames, which names its vehicles; got {options.vehicle}"
        raise ConfigError(msg)
    models = _models_in(path)
    if options.pack and {load_pack(options.pack).name} != set(models):
        msg = f"--pack must be left out for this file of frames, of {', '.join(models)}; got {options.pack} ({path})"
        raise ConfigError(msg)


def _models_in(path: Path) -> list[str]:
    """Name the pack models in a file of frames."""
    return [str(model) for model in pq.read_table(path, columns=["model"])["model"].unique().to_pylist()]


def _by_rows(items: Iterator[FrameBlock | DeadLetter], reading: Reading) -> Iterator[FrameBlock | DeadLetter]:
    for item in items:
        reading.done += len(item) if isinstance(item, FrameBlock) else 1
        yield item


def _assembler(path: Path, options: TraceOptions) -> Assembler:
    dbc = load_dbc(dbc_path(options.dbc))
    signals = load_signals(options.map or signals_for(dbc.path))
    pack = load_pack(options.pack)
    return Assembler(
        signals, dbc, model=pack.name, cells=pack.series, probes=pack.probes,
        pack_id=options.vehicle or path.name.partition(".")[0] or path.name, period_s=options.period_s,
    )  # fmt: skip


def _assembled(
    trace: Iterator[CanBlock | DeadLetter], assembler: Assembler, number: int, name: str, reading: Reading
) -> Iterator[FrameBlock | DeadLetter]:
    before = reading.done
    for item in trace:
        if isinstance(item, DeadLetter):
            yield item
            continue
        if item.mapped:
            reading.mapped[name] = None
        made = assembler.push(item)
        reading.done = before + int(item.record[-1])
        if made is not None:
            yield _of_part(made, number)
    last = assembler.flush()
    if last is not None:
        yield _of_part(last, number)


def _of_part(block: FrameBlock, number: int) -> FrameBlock:
    return block.with_frames(src_part=np.full(len(block), number, np.int32)) if number else block


def _noted(items: Iterator[Item], reading: Reading) -> Iterator[Item]:
    for item in items:
        reading.take(item)
        yield item
