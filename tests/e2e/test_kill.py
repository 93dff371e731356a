"""Exactly once into the lake: the fleet flow killed again and again, against one that is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kill import Account, account, kill_often, run_to_end

COMMAND = ("tests.support.kill_flow", "--blocks", "300")
SEED = 20
KILLS_OF_A_MISTAKE = 15


@pytest.fixture(scope="module")
def undisturbed(memory: Callable[[str], Path]) -> Path:
    """A lake of the same frames that nobody disturbed."""
    work = memory("undisturbed")
    run_to_end(work, COMMAND)
    return work / "lake"


def _rounds(work: Path, undisturbed: Path, kills: int, sink: str, at_once: int) -> Iterator[Account]:
    """Account after every `at_once` kills, and at the end; a flow that ended begins anew in another directory."""
    command = (*COMMAND, "--sink", sink)
    done = 0
    while done < kills:
        here = work / f"from-{done}"
        ended = False
        first = done
        while done < kills and not ended:
            wanted = range(done, min(done + at_once, kills))
            killed = kill_often(here, command, wanted, SEED)
            done += killed
            ended = killed < len(wanted)
            if not ended and done < kills:
                yield account(here / "lake", undisturbed, kills=done, whole=False)
        assert done > first, "the flow was never killed"
        run_to_end(here, command)
        yield account(here / "lake", undisturbed, kills=done, whole=True)


@pytest.mark.kill
def test_nothing_is_lost_or_repeated_however_often_the_flow_is_killed(
    memory: Callable[[str], Path], undisturbed: Path, kills: int
) -> None:
    for found in _rounds(memory("killed"), undisturbed, kills, "sound", at_once=kills):
        print(found)
        assert all(found.rows.values()), "a table without a record proves nothing"
        assert found.sound, found


@pytest.mark.kill
@pytest.mark.parametrize("sink", ["hasty", "hoarder"])
def test_a_sink_with_a_mistake_fails_the_same_account_within_15_kills(
    memory: Callable[[str], Path], undisturbed: Path, sink: str
) -> None:
    for found in _rounds(memory(sink), undisturbed, KILLS_OF_A_MISTAKE, sink, at_once=3):
        if not found.sound:
            print(found)
            return
    pytest.fail(f"{KILLS_OF_A_MISTAKE} kills did not show that the sink {sink!r} repeats rows")
