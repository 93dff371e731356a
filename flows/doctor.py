"""What `ibms doctor` checks before a run: settings, packs, broker, topics, clock and disks; and what to do."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from flows.kafka_admin import BrokerError, connect, describe, plan
from flows.settings import KafkaInSettings, RunSettings, SimulateSettings, load_settings
from schemas.checked import ConfigError
from schemas.pack import load_pack

_FREE_BYTES = 5 << 30  # a snapshot of 100,000 vehicles is 0.7 GB, and there are two of them
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES = 256  # more than struct timex has


class Finding(NamedTuple):
    """One line: `advice` says what to do where something is wrong."""

    what: str
    state: Literal["ok", "warning", "wrong"]
    text: str
    advice: str = ""


def run_doctor(config: Path) -> int:
    """Print every finding; gives 1 where something is wrong, else 0."""
    found = list(examine(config))
    table = Table("check", "", "found", "what to do", box=None)
    for one in found:
        table.add_row(one.what, one.state, one.text, one.advice)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False).print(table)
    return int(any(one.state == "wrong" for one in found))


def examine(config: Path, clock: Callable[[], bool | None] | None = None) -> Iterator[Finding]:
    """Check what a run of these settings needs, as far as the settings can be read."""
    try:
        settings = load_settings(config)
    except ConfigError as bad:
        yield Finding("settings", "wrong", str(bad), "correct the file")
        return
    yield Finding("settings", "ok", str(config))
    yield from _packs(settings)
    if settings.kafka is not None:
        yield from _broker(settings)
    yield _clock((clock or synchronised)())
    if settings.recovery.dir is None:
        yield Finding("recovery", "warning", "no [recovery] dir", "name one: without it a restart begins anew")
    places = {"recovery disk": settings.recovery.dir}
    if "lake" in settings.outputs:
        places["lake disk"] = settings.lake.dir
    for what, place in places.items():
        if place is not None:
            yield _disk(what, place)


def _packs(settings: RunSettings) -> Iterator[Finding]:
    source = settings.source
    models = source.models if isinstance(source, KafkaInSettings | SimulateSettings) else ()
    for model in models:
        try:
            pack = load_pack(model)
        except (ConfigError, OSError) as bad:
            yield Finding("pack", "wrong", str(bad), "name a model of schemas/packs, or a generic one with its size")
        else:
            borrowed = "" if pack.ocv_source == "measured" else f", OCV borrowed from {pack.ocv_from}"
            yield Finding("pack", "ok", f"{model}: {pack.series} cell groups, {pack.probes} probes{borrowed}")


def _broker(settings: RunSettings) -> Iterator[Finding]:
    assert settings.kafka is not None
    try:
        admin = connect(settings.kafka)
    except BrokerError as bad:
        yield Finding("broker", "wrong", str(bad), bad.advice)
        return
    except ConfigError as bad:
        yield Finding("broker", "wrong", str(bad), "correct [kafka]")
        return
    yield Finding("broker", "ok", settings.kafka.bootstrap)
    for step in plan(settings.kafka.topics().values(), describe(admin, settings.kafka.topics().values())):
        if step.what in {"create", "partitions", "config"}:
            state: Literal["warning", "wrong"] = "wrong" if step.what == "create" else "warning"
            yield Finding("topic", state, f"{step.topic.name}: {step.what} {step.text}", "ibms kafka init")
        elif step.what == "leave":
            yield Finding("topic", "warning", f"{step.topic.name}: {step.text}")


def _clock(set_by_others: bool | None) -> Finding:
    if set_by_others is None:
        return Finding("clock", "warning", "the kernel does not say whether it is synchronised")
    if set_by_others:
        return Finding("clock", "ok", "synchronised")
    return Finding("clock", "warning", "not synchronised", "run an NTP client: liveness goes by this clock")


def synchronised() -> bool | None:
    """Ask the kernel whether something keeps its clock right; None where it does not say."""
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if answer < 0 else bool(answer != _UNSYNCHRONISED)


def _disk(what: str, place: Path) -> Finding:
    there = next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding(what, "wrong", f"{there} cannot be written", "name another directory, or give the right")
    free = shutil.disk_usage(there).free
    text = f"{free / 2**30:,.1f} GiB free under {there}"
    return (
        Finding(what, "ok", text) if free >= _FREE_BYTES else Finding(what, "warning", text, "make room: 5 GiB or more")
    )
