"""A process of the gateway's: started, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.child import CALM_S, PAUSES_S, START_S, Child, end_left_over
from edge.link import Told

_NS = 10**9


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Give one that is not started; its settings are wrong, so that it ends by itself."""
    config = tmp_path / "gateway.toml"
    config.write_text("nothing = 3")
    one = Child("protection", "protect_flow", config, silent_s=0.5)
    yield one
    one.end()


def _sleeper(seconds: int = 60) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


def _until_over(child: Child, now_ns: int) -> None:
    end_s = time.monotonic() + 20
    while not child.over(now_ns):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_one_that_refuses_its_settings_says_so_and_ends(child: Child) -> None:
    assert child.due(0)
    child.start(0)
    assert not child.due(0)
    said: list[Told] = []
    end_s = time.monotonic() + 20
    while not said:
        assert time.monotonic() < end_s
        assert child.link is not None
        said = list(child.link.hear())
        time.sleep(0.01)
    assert said[0]["kind"] == "refused"
    assert str(child.config) in said[0]["text"]
    _until_over(child, 0)
    assert (child.why, child.link) == ("ended with code 2", None)


def test_it_starts_again_at_once_and_then_ever_later_until_a_calm_run(child: Child) -> None:
    pauses = []
    for _ in range(len(PAUSES_S) + 2):
        child.process, child.began_ns, child.heard_ns = _sleeper(), 0, 0
        child.process.kill()
        _until_over(child, 1)
        pauses.append((child.again_ns - 1) / _NS)
        assert child.why == "ended by SIGKILL"
        assert child.due(child.again_ns)
        assert not child.due(child.again_ns - 1)
    assert pauses == [*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]]
    child.process, child.began_ns, later_ns = _sleeper(), 0, round((CALM_S + 1) * _NS)
    child.heard_ns = later_ns
    child.process.kill()
    _until_over(child, later_ns)
    assert child.again_ns == later_ns


def test_one_that_says_nothing_is_ended(child: Child) -> None:
    child.process, child.began_ns, child.heard_ns = _sleeper(), 0, 10 * _NS
    assert not child.over(round(10.5 * _NS))
    assert child.alive(round(10.5 * _NS))
    assert not child.alive(round(10.51 * _NS))
    _until_over(child, round(10.6 * _NS))
    assert child.why == "said nothing for 0.6 s"


def test_before_its_first_word_it_has_time_to_start(child: Child) -> None:
    child.process, child.began_ns, child.heard_ns = _sleeper(), 0, -1
    assert not child.over(round(START_S * _NS))
    assert not child.alive(0)
    _until_over(child, round(START_S * _NS) + 1)
    assert child.why == f"said nothing for {START_S:.1f} s"


def test_one_that_can_not_be_started_is_tried_again(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    child.start(5)
    assert (child.why, child.process) == ("did not start: No such file or directory", None)
    assert child.due(child.again_ns)


def test_the_end_is_asked_for_and_then_forced(child: Child) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    child.process = process
    child.end(wait_s=0.1)
    assert process.returncode == -signal.SIGKILL
    process.stdout.close()


def test_what_a_killed_supervisor_left_is_ended_and_nothing_else(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    code = "import sys, time; print(flush=True); time.sleep(60)"
    arguments = ["-m", "edge.start", "protect_flow", str(config), "3"]
    fake = tmp_path / "edge"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "start.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    others = [*arguments[:2], "telemetry_flow", str(config), "3"], [*arguments[:3], str(config) + "x", "3"]
    runs = [
        subprocess.Popen([sys.executable, *one], env=env, stdout=subprocess.PIPE, cwd=tmp_path)
        for one in (arguments, *others)
    ]
    try:
        for run in runs:
            assert run.stdout is not None
            run.stdout.readline()
        assert end_left_over("protect_flow", config) == [runs[0].pid]
        assert runs[0].wait(10) == -signal.SIGKILL
        assert [run.poll() for run in runs[1:]] == [None, None]
        assert end_left_over("protect_flow", config) == []
    finally:
        for run in runs:
            run.kill()
            run.wait()
            assert run.stdout is not None
            run.stdout.close()
