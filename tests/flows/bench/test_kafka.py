"""The benchmark on Kafka, small: the real command on a real broker, and every promised figure."""

from __future__ import annotations

import json

import pytest

from flows.bench import kafka as bench
from flows.bench.kafka import Durability, Rates, Sizes, run_kafka, throughput
from tests.support.broker import Cluster


def test_a_worker_is_measured_until_all_is_durable(kafka: Cluster) -> None:
    rates = throughput(kafka.bootstrap, "json", 1, vehicles=50, rounds=20, epoch_s=0.5)
    assert rates.per_core > 10
    assert rates.per_s > 10


def test_the_figures_are_those_that_were_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = Rates(130_000.4, 90_000.0)
    monkeypatch.setattr(bench, "throughput", lambda *_: rates)
    lasting = Durability([Rates(9, 951.2), Rates(1, 1), Rates(9, 999)], [Rates(10, 1000)] * 3, 3.21)
    monkeypatch.setattr(bench, "durability", lambda *_: lasting)
    monkeypatch.setattr(bench, "peers", lambda _: None)
    run_kafka("127.0.0.1:1", Sizes(), as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "arrow10_frames_per_s_per_core": 130_000,
        "json1_frames_per_s_per_core": 130_000,
        "snapshot_ratio": 0.951,
        "resume_100k_s": 3.21,
        "peers": None,
    }
    assert "90,000 per second by the clock" in err
    assert "medians: 0.951 by the clock, 0.900 by CPU" in err
    assert "per core: frames over the CPU seconds" in err
    run_kafka("127.0.0.1:1", Sizes(), as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["arrow10_frames_per_s_per_core", "130,000", "≥", "120,000"] in lines


def test_sizes_are_those_of_the_goals() -> None:
    assert (Sizes().many, Sizes().epoch_s) == (100_000, 30.0)
