"""The supervisor, turn by turn: whom it starts, what it passes on, and what it says for a protection that is silent."""

from __future__ import annotations

import io
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.commands import SAFE_STOP, SUPERVISOR, Sent, fallen, read
from edge.control import SERVICE, ask, listen
from edge.journal import Journal
from edge.keeper import Keeper
from edge.latches import create
from edge.latches import read as read_latches
from edge.link import Link, Told, pair
from edge.settings import Prepared, parse_settings, prepare
from edge.supervisor import Supervisor
from tests.edge.test_settings import GOOD

S, MS = 10**9, 10**6
WALL_NS = 1_800_000_000 * S
BEAT: Told = {"kind": "beat", "charge_a": 100.0, "discharge_a": 200.0, "latched": [], "trusted": True}
DECISION: Told = {"kind": "decision", "tier": "MSL", "active": True, "text": "cell 5 …", "since_ns": 1 * S}


@dataclass
class Process:
    """What edge.child.Child is to the supervisor; `hears` and `says` are the process's own end of the link."""

    name: str
    link: Link | None = None
    inner: Link | None = None
    restarts: int = -1
    heard_ns: int = -1
    why: str = ""
    up: bool = True  # it has not ended
    ended: bool = False
    began: list[int] = field(default_factory=list)

    def due(self, now_ns: int) -> bool:
        return self.link is None

    def start(self, now_ns: int) -> None:
        self.link, theirs = pair()
        self.inner, self.up = Link(theirs), True
        self.restarts, self.heard_ns = self.restarts + 1, -1
        self.began.append(now_ns)

    def over(self, now_ns: int) -> bool:
        if self.up or self.link is None:
            return False
        self.why, self.link = "ended by SIGKILL", None
        return True

    def alive(self, now_ns: int) -> bool:
        return self.link is not None and self.heard_ns >= 0 and now_ns - self.heard_ns <= S // 2

    def end(self, wait_s: float = 2.0) -> None:
        self.ended = True

    def says(self, *messages: Told) -> None:
        assert self.inner is not None
        for message in messages:
            assert self.inner.tell(message)

    def hears(self, kind: str) -> list[Told]:
        assert self.inner is not None
        return [message for message in self.inner.hear() if message["kind"] == kind]


class Bus:
    """What edge.canbus.Port is to the supervisor."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def send(self, sent: list[Sent]) -> None:
        self.sent += sent

    def close(self) -> None:
        pass


class World:
    """A supervisor, and everything that it touches; `turn` lets time pass first."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.now_ns, self.bus, self.said = 0, Bus(), io.StringIO()
        self.protection, self.telemetry = Process("protection"), Process("telemetry")
        self.folder = folder
        self.supervisor = Supervisor(
            prepared=prepared,
            port=self.bus,  # type: ignore[arg-type]
            keeper=Keeper(folder / "latches"),
            journal=Journal(self.said, lambda: WALL_NS),
            control=listen(folder),
            protection=self.protection,  # type: ignore[arg-type]
            telemetry=self.telemetry,  # type: ignore[arg-type]
            now=lambda: self.now_ns,
            wall=lambda: WALL_NS + self.now_ns,
        )
        self.supervisor.start()

    def turn(self, ms: int = 0) -> World:
        self.now_ns += ms * MS
        self.supervisor.turn()
        return self

    def runs(self) -> World:
        """Let both processes run."""
        self.turn()
        self.protection.says(BEAT)
        return self.turn().turn()

    def stops(self) -> list[dict[str, float]]:
        """Give the requests for a safe stop so far."""
        message = self.supervisor.prepared.writer.messages[SUPERVISOR]
        found = [read(message, one.data) for one in self.bus.sent if one.can_id == message.can_id]
        return [one for one in found if one["Request"] == SAFE_STOP]

    def restarted(self) -> World:
        """End this supervisor, and give the next one."""
        self.supervisor.stop()
        return World(self.folder, self.supervisor.prepared)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(parse_settings(GOOD.encode(), "gateway.toml", Path("/etc/ibms")))


