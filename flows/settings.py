"""What a run is told: one TOML file, checked as a whole at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from flows.observe import ObserveSettings
from schemas.checked import ConfigError, Table, read_table
from schemas.kafka_settings import KafkaSettings, kafka_settings
from schemas.message import MAX_BYTES

_READERS = 4
_OUTPUTS = ("lake", "kafka")
_LATEST_S = 9_000_000_000  # int64 ns end in 2262
Speed = float | Literal["max"]


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How the fleet flow computes."""

    shards: int = 4  # 64 for a large fleet; part of every state's key, so choose once
    window_s: float = 60.0
    state_s: float = 900.0  # how often per-cell states are written
    lateness_s: float = 5.0
    idle_close_s: float = 300.0  # silence after which a tick shows an open window as provisional
    keep_frames: bool = False
    anomaly_model: str = ""  # file made by `ibms train anomaly`

    def params(self) -> str:
        """Hash what can change a result, to 16 hex digits (neither shards nor keep_frames can).

        The anomaly model has a column of its own in each record.
        """
        values = (self.window_s, self.state_s, self.lateness_s)
        return blake2b(repr(values).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """Where results go."""

    dir: Path = Path("lake")
    encrypt: bool = False


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """Where snapshots go; no directory, no recovery."""

    dir: Path | None = None
    epoch_s: float = 30.0

    @property
    def epoch(self) -> timedelta:
        """The time between snapshots."""
        return timedelta(seconds=self.epoch_s)

    @property
    def files(self) -> Path | None:
        """The directory of the steps' state, inside the recovery store."""
        return self.dir and self.dir / "state"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Recorded traces as input: what `ibms replay` takes on its command line."""

    paths: tuple[str, ...] = ()
    pack: str = ""
    dbc: str = ""
    map: str = ""
    vehicle: str = ""
    period_s: float | None = None  # None: the mapping's
    start: str = ""
    from_time: str = ""
    to_time: str = ""
    speed: Speed = "max"


@dataclass(frozen=True, slots=True)
class SimulateSettings:
    """A simulated fleet as input."""

    vehicles: int = 200
    hours: float = 24.0
    period_s: float = 10.0
    models: tuple[str, ...] = ("generic-nmc@96c16t60ah",)
    seed: int = 1
    faults: bool = True
    speed: Speed = "max"


@dataclass(frozen=True, slots=True)
class KafkaInSettings:
    """Frames from Kafka as input, without end."""

    models: tuple[str, ...]  # pack models that are accepted; others are dead letters
    readers: int = _READERS  # each owns its share of the partitions; part of every snapshot, so choose once
    on_expired: Literal["earliest", "fail"] = "fail"  # where messages expired before they were read
    max_bytes: int = MAX_BYTES  # of a message; a larger one is a dead letter
    speed: Speed = "max"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A whole run."""

    source: TraceSettings | SimulateSettings | KafkaInSettings
    fleet: FleetSettings = field(default_factory=FleetSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    ticks: bool = False
    kafka: KafkaSettings | None = None
    outputs: tuple[str, ...] = ("lake",)
    observe: ObserveSettings = field(default_factory=ObserveSettings)


def time_ns(text: str, key: str) -> int:
    """Read an ISO 8601 time, UTC where it names no zone, as ns since 1970; raises ConfigError."""
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = int(at.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds <= _LATEST_S:
        msg = f"{key} must be a time as 2026-01-05T08:00:00Z; got {text}"
        raise ConfigError(msg)
    return seconds * 10**9 + at.microsecond * 1000


def read_settings(path: Path) -> Table:
    """Read a settings file, whoever it is for; raises ConfigError."""
    return read_table(path, "settings must be a readable TOML file")


def load_settings(path: Path) -> RunSettings:
    """Read a run's settings; raises ConfigError with file, key, value and what is accepted."""
    whole = read_settings(path)
    source = _source(whole.table("source"))
    fleet = _fleet(section(whole, "fleet"))
    live = isinstance(source, KafkaInSettings)
    around = surroundings(whole, live=live)
    ticks = whole.truth("ticks", default=live)
    whole.done()
    return RunSettings(source, fleet, around.lake, around.recovery, ticks, around.kafka, around.outputs, around.observe)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every run has, whatever it computes."""

    lake: LakeSettings
    recovery: RecoverySettings
    kafka: KafkaSettings | None
    outputs: tuple[str, ...]
    observe: ObserveSettings


def surroundings(whole: Table, *, live: bool) -> Surroundings:
    """Read [lake], [recovery], [kafka], [observe] and outputs; `live`: the input comes from Kafka and has no end."""
    lake = section(whole, "lake")
    lake_settings = LakeSettings(Path(lake.text("dir", default="lake")), lake.truth("encrypt", default=False))
    lake.done()
    recovery = section(whole, "recovery")
    where = recovery.raw("dir")
    if where is not None and (not isinstance(where, str) or not where):
        recovery.refuse("dir", "a directory", where)
    recovery_settings = RecoverySettings(
        None if where is None else Path(where), recovery.number("epoch_s", 0.01, 3600, default=30.0)
    )
    recovery.done()
    kafka = None if whole.raw("kafka") is None else kafka_settings(whole.table("kafka"))
    outputs = whole.raw("outputs")
    if outputs is None:
        outputs = ["lake"]
    if not isinstance(outputs, list) or not outputs or not all(o in _OUTPUTS for o in outputs):
        whole.refuse("outputs", f"a list of one or more of {', '.join(_OUTPUTS)}", outputs)
    if kafka is None and (live or "kafka" in outputs):
        whole.refuse("kafka", 'a table with bootstrap, where source.kind or an output is "kafka"')
    if live and recovery_settings.dir is None:
        recovery.refuse("dir", 'a directory, where source.kind is "kafka"')
    observe = _observe(section(whole, "observe"))
    return Surroundings(lake_settings, recovery_settings, kafka, tuple(outputs), observe)


def section(whole: Table, key: str) -> Table:
    """Give a table that may be left out."""
    if whole.raw(key) is None:
        return Table({}, whole.file, f"{key}.")
    return whole.table(key)


def _fleet(table: Table) -> FleetSettings:
    d = FleetSettings()
    model = table.raw("anomaly_model")
    if model is not None and not isinstance(model, str):
        table.refuse("anomaly_model", "a file", model)
    settings = FleetSettings(
        shards=d.shards if table.raw("shards") is None else table.integer("shards", 1, 4096),
        window_s=table.number("window_s", 1, 3600, default=d.window_s),
        state_s=table.number("state_s", 1, 86_400, default=d.state_s),
        lateness_s=table.number("lateness_s", 0, 60, default=d.lateness_s),
        idle_close_s=table.number("idle_close_s", 1, 86_400, default=d.idle_close_s),
        keep_frames=table.truth("keep_frames", default=d.keep_frames),
        anomaly_model=model or "",
    )
    table.done()
    return settings


def _observe(table: Table) -> ObserveSettings:
    port = 0 if table.raw("metrics_port") is None else table.integer("metrics_port", 0, 65_000)
    host = table.text("metrics_host", default=ObserveSettings().metrics_host)
    log: Any = table.text("log", ("off", "json", "logfmt"), "off")
    table.done()
    return ObserveSettings(port, host, log)


def kafka_in(table: Table) -> KafkaInSettings:
    """Read the rest of [source] of a run from Kafka."""
    models = table.raw("models")
    if not isinstance(models, list) or not models or not all(isinstance(m, str) for m in models):
        table.refuse("models", "a list of the pack models in the fleet", models)
    expired: Any = table.text("on_expired", ("earliest", "fail"), "fail")
    return KafkaInSettings(
        models=tuple(models),
        readers=_READERS if table.raw("readers") is None else table.integer("readers", 1, 1024),
        on_expired=expired,
        max_bytes=MAX_BYTES if table.raw("max_bytes") is None else table.integer("max_bytes", 1024, 1 << 26),
    )


def _source(table: Table) -> TraceSettings | SimulateSettings | KafkaInSettings:
    kind = table.text("kind", ("traces", "simulate", "kafka"))
    settings: TraceSettings | SimulateSettings | KafkaInSettings
    if kind == "kafka":
        settings = kafka_in(table)
    elif kind == "traces":
        paths = table.raw("paths")
        if not isinstance(paths, list) or not paths or not all(isinstance(p, str) for p in paths):
            table.refuse("paths", "a list of trace files", paths)
        settings = TraceSettings(
            paths=tuple(paths),
            pack=_optional(table, "pack"),
            dbc=_optional(table, "dbc"),
            map=_optional(table, "map"),
            vehicle=_optional(table, "vehicle"),
            period_s=None if table.raw("period_s") is None else table.number("period_s", 0, 3600),
            start=_time(table, "start"),
            from_time=_time(table, "from"),
            to_time=_time(table, "to"),
            speed=_speed(table),
        )
    else:
        s = SimulateSettings()
        models = table.raw("models")
        if models is not None and (
            not isinstance(models, list) or not models or not all(isinstance(m, str) for m in models)
        ):
            table.refuse("models", "a list of pack models", models)
        settings = SimulateSettings(
            vehicles=s.vehicles if table.raw("vehicles") is None else table.integer("vehicles", 1, 10_000_000),
            hours=table.number("hours", 0, 87_840, above=True, default=s.hours),
            period_s=table.number("period_s", 0.01, 600, default=s.period_s),
            models=s.models if models is None else tuple(models),
            seed=s.seed if table.raw("seed") is None else table.integer("seed", 0, 2**63 - 1),
            faults=table.truth("faults", default=s.faults),
            speed=_speed(table),
        )
    table.done()
    return settings


def _optional(table: Table, key: str) -> str:
    return "" if table.raw(key) is None else table.text(key)


def _time(table: Table, key: str) -> str:
    """Give a time as text; TOML has times of its own, and quoted ones are as good."""
    value = table.raw(key)
    if value is None:
        return ""
    try:
        time_ns(str(value), key)
    except ConfigError:
        table.refuse(key, "a time as 2026-01-05T08:00:00Z", value)
    return str(value)


def _speed(table: Table) -> Speed:
    value = table.raw("speed")
    if value is None or value == "max":
        return "max"
    if isinstance(value, str):
        table.refuse("speed", '"max", or a number > 0', value)
    return table.number("speed", 0, 1e6, above=True)
