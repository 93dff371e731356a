"""What an analyst sees of gateways: each message once, decisions beside the fleet's incidents, one fault as one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from operators.kernels import limits
from operators.kernels.kinds import KINDS
from schemas.events import GatewayReport, Incident, Item, Rows
from tests.support.lake import T0_NS, ask, count, publish, windows

S = 10**9
CELL_HIGH = "cell_v/MSL/over/any"


def report(t_s: float, what: str = "decision", **more: Any) -> GatewayReport:
    t_ns = T0_NS + round(t_s * S)
    told = {"id": f"{what} {t_s} {sorted(more.items())}", "model": "m", "vehicle_id": "A", "text": what}
    told |= {"gateway_version": "1.2.0"} | more
    told |= {"pack_id": told["vehicle_id"]}
    return GatewayReport(what=what, t_ns=t_ns, end_ns=t_ns, recv_ns=t_ns + S, **{"src_part": 0, "src_offset": 0} | told)  # type: ignore[arg-type]


def decision(t_s: float, key: str = CELL_HIGH, *, active: bool = True, **more: Any) -> GatewayReport:
    quantity, tier, _, _ = key.split("/")
    told: dict[str, Any] = {"limit_key": key, "quantity": quantity, "tier": tier, "subject": "cell 5"} | more
    told |= {"since_ns": T0_NS + round((t_s - 1) * S), "opens": tier == "MSL", "active": active}
    return report(t_s, text=f"{key} {'on' if active else 'off'}", **told)


def incident(opened_s: float, kind: str = "cell_overvoltage", cleared_s: float = 0, **more: Any) -> Incident:
    opened_ns, cleared_ns = T0_NS + round(opened_s * S), T0_NS + round(cleared_s * S) if cleared_s else 0
    told: dict[str, Any] = {"vehicle_id": "A", "pack_id": "A", "subject": "cell 5", "severity": 3} | more
    return Incident(
        id=f"{kind} {opened_s} {sorted(more.items())}", revision=0, model="m", kind=kind, opened_ns=opened_ns,
        status="clear" if cleared_s else "open", updated_ns=opened_ns, cleared_ns=cleared_ns, text=f"fleet {kind}",
        since_ns=opened_ns, **told,
    )  # fmt: skip


def box(trip_s: float, piece: int, n: int, *, last: bool = False, offset: int = 0, vehicle: str = "A") -> Rows:
    trip_ns, start = T0_NS + round(trip_s * S), T0_NS + round((trip_s - 1) * S)
    t_ns = start + (np.arange(n) + piece * n) * (S // 10)
    data: dict[str, Any] = {"t_ns": t_ns, "seq": np.arange(n), "src_row": np.arange(n, dtype=np.int32)}
    data |= {"id": np.array([f"{vehicle} {trip_s} {piece}"] * n, object), "piece": np.full(n, piece, np.int32)}
    data |= {"trip_ns": np.full(n, trip_ns), "last_piece": np.full(n, last), "src_part": np.zeros(n, np.int32)}
    data |= {"src_offset": np.full(n, offset), "current_a": np.arange(n, dtype=np.float32)}
    data |= {"cell_v": np.full((n, 2), 4.3, np.float32), "temp_c": np.full((n, 1), 30, np.float32)}
    return Rows("black_box_frames", "m", (vehicle,), (vehicle,), np.zeros(n, np.int32), data)


def test_what_is_delivered_again_shows_once_also_in_another_epoch_and_by_another_run(tmp_path: Path) -> None:
    one, again = decision(1), replace(decision(1), src_offset=7, src_part=1)
    publish(tmp_path, [one, box(1, 0, 5)], [again, box(1, 0, 5, offset=9)], [one, decision(2, active=False)])
    publish(tmp_path, [again, one, box(1, 0, 5)])
    assert count(tmp_path, "gateway_reports") == 6
    assert ask(tmp_path, "SELECT text, src_offset FROM gateway_reports ORDER BY t_ns") == [
        (f"{CELL_HIGH} on", 0),
        (f"{CELL_HIGH} off", 0),
    ]
    assert ask(tmp_path, "SELECT count(*), count(DISTINCT src_row), max(src_offset) FROM black_box_frames") == [
        (5, 5, 0)
    ]


def test_a_decision_lasts_until_its_limit_is_kept_again_or_decided_anew(tmp_path: Path) -> None:
    other = "temp_c/RSL/over/charge"
    told = [decision(1), decision(5, active=False), decision(9), decision(12), decision(3, other), decision(2)]
    publish(tmp_path, [*told, decision(4, vehicle_id="B", active=False), report(2, "alert")])
    found = ask(
        tmp_path,
        "SELECT limit_key, (epoch_ns(decided_ns) - 1767571200000000000) // 1000000000, "
        "(epoch_ns(cleared_ns) - 1767571200000000000) // 1000000000 FROM gateway_decisions ORDER BY 1, 2",
    )
    assert found == [
        (CELL_HIGH, 1, None), (CELL_HIGH, 2, 5), (CELL_HIGH, 9, None), (CELL_HIGH, 12, None), (other, 3, None),
    ]  # fmt: skip


CASES = [
    (CELL_HIGH, "cell 5", incident(103), 3.0),
    (CELL_HIGH, "cell 5", incident(103, subject="cell 7"), 3.0),  # where it shows, not what it is about
    (CELL_HIGH, "cell 5", incident(60), -40.0),
    (CELL_HIGH, "cell 5", incident(103, "cell_undervoltage"), None),
    (CELL_HIGH, "cell 5", incident(103, vehicle_id="B"), None),
    (CELL_HIGH, "cell 5", incident(10, cleared_s=50), -90.0),  # less than 15 minutes before
    (CELL_HIGH, "cell 5", incident(100 + 901), None),
    (CELL_HIGH, "cell 5", incident(-2000, cleared_s=-900), None),
    ("temp_c/MSL/over/discharge", "probe 2", incident(101, "thermal_event", subject="probe 7"), 1.0),
    ("current_a/MSL/over/discharge", "discharge current", incident(101, "overcurrent_discharge"), 1.0),
    ("current_a/MSL/over/charge", "charge current", incident(101, "overcurrent_discharge"), None),
    ("cell_dev_v/RSL/over/any", "cell 5", incident(101, "leak"), 1.0),
    ("cell_dev_v/RSL/over/any", "cell 5", incident(101, "leak", subject="cell 6"), None),
    ("cell_dev_v/RSL/over/any", "cell 5", incident(101), 1.0),
    (CELL_HIGH, "cell 5", incident(101, "cell_deviation"), 1.0),  # of one cell, whatever it breaks
    (CELL_HIGH, "cell 5", incident(101, "cell_deviation", subject="cell 6"), None),
    (CELL_HIGH, "cell 5", incident(101, "sense_wire", subject="cells 4-6"), 1.0),
    (CELL_HIGH, "cell 5", incident(101, "sense_wire", subject="cells 6-15"), None),
    (CELL_HIGH, "cell 15", incident(101, "sense_wire", subject="cells 1-5"), None),
    ("temp_c/MSL/over/charge", "probe 5", incident(101, "cell_deviation"), None),
    ("temp_c/MSL/over/charge", "probe 5", incident(101, "stuck_probe", subject="probe 5"), 1.0),
    ("current_a/MSL/over/charge", "charge current", incident(101, "capacity"), None),
    ("crash/MSL/over/any", "crash reported", incident(101, "overcurrent_discharge"), None),
]


def test_a_decision_is_beside_the_incident_of_the_same_fault_and_of_no_other(tmp_path: Path) -> None:
    told: list[Item] = []
    wanted: list[tuple[str, float | None, str | None]] = []
    for k, (key, subject, seen, ahead_s) in enumerate(CASES):
        vehicle = f"V{k:02d}"
        its = replace(seen, id=f"{vehicle} {seen.id}", vehicle_id=vehicle if seen.vehicle_id == "A" else "other")
        told += [decision(100, key, subject=subject, vehicle_id=vehicle), its]
        wanted.append((vehicle, ahead_s, None if ahead_s is None else its.id))
    publish(tmp_path, told)
    assert ask(tmp_path, "SELECT vehicle_id, ahead_s, incident FROM gateway_decisions") == wanted
    both = [(vehicle, ahead_s) for vehicle, ahead_s, _ in wanted if ahead_s is not None]
    asked = "SELECT vehicle_id, gateway_ahead_s FROM faults WHERE opened_by = 'both' ORDER BY 1"
    assert ask(tmp_path, asked) == both
    alone = len(CASES) - len(both)
    asked = "SELECT opened_by, count(*) FROM faults WHERE opened_by <> 'both' GROUP BY ALL ORDER BY 1"
    assert ask(tmp_path, asked) == [("fleet", alone), ("gateway", alone)]


def test_the_nearest_of_two_incidents_is_taken(tmp_path: Path) -> None:
    publish(tmp_path, [decision(100), incident(10, cleared_s=40), incident(95), incident(500)])
    assert ask(tmp_path, "SELECT ahead_s FROM gateway_decisions") == [(-5.0,)]
    assert ask(tmp_path, "SELECT opened_by FROM faults ORDER BY opened_ns") == [("fleet",), ("both",), ("fleet",)]


def test_a_fault_that_only_the_gateway_saw_is_one_row_with_all_its_tiers(tmp_path: Path) -> None:
    low = "cell_v/RSL/under/any"
    high = "cell_v/MSL/under/any"
    told = [decision(10, low, action="current limited"), decision(12, high, action="contactors opened")]
    told += [decision(20, high, active=False), decision(30, low, active=False)]
    later = [decision(30 + 901, low, action="current limited"), decision(12, low, subject="cell 6", vehicle_id="B")]
    publish(tmp_path, [*told, *later])
    rows = ask(
        tmp_path,
        "SELECT vehicle_id, kind, severity, opened_by, opens, gateway_action, "
        "(epoch_ns(cleared_ns) - 1767571200000000000) // 1000000000 FROM faults ORDER BY opened_ns",
    )
    assert rows == [
        ("A", "cell_undervoltage", 3, "gateway", True, "contactors opened", 30),
        ("B", "cell_undervoltage", 2, "gateway", False, "", None),
        ("A", "cell_undervoltage", 2, "gateway", False, "current limited", None),
    ]


def test_a_box_has_its_reason_and_what_it_explains_and_says_whether_it_is_whole(tmp_path: Path) -> None:
    first, seen = decision(100), incident(101)
    told: list[Item] = [first, seen, decision(101, "rms_a/MSL/over/charge"), decision(99.5, "cell_v/RSL/over/any")]
    publish(tmp_path, [*told, box(100, 0, 20), box(100, 1, 20, last=True), box(500, 0, 5), box(500, 2, 5, last=True)])
    asked = "SELECT frames, pieces, complete, reason, limit_keys, explains, current_max_a FROM black_boxes"
    whole, torn = ask(tmp_path, asked)
    assert whole == (40, 2, True, first.text, [CELL_HIGH, "rms_a/MSL/over/charge"], [seen.id], 19.0)
    assert torn == (10, 2, False, None, None, None, 4.0)


def test_gateways_that_are_silent_or_old_stand_out(tmp_path: Path) -> None:
    told = [
        report(0, "start"), report(3600, "start", gateway_version="1.10.0"),
        report(10, "start", vehicle_id="B"), report(20, "order", vehicle_id="B", result="older"),
        report(30, "order", vehicle_id="B", result="taken"), decision(25, vehicle_id="B"),
        report(40, "dropped", vehicle_id="B", records=12), report(41, "dropped", vehicle_id="B", records=3),
    ]  # fmt: skip
    publish(tmp_path, [*told, windows(2, pack="C")])
    asked = (
        "SELECT vehicle_id, model, gateway_version, outdated, silent_s, starts, trips, orders_refused, records_dropped"
    )
    assert ask(tmp_path, asked + " FROM gateways") == [
        ("A", "m", "1.10.0", False, 0.0, 2, 0, 0, 0),
        ("B", "m", "1.2.0", True, 3559.0, 1, 1, 1, 15),
        ("C", "m", None, None, 3481.0, 0, 0, 0, 0),
    ]


def _values(sql: str, name: str) -> set[tuple[str, ...]]:
    """Read the rows of a VALUES list of a view."""
    body = sql.split(f"{name}(", 1)[1].split("VALUES", 1)[1].split("\n),", 1)[0]
    return {tuple(part.strip(" '") for part in row.split("(")[1].rstrip("), \n").split(",")) for row in body.split("\n")
            if "(" in row}  # fmt: skip


def test_the_view_knows_each_limit_that_the_fleet_holds_too_and_the_families_of_all_kinds() -> None:
    sql = files("schemas").joinpath("sql/gateway_decisions.sql").read_text("utf-8")
    side: Callable[[bool], str] = lambda over: "over" if over else "under"  # noqa: E731
    watched = {(q, side(over), "", kind) for (q, over), (_, kind, _) in limits._WATCHED.items()}
    watched |= {("current_a", "over", way, kind) for way, (_, kind, _) in limits._CURRENT.items()}
    known = _values(sql, "kinds")
    assert watched <= known
    names = {kind.name for kind in KINDS}
    assert {kind for *_, kind in known} <= names
    several = {k.family for k in KINDS if sum(o.family == k.family for o in KINDS) > 1}
    families = {(k.name, k.family) for k in KINDS if k.family in several}
    assert _values(sql, "families") == {(name, family) for name, family in families if family != "soc_report"}
    assert {k.family for k in KINDS if k.family in {"cell", "probe"} and not k.wide} == {"cell", "probe"}
    assert all(k.wide for k in KINDS if k.family not in {"cell", "probe"})