@pytest.fixture
def world(prepared: Prepared) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:  # a short path: a socket lies in it
        create(Path(folder) / "latches")
        made = World(Path(folder), prepared)
        yield made
        made.supervisor.stop()


def test_protection_starts_first_with_what_was_latched_and_telemetry_once_it_speaks(world: World) -> None:
    world.turn()
    assert world.protection.hears("start") == [{"kind": "start", "latched": [], "lost": [world.now_ns, 0.0, 0.0]}]
    assert world.telemetry.began == []
    world.protection.says(BEAT)
    assert world.turn().turn().telemetry.began == [0]
    assert "info: protection of v runs" in world.said.getvalue()


def test_a_lost_latch_file_is_told_as_lost_and_made_anew_only_by_a_service(prepared: Prepared, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), prepared)
        world.turn()
        assert world.protection.hears("start")[0]["latched"] is None
        world.protection.says(BEAT | {"trusted": False, "latched": ["row"]})
        world.turn()
        assert not (Path(folder) / "latches").exists()
        ask(Path(folder), SERVICE)
        world.turn()
        assert world.protection.hears("service")
        world.protection.says(BEAT | {"trusted": True, "latched": ["row"]})
        world.turn()
        assert read_latches(Path(folder) / "latches").latched == ("row",)
        world.supervisor.stop()


def test_while_protection_is_silent_a_safe_stop_is_asked_for_at_once_and_again_with_falling_currents(
    world: World,
) -> None:
    world.runs()
    asked = len(world.stops())
    world.protection.up = False
    world.turn(20)
    first = world.stops()[asked:]
    assert [(one["ChargeCurrentMax"], one["DischargeCurrentMax"]) for one in first] == [(100.0, 200.0)]
    lost_ns, *left = world.protection.hears("start")[-1]["lost"]
    assert left == [100.0, 200.0], "the successor goes on from there"
    assert fallen((lost_ns, 100.0, 200.0), lost_ns + 2 * S) == pytest.approx((60.0, 120.0))
    assert fallen((lost_ns, 100.0, 200.0), lost_ns + 60 * S) == (0.0, 0.0)
    assert (
        "error: the protection process ended by SIGKILL: the junction box is asked for a safe" in world.said.getvalue()
    )
    for _ in range(125):
        world.turn(20)
    later = world.stops()[asked + 1 :]
    assert len(later) == 25, "each 100 ms"
    assert later[-1]["ChargeCurrentMax"] == pytest.approx(50.0, abs=1.1)
    for _ in range(150):
        world.turn(20)
    assert (world.stops()[-1]["ChargeCurrentMax"], world.stops()[-1]["DischargeCurrentMax"]) == (0.0, 0.0)
    world.protection.says(BEAT)
    world.turn()
    silent = len(world.stops())
    world.turn(100)
    assert len(world.stops()) == silent
    assert "notice: the protection process runs again" in world.said.getvalue()


def test_one_that_lives_and_says_nothing_is_stood_in_for_too(world: World) -> None:
    world.runs()
    asked = len(world.stops())
    world.turn(490)
    assert len(world.stops()) == asked
    world.turn(20)
    assert len(world.stops()) == asked + 1


def test_an_observer_is_never_spoken_for(tmp_path: Path) -> None:
    text = GOOD.replace('absent = ["current2_a"]', 'absent = ["current2_a", "cell_v"]')
    prepared = prepare(parse_settings(text.encode(), "gateway.toml", Path("/etc/ibms")))
    assert prepared.guard.config.observer
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), prepared).runs()
        world.protection.up = False
        world.turn(20).turn(1000)
        world.supervisor.stop()
        assert world.bus.sent == []


def test_decisions_go_to_the_journal_and_to_telemetry_with_a_number_and_the_time(world: World) -> None:
    world.runs()
    world.turn(3000)
    world.telemetry.hears("")
    world.protection.says(DECISION, DECISION | {"tier": "MOL"}, {"kind": "alert", "text": "welded"})
    world.turn()
    told = world.telemetry.inner
    assert told is not None
    got = [message for message in told.hear() if message["kind"] != "beat"]
    assert [message.get("number") for message in got] == [None, 0, 1], "a state is no report"
    assert got[1]["at_ns"] == WALL_NS + 3 * S
    assert got[1]["since_ns"] == WALL_NS + 1 * S
    assert "error: cell 5 …" in world.said.getvalue()
    assert "error: welded" in world.said.getvalue()


