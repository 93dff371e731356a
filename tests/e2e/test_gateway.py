"""The command `ibms-edge` on a bus: it closes, opens, is killed, and never moves a contactor by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.__main__ import main
from edge.bench_scenes import fill, small_disk
from edge.contactors import CLOSED as CLOSED_PHASE
from edge.junction_box import FOLLOWS, HOLDS
from edge.latches import SLOT_BYTES, create, read
from edge.uplink import read_message
from schemas.events import DeadLetter, GatewayReport, Rows
from schemas.message import Message
from schemas.signed import LIMITS, Signed, make_key, read_private, sign
from schemas.wire import Decoder
from schemas.wire_gateway import Said, decode_gateways
from tests.support.gateway import Gateway, gateway

CLOSED, OPEN = (True, True, False), (False, False, False)
CELL_HIGH = "cell_v/MSL/over/any"
TELEMETRY = """
telemetry = { period_s = 0.1, batch_s = 1.0 }
blackbox = { after_s = 1 }
uplink = { kind = "file", folder = "up" }
"""
ORDERS = 'orders = { keys = ["fleet.pub"] }'


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Gateway]:
    """Give a gateway with closed contactors, whose uplink is the folder `up`."""
    make_key(tmp_path / "fleet", tmp_path / "fleet.pub")
    with gateway(tmp_path, more=TELEMETRY + ORDERS) as started:
        started.start()
        started.until(lambda: started.vehicle.box.closed == CLOSED)
        yield started


def order(run: Gateway, sequence: int, content: dict[str, Any]) -> None:
    """Sign limits for an hour, and lay them where the gateway looks."""
    now_ns = time.time_ns()
    signed = Signed(LIMITS, "demo-1", sequence, now_ns, now_ns + 3600 * 10**9, content)
    path = run.folder / "up" / "orders" / str(sequence)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_bytes(sign(signed, read_private(run.folder / "fleet")))
    path.with_suffix(".new").rename(path)


def drive_off(run: Gateway) -> None:
    """Drive with closed contactors.

    A machine so busy that a heartbeat or a wish came too late has opened them while the vehicle stood, and rightly so:
    whoever starts after that finds them open, and asks for that.
    """
    pack = run.vehicle.pack
    pack.speed_kmh, pack.drive_state = 60.0, 1.0
    run.until(lambda: run.page()["beat"]["standing"] is False)
    pack.standby = run.page()["beat"]["phase"] != CLOSED_PHASE
    run.until(lambda: run.page()["beat"]["phase"] == CLOSED_PHASE and run.vehicle.box.closed == CLOSED)
    pack.standby, pack.current_a = False, -2.0
    run.until(lambda: run.page()["beat"]["values"]["current_a"] < 0)


def messages(run: Gateway, lane: str) -> list[tuple[str, list[tuple[str, bytes]], bytes]]:
    """Give key, headers and payload of what the uplink has taken, in order of time."""
    paths = [path for path in sorted((run.folder / "up" / lane).glob("*")) if path.suffix != ".new"]
    return [read_message(path.read_bytes())[1:] for path in paths]


def read_by_fleet(key: str, about: list[tuple[str, bytes]], payload: bytes) -> Said:
    """Give a message as the fleet gets it; its place is what makes it another."""
    offset = zlib.crc32(payload)
    return Said(Message(payload, dict(about)["content-type"].decode(), "gateways", 0, offset), key.encode(), about)


def arrived(run: Gateway, lane: str) -> list[tuple[dict[str, str], bytes]]:
    """Give headers and payload of what the uplink has taken, in order of time."""
    return [({k: v.decode() for k, v in headers}, payload) for _, headers, payload in messages(run, lane)]


def incidents(run: Gateway) -> list[dict[str, Any]]:
    return [json.loads(data) for about, data in arrived(run, "urgent") if about["ce_type"] == "ibms.gateway.incident"]


def test_it_closes_through_precharge_and_an_over_voltage_while_parked_opens_and_stays_latched(
    run: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.moves == [OPEN, (False, True, False), (False, True, True), (True, True, True), CLOSED]
    order(run, 5, {"discharge_a": 20.0})
    run.until(lambda: run.page()["beat"]["discharge_a"] == 20.0)
    order(run, 4, {"discharge_a": 100.0})
    run.until(lambda: "limits 4 from outside refused: sequence must be above 5" in run.journal)
    run.until(lambda: arrived(run, "live"))
    run.vehicle.pack.cell_v[4] = 4.3
    run.until(lambda: run.vehicle.box.closed == OPEN)
    said = r"error: cell 5 at 4\.30 V, limit 4\.25 V for \d\.\d s: contactors opened"
    run.until(lambda: re.search(said, run.journal))
    run.until(lambda: read(run.folder / "state" / "latches").latched == (CELL_HIGH,))
    run.until(lambda: run.page()["beat"]["latched"])
    assert main(["status", "--config", str(run.config)]) == 0
    words = capsys.readouterr().out
    assert f"latched      {CELL_HIGH}" in words
    assert "plus open, minus open" in words
    assert f'ibms_edge_cause{{row="{CELL_HIGH}"}} 1' in run.metrics()
    run.vehicle.pack.cell_v[4] = 3.7
    run.until(lambda: "black box: the last piece" in run.journal)
    assert run.stop() == 0
    fleet = decode_gateways([read_by_fleet(*one) for one in messages(run, "urgent")], Decoder())
    assert not [one for one in fleet if isinstance(one, DeadLetter)], "the fleet reads all that the gateway says"
    (trip,) = (one for one in fleet if isinstance(one, GatewayReport) and one.limit_key == CELL_HIGH and one.active)
    assert (trip.phase, trip.charge_a, trip.gateway_version, trip.opens) == ("open", 0.0, version("ibms"), True)
    boxes = [one.data["trip_ns"] for one in fleet if isinstance(one, Rows)]
    assert set(np.concatenate(boxes)) == {trip.t_ns}
    told = [(one.get("key"), one["what"], one.get("result")) for one in incidents(run)]
    assert (CELL_HIGH, "decision", None) in told
    assert {(None, "order", "taken"), (None, "order", "older")} < set(told)
    assert "ibms.gateway.blackbox" in {about["ce_type"] for about, _ in arrived(run, "urgent")}
    run.start()  # the latch is known again, so nothing closes though the cell is well
    run.until(lambda: run.page().get("beat", {}).get("phase") == "open")
    run.stays(lambda: run.vehicle.box.closed == OPEN, 1.0)
    assert run.page()["beat"]["latched"] == [CELL_HIGH]
    assert run.page()["beat"]["discharge_a"] <= 20.0, "and so are the limits from outside"
    run.vehicle.pack.standby = True
    run.until(lambda: read(run.folder / "state" / "latches").latched == ())


def test_a_killed_protection_process_is_stood_in_for_and_its_successor_moves_nothing_while_driving(
    run: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = run.vehicle.pack
    assert main(["--config", str(run.config)]) == 2
    assert "state_dir must be of one gateway; got one where another runs" in capsys.readouterr().err
    drive_off(run)
    stops, moved = run.vehicle.stops, len(run.moves)
    os.kill(run.process("protect_flow"), signal.SIGSTOP)
    run.until(lambda: run.vehicle.stops > stops)
    run.until(lambda: "the protection process said nothing for 0.5 s" in run.journal)
    run.until(lambda: run.restarts("protection") == 1)
    run.kill("protect_flow")
    run.until(lambda: run.vehicle.box.mode == HOLDS)
    run.until(lambda: run.restarts("protection") == 2)
    run.until(lambda: run.vehicle.box.mode == FOLLOWS)
    run.until(lambda: run.page()["beat"]["asked"] is None)  # nothing is commanded, once its first word has come
    run.stays(lambda: run.vehicle.box.closed == CLOSED, 1.0)
    assert len(run.moves) == moved
    assert "the protection process ended by SIGKILL: the junction box is asked for a safe stop" in run.journal
    pack.speed_kmh, pack.close = 0.0, False
    run.until(lambda: run.vehicle.box.closed == OPEN)


def test_protection_goes_on_while_telemetry_is_killed_and_without_the_supervisor(run: Gateway) -> None:
    run.until(lambda: run.process("telemetry_flow"))
    protection, stops = run.process("protect_flow"), run.vehicle.stops
    run.kill("telemetry_flow")
    run.until(lambda: run.restarts("telemetry") == 1)
    assert (run.process("protect_flow"), run.vehicle.stops) == (protection, stops)
    assert "the telemetry process ended by SIGKILL: protection goes on" in run.journal
    assert run.command is not None
    run.command.kill()
    run.command.wait()
    run.stays(lambda: run.vehicle.box.closed == CLOSED, 1.0)
    run.vehicle.pack.crash = 1.0
    run.until(lambda: run.vehicle.box.closed == OPEN)
    run.start()  # and ends the process that the killed one left behind
    run.until(lambda: f"process {protection} of a run that was killed is ended" in run.journal)
    run.until(lambda: run.page().get("beat", {}).get("latched"))


def test_a_corrupt_latch_file_keeps_everything_open_until_a_service(tmp_path: Path) -> None:
    with gateway(tmp_path) as run:
        latches = tmp_path / "state" / "latches"
        data = bytearray(latches.read_bytes())
        data[10] ^= 1
        data[SLOT_BYTES + 10] ^= 1
        latches.write_bytes(data)
        run.start()
        run.until(lambda: run.page().get("beat", {}).get("phase") == "open")
        run.stays(lambda: run.vehicle.box.closed == OPEN, 1.5)
        assert "latches may be lost, contactors stay open until somebody has looked at the pack" in run.journal
        assert bytes(data) == latches.read_bytes(), "nobody writes over what should be looked at"
        assert main(["service", "--config", str(run.config)]) == 0
        run.until(lambda: run.vehicle.box.closed == CLOSED)
        assert read(latches).latched == ()


def test_without_cell_voltages_it_observes_and_never_commands(tmp_path: Path) -> None:
    with gateway(tmp_path, latches=False, more='signals.absent = ["cell_v"]') as run:
        run.start()
        run.until(lambda: run.page().get("beat", {}).get("values", {}).get("current_a") == 0.0)
        run.until(lambda: "observer, contactors are never commanded" in run.journal)
        run.kill("protect_flow")
        run.until(lambda: run.restarts("protection") == 1)
        assert (run.vehicle.asked, run.vehicle.limits, run.vehicle.stops) == ({}, {}, 0)


def test_a_full_disk_costs_frames_and_never_protection(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with gateway(tmp_path, latches=False, more=TELEMETRY) as run, small_disk(state) as refused:
        if refused:
            (pytest.fail if os.environ.get("IBMS_REQUIRE_MOUNT") == "1" else pytest.skip)(refused)
        create(state / "latches")
        run.start()
        run.until(lambda: run.vehicle.box.closed == CLOSED)
        run.until(lambda: "ibms_edge_outbox_up 1" in run.metrics())
        fill(state)
        run.until(lambda: "frames were let go: the disk did not take them" in run.journal)
        run.until(lambda: 'dropped_records_total{kind="frames",why="unwritten"}' in run.metrics())
        run.vehicle.pack.cell_v[4] = 4.3
        run.until(lambda: run.vehicle.box.closed == OPEN)
        run.until(lambda: read(state / "latches").latched == (CELL_HIGH,))
        assert [child["restarts"] for child in run.page()["children"].values()] == [0, 0]
        assert run.stop() == 0
