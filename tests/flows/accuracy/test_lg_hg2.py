"""SOC on recorded drives that nothing was fitted on."""

from pathlib import Path

import numpy as np
import pytest

from flows.accuracy.drives import SocRow
from flows.accuracy.lg_hg2 import mean_rmse_pct, soc_lg_hg2
from schemas.checked import ConfigError


@pytest.fixture(scope="module")
def rows(data_dir: Path) -> list[SocRow]:
    return soc_lg_hg2(data_dir)


def test_soc_is_right_to_0_55_percent_at_0_degrees_and_above(rows: list[SocRow]) -> None:
    warm = [row for row in rows if row.ambient_c >= 0]
    assert len(warm) >= 3
    assert mean_rmse_pct(warm) <= 0.55
    assert max(row.rmse_pct for row in warm) <= 0.80
    assert max(row.worst_pct for row in warm) <= 3.0


def test_soc_is_right_to_0_9_percent_in_the_cold(rows: list[SocRow]) -> None:
    cold = [row.rmse_pct for row in rows if row.ambient_c < 0]
    assert len(cold) >= 2
    assert max(cold) <= 0.9


def test_the_90_percent_interval_holds_the_truth_about_as_often_as_it_says(rows: list[SocRow]) -> None:
    within = np.average([row.within_90_pct for row in rows], weights=[row.samples for row in rows])
    assert 85 <= within <= 98
    assert min(row.within_90_pct for row in rows) >= 80


def test_a_folder_without_the_recordings_says_what_it_misses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="columns kind, test, ambient_c"):
        soc_lg_hg2(tmp_path)
