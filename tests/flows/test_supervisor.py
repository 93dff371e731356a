"""A cluster under its supervisor: when it is hung, what it waits for, and who owns the store."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows import supervisor
from flows.supervisor import Watch, supervise
from schemas.checked import ConfigError

CONFIG = """
ticks = {ticks}
[source]
kind = "simulate"
vehicles = 2
hours = 0.1
models = ["generic-nmc@4c2t60ah"]
[lake]
dir = "{folder}/lake"
"""


def _beat(at: float, tick: float, waiting: dict[str, str] | None = None, pid: int = 1) -> dict[str, Any]:
    return {"pid": pid, "at": at, "waiting": waiting or {}, "values": [["ibms_sink_tick_seconds", {}, tick]]}


def test_ticks_that_go_on_are_life_and_ticks_that_stop_are_a_hang() -> None:
    watch = Watch(-100.0)
    assert not watch.hung(-50.0, [_beat(1, 99.0)])
    assert not watch.hung(1.0, [_beat(1, 100.0)])
    assert not watch.hung(11.0, [_beat(2, 100.0)])
    assert watch.hung(11.1, [_beat(11, 100.0)])
    assert not watch.hung(11.2, [_beat(11, 101.0)])


def test_a_run_is_not_judged_while_the_first_frames_read_the_kernels_in() -> None:
    watch = Watch(0.0)
    assert not watch.hung(1.0, [_beat(1, 100.0)])
    assert not watch.hung(20.9, [_beat(1, 100.0)])
    assert watch.hung(21.1, [_beat(1, 100.0)])


def test_a_run_whose_starts_have_failed_is_given_longer_to_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def round_(_directory: Path, _config: Path, _n: int, ending: list[int], settle_s: float) -> tuple[str, list[int]]:
        given.append(settle_s)
        if len(given) == 7:
            ending.append(signal.SIGTERM)
        return "no tick has reached the sinks for 10 s", []

    monkeypatch.setattr(supervisor, "_round", round_)
    monkeypatch.setattr(supervisor, "_PAUSES_S", (0.0,))
    monkeypatch.setattr(supervisor, "_warm", lambda: None)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert supervise(_config(tmp_path, ticks=True, recovery=True), 1) == 0
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert given == [20, 40, 80, 160, 320, 320, 320]


def test_the_last_process_of_a_run_that_ends_has_longer() -> None:
    watch = Watch(-100.0)
    assert not watch.hung(-50.0, [_beat(1, 99.0)])
    assert not watch.hung(1.0, [_beat(1, 100.0)])
    assert not watch.hung(70.9, [], 60.0)
    assert watch.hung(71.1, [], 60.0)


def test_waiting_for_a_broker_is_life_while_it_is_said_again() -> None:
    watch = Watch(0.0)
    for second in range(100):
        assert not watch.hung(float(second), [_beat(second, 5.0, {"sink": "brokers are away"})])
    assert watch.hung(110.0, [_beat(99, 5.0, {"sink": "brokers are away"})])


def test_one_process_with_the_sink_is_enough() -> None:
    watch = Watch(0.0)
    for second in range(60):
        assert not watch.hung(float(second), [_beat(1, 0.0, pid=1), _beat(1, second + 1.0, pid=2)])


def test_a_start_has_longer_than_a_tick() -> None:
    watch = Watch(0.0)
    assert not watch.hung(179.0, [])
    assert watch.hung(181.0, [])


def _config(folder: Path, *, ticks: bool, recovery: bool) -> Path:
    path = folder / "s.toml"
    more = f'[recovery]\ndir = "{folder}/r"\nepoch_s = 0.5\n' if recovery else ""
    path.write_text(CONFIG.format(folder=folder, ticks=str(ticks).lower()) + more)
    return path


@pytest.mark.parametrize(("ticks", "recovery", "said"), [(True, False, "recovery.dir"), (False, True, "ticks")])
def test_what_supervision_needs_is_asked_for(tmp_path: Path, ticks: bool, recovery: bool, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said} must be"):
        supervise(_config(tmp_path, ticks=ticks, recovery=recovery), 2)


def test_a_store_has_one_supervisor(tmp_path: Path) -> None:
    config = _config(tmp_path, ticks=True, recovery=True)
    (tmp_path / "r").mkdir()
    with (tmp_path / "r" / "lease-supervisor").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another one is alive"):
            supervise(config, 1)


def test_a_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervisor._full(tmp_path, tmp_path / "lake") == []
    monkeypatch.setattr(supervisor, "_ROOM_BYTES", 1 << 62)
    assert supervisor._full(tmp_path / "not" / "yet") == [f"no room under {tmp_path}"]


def _child(parent: int) -> list[str]:
    then = "print('on', flush=True); import time; time.sleep(60)"
    return [sys.executable, "-c", f"from flows.supervisor import end_with; end_with({parent}); {then}"]


def test_a_process_ends_with_its_supervisor_however_that_ends() -> None:
    code = (
        "import os, subprocess, sys, time; "
        f"child = subprocess.Popen([a.replace('PID', str(os.getpid())) for a in {_child(0)!r}]); "
        "print(child.pid, flush=True); time.sleep(60)"
    ).replace("end_with(0)", "end_with(PID)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "on\n"
        parent.kill()
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_whose_supervisor_has_ended_already_does_not_begin() -> None:
    ended = subprocess.run(_child(1 << 22), capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")
