"""What a gateway shows: metrics as Prometheus text and a status page as JSON on loopback, and words for a person."""

from __future__ import annotations

import json
import math
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from schemas.checked import ConfigError

Shown = dict[str, Any]
Sample = tuple[str, Mapping[str, str], float]
LOOPBACK = "127.0.0.1"
_WAIT_S = 2.0
_GAUGES = {  # name in a beat → metric, its meaning
    "charge_a": ("ibms_edge_charge_limit_amperes", "allowed charge current"),
    "discharge_a": ("ibms_edge_discharge_limit_amperes", "allowed discharge current"),
    "may_close": ("ibms_edge_may_close", "1 where nothing stands against closing"),
    "stop": ("ibms_edge_stop_request", "1 while the driver is asked to stop"),
    "blind": ("ibms_edge_blind", "1 while limits are taken back for want of knowledge"),
}
_COUNTS = {
    "frames": ("ibms_edge_frames_total", "CAN frames taken"),
    "refused": ("ibms_edge_refused_total", "sealed messages that did not fit their seal"),
    "errors": ("ibms_edge_bus_errors_total", "failures of the bus"),
    "unsent": ("ibms_edge_unsent_total", "frames that the bus did not take"),
}
_TELEMETRY = {
    "ibms_edge_rows_total": "frames of the pack, at the full rate",
    "ibms_edge_frame_bytes_total": "bytes of the frames that are sent, packed",
    "ibms_edge_outbox_up": "1 while the disk takes what is kept",
    "ibms_edge_outbox_bytes": "bytes of the outbox on disk",
    "ibms_edge_outbox_records": "records that wait to be sent",
    "ibms_edge_dropped_records_total": "records that were let go",
    "ibms_edge_dropped_bytes_total": "bytes of them",
    "ibms_edge_sent_records_total": "records that have arrived",
    "ibms_edge_sent_bytes_total": "bytes of them",
    "ibms_edge_send_failures_total": "records that came back from the uplink",
    "ibms_edge_day_bytes": "bytes that have arrived since midnight UTC, or since the start",
    "ibms_edge_day_before_bytes": "bytes that arrived on the day before; 0 where that is not known",
    "ibms_edge_day_budget_bytes": "what a day may cost before history waits",
    "ibms_edge_orders_total": "orders from afar, by what became of them",
    "ibms_edge_outside_limits_until_seconds": "until when limits from outside hold, s since 1970; 0: there are none",
    "ibms_edge_soc": "charge as the vehicle itself reckons it, 0..1",
    "ibms_edge_soc_std": "its standard deviation",
    "ibms_edge_cooling_request": "cooling asked for, 0..1",
    "ibms_edge_heating_request": "heating asked for, 0..1",
    "ibms_edge_bleeding_cells": "cell groups whose bleeds are asked for",
    "ibms_edge_bleeding_watts": "heat of these bleeds",
}


