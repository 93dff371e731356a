"""An outbox for tests: put records into it, and look at all that it holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edge.outbox import BACKFILL, LIVE, URGENT, Outbox, OutboxSettings, Record
from edge.retention import DROPPED

S = 10**9
SMALL = OutboxSettings(max_bytes=1 << 20, segment_bytes=700, sync_s=1e6)
LANES = (URGENT, LIVE, BACKFILL)


def put(box: Outbox, kind: str, n: int, size: int = 100, at_s: float | None = None) -> bool:
    t_ns = round((n if at_s is None else at_s) * S)
    payload = bytes([n % 251]) * size
    return box.append(kind, f"id-{n}", t_ns, t_ns + S, payload, content_type="t/x", now_ns=t_ns)


def everything(box: Outbox, now_s: float = 1e9) -> dict[str, Record]:
    """Take everything and give it back."""
    found: dict[str, Record] = {}
    for lane in LANES:
        taken = box.take(lane, round(now_s * S), 1 << 30)
        assert not found.keys() & {r.id for r in taken}
        found |= {r.id: r for r in taken}
        box.give_back(r.number for r in taken)
    return found


def notes_in(box: Outbox) -> list[dict[str, Any]]:
    return [json.loads(r.payload) for r in everything(box).values() if r.kind == DROPPED]


def copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to
