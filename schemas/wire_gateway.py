"""What do gateways say beside frames? Their CloudEvents, read in bulk: reports as JSON, black boxes as frames."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.events import DeadLetter, GatewayReport, Rows
from schemas.frames import FrameBlock
from schemas.message import (
    BAD_ID,
    CONTENT_TYPE,
    TOO_LARGE,
    UNDECODABLE,
    UNKNOWN_KIND,
    WRONG_TYPE,
    Message,
    RefusedError,
    check_id,
    dead_letter,
)
from schemas.wire import Decoder
from schemas.wire_json import JSON

REPORTS, BLACK_BOX_FRAMES = "gateway_reports", "black_box_frames"  # tables of the lake
DECISION, ALERT, ORDER, START, DROPPED = "decision", "alert", "order", "start", "dropped"
_TYPE = "ibms.gateway."
_SAYS, _GAVE_UP, _BLACK_BOX = f"{_TYPE}incident", f"{_TYPE}dropped", f"{_TYPE}blackbox"
_PIECE = re.compile(r"trip (\d{1,19}) piece (\d{1,9})( last)?")
_I64 = 2**63
_FRAME_COLUMNS = ("t_ns", "seq", "recv_ns", "current_a", "pack_v", "cell_v", "temp_c", "src_part", "src_offset")


class Said(NamedTuple):
    """A message of a gateway with its key and headers."""

    message: Message
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class _Event(NamedTuple):
    """What its headers say."""

    id: str
    vehicle: str
    kind: str
    subject: str


class _Piece(NamedTuple):
    """One message of a black box."""

    message: Message
    id: str
    vehicle: str
    trip_ns: int
    number: int
    last: bool


def decode_gateways(said: Iterable[Said], decoder: Decoder) -> list[GatewayReport | Rows | DeadLetter]:
    """Read what gateways said: reports, rows of `black_box_frames`, and what was refused.

    Nothing raises: a message without a vehicle as its key, without an id, of a kind that is not known here, or with a
    field of a wrong type is a dead letter with its reason and its bytes.
    """
    out: list[GatewayReport | Rows | DeadLetter] = []
    pieces: list[_Piece] = []
    for one in said:
        try:
            event = _event(one)
            if event.kind == _BLACK_BOX:
                pieces.append(_piece(one.message, event))
            else:
                out.append(_report(one.message, event, decoder.max_bytes))
        except RefusedError as why:
            out.append(dead_letter(one.message, why))
    return out + _black_boxes(pieces, decoder)


def _event(said: Said) -> _Event:
    try:
        told = {name: (value or b"").decode() for name, value in said.headers}
        vehicle = (said.key or b"").decode()
    except UnicodeDecodeError:
        raise RefusedError(BAD_ID, "key and headers must be UTF-8") from None
    check_id(vehicle, "key, the vehicle,")
    name = check_id(told.get("ce_id"), "ce_id")
    kind = told.get("ce_type", "")
    if kind not in {_SAYS, _GAVE_UP, _BLACK_BOX}:
        accepted = f"{_SAYS}, {_GAVE_UP} or {_BLACK_BOX}"
        raise RefusedError(UNKNOWN_KIND, f"ce_type must be {accepted}; got {kind!r:.80}", vehicle)
    return _Event(name, vehicle, kind, told.get("ce_subject", ""))


class _Fields:
    """The fields of a report; null is as good as none, and names that are not asked for are a newer gateway's."""

    def __init__(self, data: Mapping[str, Any], vehicle: str) -> None:
        self._data, self._vehicle = data, vehicle

    def text(self, name: str) -> str:
        return self._of(name, str, "", "a text")  # type: ignore[no-any-return]

    def truth(self, name: str) -> bool | None:
        return self._of(name, bool, None, "true or false")  # type: ignore[no-any-return]

    def whole(self, name: str, default: int = 0) -> int:
        value = self._of(name, int, default, "a whole number")
        if not -_I64 <= value < _I64:
            self.refuse(name, "a whole number of 64 bits")
        return value  # type: ignore[no-any-return]

    def number(self, name: str) -> float:
        value = self._data.get(name)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, "a number")
        return float(value)

    def refuse(self, name: str, accepted: str) -> None:
        msg = f"{name} must be {accepted}; got {self._data.get(name)!r:.80}"
        raise RefusedError(WRONG_TYPE, msg, self._vehicle)

    def _of(self, name: str, kind: type, default: Any, accepted: str) -> Any:  # noqa: ANN401 - JSON
        value = self._data.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(name, accepted)
        return value


def _report(message: Message, event: _Event, max_bytes: int) -> GatewayReport:
    if len(message.data) > max_bytes:
        msg = f"a message must have at most {max_bytes} bytes; got {len(message.data)}"
        raise RefusedError(TOO_LARGE, msg, event.vehicle)
    if message.content_type.partition(";")[0].strip().lower() != JSON:
        msg = f"content type must be {JSON}; got {message.content_type!r:.80}"
        raise RefusedError(CONTENT_TYPE, msg, event.vehicle)
    try:
        data = orjson.loads(message.data)
    except orjson.JSONDecodeError as bad:
        raise RefusedError(UNDECODABLE, f"no JSON: {bad}", event.vehicle) from None
    if not isinstance(data, dict):
        raise RefusedError(WRONG_TYPE, f"a report must be an object; got {data!r:.80}", event.vehicle)
    fields = _Fields(data, event.vehicle)
    return (_gave_up if event.kind == _GAVE_UP else _told)(message, event, fields)


