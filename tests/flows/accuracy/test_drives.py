"""SOC errors of a drive: their truth, their settling time, and what does not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.accuracy.drives import Drive, SocRow, covered_pct, pooled_rmse_pct, soc_errors
from operators.kernels.estimate import EstimateConfig
from schemas.pack import load_pack

PACK = load_pack("lg-hg2")


def resting(soc: float, hours: float = 0.5) -> Drive:
    """A cell at rest at 25 °C, its voltage that of the pack file."""
    t_s = np.arange(0.0, hours * 3600.0, 1.0)
    grid = PACK.grid()
    volts = np.interp(soc, np.linspace(0, 1, 201), grid.ocv[np.flatnonzero(grid.temp_c == 25)[0]])
    n = np.ones(t_s.size)
    return Drive("rest", 25.0, t_s, 0 * n, volts * n, 25 * n, soc * n)


@pytest.mark.parametrize("cells_seen", [True, False])
def test_a_rest_that_the_table_explains_has_little_error(cells_seen: bool) -> None:
    start = EstimateConfig(initial_soc=0.4, initial_soc_std=0.2)
    row = soc_errors(PACK, start, resting(0.6), 600.0, cells_seen=cells_seen)
    assert row.samples == 1200
    assert row.rmse_pct < 1.0
    assert row.within_90_pct == 100.0


def test_unknown_truth_and_settling_do_not_count() -> None:
    drive = resting(0.6)
    truth = drive.soc.copy()
    truth[700:] = np.nan
    truth[:600] = 0.0  # far off
    row = soc_errors(PACK, EstimateConfig(), replace(drive, soc=truth), 600.0, cells_seen=True)
    assert row.samples == 100
    assert row.worst_pct < 2.0


def test_an_error_of_the_truth_is_an_error_of_the_estimate() -> None:
    drive = resting(0.6)
    row = soc_errors(PACK, EstimateConfig(), replace(drive, soc=drive.soc + 0.05), 600.0, cells_seen=True)
    assert row.rmse_pct == pytest.approx(5.0, abs=0.7)
    assert row.within_90_pct == 0.0


def test_figures_over_drives_weigh_samples() -> None:
    rows = [SocRow("a", 25, 300, 1.0, 2.0, 80.0, 1.0, 1.0, 90.0), SocRow("b", 25, 100, 3.0, 4.0, 100.0, 1.0, 1.0, 90.0)]
    assert pooled_rmse_pct(rows) == pytest.approx(np.sqrt((300 * 1 + 100 * 9) / 400))
    assert covered_pct(rows) == 85.0


def test_a_drive_can_begin_later() -> None:
    later = resting(0.6).part(600)
    assert later.t_s[0] == 600.0
    assert len({c.size for c in (later.t_s, later.current_a, later.pack_v, later.temp_c, later.soc)}) == 1
