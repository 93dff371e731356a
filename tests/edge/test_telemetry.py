"""One round of the telemetry process: what it asks, keeps and tells, and what it makes of orders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import local_soc
from edge.care import care_config
from edge.cloud_limits import OLDER, CloudConfig
from edge.commands import THERMAL, Sent, writer
from edge.json_file import read_json, write_json
from edge.keeping import Keeping
from edge.link import Told
from edge.records import START
from edge.retention import BLACKBOX, INCIDENT
from edge.telemetry import SOC_NS, Telemetry, TelemetryConfig
from edge.telemetry_settings import TelemetrySettings
from edge.uplink import encode
from operators.dbc import load_dbc
from schemas.pack import load_pack
from schemas.signals import DBC_DIR
from schemas.signed import LIMITS, SOC, UNSIGNED, Signed, sign
from tests.support.frames import NS, T0_NS, frames
from tests.support.uplink import Line

PACK = load_pack("generic-nmc@4c2t60ah")
OURS = load_dbc(DBC_DIR / "ibms_edge.dbc")
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
CELL_HIGH = "cell_v/MSL/over/any"
HOUR_NS = 3600 * NS
ABOUT = {"model": PACK.name, "gateway_version": "1.2"}
TRIP: Told = {
    "kind": "decision", "number": 3, "key": CELL_HIGH, "active": True, "tier": "MSL", "opens": True, "text": "…",
    "value": 4.3, "at_ns": T0_NS + 2 * NS,
}  # fmt: skip


class Process:
    """The process, a round a second."""

    def __init__(self, folder: Path, *, asks: bool = True) -> None:
        cloud = CloudConfig("v", (KEY.public_key(),), PACK.limits, PACK.charge_max_a, PACK.discharge_max_a)
        self.config = TelemetryConfig(care_config(PACK, None), cloud, folder / "soc.json", asks, ABOUT)
        self.line = Line()
        keeping = Keeping(TelemetrySettings(folder / "outbox"), "v", self.line, encode)
        self.telemetry = Telemetry(self.config, keeping, writer(OURS))
        self.sent: list[Sent] = []

    def round(self, t_s: float, heard: Sequence[Told] = (), orders: Sequence[bytes] = ()) -> list[Told]:
        self.line.heard = list(orders)
        now_ns = round(t_s * NS)
        self.sent, words = self.telemetry.step(frames([t_s]), heard, now_ns, T0_NS + now_ns)
        return words

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(r.payload) for r in self.line.sent if r.kind == INCIDENT]

    def reported(self) -> list[dict[str, Any]]:
        return [one for one in self.told() if one["what"] != START]


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


def limits(sequence: int, content: dict[str, Any], key: Ed25519PrivateKey = KEY, kind: str = LIMITS) -> bytes:
    return sign(Signed(kind, "v", sequence, T0_NS, T0_NS + HOUR_NS, content), key)


def of(words: list[Told], kind: str) -> list[Told]:
    return [word for word in words if word["kind"] == kind]


def test_it_asks_on_the_bus_and_an_observer_asks_nothing(process: Process, tmp_path: Path) -> None:
    process.round(0)
    assert [one.can_id for one in process.sent] == [OURS.by_name[THERMAL].can_id]
    other = Process(tmp_path, asks=False)
    other.round(0)
    assert other.sent == []


def test_a_decision_is_kept_confirmed_and_sent_and_one_that_opens_starts_the_black_box(process: Process) -> None:
    process.round(1)
    process.round(2)
    words = process.round(3, [TRIP])
    assert of(words, "kept") == [{"kind": "kept", "number": 3}]
    assert [(one["what"], one["key"]) for one in process.reported()] == [("decision", CELL_HIGH)]
    assert [r.kind for r in process.line.sent] == [INCIDENT, INCIDENT, BLACKBOX]


def test_a_start_is_told_once_and_each_report_says_of_what_the_gateway_is_made_and_how_full_the_pack_is(
    process: Process,
) -> None:
    process.round(1)
    process.round(2, [TRIP], [limits(5, {})])
    process.round(3)
    told = process.told()
    assert [one["what"] for one in told] == ["start", "decision", "order"]
    assert [{k: one[k] for k in ABOUT} for one in told] == [ABOUT] * 3
    soc = process.telemetry.asked.soc  # type: ignore[union-attr]
    assert told[1]["soc"] == pytest.approx(soc.soc, abs=1e-3)
    assert told[1]["soc_std"] == pytest.approx(soc.std, abs=1e-3)


@pytest.mark.parametrize("other", [{"opens": False}, {"active": False}])
def test_a_decision_that_opens_nothing_is_reported_without_a_black_box(process: Process, other: Told) -> None:
    process.round(2)
    process.round(3, [TRIP | other])
    assert {r.kind for r in process.line.sent} == {INCIDENT}


def test_what_is_not_on_the_disk_is_not_confirmed_and_kept_as_soon_as_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")
    process = Process(tmp_path)
    assert of(process.round(1, [TRIP]), "kept") == []
    (tmp_path / "outbox").unlink()
    assert of(process.round(2), "kept") == []
    assert of(process.round(7), "kept") == [{"kind": "kept", "number": 3}]


def test_signed_limits_go_to_the_supervisor_and_what_became_of_each_is_said_and_reported(process: Process) -> None:
    words = process.round(1, orders=[limits(5, {"charge_a": 11.0, "bounds": {CELL_HIGH: 4.2}})])
    expected = {"sequence": 5, "until_ns": T0_NS + HOUR_NS, "bounds": {CELL_HIGH: 4.2}, "charge_a": 11.0}
    assert of(words, "limits") == [{"kind": "limits", **expected}]
    words = process.round(2, orders=[limits(4, {}), limits(6, {}, OTHER), b"nothing"])
    assert of(words, "limits") == []
    said = [word["text"] for word in of(words, "journal")]
    assert said[0].startswith("limits 4 from outside refused: sequence must be above 5")
    assert said[1] == "limits from outside refused: the signature must be by a known key"
    process.round(3)
    assert [one["result"] for one in process.reported()] == ["taken", OLDER, UNSIGNED, "malformed"]
    told = {(name, *labels.values()): value for name, labels, value in process.telemetry.metrics()}
    assert told["ibms_edge_orders_total", "taken"] == 1
    assert told["ibms_edge_orders_total", UNSIGNED] == 1
    assert told["ibms_edge_outside_limits_until_seconds",] == (T0_NS + HOUR_NS) / NS


def test_limits_that_the_supervisor_kept_are_known_so_that_they_cannot_be_said_again(process: Process) -> None:
    kept = {"kind": "limits", "sequence": 5, "until_ns": T0_NS + HOUR_NS, "bounds": {}, "charge_a": 11.0}
    words = process.round(1, [kept], [limits(5, {"charge_a": 11.0})])
    assert of(words, "limits") == []
    assert "it was taken before" in of(words, "journal")[0]["text"]


def test_limits_that_expire_are_said_once(process: Process) -> None:
    process.round(1, orders=[limits(5, {"charge_a": 11.0})])
    assert of(process.round(3599), "journal") == []
    said = [word["text"] for t_s in (3601, 3602) for word in of(process.round(t_s), "journal")]
    assert said == ["limits 5 from outside have expired"]


def test_a_signed_charge_is_taken_and_is_no_limit(process: Process) -> None:
    process.round(1)
    before = process.telemetry.care.soc
    fits = local_soc.usable(before.cell_soc) + 0.01
    order = limits(9, {"soc": fits, "std": 0.005, "t_ns": T0_NS + NS}, kind=SOC)
    words = process.round(2, orders=[order])
    assert of(words, "limits") == []
    assert of(words, "journal")[0]["text"].startswith("SOC 9 from outside: ")
    assert process.telemetry.care.soc.source == local_soc.CLOUD
    assert local_soc.usable(process.telemetry.care.soc.cell_soc) == pytest.approx(fits, abs=0.003)


def test_the_charge_is_kept_every_five_minutes_and_at_the_end_and_taken_up_again(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.round(1)
    first = read_json(tmp_path / "soc.json")
    process.round(SOC_NS / NS)
    assert read_json(tmp_path / "soc.json") == first
    process.round(2 + SOC_NS / NS)
    assert read_json(tmp_path / "soc.json") != first
    process.telemetry.close(T0_NS + 400 * NS)
    assert process.line.closed
    again = Process(tmp_path)
    assert again.telemetry.care.soc.source == local_soc.KEPT


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b'{"version": 1}'])
def test_a_charge_that_cannot_be_read_is_one_that_is_not_known(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "soc.json").write_bytes(content)
    assert Process(tmp_path).telemetry.care.soc.source == local_soc.NOTHING


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert (read_json(path), [p.name for p in tmp_path.iterdir()]) == ({"a": 2}, ["x.json"])
