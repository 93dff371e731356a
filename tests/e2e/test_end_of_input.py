"""A bounded replay shows its last window and incident in the lake, whenever it was stopped, and once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.fleet_run import run as run_settings
from flows.run import run_flow
from flows.settings import FleetSettings, LakeSettings, RecoverySettings, RunSettings, SimulateSettings
from replay.source import ReplaySource
from schemas.frames import FrameBlock
from sinks import ducklake
from sinks.lake import LakeSink
from tests.support.fleet import MODEL, NS, SETTINGS, cut_every, drive, flow_into, spoil
from tests.support.fleet_flow import NAME, keep
from tests.support.kill import account, kill, run_to_end, start_flow

FLOW = "tests.support.fleet_flow"


@pytest.fixture(scope="module")
def minutes() -> FrameBlock:
    """Three packs for ten minutes; a sense wire opens two minutes before the end and stays so."""
    return spoil(drive(3, 1 / 6, 1.0), (480, 600), "wire")


@pytest.fixture(scope="module")
def lake(minutes: FrameBlock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without recovery: what every other must come to."""
    path = tmp_path_factory.mktemp("whole") / "lake"
    sink = LakeSink(path, NAME, recovery=False)
    run_flow(flow_into(sink, ReplaySource(lambda: [minutes])), RecoverySettings(), SETTINGS.shards)
    return path


def test_the_last_window_state_session_and_incident_are_in_the_lake(minutes: FrameBlock, lake: Path) -> None:
    with ducklake.attach(lake) as con:
        windows = con.execute("SELECT pack_id, max(epoch_ns(start_ns)) FROM windows GROUP BY ALL").fetchall()
        sessions = con.execute("SELECT pack_id, max(epoch_ns(end_ns)) FROM sessions GROUP BY ALL").fetchall()
        incidents = con.execute("SELECT kind, status, epoch_ns(opened_ns) FROM incidents").fetchall()
    newest = {p: int(minutes.t_ns[minutes.pack == i].max()) for i, p in enumerate(minutes.packs)}
    window_ns = int(SETTINGS.window_s * NS)
    assert dict(windows) == {p: t - t % window_ns for p, t in newest.items()}
    assert dict(sessions) == newest
    assert ("sense_wire", "open") in {i[:2] for i in incidents}
    assert min(i[2] for i in incidents) > minutes.t_ns.min() + 480 * NS


@pytest.mark.kill
@pytest.mark.parametrize("epoch_s", [30.0, 0.2])
def test_a_kill_between_the_flows_return_and_its_last_publish_loses_and_repeats_nothing(
    memory: Callable[[str], Path], minutes: FrameBlock, lake: Path, epoch_s: float
) -> None:
    """`epoch_s` 30: all records are pending; 0.2: those of the last epochs are."""
    work = memory("work")
    blocks = keep(cut_every(minutes, 40), work / "blocks.pickle")
    child = start_flow(work, (FLOW, str(blocks), "--hold"), epoch_s)
    end = time.monotonic() + 120
    while not (work / "returned").exists():
        assert child.exitcode is None, (work / "log").read_text()[-3000:]
        assert time.monotonic() < end
        time.sleep(0.01)
    assert kill(child)
    before = account(work / "lake", lake, kills=1, whole=False)
    assert before.sound, before
    assert before.lost["windows"] > 0, "nothing was pending: the kill came too late to matter"
    for _ in range(2):  # the resumed run publishes it; a finished one, resumed, adds nothing
        run_to_end(work, (FLOW, str(blocks)), epoch_s)
        after = account(work / "lake", lake, kills=1, whole=True)
        assert after.sound, after


def test_a_finished_run_resumed_adds_nothing(tmp_path: Path) -> None:
    """Through `ibms run fleet` itself."""
    settings = RunSettings(
        SimulateSettings(vehicles=3, hours=0.25, period_s=2.0, models=(MODEL,), faults=False),
        FleetSettings(window_s=10.0, state_s=60.0),
        LakeSettings(tmp_path / "lake"),
        RecoverySettings(tmp_path / "recovery", 5.0),
    )
    run_settings(settings)
    once = _counts(tmp_path / "lake")
    for _ in range(2):
        run_settings(settings)
        assert _counts(tmp_path / "lake") == once
    assert once["windows"] >= 1
    assert once["sessions"] >= 1


def _counts(lake: Path) -> dict[str, int]:
    with ducklake.attach(lake) as con:
        tables = ("windows", "states", "sessions", "incidents", "gaps", "dead_letters")
        return {t: int(np.array(con.execute(f"SELECT count(*) FROM raw.{t}").fetchall())[0, 0]) for t in tables}
