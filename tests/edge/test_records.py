"""What the gateway reports to the fleet: decisions, alerts and judged orders."""

from __future__ import annotations

import json
import math
from typing import Any

from edge.cloud_limits import EXPIRED, Judged
from edge.outbox import JSON
from edge.records import order_record, start_record, told_record
from edge.retention import INCIDENT
from schemas.ids import record_id

DECISION: dict[str, Any] = {
    "kind": "decision", "number": 7, "key": "cell_v/MSL/over/any", "active": True, "tier": "MSL", "subject": "cell 5",
    "value": 4.3, "bound": 4.25, "since_ns": 90, "at_ns": 100, "opens": True, "text": "cell 5 at 4.30 V …",
}  # fmt: skip


def test_a_decision_is_reported_as_it_was_told_without_what_is_between_the_processes() -> None:
    made = told_record(DECISION, "v")
    assert (made.kind, made.t_ns, made.end_ns, made.content_type) == (INCIDENT, 100, 100, JSON)
    assert made.subject == "decision cell_v/MSL/over/any on"
    said = json.loads(made.payload)
    assert said == {"what": "decision", "vehicle": "v"} | {
        k: v for k, v in DECISION.items() if k not in {"kind", "number"}
    }


def test_its_id_is_the_same_whenever_it_is_reported_and_another_when_it_clears() -> None:
    made = told_record(DECISION, "v")
    assert made.id == told_record(DECISION | {"number": 8}, "v").id
    assert made.id == record_id("v", INCIDENT, "decision cell_v/MSL/over/any on", 100)
    others = [DECISION | {"active": False}, DECISION | {"at_ns": 101}, DECISION | {"key": "cell_v/RSL/over/any"}]
    assert len({made.id, *(told_record(one, "v").id for one in others), told_record(DECISION, "w").id}) == 5


def test_what_a_gateway_is_made_of_stands_in_each_report_and_names_none() -> None:
    about = {"model": "m", "gateway_version": "1.2", "soc": math.nan}
    made = told_record(DECISION, "v", about)
    assert made.id == told_record(DECISION, "v").id
    said = json.loads(made.payload)
    assert (said["model"], said["gateway_version"], said["soc"], said["value"]) == ("m", "1.2", None, 4.3)
    start = start_record({"gateway_version": "1.2"}, "v", 9)
    assert json.loads(start.payload) == {
        "what": "start", "vehicle": "v", "at_ns": 9, "text": "telemetry has started", "gateway_version": "1.2",
    }  # fmt: skip
    assert start.id != start_record({}, "v", 10).id


def test_what_is_not_known_is_null() -> None:
    assert json.loads(told_record(DECISION | {"value": math.nan}, "v").payload)["value"] is None
    assert json.loads(told_record(DECISION | {"value": math.inf}, "v").payload)["value"] is None


def test_an_alert_has_its_words_as_its_subject() -> None:
    made = told_record({"kind": "alert", "number": 0, "text": "the plus contactor is welded", "at_ns": 5}, "v")
    assert made.subject == "alert the plus contactor is welded"
    assert json.loads(made.payload)["text"] == "the plus contactor is welded"


def test_an_order_that_is_refused_is_reported_as_one_that_is_taken() -> None:
    refused = order_record(Judged(EXPIRED, "limits 3 from outside refused: it expired 5 s ago", 3), "v", 50)
    assert json.loads(refused.payload) == {
        "what": "order", "vehicle": "v", "at_ns": 50, "result": EXPIRED, "sequence": 3,
        "text": "limits 3 from outside refused: it expired 5 s ago",
    }  # fmt: skip
    taken = order_record(Judged("", "limits 3 from outside: none any more", 3), "v", 50)
    assert json.loads(taken.payload)["result"] == "taken"
    assert taken.id != refused.id
