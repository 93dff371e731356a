"""What the telemetry process is told: which frames are kept and sent, how cells are balanced, who may give orders.

The tables [telemetry], [outbox], [blackbox], [uplink], [orders] and [balancing] of gateway.toml; each may be left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edge.batches import BatchSettings
from edge.blackbox import BlackboxSettings
from edge.outbox import OutboxSettings
from edge.settings import GatewaySettings
from schemas.checked import Table
from schemas.kafka_settings import KafkaSettings, kafka_settings
from schemas.message import ID_MAX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KAFKA, FILE, NONE = "kafka", "file", "none"  # kinds of uplink
BY = ("voltage", "charge")
_KIB, _MIB, _MB = 1 << 10, 1 << 20, 1e6
_MOST_MB = 1e6
_FULL_V = 4.3
_LEAST_MIB = 4.0  # four files: fewer could not be thinned before they are full


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """The way out: `folder` of files, or a broker; `budget_bytes` is what a day may cost before history waits."""

    kind: str = NONE
    folder: Path = Path()
    kafka: KafkaSettings | None = None
    budget_bytes: int = 10_000_000


@dataclass(frozen=True, slots=True)
class BalancingSettings:
    """How cells are balanced: `bleed_a` flows through a bleed; `by` and `budget_w` None: as fits the pack."""

    bleed_a: float
    by: str | None = None
    budget_w: float | None = None


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Of the telemetry process; `keys` are of those who may sign orders; `balancing` None: nobody asks for any."""

    folder: Path
    frames: BatchSettings = field(default_factory=BatchSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    blackbox: BlackboxSettings = field(default_factory=BlackboxSettings)
    uplink: UplinkSettings = field(default_factory=UplinkSettings)
    keys: tuple[Ed25519PublicKey, ...] = ()
    balancing: BalancingSettings | None = None


def telemetry_settings(settings: GatewaySettings) -> TelemetrySettings:
    """Read the tables of gateway.toml; raises ConfigError with file, key, value and what is accepted."""
    folder = Path(settings.file).parent
    top = Table({"vehicle": settings.vehicle, **settings.telemetry}, settings.file)
    if len(settings.vehicle) > ID_MAX:
        top.refuse("vehicle", f"a text of at most {ID_MAX} characters", settings.vehicle)
    outbox, place = _outbox(_table(top, "outbox"), settings.state_dir, folder)
    return TelemetrySettings(
        place,
        _frames(_table(top, "telemetry")),
        outbox,
        _blackbox(_table(top, "blackbox")),
        _uplink(_table(top, "uplink"), folder),
        _keys(_table(top, "orders"), folder),
        _balancing(top.table("balancing")) if "balancing" in top.keys else None,
    )


def _table(top: Table, name: str) -> Table:
    return top.table(name) if name in top.keys else Table({}, top.file, f"{name}.")


def _frames(t: Table) -> BatchSettings:
    d = BatchSettings()
    made = BatchSettings(
        period_s=t.number("period_s", 0, 3600, default=d.period_s),
        batch_s=t.number("batch_s", 0.1, 3600, default=d.batch_s),
        batch_bytes=round(_KIB * t.number("batch_kib", 1, 1000, default=d.batch_bytes / _KIB)),
    )
    t.done()
    return made


def _outbox(t: Table, state_dir: Path, folder: Path) -> tuple[OutboxSettings, Path]:
    d = OutboxSettings()
    max_mib = t.number("max_mib", _LEAST_MIB, _MOST_MB, default=d.max_bytes / _MIB)
    made = OutboxSettings(
        max_bytes=round(_MIB * max_mib),
        max_days=t.number("max_days", 0, 3650, above=True, default=d.max_days),
        sync_s=t.number("sync_s", 0, 3600, default=d.sync_s),
        live_age_s=t.number("live_age_s", 1, 3600, default=d.live_age_s),
    )
    place = folder / Path(t.text("folder")).expanduser() if "folder" in t.keys else state_dir / "outbox"
    t.done()
    return made, place


def _blackbox(t: Table) -> BlackboxSettings:
    d = BlackboxSettings()
    made = BlackboxSettings(
        before_s=t.number("before_s", 1, 600, default=d.before_s),
        after_s=t.number("after_s", 1, 600, default=d.after_s),
    )
    t.done()
    return made


def _uplink(t: Table, folder: Path) -> UplinkSettings:
    d = UplinkSettings()
    kind = t.text("kind", (KAFKA, FILE, NONE), d.kind)
    budget_bytes = round(_MB * t.number("budget_mb_per_day", 0, _MOST_MB, default=d.budget_bytes / _MB))
    place, kafka = d.folder, None
    if kind == FILE:
        place = folder / Path(t.text("folder")).expanduser()
    if kind == KAFKA:
        if find_spec("confluent_kafka") is None:
            t.refuse("kind", "what is installed (kafka needs: pip install 'ibms[uplink]')", kind)
        kafka = kafka_settings(t.table("kafka"))
        kafka.client()  # a password that is not there stops the start
        kafka.topics()
    t.done()
    return UplinkSettings(kind, place, kafka, budget_bytes)


def _keys(t: Table, folder: Path) -> tuple[Ed25519PublicKey, ...]:
    named = t.raw("keys")
    t.done()
    if named is None:
        return ()
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        t.refuse("keys", "a list of files, each an Ed25519 public key as PEM", named)
    from schemas.signed import read_public  # noqa: PLC0415 - who takes no orders needs no cryptography

    return tuple(read_public(folder / Path(name).expanduser()) for name in named)


def _balancing(t: Table) -> BalancingSettings:
    bleed_a = t.number("bleed_a", 0, 10, above=True)
    made = BalancingSettings(
        bleed_a=bleed_a,
        by=t.text("by", BY) if "by" in t.keys else None,
        # less than one full cell makes would let none bleed, and say nothing
        budget_w=t.number("budget_w", round(_FULL_V * bleed_a, 3), 10_000) if "budget_w" in t.keys else None,
    )
    t.done()
    return made
