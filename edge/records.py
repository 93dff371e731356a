"""What does the gateway report to the fleet besides frames? Starts, decisions, alerts and judged orders, as JSON.

Pure.  A record's id follows from what it says, so that the fleet can drop repeats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from edge.cloud_limits import Judged
from edge.link import Told
from edge.outbox import JSON
from edge.retention import INCIDENT
from schemas.ids import record_id

DECISION, ALERT, START = "decision", "alert", "start"
_NOT_SAID = {"kind", "number"}


class Kept(NamedTuple):
    """A record for the outbox: see edge.outbox.Record."""

    kind: str
    id: str
    t_ns: int
    end_ns: int
    payload: bytes
    content_type: str
    subject: str


def start_record(about: Mapping[str, Any], vehicle: str, now_ns: int) -> Kept:
    """Report that telemetry has started; `about` says of what a gateway is made."""
    said = {"at_ns": now_ns, "text": "telemetry has started", **about}
    return _record(START, "", now_ns, said, vehicle)


def told_record(message: Told, vehicle: str, stands: Mapping[str, Any] | None = None) -> Kept:
    """Report a decision or an alert of protection; `at_ns` is when the supervisor heard it, on the wall clock.

    `stands` says of what the gateway is made, and how full its pack is.
    """
    what = message["kind"]
    said = {name: _plain(value) for name, value in {**message, **(stands or {})}.items() if name not in _NOT_SAID}
    about = f"{message['key']} {'on' if message['active'] else 'off'}" if what == DECISION else message["text"]
    return _record(what, about, message["at_ns"], said, vehicle)


def order_record(judged: Judged, vehicle: str, now_ns: int, stands: Mapping[str, Any] | None = None) -> Kept:
    """Report what became of an order from afar; `stands` as in told_record."""
    said = {"at_ns": now_ns, "result": judged.reason or "taken", "sequence": judged.sequence, "text": judged.text}
    said = {**said, **(stands or {})}
    return _record("order", f"{judged.sequence} {judged.reason}", now_ns, said, vehicle)


def _record(what: str, about: str, t_ns: int, said: dict[str, Any], vehicle: str) -> Kept:
    content = json.dumps({"what": what, "vehicle": vehicle, **said}, separators=(",", ":"), allow_nan=False)
    name = record_id(vehicle, INCIDENT, f"{what} {about}", t_ns)
    return Kept(INCIDENT, name, t_ns, t_ns, content.encode(), JSON, f"{what} {about}")


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
