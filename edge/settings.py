"""What a gateway is told (gateway.toml), and what follows from it before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.canbus import TICK_S, CanSettings, read_can
from edge.commands import Writer, writer
from edge.decode import Plan, plan
from edge.pack_guard import PackGuard, pack_guard
from operators.dbc import Dbc, load_dbc
from schemas.checked import ConfigError, Table, parse_toml, read_bytes
from schemas.pack import PackModel, load_pack
from schemas.signals import DBC_DIR, PROTECTED, SIGNALS_DIR, SignalMap, load_signals, signals_for

TELEMETRY_TABLES = ("telemetry", "outbox", "blackbox", "uplink", "orders", "balancing")
_OURS = "ibms_edge.dbc"


@dataclass(frozen=True, slots=True)
class MapSettings:
    """One mapping of signals, and the DBC that it is for."""

    dbc: Path
    signals: Path


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """A gateway's settings.

    `absent` takes back signals that the maps require, `cycle_s` says how often messages come on this bus.  `delay_s`
    is from a decision to an open contactor: bus, coil, spring.  `priority` is what the protection process asks of the
    scheduler (0: nothing).  `telemetry` holds the other process's tables (edge.telemetry_settings).
    """

    file: str
    vehicle: str
    pack: str
    state_dir: Path
    can: CanSettings
    maps: tuple[MapSettings, ...]
    absent: tuple[str, ...]
    cycle_s: Mapping[str, float]
    commands: Path
    delay_s: float
    http_port: int
    priority: int
    telemetry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What protection runs with."""

    settings: GatewaySettings
    pack: PackModel
    maps: tuple[tuple[SignalMap, Dbc], ...]
    plan: Plan
    guard: PackGuard
    writer: Writer


def load_settings(path: str | Path) -> GatewaySettings:
    """Read gateway.toml; raises ConfigError with file, key, value and what is accepted."""
    path = Path(path)
    return parse_settings(read_bytes(path, "config must be a readable .toml"), str(path), path.parent)


def parse_settings(data: bytes, file: str, folder: Path) -> GatewaySettings:
    """Build the settings from the bytes of a TOML file in `folder`, which relative paths start from."""
    top = Table(parse_toml(data, file), file)
    maps = tuple(_map(t, folder) for t in top.tables("map"))
    signals = top.table("signals") if "signals" in top.keys else Table({}, file, "signals.")
    cycles = signals.table("cycle_s") if "cycle_s" in signals.keys else Table({}, file, "signals.cycle_s.")
    http = top.table("http") if "http" in top.keys else Table({}, file, "http.")
    protection = top.table("protection") if "protection" in top.keys else Table({}, file, "protection.")
    settings = GatewaySettings(
        file=file,
        vehicle=top.text("vehicle"),
        pack=_pack(top, folder),
        state_dir=_under(folder, top.text("state_dir")),
        can=read_can(top.table("can")),
        maps=maps,
        absent=signals.names("absent", PROTECTED),
        cycle_s={name: cycles.number(name, 0, 3600, above=True) for name in cycles.keys},
        commands=_dbc(top.text("commands", default=_OURS), folder),
        delay_s=protection.number("delay_s", 0, 10, default=0.05),
        http_port=http.integer("port", 0, 65_535) if "port" in http.keys else 9464,
        priority=protection.integer("priority", 0, 99) if "priority" in protection.keys else 50,
        telemetry={name: found for name in TELEMETRY_TABLES if (found := top.raw(name)) is not None},
    )
    for table in (signals, cycles, http, protection, top):
        table.done()
    return settings


def _map(t: Table, folder: Path) -> MapSettings:
    dbc = _dbc(t.text("dbc"), folder)
    named = t.text("signals", default="-")
    t.done()
    if named == "-":
        return MapSettings(dbc, signals_for(dbc))
    shipped = SIGNALS_DIR / named
    return MapSettings(dbc, shipped if "/" not in named and shipped.is_file() else _under(folder, named))


def _dbc(named: str, folder: Path) -> Path:
    """Find a DBC: one that ships, by its name, or a path."""
    shipped = DBC_DIR / named
    return shipped if "/" not in named and shipped.is_file() else _under(folder, named)


def _pack(top: Table, folder: Path) -> str:
    """Give the pack's name; a path starts from the settings' folder."""
    name = top.text("pack")
    return str(_under(folder, name)) if name.partition("@")[0].endswith(".toml") else name


def _under(folder: Path, named: str) -> Path:
    return folder / Path(named).expanduser()


def prepare(settings: GatewaySettings, *, strict: bool = True) -> Prepared:
    """Load what the settings name and join it; raises ConfigError, where `strict` also if a row would come too late."""
    pack = load_pack(settings.pack)
    maps = tuple((load_signals(m.signals), load_dbc(m.dbc)) for m in settings.maps)
    read = plan(maps, pack.series, pack.probes, absent=settings.absent, cycle_s=settings.cycle_s)
    try:
        guard = pack_guard(
            pack,
            read.sources,
            read.required,
            tick_s=TICK_S,
            delay_s=settings.delay_s,
            resolution_v=(read.resolution.get("cell_v", 0.001), read.resolution.get("pack_v", 0.1)),
        )
    except ConfigError:
        raise
    except ValueError as bad:
        msg = f"{bad} ({settings.file})"
        raise ConfigError(msg) from None
    if strict and guard.too_slow and not guard.config.observer:
        more = f", and {len(guard.too_slow) - 1} more: see --check" if len(guard.too_slow) > 1 else ""
        msg = f"{guard.too_slow[0]}{more} ({settings.file})"
        raise ConfigError(msg)
    return Prepared(settings, pack, maps, read, guard, writer(load_dbc(settings.commands)))