def test_what_telemetry_has_not_kept_it_hears_again_when_it_starts(world: World) -> None:
    world.runs()
    world.protection.says(DECISION, DECISION, DECISION)
    world.turn()
    world.telemetry.says({"kind": "kept", "number": 1})
    world.turn()
    world.telemetry.up = False
    world.turn()
    assert "warning: the telemetry process ended by SIGKILL: protection goes on" in world.said.getvalue()
    world.turn()
    assert [message["number"] for message in world.telemetry.hears("decision")] == [0, 2]


def test_what_waits_for_telemetry_is_bounded_and_the_newest_stay(world: World) -> None:
    world.turn()
    for _ in range(30):
        world.protection.says(*[DECISION] * 10)
        world.turn()
    assert len(world.supervisor.reports) == 256
    assert max(world.supervisor.reports) == 299


def test_a_telemetry_that_is_slow_hears_every_report_in_time(world: World) -> None:
    world.runs()
    assert world.telemetry.link is not None
    world.telemetry.link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(10):
        world.protection.says(*[DECISION] * 10)
        world.turn()
    heard: list[int] = []
    for _ in range(100):
        heard += [message["number"] for message in world.telemetry.hears("decision")]
        world.turn()
    assert heard == list(range(100))
    assert world.telemetry.link.lost > 0


def test_limits_from_outside_go_to_protection_for_as_long_as_they_hold_and_survive_restarts(world: World) -> None:
    limits: dict[str, Any] = {"sequence": 5, "until_ns": WALL_NS + 60 * S, "bounds": {"row": 4.1}, "charge_a": 11.0}
    world.runs()
    world.telemetry.says({"kind": "limits", **limits})
    world.turn(2000)
    told = {"kind": "limits", **limits}
    assert world.protection.hears("limits") == [told | {"for_s": 58.0}]
    world.protection.up = False
    world.turn(1000).turn()
    assert world.protection.hears("limits") == [told | {"for_s": 57.0}], "a new process hears them at its start"
    after = world.restarted().runs()
    assert after.protection.hears("limits") == [told | {"for_s": 60.0}]
    assert after.telemetry.hears("limits") == [told]
    after.now_ns = 61 * S
    after.protection.up = False
    after.turn().turn()
    assert after.protection.hears("limits") == [], "they are over"
    after.supervisor.stop()


def test_what_telemetry_says_is_shown_and_written(world: World) -> None:
    world.runs()
    world.telemetry.says(
        {"kind": "metrics", "values": [["x", {}, 1.0]]}, {"kind": "journal", "level": 4, "text": "full"}
    )
    world.turn(200)
    assert world.supervisor.shown["telemetry"] == [["x", {}, 1.0]]
    assert "warning: full" in world.said.getvalue()


def test_latches_reach_the_disk_and_a_disk_that_does_not_take_them_is_said_once(world: World) -> None:
    world.runs()
    world.protection.says(BEAT | {"latched": ["row"]})
    world.turn()
    world.supervisor.keeper.stop()
    assert read_latches(world.folder / "latches").latched == ("row",)
    world.supervisor.keeper.failed = "no room"
    world.turn().turn()
    assert world.said.getvalue().count("error: latches are not on disk: no room") == 1
    world.supervisor.keeper.failed = ""
    assert "notice: latches are on disk again" in world.turn().said.getvalue()


def test_systemd_hears_that_it_is_ready_that_it_lives_and_that_it_stops(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(world.folder / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(world.folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        world.turn()
        assert manager.recv(100) == b"WATCHDOG=1"
        world.protection.says(BEAT)
        world.turn(900)
        assert manager.recv(100) == b"READY=1"
        world.turn(100)
        assert manager.recv(100) == b"WATCHDOG=1"
        world.supervisor.stop()
        assert manager.recv(100) == b"STOPPING=1"
        assert (world.protection.ended, world.telemetry.ended) == (True, True)
