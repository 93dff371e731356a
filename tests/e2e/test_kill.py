"""Exactly once into the lake: a flow that is killed again and again against one that is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kill import account, kill_often, run_to_end

FLOW = ("-m", "tests.support.kill_flow", "--blocks")
BLOCKS_PER_KILL = 20  # so that the flow is not over before the last kill
SEED = 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, kills: int) -> Path:
    """A run of the same frames that nobody kills."""
    work = tmp_path_factory.mktemp("undisturbed")
    run_to_end(work, (*FLOW, str(BLOCKS_PER_KILL * kills)))
    return work


@pytest.mark.kill
def test_nothing_is_lost_or_repeated_however_often_the_flow_is_killed(
    tmp_path: Path, undisturbed: Path, kills: int
) -> None:
    command = (*FLOW, str(BLOCKS_PER_KILL * kills))
    done = kill_often(tmp_path, command, range(kills), SEED)
    run_to_end(tmp_path, command)
    found = account(done, tmp_path / "lake", undisturbed / "lake")
    print(f"{found.kills} kills, {found.rows} rows: lost {found.lost}, repeated {found.repeated}")
    assert done == kills, "the flow was over before the last kill: raise BLOCKS_PER_KILL"
    assert found.sound, found


@pytest.mark.kill
@pytest.mark.parametrize("sink", ["hasty", "hoarder"])
def test_a_sink_with_a_mistake_fails_the_same_account_within_15_kills(
    tmp_path: Path, undisturbed: Path, kills: int, sink: str
) -> None:
    command = (*FLOW, str(BLOCKS_PER_KILL * kills), "--sink", sink)
    for first in range(0, 15, 3):  # three at a time: enough is enough
        if kill_often(tmp_path, command, range(first, first + 3), SEED) < 3:
            run_to_end(tmp_path, command)
        if not account(first + 3, tmp_path / "lake", undisturbed / "lake").sound_so_far:
            return
    pytest.fail(f"15 kills did not show that the sink {sink!r} repeats rows")
