"""How many bytes a frame takes on its way from a vehicle, codec by codec, on recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from edge.batches import Batches, BatchSettings
from flows.traces import TraceOptions, trace_items
from operators.assemble import Assembler
from operators.dbc import load_dbc
from replay.bench_can import CELLS, PROBES, logs
from schemas.frames import FrameBlock, concat
from schemas.ids import record_id
from schemas.signals import load_signals, signals_for
from schemas.wire_arrow import ARROW, encode_arrow, encode_delta
from schemas.wire_json import encode_json

_DAY_S = 86_400
_FRAMES = 12_000  # of car1: driving, charging and standing
_GATEWAY = "edge-gateway-0001"  # an id as long as most are
_HEADERS = len(f"{_GATEWAY}content-type{ARROW}idlanelive") + len(record_id("", "", "", 0))


def _json(block: FrameBlock) -> int:
    return sum(len(message) for _, message in encode_json(block))


def _json_zstd(block: FrameBlock) -> int:
    return len(pa.compress(b"\n".join(message for _, message in encode_json(block)), "zstd"))


CODECS: dict[str, Callable[[FrameBlock], int]] = {
    "JSON": _json,
    "JSON + zstd": _json_zstd,
    "Arrow": lambda block: len(encode_arrow(block)),
    "Arrow + zstd": lambda block: len(encode_arrow(block, zstd=True)),
    "Arrow, delta + zstd 3": lambda block: len(encode_delta(block, 3)),
    "Arrow, delta + zstd 19": lambda block: len(encode_delta(block)),
}
# What is sent together: a frame a second, ended by these.
SENT = {"10 s": BatchSettings(), "60 s": BatchSettings(batch_s=60.0)}


def wire_bytes(data: Path) -> dict[str, Any]:
    """Give bytes a frame by recording, batch and codec, and what a vehicle that is always on sends a day, MB.

    JSON is one message a frame.  The day counts key and headers of each message, not the broker's own framing.
    """
    found: dict[str, dict[str, float]] = {"wire_bytes_per_frame": {}, "wire_mb_per_vehicle_day": {}}
    for name, block in _recordings(data).items():
        for how, settings in SENT.items():
            for codec, (per_frame, per_day) in sizes(block, settings).items():
                found["wire_bytes_per_frame"][f"{name}, {how}, {codec}"] = per_frame
                found["wire_mb_per_vehicle_day"][f"{name}, {how}, {codec}"] = per_day / 1e6
    return found


def sizes(block: FrameBlock, settings: BatchSettings) -> dict[str, tuple[float, float]]:
    """Give bytes a frame, and a day with key and headers, codec by codec."""
    batches = Batches(settings)
    parts = batches.push(block, 0) + batches.flush()
    rows = sum(map(len, parts))
    found: dict[str, tuple[float, float]] = {}
    for codec, size in CODECS.items():
        per_frame = sum(map(size, parts)) / rows
        messages = rows if codec == "JSON" else len(parts)
        found[codec] = per_frame, (per_frame + _HEADERS * messages / rows) * _DAY_S
    return found


def _recordings(data: Path) -> dict[str, FrameBlock]:
    """Read some thousand frames with every cell, and the frames of the BMW's logs, which have none."""
    car1 = data / "ev_faults" / "car1.parquet"
    items = (item for item in trace_items(TraceOptions((str(car1),))) if isinstance(item, FrameBlock))
    found = {"car1": next(items).take(slice(0, _FRAMES))}
    bmw = data / "can_traces" / "bmw_i3.parquet"
    if bmw.is_file():
        dbc = load_dbc(data / "can_traces" / "dbc" / "bmw_i3_lim.dbc")
        signals = load_signals(signals_for(dbc.path))
        assembler = Assembler(signals, dbc, model="bmw-i3-60ah", cells=CELLS, probes=PROBES, pack_id="bmw")
        frames = [assembler.push(logs(bmw)), assembler.flush()]
        found["BMW i3"] = concat([block for block in frames if block is not None])
    return found
