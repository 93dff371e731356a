"""What a gateway writes is what the fleet reads; what is none is refused with its reason, and nothing raises."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cloud_limits import OLDER, Judged
from edge.outbox import JSON, URGENT, Record
from edge.records import Kept, order_record, start_record, told_record
from edge.retention import BLACKBOX, DROPPED, INCIDENT
from edge.uplink import encode, headers
from schemas.arrow import to_arrow
from schemas.events import DeadLetter, GatewayReport, Rows
from schemas.frames import CONTEXT, FrameBlock
from schemas.message import Message
from schemas.tables import TABLES
from schemas.wire import Decoder
from schemas.wire_gateway import Said, decode_gateways
from tests.support.frames import NS, T0_NS, frames
from tests.support.lake import MADE_BY

ABOUT = {"model": "m", "gateway_version": "1.2.0", "soc": 0.5, "soc_std": 0.01}
DECISION: dict[str, Any] = {
    "kind": "decision", "number": 7, "key": "cell_v/MSL/over/any", "active": True, "opens": True, "tier": "MSL",
    "quantity": "cell_v", "subject": "cell 5", "value": 4.3, "bound": 4.25, "since_ns": 90, "at_ns": 100,
    "action": "contactors opened", "phase": "closed", "charge_a": 10.0, "discharge_a": 20.0, "text": "cell 5 at …",
}  # fmt: skip


def said(kept: Kept, offset: int = 0, vehicle: str = "V1") -> Said:
    """Give a record as the broker hands it on."""
    record = Record(0, kept.kind, kept.id, kept.t_ns, kept.end_ns, kept.content_type, kept.payload, kept.subject)
    told = [(name, value) for name, value in headers(URGENT, record, vehicle)]
    return Said(Message(kept.payload, kept.content_type, "gateways", 3, offset, 900), vehicle.encode(), told)


def piece(block: FrameBlock, number: int, *, last: bool = False, vehicle: str = "V1", trip_ns: int = T0_NS) -> Said:
    """Give a piece of a black box, as edge.keeping makes it."""
    payload, content_type = encode(block)
    about = f"trip {trip_ns} piece {number}{' last' if last else ''}"
    kept = Kept(BLACKBOX, f"p{trip_ns}-{number}", T0_NS, T0_NS, payload, content_type, about)
    return said(kept, 100 + number, vehicle)


def report(kept: Kept) -> GatewayReport:
    (made,) = decode_gateways([said(kept, 4)], Decoder())
    assert isinstance(made, GatewayReport)
    assert (made.id, made.vehicle_id, made.pack_id, made.recv_ns) == (kept.id, "V1", "V1", 900)
    assert (made.src_part, made.src_offset) == (3, 4)
    return made


def test_a_decision_comes_back_with_all_that_the_gateway_said() -> None:
    made = asdict(report(told_record(DECISION, "V1", ABOUT)))
    other = {"key": "limit_key", "at_ns": "t_ns"}
    wanted = {other.get(k, k): v for k, v in (DECISION | ABOUT).items() if k not in {"kind", "number"}}
    assert {k: made[k] for k in wanted} == wanted
    assert (made["what"], made["end_ns"]) == ("decision", 100)


def test_alerts_orders_starts_and_what_was_dropped_come_back_in_their_columns() -> None:
    alert = report(told_record({"kind": "alert", "number": 0, "at_ns": 5, "text": "welded"}, "V1"))
    assert (alert.what, alert.t_ns, alert.text, alert.active, alert.limit_key) == ("alert", 5, "welded", None, "")
    assert math.isnan(alert.value)
    order = report(order_record(Judged(OLDER, "limits 3 refused", 3), "V1", 50))
    assert (order.what, order.t_ns, order.result, order.sequence) == ("order", 50, OLDER, 3)
    start = report(start_record(ABOUT, "V1", 60))
    assert (start.what, start.gateway_version, start.model, start.sequence) == ("start", "1.2.0", "m", -1)
    note = {"kind": "frames", "why": "full", "from_ns": 7, "to_ns": 9, "records": 12, "bytes": 3400}
    gone = report(Kept(DROPPED, "d", 7, 9, json.dumps(note).encode(), JSON, ""))
    assert (gone.what, gone.t_ns, gone.end_ns, gone.records, gone.bytes) == ("dropped", 7, 9, 12, 3400)
    assert (gone.subject, gone.result, gone.text) == ("frames", "full", "12 records of frames were let go: full")


def test_what_is_not_available_is_null_in_the_lake() -> None:
    made = report(told_record(DECISION | {"value": math.nan}, "V1"))
    ((table, batch),) = to_arrow([made], MADE_BY)  # type: ignore[misc]
    assert table == "gateway_reports"
    row = batch.to_pylist()[0]
    assert (row["value"], row["soc"], row["bound"], row["active"]) == (None, None, 4.25, True)
    assert set(row) == set(asdict(made)) == {c.name for c in TABLES["gateway_reports"]}


def decision(**changed: Any) -> Kept:
    made = told_record(DECISION, "V1")
    payload = json.dumps(json.loads(made.payload) | changed).encode()
    return made._replace(payload=payload)


@pytest.mark.parametrize(
    ("kept", "reason", "detail"),
    [
        (decision(value="4.3"), "wrong_type", "value must be a number; got '4.3'"),
        (decision(value=True), "wrong_type", "value must be a number; got True"),
        (decision(at_ns=2**63), "wrong_type", "at_ns must be a whole number of 64 bits; got 9223372036854775808"),
        (decision(at_ns=None), "wrong_type", "at_ns must be a whole number of 64 bits; got None"),
        (decision(at_ns=1.5), "wrong_type", "at_ns must be a whole number; got 1.5"),
        (decision(active=None), "wrong_type", "active must be given in a decision; got None"),
        (decision(active=1), "wrong_type", "active must be true or false; got 1"),
        (decision(key=""), "wrong_type", "key must be given in a decision; got ''"),
        (decision(vehicle="V2"), "wrong_type", "vehicle must be the message's key, V1; got 'V2'"),
        (decision(what="song"), "unknown_kind", "what must be decision, alert, order or start; got 'song'"),
        (decision()._replace(payload=b"{"), "undecodable", "no JSON"),
        (decision()._replace(payload=b"[1]"), "wrong_type", "a report must be an object; got [1]"),
        (decision()._replace(content_type="text/plain"), "unknown_content_type", "must be application/json"),
        (decision()._replace(kind="song"), "unknown_kind", "ce_type must be ibms.gateway.incident"),
        (decision()._replace(id=""), "bad_id", "ce_id must be a text of 1..128 characters; got ''"),
        (decision()._replace(payload=b" " * (1 << 21)), "too_large", "at most 1048576 bytes; got 2097152"),
        (decision()._replace(kind=BLACKBOX, subject="trip"), "wrong_type", "ce_subject must be 'trip NS piece N'"),
        (decision()._replace(kind=BLACKBOX, subject="trip 1 piece 0"), "unknown_version", ""),
        (decision()._replace(kind=BLACKBOX, subject=f"trip {2**63} piece 0"), "wrong_type", "ce_subject must be"),
    ],
)
def test_what_is_no_report_is_refused_and_its_neighbours_are_not(kept: Kept, reason: str, detail: str) -> None:
    out = decode_gateways([said(decision(), 1), said(kept, 2), said(decision(), 3)], Decoder())
    assert sorted(one.src_offset for one in out if isinstance(one, GatewayReport)) == [1, 3]
    (letter,) = (one for one in out if isinstance(one, DeadLetter))
    assert (letter.reason, letter.offset, letter.payload) == (reason, 2, kept.payload)
    assert detail in letter.detail


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)
_NAMES = st.sampled_from([*json.loads(decision().payload), *ABOUT, "sequence", "result", "records", "why"])


@given(changed=st.dictionaries(_NAMES, _JSON, max_size=3), kind=st.sampled_from([INCIDENT, DROPPED]))
def test_whatever_a_message_says_becomes_one_record_that_the_lake_takes(changed: dict[str, Any], kind: str) -> None:
    (made,) = decode_gateways([said(decision(**changed)._replace(kind=kind))], Decoder())
    assert isinstance(made, GatewayReport | DeadLetter)
    ((_, batch),) = to_arrow([made], MADE_BY)  # type: ignore[misc]
    batch.validate(full=True)


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"x" * 200])
def test_a_message_without_a_vehicle_is_refused(key: bytes | None) -> None:
    (letter,) = decode_gateways([said(decision())._replace(key=key)], Decoder())
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "bad_id"


_SPEED = np.linspace(0, 50, 60, dtype=np.float32)
_DRIVE = frames(np.arange(60) / 10, np.arange(60.0), names=("V1",), context={"speed_kmh": _SPEED})
_PIECES = [
    piece(_DRIVE.take(slice(at, at + 10)), k, last=k == 5) for k, at in enumerate(range(0, 60, 10))
]  # fmt: skip


def _whole(parts: Sequence[Sequence[Said]]) -> pa.Table:
    """Read cut by cut, as several polls do, into the lake's columns."""
    decoder = Decoder()
    made = [one for part in parts for one in decode_gateways(part, decoder)]
    assert all(isinstance(one, Rows) for one in made)
    batches = [batch for one in made for _, batch in to_arrow([one], MADE_BY)]  # type: ignore[misc]
    return pa.Table.from_batches(batches).sort_by([("src_offset", "ascending"), ("src_row", "ascending")])


