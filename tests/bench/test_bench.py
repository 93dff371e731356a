"""The benchmark's machinery, small: every promised figure comes out of some stage, and is possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.bench import report
from flows.bench.report import STAGES, Sizes, measure, run_bench
from schemas.checked import ConfigError

KEYS = [
    "fleet_10k_frames_per_s", "fleet_100k_frames_per_s", "ratio_vs_per_vehicle", "end_to_end_over_kernel",
    "candump_can_frames_per_s", "decode_ratio_vs_cantools", "simulate_frames_per_s", "state_bytes_per_vehicle",
    "snapshot_ratio", "resume_100k_s", "stages",
]  # fmt: skip
SMALL = Sizes(
    few=30, few_rounds=13, few_times=1, many=40, many_rounds=13, many_times=1, baseline_rounds=13, baseline_times=2,
    runs=1, snapshot_s=0.3, resume_rounds=4, resume_epoch_s=0.2, sessions=1_000, simulated=60, simulated_h=1.0,
)  # fmt: skip
SYNTHETIC = [name for name, (_, recordings) in STAGES.items() if not recordings]
FULL = Sizes()


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Figures of all stages that need no recording."""
    return measure(None, tmp_path_factory.mktemp("none"), SMALL)


def test_every_promised_figure_is_there(figures: dict[str, Any], data_dir: Path) -> None:
    found = figures | measure("can", data_dir, SMALL)
    assert set(KEYS) <= found.keys()
    assert all(value > 0 for name, value in found.items() if name != "stages")
    assert found["decode_ratio_vs_cantools"] > 2


def test_stages_have_the_steps_of_the_flow_and_what_the_whole_costs(figures: dict[str, Any]) -> None:
    stages = figures["stages"]
    assert set(stages) == {
        "shard", "clean", "estimate", "diagnose", "window", "anomaly", "incidents", "to-arrow", "end_to_end",
    }  # fmt: skip
    assert figures["end_to_end_over_kernel"] > 1
    assert stages["end_to_end"] > max(us for name, us in stages.items() if name != "end_to_end")


def test_the_state_of_a_pack_fits_its_budget(figures: dict[str, Any]) -> None:
    assert 4000 < figures["state_bytes_per_vehicle"] <= 8192


def test_stages_without_recordings_are_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (_, recordings) in STAGES.items():
        monkeypatch.setitem(report.STAGES, name, (lambda *_, n=name: {n: 1.0}, recordings))
    run_bench(None, tmp_path, as_json=True)
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == SYNTHETIC
    assert out.count("\n") == 1
    left_out = [line.split(":")[0] for line in err.splitlines()]
    assert left_out == ["can", "soc", "weak_cells", "wire", "models", "training"]


@pytest.mark.parametrize("stage", ["can", "soc", "weak_cells"])
def test_a_stage_that_was_asked_for_must_have_its_recordings(stage: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--data must be a directory of recordings with {STAGES[stage][1]} in it"):
        measure(stage, tmp_path, FULL)


def test_goals_stand_beside_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"snapshot_ratio": 0.95, "state_bytes_per_vehicle": 7000, "stages": {"clean": 0.5}}
    monkeypatch.setitem(report.STAGES, "stages", (lambda *_: figures, ""))
    run_bench("stages", tmp_path, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["snapshot_ratio", "0.95", "≥", "0.9"] in lines
    assert ["state_bytes_per_vehicle", "7,000", "≤", "8,192"] in lines
    assert ["clean", "0.5"] in lines
