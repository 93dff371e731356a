"""What one process of a run tells of itself: counters, a heartbeat file, events in the log, and Prometheus metrics."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from operators.shard import Kept
from schemas.events import DeadLetter, GatewayReport, Incident, Item, Rows
from schemas.frames import FrameBlock
from schemas.ids import shard_of
from schemas.wire_gateway import REPORTS

BEAT_S = 1.0
Labels = tuple[tuple[str, str], ...]
# name → (prometheus type, meaning)
METRICS: dict[str, tuple[str, str]] = {
    "ibms_frames_total": (
        "counter",
        "frames out of a stage: decoded, cleaned, estimated, diagnosed, windowed",
    ),
    "ibms_records_total": ("counter", "records handed to the sinks, by table"),
    "ibms_late_total": ("counter", "frames that came after later ones had been passed on"),
    "ibms_duplicates_total": ("counter", "frames that came again, the same in time, number and content"),
    "ibms_dead_letters_total": ("counter", "refused messages and rows, by reason"),
    "ibms_incidents_opened_total": ("counter", "incidents opened, by kind"),
    "ibms_lag_messages": ("gauge", "messages in a partition behind what was read"),
    "ibms_epoch_seconds": ("gauge", "time between the last two snapshots"),
    "ibms_snapshot_seconds": ("gauge", "time from the last snapshot to the item after it"),
    "ibms_snapshot_bytes": ("gauge", "state in the last snapshot, by step"),
    "ibms_shard_packs": ("gauge", "packs in a shard"),
    "ibms_sink_tick_seconds": ("gauge", "time (Unix) of the newest tick that has reached a sink"),
    "ibms_ready": ("gauge", "1 while the process reads and writes, 0 while it waits"),
}


@dataclass(frozen=True, slots=True)
class ObserveSettings:
    """How a run is watched."""

    metrics_port: int = 0  # process n of a cluster has this + n; 0 is off
    metrics_host: str = "127.0.0.1"  # where it listens; in a container "0.0.0.0"
    log: Literal["off", "json", "logfmt"] = "off"


class Observer:
    """Counts and times of one process; `folder` is where its heartbeat file goes, if anywhere."""

    def __init__(self, settings: ObserveSettings, process: int = 0, folder: Path | None = None) -> None:
        """Begin at nothing."""
        self._settings, self._process = settings, process
        self._file = None if folder is None else folder / f"process-{process}.json"
        self._why: dict[str, str] = {}
        self._beat_at = 0.0
        self._snapshot_at: dict[str, float] = {}  # by sink
        self._after_snapshot: set[str] = set()
        self._kept: dict[tuple[str, str], Kept] = {}  # by step and shard
        self.values: dict[tuple[str, Labels], float] = defaultdict(float)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._write()

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        """Add to a counter."""
        self.values[name, tuple(labels.items())] += by

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.values[name, tuple(labels.items())] = value

    def lag(self, place: tuple[str, int], behind: int) -> None:
        """Note how far a partition is read."""
        self.set("ibms_lag_messages", behind, topic=place[0], partition=str(place[1]))

    def passed(self, stage: str, item: Item) -> None:
        """Count the frames that come out of a stage."""
        if isinstance(item, FrameBlock):
            self.count("ibms_frames_total", len(item), stage=stage)
            self.beat()

    def recorded(self, items: Iterable[Item]) -> None:
        """Count what goes to the sinks."""
        self.beat()
        for item in items:
            if isinstance(item, DeadLetter):
                self.count("ibms_dead_letters_total", reason=item.reason)
                if item.reason == "late":
                    self.count("ibms_late_total")
            elif isinstance(item, Incident):
                if item.status == "open" and not item.provisional:
                    self.count("ibms_incidents_opened_total", kind=item.kind)
            elif isinstance(item, GatewayReport):
                self.count("ibms_records_total", table=REPORTS)
            elif isinstance(item, Rows):
                self.count("ibms_records_total", len(item), table=item.table)
                if item.table == "windows" and "frames" in item.data:
                    self.count("ibms_frames_total", float(np.sum(item.data["frames"])), stage="windowed")

    def kept(self, shards: int, kept: Kept) -> None:
        """Note what a step keeps of one of `shards` shards."""
        shard = f"{kept.model}/{shard_of(kept.pack, shards):03d}"
        self._kept[kept.step, shard] = kept
        of_step = [k for (step, _), k in self._kept.items() if step == kept.step]
        self.set("ibms_snapshot_bytes", sum(k.bytes for k in of_step), step=kept.step)
        if any(k.repeats for k in of_step):
            self.set("ibms_duplicates_total", sum(k.repeats for k in of_step))
        self.set("ibms_shard_packs", kept.packs, shard=shard)

    def ticked(self, sink: str, now_ns: int) -> None:
        """Note that a tick has reached a sink: what the supervisor watches."""
        self.set("ibms_sink_tick_seconds", now_ns / 1e9, sink=sink)
        self.beat()

    def wrote(self, sink: str) -> None:
        """Note that a sink got an item: after a snapshot, that snapshot is durable."""
        if sink in self._after_snapshot:
            self._after_snapshot.remove(sink)
            self.set("ibms_snapshot_seconds", time.monotonic() - self._snapshot_at[sink], sink=sink)

    def snapshot(self, sink: str) -> None:
        """Note that a sink was asked for a snapshot."""
        now = time.monotonic()
        if sink in self._snapshot_at:
            self.set("ibms_epoch_seconds", now - self._snapshot_at[sink], sink=sink)
        self._snapshot_at[sink] = now
        self._after_snapshot.add(sink)

    def waiting(self, what: str, why: str) -> None:
        """Note why `what` cannot go on, or "" that it can; a process that waits is alive and not ready."""
        if why != self._why.get(what, ""):
            self.say("waiting" if why else "ready", what=what, why=why)
        self._why = {k: v for k, v in {**self._why, what: why}.items() if v}
        self.beat()

    def beat(self) -> None:
        """Write the heartbeat file, once a second at most."""
        now = time.monotonic()
        if self._file is not None and now - self._beat_at >= BEAT_S:
            self._beat_at = now
            self._write()

    def say(self, event: str, **values: object) -> None:
        """Write an event as one line to standard error."""
        if self._settings.log == "off":
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made = {"time": at, "event": event, "process": self._process, **values}
        if self._settings.log == "json":
            line = json.dumps(made, default=str)
        else:
            line = " ".join(f"{k}={_logfmt(v)}" for k, v in made.items())
        sys.stderr.write(line + "\n")

    def serve(self) -> None:
        """Serve metrics where the settings name a port."""
        if not self._settings.metrics_port:
            return
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - only where asked for

        registry = CollectorRegistry()
        registry.register(_Collector(self))
        start_http_server(self._settings.metrics_port + self._process, self._settings.metrics_host, registry)

    def _write(self) -> None:
        assert self._file is not None
        values = [[name, dict(labels), value] for (name, labels), value in list(self.values.items())]
        told = {"pid": os.getpid(), "process": self._process, "at": time.time(), "waiting": self._why, "values": values}
        made = self._file.with_suffix(".new")
        try:
            made.write_text(json.dumps(told))
            made.replace(self._file)
        except OSError:  # a full disk is the flow's to report: watching must not end it
            return


def _logfmt(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n') else text


class _Collector:
    """Give an observer's values as Prometheus asks for them: nothing is spent between."""

    def __init__(self, seen: Observer) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - see serve

        by_name: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for (name, labels), value in list(self._seen.values.items()):
            by_name[name].append((labels, value))
        by_name["ibms_ready"] = [((), 0.0 if self._seen._why else 1.0)]  # noqa: SLF001 - of this file
        for name, values in by_name.items():
            kind, meaning = METRICS[name]
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            made = family(name, meaning, labels=[k for k, _ in values[0][0]])
            for labels, value in values:
                made.add_metric([v for _, v in labels], value)
            yield made
