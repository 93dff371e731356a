"""A probe says whether a run goes on, and whether one process of it reads and writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.heartbeat import PROGRESS, live, ready


def _beat(process: int, at: float, *, tick: float = 0.0, waiting: dict[str, str] | None = None) -> dict[str, Any]:
    values = [["ibms_sink_tick_seconds", {"sink": "kafka"}, tick]] if tick else []
    return {"pid": 100 + process, "process": process, "at": at, "waiting": waiting or {}, "values": values}


def test_a_tick_at_a_sink_of_any_process_is_life_of_all() -> None:
    assert live([_beat(0, 100, tick=99), _beat(1, 100)], 101, 30) == ""
    assert live([_beat(0, 200, tick=99), _beat(1, 200)], 201, 30) == "no tick has reached a sink for 102 s"
    assert live([], 100, 30) == "no tick has reached a sink"


def test_waiting_for_brokers_is_life_while_it_is_said_and_not_ready() -> None:
    beats = [_beat(0, 200, tick=99, waiting={"sink": "brokers are away"})]
    assert live(beats, 201, 30) == ""
    assert live(beats, 240, 30) != ""
    assert ready(beats, 0, 201, 30) == "brokers are away"


def test_ready_is_said_of_a_process_of_its_own() -> None:
    beats = [_beat(0, 100), _beat(1, 60)]
    assert ready(beats, 0, 101, 30) == ""
    assert ready(beats, 1, 101, 30) == "process 1 has not told of itself for 30 s"
    assert ready(beats, 2, 101, 30) != ""


@pytest.mark.parametrize(
    ("what", "age_s", "code"), [("live", 1, 0), ("ready", 1, 0), ("live", 90, 1), ("ready", 90, 1)]
)
def test_the_probe_exits_as_a_kubelet_expects_and_imports_little(
    tmp_path: Path, what: str, age_s: float, code: int
) -> None:
    (tmp_path / PROGRESS).mkdir()
    at = time.time() - age_s
    (tmp_path / PROGRESS / "process-0.json").write_text(json.dumps(_beat(0, at, tick=at)))
    command = [sys.executable, "-X", "importtime", "-m", "flows.heartbeat", what, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code
    assert not {"numpy", "confluent_kafka", "bytewax", "typer"} & {
        line.split("|")[-1].strip() for line in ran.stderr.splitlines()
    }
