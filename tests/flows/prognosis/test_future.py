"""What is foreseen of a pack: its own history pulls, and a trajectory leads from where it is to the end."""

from __future__ import annotations

import numpy as np
import pytest

from flows.prognosis import future, rul
from flows.prognosis.blend import Interval
from tests.support.charges import ending

SURE = Interval(np.array([0.0]), np.array([0.3]), -2.0, 2.0)


@pytest.fixture(scope="module")
def job() -> rul.Lives:
    return rul.lives(ending(18))


def test_a_history_pulls_the_answer_from_the_fleet_to_its_own_end(job: rul.Lives) -> None:
    fleet = rul.fleet_of(job, job.cell >= 0)
    off = []
    for at in np.flatnonzero(np.abs(job.cycle / job.life - 0.8) < 0.02):
        wrong = np.log(job.left[at]) + 0.5
        said = future.foresee(fleet, SURE, wrong, *job.past(int(at)), 1).log_left
        off.append((said - np.log(job.left[at])) / 0.5)
    assert np.median(off) < 0.6


def test_a_trajectory_starts_at_the_last_health_and_falls_to_the_end_of_life(job: rul.Lives) -> None:
    fleet = rul.fleet_of(job, job.cell >= 0)
    at = int(np.flatnonzero(job.cell == 1)[20])
    past = job.past(at)
    said = future.foresee(fleet, SURE, float(np.log(job.left[at])), *past, 1)
    ahead = past[0][-1] + np.exp(said.log_left) * np.linspace(0, 1, 20)
    middle, low, high = future.trajectory(fleet, said.particles, *past, ahead)
    assert middle[0] == pytest.approx(past[1][-1])
    assert middle[-1] == pytest.approx(fleet.eol_soh, abs=0.01)
    assert (np.diff(middle) < 0).all()
    assert (low <= middle).all()
    assert (middle <= high).all()
