"""The bench of the edge: its figures are what they are called, and a short run gives all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edge import bench
from edge.__main__ import main
from edge.bench import at, at_bucket, words

KEYS = {"p50_ms", "p99_ms", "p999_ms", "max_ms", "step_p99_us", "rss_mb", "cold_start_s"}


def test_a_share_of_values_is_not_exceeded_by_the_figure_of_that_share() -> None:
    values = [float(k) for k in range(1, 1001)]
    assert [at(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500.0, 990.0, 999.0, 1000.0]
    assert at([3.0], 0.5) == 3.0
    assert math.isnan(at([], 0.5))


def test_a_bucket_is_given_by_its_upper_end() -> None:
    assert at_bucket((50, 100), (98, 1, 1), 0.99) == 100.0
    assert at_bucket((50, 100), (99, 0, 1), 0.99) == 50.0
    assert at_bucket((50, 100), (0, 0, 1), 0.99) == math.inf


def test_a_short_run_gives_every_figure_and_a_decision_that_is_not_missed(tmp_path: Path) -> None:
    found = bench._scenario("quiet", tmp_path, 1.0)
    assert found.keys() >= KEYS
    assert all(math.isfinite(found[key]) and found[key] > 0 for key in KEYS)
    assert (found["missed"], found["restarts"]) == (0, {"protection": 0, "telemetry": 0})
    assert found["samples"] > 10
    assert found["p50_ms"] <= found["p99_ms"] <= found["p999_ms"] <= found["max_ms"]


def test_the_command_gives_the_worst_of_all_scenarios_as_json_and_says_what_was_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = dict.fromkeys([*KEYS, "over_voltage_s", "over_voltage_allowed_s"], 1.0)
    given = {"quiet": one, "CPU hog": one | {"p999_ms": 7.0}, "telemetry killed": one | {"rss_mb": 200.0}}
    monkeypatch.setattr(
        bench, "_scenario", lambda name, *_: given.get(name, {"skipped": "a disk can not be mounted: no right"})
    )
    assert main(["bench", "--json", "--seconds", "5"]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert found.keys() == KEYS | {"scenarios"}
    assert (found["p999_ms"], found["rss_mb"], found["p50_ms"]) == (7.0, 200.0, 1.0)
    assert list(found["scenarios"]) == list(bench.SCENARIOS)
    assert "quiet: 5 s at 2000 frames/s …" in out.err
    table = words(found).splitlines()
    assert table[4] == "disk full           skipped: a disk can not be mounted: no right"
    assert table[-1].split() == ["goal", "≤", "5", "≤", "300", "≤", "300", "≤", "2"]
