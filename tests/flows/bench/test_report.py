"""Sizes of the benchmark are those of the goals."""

from __future__ import annotations

import pytest

from flows.bench.report import _GOALS, STAGES, Sizes, measure
from schemas.checked import ConfigError


def test_the_figures_with_a_size_in_their_name_are_measured_at_that_size() -> None:
    assert (Sizes().few, Sizes().many) == (10_000, 100_000)
    assert Sizes().snapshot_s > 2 * 30


def test_goals_are_those_of_the_design() -> None:
    assert _GOALS["fleet_10k_frames_per_s"] == (200_000, "≥")
    assert _GOALS["fleet_100k_frames_per_s"] == (150_000, "≥")
    assert _GOALS["ratio_vs_per_vehicle"] == (8, "≥")
    assert _GOALS["candump_can_frames_per_s"] == (400_000, "≥")
    assert _GOALS["state_bytes_per_vehicle"] == (8192, "≤")
    assert _GOALS["snapshot_ratio"] == (0.9, "≥")
    assert _GOALS["resume_100k_s"] == (4, "≤")


def test_an_unknown_stage_is_refused_with_the_known_ones(tmp_path: pytest.TempPathFactory) -> None:
    want = f"stage must be accuracy, anomaly, diagnosis, kafka or one of {', '.join(STAGES)}; got x"
    with pytest.raises(ConfigError, match=want):
        measure("x", tmp_path, Sizes())  # type: ignore[arg-type] # nothing is looked for