def test_a_black_box_comes_back_frame_for_frame_with_trip_and_piece() -> None:
    got = _whole([_PIECES])
    assert got.column_names == [c.name for c in TABLES["black_box_frames"]]
    assert set(CONTEXT) < set(got.column_names)
    rows = got.to_pylist()
    assert [row["seq"] for row in rows] == list(range(60))
    assert [row["current_a"] for row in rows] == list(range(60))
    assert np.array_equal(np.array([row["cell_v"] for row in rows], np.float32), _DRIVE.cell_v)
    assert np.array_equal(np.array([row["speed_kmh"] for row in rows], np.float32), _SPEED)
    assert {row["trip_ns"].value for row in rows} == {T0_NS}
    assert [(row["id"], row["piece"], row["last_piece"]) for row in rows[::10]] == [
        (f"p{T0_NS}-{k}", k, k == 5) for k in range(6)
    ]


@given(cuts=st.sets(st.integers(1, 5)))
def test_what_is_read_of_a_black_box_does_not_depend_on_how_its_messages_were_polled(cuts: set[int]) -> None:
    ends = [0, *sorted(cuts), 6]
    parts = [_PIECES[a:b] for a, b in pairwise(ends)]
    assert _whole(parts).to_pylist() == _whole([_PIECES]).to_pylist()


def test_frames_of_another_vehicle_are_refused_with_their_whole_message() -> None:
    strange = piece(_DRIVE.take(slice(0, 3)), 9, vehicle="V2")
    rows, letter = decode_gateways([_PIECES[0], strange], Decoder())
    assert isinstance(rows, Rows)
    assert isinstance(letter, DeadLetter)
    assert (len(rows), letter.reason, letter.offset) == (10, "bad_id", 109)
    assert "must be of the message's key, V2" in letter.detail


def test_two_trips_of_two_vehicles_in_one_poll_keep_their_own() -> None:
    other = frames([0, 1], names=("V2",))
    second = piece(other, 0, vehicle="V2", trip_ns=T0_NS + NS)._replace(key=b"V2")
    second = second._replace(message=second.message._replace(offset=7))
    (rows,) = decode_gateways([_PIECES[0], second], Decoder())
    assert isinstance(rows, Rows)
    found = {(rows.vehicles[p], int(t)) for p, t in zip(rows.pack, rows.data["trip_ns"], strict=True)}
    assert found == {("V1", T0_NS), ("V2", T0_NS + NS)}