def _told(message: Message, event: _Event, fields: _Fields) -> GatewayReport:
    what = fields.text("what")
    if what not in {DECISION, ALERT, ORDER, START}:
        accepted = f"{DECISION}, {ALERT}, {ORDER} or {START}"
        raise RefusedError(UNKNOWN_KIND, f"what must be {accepted}; got {what!r:.80}", event.vehicle)
    if fields.text("vehicle") != event.vehicle:
        fields.refuse("vehicle", f"the message's key, {event.vehicle}")
    t_ns = fields.whole("at_ns", _I64)
    key = fields.text("key")
    if what == DECISION and (not key or fields.truth("active") is None):
        fields.refuse("active" if key else "key", "given in a decision")
    return GatewayReport(
        **_who(message, event), what=what, t_ns=t_ns, end_ns=t_ns, model=fields.text("model"), text=fields.text("text"),
        gateway_version=fields.text("gateway_version"), limit_key=key,
        active=fields.truth("active"), opens=fields.truth("opens"), tier=fields.text("tier"),
        quantity=fields.text("quantity"), subject=fields.text("subject"), value=fields.number("value"),
        bound=fields.number("bound"), since_ns=fields.whole("since_ns"), action=fields.text("action"),
        phase=fields.text("phase"), charge_a=fields.number("charge_a"), discharge_a=fields.number("discharge_a"),
        soc=fields.number("soc"), soc_std=fields.number("soc_std"), result=fields.text("result"),
        sequence=fields.whole("sequence", -1),
    )  # fmt: skip


def _gave_up(message: Message, event: _Event, fields: _Fields) -> GatewayReport:
    kind, why, records = fields.text("kind"), fields.text("why"), fields.whole("records")
    return GatewayReport(
        **_who(message, event), what=DROPPED, t_ns=fields.whole("from_ns"), end_ns=fields.whole("to_ns"), model="",
        text=f"{records} records of {kind} were let go: {why}", subject=kind, result=why,
        records=records, bytes=fields.whole("bytes"),
    )  # fmt: skip


def _who(message: Message, event: _Event) -> dict[str, Any]:
    who = {"id": event.id, "pack_id": event.vehicle, "vehicle_id": event.vehicle, "recv_ns": message.recv_ns}
    return who | {"src_part": message.partition, "src_offset": message.offset}


def _piece(message: Message, event: _Event) -> _Piece:
    found = _PIECE.fullmatch(event.subject)
    if found is None or int(found[1]) >= _I64:
        msg = f"ce_subject must be 'trip NS piece N', or that and ' last'; got {event.subject!r:.80}"
        raise RefusedError(WRONG_TYPE, msg, event.vehicle)
    return _Piece(message, event.id, event.vehicle, int(found[1]), int(found[2]), found[3] is not None)


def _black_boxes(pieces: Sequence[_Piece], decoder: Decoder) -> list[GatewayReport | Rows | DeadLetter]:
    """Read all pieces together; one whose frames are another vehicle's is refused whole."""
    out: list[GatewayReport | Rows | DeadLetter] = []
    place = {(p.message.partition, p.message.offset): k for k, p in enumerate(pieces)}
    refused: set[int] = set()
    for made in decoder.decode([p.message for p in pieces]) if pieces else ():
        if isinstance(made, DeadLetter):
            out.append(made)
            continue
        own = [place[at] for at in zip(made.src_part.tolist(), made.src_offset.tolist(), strict=True)]
        pairs = set(zip(own, made.pack.tolist(), strict=True))
        strange = {k for k, pack in pairs if made.vehicles[pack] != pieces[k].vehicle}
        refused |= strange
        piece = np.array(own, np.int64)
        kept = np.flatnonzero(~np.isin(piece, list(strange)))
        if kept.size:
            out.append(_rows(made.take(kept), piece[kept], pieces))
    for k in sorted(refused):
        msg = f"frames of a black box must be of the message's key, {pieces[k].vehicle}"
        out.append(dead_letter(pieces[k].message, RefusedError(BAD_ID, msg, pieces[k].vehicle)))
    return out


def _rows(frames: FrameBlock, piece: NDArray[np.int64], pieces: Sequence[_Piece]) -> Rows:
    told = {name: getattr(frames, name) for name in (*_FRAME_COLUMNS, "src_row")} | dict(frames.context)
    told["id"] = np.array([p.id for p in pieces], object)[piece]
    told["trip_ns"] = np.array([p.trip_ns for p in pieces], np.int64)[piece]
    told["piece"] = np.array([p.number for p in pieces], np.int32)[piece]
    told["last_piece"] = np.array([p.last for p in pieces], np.bool_)[piece]
    return Rows(BLACK_BOX_FRAMES, frames.model, frames.packs, frames.vehicles, frames.pack, told)
