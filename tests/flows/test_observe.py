"""A process tells of itself: heartbeat, log lines and metrics."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest

from flows.heartbeat import heartbeats
from flows.observe import METRICS, Observer, ObserveSettings
from operators.shard import Kept
from schemas.events import Tick
from schemas.ids import shard_of
from tests.support.broker import free_ports
from tests.support.frames import frames


def test_a_heartbeat_holds_counts_and_why_a_process_waits(tmp_path: Path) -> None:
    seen = Observer(ObserveSettings(), 1, tmp_path)
    seen.count("ibms_dead_letters_total", 2, reason="late")
    seen._beat_at = -10.0
    seen.waiting("source", "brokers are away")
    beat = heartbeats(tmp_path)[0]
    assert beat["waiting"] == {"source": "brokers are away"}
    assert ["ibms_dead_letters_total", {"reason": "late"}, 2.0] in beat["values"]


@pytest.mark.parametrize("log", ["json", "logfmt"])
def test_an_event_is_one_line(capsys: pytest.CaptureFixture[str], log: str) -> None:
    settings = ObserveSettings(log="json") if log == "json" else ObserveSettings(log="logfmt")
    Observer(settings).say("expired", topic="a b", first=5)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    if log == "json":
        assert {"event": "expired", "topic": "a b", "first": 5}.items() <= json.loads(line).items()
    else:
        assert 'event=expired process=0 topic="a b" first=5' in line


def test_metrics_are_served_on_loopback() -> None:
    port = free_ports(1)[0]
    seen = Observer(ObserveSettings(metrics_port=port))
    seen.count("ibms_incidents_opened_total", kind="leak")
    seen.serve()
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'ibms_incidents_opened_total{kind="leak"} 1.0' in text
    assert "ibms_ready 1.0" in text


def test_frames_are_counted_by_the_stage_they_come_out_of() -> None:
    seen = Observer(ObserveSettings())
    block = frames([0.0, 10.0, 20.0])
    for stage, item in (("decoded", block), ("cleaned", block), ("decoded", block), ("cleaned", Tick(1))):
        seen.passed(stage, item)
    assert dict(seen.values) == {
        ("ibms_frames_total", (("stage", "decoded"),)): 6,
        ("ibms_frames_total", (("stage", "cleaned"),)): 3,
    }


def test_state_is_measured_by_step_and_shard_when_it_is_kept() -> None:
    seen = Observer(ObserveSettings())
    shards, first, second = 4, "A", next(n for n in map(str, range(99)) if shard_of(n, 4) != shard_of("A", 4))
    for kept in (
        Kept("clean", "m", first, 2, 100, 1),
        Kept("clean", "m", second, 5, 300, 0),
        Kept("estimate", "m", first, 2, 1000, 0),
        Kept("clean", "m", first, 3, 150, 2),  # the next snapshot of the first shard
    ):
        seen.kept(shards, kept)
    values = {(name, *dict(labels).values()): value for (name, labels), value in seen.values.items()}
    assert values == {
        ("ibms_snapshot_bytes", "clean"): 450,
        ("ibms_snapshot_bytes", "estimate"): 1000,
        ("ibms_duplicates_total",): 2,
        ("ibms_shard_packs", f"m/{shard_of(first, 4):03d}"): 3,
        ("ibms_shard_packs", f"m/{shard_of(second, 4):03d}"): 5,
    }


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    folder = Path(__file__).parents[2] / "flows" / "deploy" / "grafana" / "dashboards"
    (board,) = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    asked = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert set(re.findall(r"ibms_\w+", asked)) == set(METRICS)
