"""Frames as JSON, by the names of COVESA VSS v6.0: one message holds one or more frames of one pack.

    {"schema": 1, "model": "leaf-24kwh", "pack": "P1", "vehicle": "V1", "frames": [
      {"t_ns": 1767571200000000000, "seq": 7, "Vehicle.Powertrain.TractionBattery.CurrentCurrent": -12.5,
       "Vehicle.Powertrain.TractionBattery.CellVoltage.CellVoltages": [3.701, 3.702, null], …}]}

`vehicle` is left out where it is the pack's id, `lane` ("backfill") where the frame is live, and a value that
is not available (null inside lists).  What VSS does not have goes by `Vehicle.Ibms.<column>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.events import DeadLetter
from schemas.frames import BACKFILL, CONTEXT, LIVE, NO_SEQ, FrameBlock, make_block, missing_context, pack_table
from schemas.message import (
    NO_TIME,
    UNDECODABLE,
    VERSION,
    WRONG_TYPE,
    Message,
    Models,
    RefusedError,
    check_id,
    check_version,
    check_width,
    dead_letter,
)
from schemas.pack import PackModel

JSON = "application/json"
_BATTERY = "Vehicle.Powertrain.TractionBattery"
CURRENT, VOLTAGE = f"{_BATTERY}.CurrentCurrent", f"{_BATTERY}.CurrentVoltage"
CELLS, PROBES = f"{_BATTERY}.CellVoltage.CellVoltages", f"{_BATTERY}.Temperature.CellTemperature"
_INT64 = (-(2**63), 2**63 - 1)
_NUMBERS = frozenset({float, int, type(None)})

# context column → (name, how many of its units make one of ours)
_VSS: dict[str, tuple[str, float]] = {
    "soc_bms": (f"{_BATTERY}.StateOfCharge.Current", 100.0),  # percent
    "soh_bms": (f"{_BATTERY}.StateOfHealth", 100.0),  # percent
    "speed_kmh": ("Vehicle.Speed", 1.0),
    "odo_km": ("Vehicle.TraveledDistance", 1000.0),  # whole metres
    "lat_deg": ("Vehicle.CurrentLocation.Latitude", 1.0),
    "lon_deg": ("Vehicle.CurrentLocation.Longitude", 1.0),
    "altitude_m": ("Vehicle.CurrentLocation.Altitude", 1.0),
    "ambient_c": ("Vehicle.Exterior.AirTemperature", 1.0),
}
NAMES = {column: _VSS.get(column, (f"Vehicle.Ibms.{column}", 1.0)) for column in CONTEXT}
_COLUMN_OF = {name: column for column, (name, _) in NAMES.items()}
_KNOWN = frozenset({"t_ns", "seq", CURRENT, VOLTAGE, CELLS, PROBES, *_COLUMN_OF})
WHOLE = {"t_ns": _INT64, "seq": _INT64} | {
    NAMES[column][0]: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for column, dtype in CONTEXT.items()
    if issubclass(dtype, np.integer)
}
_ANY = (-(2**63), 2**64)
_LIST = frozenset({list, type(None)})
_LANES = ("live", "backfill")
_WHOLE_M = "odo_km"
_INT_END = 2**63  # whole numbers of JSON end here


def encode_json(block: FrameBlock) -> list[tuple[str, bytes]]:
    """Write frames as (pack id, message), one message for each pack that has rows; order of rows kept."""
    messages = []
    for i, pack in enumerate(block.packs):
        rows = np.flatnonzero(block.pack == i)
        if rows.size:
            messages.append((pack, _message(block, i, rows.tolist())))
    return messages


def row_json(block: FrameBlock, row: int) -> bytes:
    """Write one row as a message of its own, as the dead letter of a refused row carries it."""
    return _message(block, int(block.pack[row]), [row])


def _message(block: FrameBlock, pack: int, rows: Sequence[int]) -> bytes:
    head: dict[str, Any] = {"schema": VERSION, "model": block.model, "pack": block.packs[pack]}
    if block.vehicles[pack] != block.packs[pack]:
        head["vehicle"] = block.vehicles[pack]
    frames = [_frame(block, row) for row in rows]
    return orjson.dumps(head | {"frames": frames}, option=orjson.OPT_SERIALIZE_NUMPY)


def _frame(block: FrameBlock, row: int) -> dict[str, Any]:
    frame: dict[str, Any] = {"t_ns": int(block.t_ns[row])}
    if block.seq[row] != NO_SEQ:
        frame["seq"] = int(block.seq[row])
    if block.lane[row] != LIVE:
        frame["lane"] = "backfill"
    for name, column in ((CURRENT, block.current_a), (VOLTAGE, block.pack_v)):
        if np.isfinite(column[row]):
            frame[name] = column[row]
    frame[CELLS], frame[PROBES] = block.cell_v[row], block.temp_c[row]
    for key, values in block.context.items():
        vss, factor = NAMES[key]
        value = values[row].item()
        if isinstance(value, float):
            if not np.isfinite(value):
                continue
            scaled = value * factor
            if key == _WHOLE_M and abs(scaled) < _INT_END:
                scaled = round(scaled)
            frame[vss] = values[row] if factor == 1.0 else scaled  # numpy's float32 is written short
        elif value != missing_context(key, 1)[0]:
            frame[vss] = value
    return frame


class _Header(NamedTuple):
    """What the frames of one message share."""

    order: int  # the message's place among those decoded together
    message: Message
    pack: str
    vehicle: str
    model: PackModel
    head: dict[str, Any]


class _Row(NamedTuple):
    header: _Header
    row: int
    frame: dict[str, Any]


def decode_json(
    messages: Iterable[tuple[int, Message, bytes]], models: Models
) -> tuple[list[tuple[NDArray[np.int64], FrameBlock]], list[DeadLetter]]:
    """Read (order, message, its bytes unpacked): a block for each pack model with each row's order, and the refused.

    Where a pack has moved to another vehicle all models begin new blocks.

    A message that is no JSON of this schema is one dead letter; a frame that cannot be used is one of its own,
    with that frame encoded again as a message, while the others of its message pass.
    """
    rows: dict[tuple[str, int], list[_Row]] = {}
    owner: dict[str, str] = {}
    moves = 0
    refused: list[DeadLetter] = []
    for order, message, data in messages:
        try:
            header, frames = _open(order, message, data, models)
        except RefusedError as why:
            refused.append(dead_letter(message, why))
            continue
        if owner.setdefault(header.pack, header.vehicle) != header.vehicle:
            owner, moves = {header.pack: header.vehicle}, moves + 1
        kept = rows.setdefault((header.model.name, moves), [])
        for i, frame in enumerate(frames):
            try:
                _check(frame, header.model)
            except RefusedError as why:
                own = RefusedError(why.reason, why.detail, header.pack)
                refused.append(dead_letter(message, own, i, orjson.dumps(header.head | {"frames": [frame]})))
            else:
                kept.append(_Row(header, i, frame))
    return [_block(kept) for kept in rows.values() if kept], refused


def _open(order: int, message: Message, data: bytes, models: Models) -> tuple[_Header, list[Any]]:
    try:
        head = orjson.loads(data)
    except orjson.JSONDecodeError as bad:
        raise RefusedError(UNDECODABLE, f"no JSON: {bad}") from None
    if not isinstance(head, dict):
        raise RefusedError(UNDECODABLE, f"a message must be a JSON object; got {type(head).__name__}")
    check_version(head.get("schema"))
    pack = check_id(head.get("pack"), "pack")
    vehicle = check_id(head.get("vehicle", pack), "vehicle")
    model = models.get(head.get("model"))
    frames = head.pop("frames", None)
    if not isinstance(frames, list) or not frames:
        raise RefusedError(UNDECODABLE, "frames must be a list of one or more frames", pack)
    return _Header(order, message, pack, vehicle, model, head), frames


def _check(frame: object, model: PackModel) -> None:
    """Refuse a frame that has no time, or values of another type or number than its columns."""
    if not isinstance(frame, dict):
        raise RefusedError(WRONG_TYPE, f"a frame must be a JSON object; got {type(frame).__name__}")
    if frame.get("t_ns") is None:
        raise RefusedError(NO_TIME, "t_ns is missing")
    _check_shape(frame)
    for name, value in frame.items():
        kind = type(value)
        if kind is float:
            if name in WHOLE:
                raise RefusedError(WRONG_TYPE, f"{name} must be a whole number; got {value!r:.80}")
        elif kind is list:
            _check_list(name, value, model)
        elif kind is int:
            _check_int(name, value)
        elif value is not None and name in _KNOWN:
            raise RefusedError(WRONG_TYPE, f"{name} has a value of the wrong type; got {value!r:.80}")


def _check_shape(frame: dict[str, Any]) -> None:
    if frame.get("lane", "live") not in _LANES:
        raise RefusedError(WRONG_TYPE, f"lane must be live or backfill; got {frame['lane']!r:.80}")
    for name in (CELLS, PROBES):
        if type(frame.get(name)) not in _LIST:
            raise RefusedError(WRONG_TYPE, f"{name} must be a list; got {frame[name]!r:.80}")


def _check_int(name: str, value: int) -> None:
    low, high = WHOLE.get(name, _ANY)
    if not low <= value <= high:
        raise RefusedError(WRONG_TYPE, f"{name} must be in {low}..{high}; got {value}")


def _check_list(name: str, values: list[Any], model: PackModel) -> None:
    if name in {CELLS, PROBES}:
        if not _NUMBERS.issuperset(map(type, values)):
            raise RefusedError(WRONG_TYPE, f"{name} must be a list of numbers and nulls")
        what, want = ("cell_v", model.series) if name == CELLS else ("temp_c", model.probes)
        check_width(what, len(values), model, want)
    elif name in _KNOWN:
        raise RefusedError(WRONG_TYPE, f"{name} must be a single value; got a list")


def _block(rows: list[_Row]) -> tuple[NDArray[np.int64], FrameBlock]:
    """Turn checked frames of one model into columns."""
    model = rows[0].header.model
    packs, vehicles, pack = pack_table((row.header.pack for row in rows), (row.header.vehicle for row in rows))
    frames = [row.frame for row in rows]
    messages = [row.header.message for row in rows]
    present = {_COLUMN_OF[name] for frame in frames for name in frame if name in _COLUMN_OF}
    order = np.array([row.header.order for row in rows], np.int64)
    return order, make_block(
        model.name,
        packs,
        vehicles=vehicles,
        pack=pack,
        t_ns=[f["t_ns"] for f in frames],
        seq=[NO_SEQ if (seq := f.get("seq")) is None else seq for f in frames],
        current_a=scaled([f.get(CURRENT) for f in frames]),
        pack_v=scaled([f.get(VOLTAGE) for f in frames]),
        cell_v=_matrix([f.get(CELLS) for f in frames], model.series),
        temp_c=_matrix([f.get(PROBES) for f in frames], model.probes),
        lane=[BACKFILL if f.get("lane") == "backfill" else LIVE for f in frames],
        recv_ns=[m.recv_ns for m in messages],
        src_part=[m.partition for m in messages],
        src_offset=[m.offset for m in messages],
        src_row=[row.row for row in rows],
        context={column: _context(frames, column) for column in present},
    )


def scaled(
    values: Any,  # noqa: ANN401 - whatever numpy takes
    dtype: type[np.floating[Any]] = np.float32,
    factor: float = 1.0,
) -> NDArray[Any]:
    """Bring values to our units and type; None becomes NaN."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which clean judges
        return (np.array(values, np.float64) / factor).astype(dtype)


def _matrix(lists: list[list[Any] | None], width: int) -> NDArray[np.float32]:
    missing: list[Any] = [None] * width
    return scaled([missing if v is None else v for v in lists]).reshape(len(lists), width)


def _context(frames: list[dict[str, Any]], column: str) -> NDArray[Any]:
    name, factor = NAMES[column]
    dtype = CONTEXT[column]
    values = [f.get(name) for f in frames]
    if issubclass(dtype, np.floating):
        return scaled(values, dtype, factor)
    missing = missing_context(column, 1)[0]
    return np.array([missing if v is None else v for v in values], dtype)