def serve(port: int, shown: Callable[[], Shown]) -> ThreadingHTTPServer:
    """Serve /metrics and /status on loopback; raises ConfigError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with what stands now."""
            if self.path == "/metrics":
                self._answer(metrics(shown()).encode(), "text/plain; version=0.0.4")
            elif self.path == "/status":
                self._answer(json.dumps(_plain(shown())).encode(), "application/json")
            else:
                self.send_error(404, "there are /metrics and /status")

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing: the journal is for what happens to the pack."""

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as bad:
        msg = f"http.port must be a free port; got {port} ({bad.strerror})"
        raise ConfigError(msg) from None
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def metrics(shown: Shown) -> str:
    """Give the metrics as Prometheus text."""
    beat = shown.get("beat") or {}
    lines: list[str] = []
    for name, (metric, meaning) in _GAUGES.items():
        if name in beat:
            lines += _metric(metric, "gauge", meaning, [(metric, {}, float(beat[name]))])
    for name, (metric, meaning) in _COUNTS.items():
        if name in beat:
            lines += _metric(metric, "counter", meaning, [(metric, {}, float(beat[name]))])
    values = [("ibms_edge_value", {"signal": k}, float(v)) for k, v in (beat.get("values") or {}).items()]
    lines += _metric("ibms_edge_value", "gauge", "signals as protection sees them, NaN where not usable", values)
    active = [("ibms_edge_cause", {"row": key}, 1.0) for key in beat.get("causes", ())]
    lines += _metric("ibms_edge_cause", "gauge", "rows that ask for more than a note", active)
    lines += _steps(shown.get("step_us", ()), beat.get("step_counts", ()), beat.get("step_total_us", 0.0))
    children = shown.get("children", {})
    up = [("ibms_edge_up", {"process": k}, float(c["up"])) for k, c in children.items()]
    lines += _metric("ibms_edge_up", "gauge", "1 while a process runs and speaks", up)
    again = [("ibms_edge_restarts_total", {"process": k}, float(c["restarts"])) for k, c in children.items()]
    lines += _metric("ibms_edge_restarts_total", "counter", "starts again of a process", again)
    told: dict[str, list[Sample]] = {}
    for name, labels, value in shown.get("telemetry", ()):
        told.setdefault(name, []).append((name, labels, value))
    for name, samples in told.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += _metric(name, kind, _TELEMETRY.get(name, "of the telemetry process"), samples)
    return "\n".join(lines) + "\n"


def _steps(tops_us: Sequence[float], counts: Sequence[int], total_us: float) -> list[str]:
    """Give the times of protection steps as a histogram."""
    name, samples = "ibms_edge_step_seconds", list[Sample]()
    for k, top_us in enumerate((*tops_us, math.inf)[: len(counts)], 1):
        bound = "+Inf" if math.isinf(top_us) else f"{top_us / 1e6:g}"
        samples.append((f"{name}_bucket", {"le": bound}, float(sum(counts[:k]))))
    if samples:
        samples += [(f"{name}_sum", {}, total_us / 1e6), (f"{name}_count", {}, float(sum(counts)))]
    return _metric(name, "histogram", "time of one protection step", samples)


def _metric(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> list[str]:
    found = [_sample(*sample) for sample in samples]
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *found] if found else []


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{k}="{_escaped(str(v))}"' for k, v in labels.items())
    number = "NaN" if math.isnan(value) else "+Inf" if value == math.inf else f"{value:.10g}"
    return f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON holds anything
    """Give NaN as null: JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def fetch(port: int) -> Shown:
    """Get the status page of a gateway that runs; raises ConfigError where there is none."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/status", timeout=_WAIT_S) as answer:
            page: Shown = json.loads(answer.read())
    except (OSError, ValueError) as bad:
        msg = f"a gateway must run and answer on http.port {port}; got {bad}"
        raise ConfigError(msg) from None
    return page


def _telemetry_words(told: Iterable[tuple[str, Mapping[str, str], float | None]]) -> list[str]:
    """Say what waits, what went and how full the pack is; [] where telemetry has not spoken."""
    of: dict[str, float] = {}
    for name, _, value in told:
        of[name] = of.get(name, 0.0) + (math.nan if value is None else value)
    if "ibms_edge_rows_total" not in of:
        return []
    waits, dropped = of.get("ibms_edge_outbox_records", 0.0), of.get("ibms_edge_dropped_records_total", 0.0)
    line = f"outbox       {waits:.0f} records wait, {of.get('ibms_edge_outbox_bytes', 0.0) / 1e6:.1f} MB"
    if not of["ibms_edge_outbox_up"]:
        line = "outbox       the disk does not take it, nothing is kept"
    line += f"; {dropped:.0f} let go" if dropped else ""
    line += f"; sent today {of['ibms_edge_day_bytes'] / 1e6:.2f} MB" if "ibms_edge_day_bytes" in of else ""
    soc, std = of.get("ibms_edge_soc", math.nan), of.get("ibms_edge_soc_std", math.nan)
    charge = "not known yet" if math.isnan(soc) else f"{100 * soc:.0f} % ± {100 * std:.0f} %"
    cells = f", {of['ibms_edge_bleeding_cells']:.0f} cells bleed" if "ibms_edge_bleeding_cells" in of else ""
    asked = [
        f"{way} {100 * share:.0f} %" for way in ("cooling", "heating") if (share := of.get(f"ibms_edge_{way}_request"))
    ]
    return [line, ", ".join([f"charge       {charge}{cells}", *asked])]


def words(page: Shown) -> str:
    """Say the status page in words."""
    beat = page.get("beat")
    lines = [f"vehicle      {page['vehicle']}, pack {page['pack']}{' (observer)' if page['observer'] else ''}"]
    for name, child in page["children"].items():
        state = "up" if child["up"] else f"down ({child['why'] or 'starting'})"
        lines.append(f"{name:<12} {state}, restarts {child['restarts']}")
    if page["latch_file"]:
        lines.append(f"latch file   {page['latch_file']}")
    lines += _telemetry_words(page["telemetry"])
    if not beat:
        return "\n".join([*lines, "no word from protection yet"])
    asked = beat["asked"]
    closed = "nothing commanded" if asked is None else ", ".join(
        f"{which} {'closed' if on else 'open'}" for which, on in zip(("plus", "minus", "precharge"), asked, strict=True)
    )  # fmt: skip
    lines.append(f"contactors   {beat['phase']}: {closed}{'' if beat['may_close'] else '; closing not allowed'}")
    for way in ("charge", "discharge"):
        now, ten = beat[f"{way}_a"], beat[way][1]
        at = f" at {ten['at']}" if ten["at"] else ""
        lines.append(f"{way:<12} {now:.1f} A now, {ten['power_w'] / 1000:.1f} kW for 10 s; {ten['limit']}{at} binds")
    shown = {k: v for k, v in beat["values"].items() if v is not None}
    lines.append("values       " + ", ".join(f"{k} {v:g}" for k, v in shown.items()))
    for name, unit in (("cell_v", "V"), ("temp_c", "°C")):
        if beat[name]:
            low, low_at, high, high_at = beat[name]
            lines.append(f"{name:<12} {low:.3f} {unit} ({low_at}) to {high:.3f} {unit} ({high_at})")
    bad = [f"{k} {v}" for k, v in beat["states"].items() if v not in {"ok", "absent"}]
    lines += [f"not usable   {', '.join(bad)}"] if bad else []
    lines += [f"silent       {', '.join(page['sources'][k] for k in beat['silent'])}"] if beat["silent"] else []
    lines += [f"cause        {key}" for key in beat["causes"]] + [f"latched      {key}" for key in beat["latched"]]
    return "\n".join(lines)
