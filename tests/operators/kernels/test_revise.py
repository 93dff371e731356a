"""What a filled gap changes in incidents that were told."""

from copy import deepcopy

import pytest

from operators.kernels import incidents as kernel
from operators.kernels.incidents import Change, Finding, IncidentsConfig, Open
from operators.kernels.kinds import CELL, INDEX
from operators.kernels.revise import Copy, dump, follow, load, settle
from schemas.ids import record_id
from tests.support.frames import T0_NS

HOUR = 3600 * 10**9


def leak(hour: float, level: int, cell: int = 3) -> Finding:
    return Finding(T0_NS + round(hour * HOUR), INDEX["leak"], cell, CELL, level, 0.4, 0.01, 0.01, T0_NS)


def tell(known: list[Open], *findings: Finding) -> dict[str, Change]:
    """Say one finding after another; the last change of each incident, by id."""
    last: dict[str, Change] = {}
    for finding in findings:
        last |= {c.id: c for c in kernel.step(IncidentsConfig(), known, "P", [finding])}
    return last


def story(before: list[Finding], live: list[Finding], filled: list[Finding]) -> tuple[Copy, list[tuple[Change, bool]]]:
    """A pack that saw `live` after a gap, and its copy that saw `filled` instead; what settling tells."""
    known: list[Open] = []
    tell(known, *before)
    copy = Copy(deepcopy(known), {o.id: o.revision for o in known})
    copy.told, copy.found = tell(known, *live), tell(copy.known, *filled)
    return copy, list(settle(copy))


def test_what_was_told_alike_is_not_told_again() -> None:
    copy, changes = story([], [leak(5, 2)], [leak(5, 2)])
    assert changes == []
    assert [o.revision for o in copy.known] == [0]


def test_a_beginning_in_the_gap_revises_the_incident_under_the_id_that_was_raised() -> None:
    copy, changes = story([], [leak(5, 2)], [leak(3, 2)])
    ((change, withdrawn),) = changes
    raised = record_id("P", "leak", "cell 4", T0_NS + 5 * HOUR)
    assert (change.id, change.status, change.revision, withdrawn) == (raised, "update", 1, False)
    assert change.opened_ns == T0_NS + 3 * HOUR
    assert [(o.id, o.revision) for o in copy.known] == [(raised, 1)]


def test_an_incident_of_the_gap_alone_is_raised_once() -> None:
    _, changes = story([], [], [leak(3, 2), leak(4, 0)])
    assert [(c.status, c.revision, withdrawn) for c, withdrawn in changes] == [("clear", 0, False)]


def test_what_the_corrected_history_does_not_hold_is_withdrawn() -> None:
    copy, changes = story([], [leak(5, 2)], [])
    ((change, withdrawn),) = changes
    assert withdrawn
    assert (change.status, change.revision) == ("clear", 1)
    assert change.cleared_ns == T0_NS + 5 * HOUR
    assert copy.known == []


def test_one_that_was_open_before_goes_on_from_its_own_revision() -> None:
    copy, changes = story([leak(1, 1)], [leak(5, 3)], [leak(3, 0)])
    ((change, withdrawn),) = changes
    assert (change.status, change.revision, withdrawn) == ("clear", 2, False)
    assert [o.revision for o in copy.known] == [2]


@pytest.mark.parametrize("cell", [3, 9])
def test_only_the_same_fault_keeps_the_id(cell: int) -> None:
    _, changes = story([], [leak(5, 2)], [leak(3, 2, cell)])
    ids = {c.id for c, _ in changes}
    assert len(ids) == (1 if cell == 3 else 2)
    assert sum(withdrawn for _, withdrawn in changes) == (0 if cell == 3 else 1)


def test_a_later_copy_follows_what_was_renamed() -> None:
    settled, _ = story([], [leak(5, 2)], [leak(3, 2)])
    old = record_id("P", "leak", "cell 4", T0_NS + 3 * HOUR)
    known: list[Open] = []
    tell(known, leak(3, 2))
    later = Copy(known, {old: 0})
    follow(later, settled)
    (new,) = [o.id for o in settled.known]
    assert [(o.id, o.revision) for o in later.known] == [(new, 1)]
    assert later.before == {new: 1}


def test_dump_and_load_give_the_same_copy_from_plain_values() -> None:
    copy, _ = story([leak(1, 1)], [leak(5, 3)], [leak(4, 2)])
    again = load(dump(copy))
    assert again == copy
    assert dump(again) == dump(copy)
