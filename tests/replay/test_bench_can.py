from __future__ import annotations

from pathlib import Path

import pytest

from operators.dbc import load_dbc
from replay.bench_can import bench_can, bench_candump, bench_decode
from schemas.checked import ConfigError
from tests.support.can_data import dbc_path, log


def test_the_benchmark_reports_its_figures_and_columns_beat_a_frame_at_a_time() -> None:
    block, dbc = log("bmw_i3", "2019_ionity_mida"), load_dbc(dbc_path("bmw_i3_lim"))
    figures = {**bench_candump(block, dbc), **bench_decode(block, dbc)}
    assert figures["candump_can_frames_per_s"] > 100_000  # far below what is asked: a test machine is shared
    assert figures["decode_ratio_vs_cantools"] > 2


def test_without_recordings_the_benchmark_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data must hold can_traces/bmw_i3\.parquet; got "):
        bench_can(tmp_path)
