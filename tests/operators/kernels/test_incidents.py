"""One fault is one incident."""

import math
from typing import Any

import pytest

from operators.kernels import incidents as kernel
from operators.kernels.incidents import Change, Finding, IncidentsConfig, Open
from operators.kernels.kinds import CELL, INDEX, PACK, PROBE
from tests.support.frames import T0_NS
from tests.support.incident_texts import GOLDEN, page

CFG = IncidentsConfig()
HOUR = 3600 * 10**9
SCOPE = {"cell": CELL, "probe": PROBE, "pack": PACK}


def found(h: float, kind: str, subject: int, level: int, value: float = -0.035, **more: Any) -> Finding:
    scope = CELL if INDEX[kind] in range(10, 17) or kind.startswith("cell") else PROBE if "probe" in kind else PACK
    return Finding(
        T0_NS + round(h * HOUR),
        INDEX[kind],
        subject,
        more.get("scope", scope),
        level,
        value,
        more.get("normal", 0.006),
        more.get("sigma", 0.003),
        T0_NS + round(more.get("since", 0.0) * HOUR),
    )


class Pack:
    """The incidents of one pack."""

    def __init__(self) -> None:
        self.known: list[Open] = []
        self.changes: list[Change] = []

    def tell(self, *findings: Finding) -> list[Change]:
        new = list(kernel.step(CFG, self.known, "P", list(findings)))
        self.changes += new
        return new

    def ids(self) -> int:
        return len({c.id for c in self.changes})


def test_a_finding_opens_worsens_and_clears_one_incident() -> None:
    p = Pack()
    p.tell(found(1, "cell_spread", 81, 1))
    p.tell(found(2, "cell_spread", 81, 2))
    p.tell(found(9, "cell_spread", 81, 0))
    assert [(c.status, c.revision, c.severity) for c in p.changes] == [
        ("open", 0, 1),
        ("update", 1, 2),
        ("clear", 2, 2),
    ]
    assert p.ids() == 1
    assert (p.changes[0].subject, p.changes[0].cleared_ns) == ("cell 82", 0)
    assert p.changes[2].cleared_ns == p.changes[2].updated_ns == T0_NS + 9 * HOUR


def test_detectors_that_see_one_cell_speak_of_one_incident_named_by_the_strongest() -> None:
    p = Pack()
    p.tell(found(1, "cell_offset", 81, 1))
    p.tell(found(3, "leak", 81, 2, 0.37))
    p.tell(found(4, "capacity", 81, 1, 0.09))
    assert p.ids() == 1
    assert [c.kind for c in p.changes] == ["cell_offset", "leak"]
    assert p.changes[-1].evidence["leak"] == pytest.approx(0.37)


def test_it_clears_only_when_all_that_speaks_for_it_has_cleared() -> None:
    p = Pack()
    p.tell(found(1, "cell_spread", 3, 1), found(1, "resistance", 3, 1))
    p.tell(found(2, "cell_spread", 3, 0))
    assert [c.status for c in p.changes] == ["open"]
    p.tell(found(3, "resistance", 3, 0))
    assert [c.status for c in p.changes] == ["open", "clear"]


def test_two_cells_are_two_incidents() -> None:
    p = Pack()
    p.tell(found(1, "cell_spread", 3, 1), found(1, "cell_spread", 40, 1))
    assert p.ids() == 2


def test_six_adjacent_cells_on_one_side_are_a_block_and_later_neighbours_join_it() -> None:
    p = Pack()
    p.tell(
        *(found(1, "cell_spread", c, 1, 0.05) for c in (84, 85, 86, 89, 90, 91, 93)),
        found(1, "cell_spread", 30, 1, 0.05),
    )
    assert [c.subject for c in p.changes] == ["cells 85-94", "cell 31"]
    p.tell(found(5, "cell_spread", 95, 1, 0.05))
    assert (p.changes[-1].status, p.changes[-1].subject) == ("update", "cells 85-96")
    p.tell(found(6, "cell_spread", 81, 1, -0.05))
    assert (p.changes[-1].status, p.changes[-1].subject) == ("open", "cell 82")
    assert p.ids() == 3


def test_a_wire_is_between_two_cells() -> None:
    p = Pack()
    p.tell(found(1, "sense_wire", 10, 2, 0.1))
    p.tell(found(3, "cell_offset", 11, 1, -0.02))
    assert [c.subject for c in p.changes] == ["cells 11-12"]


def test_what_comes_back_within_a_day_is_the_same_incident_and_later_it_is_another() -> None:
    p = Pack()
    p.tell(found(1, "cell_overvoltage", 3, 2, 4.24))
    p.tell(found(2, "cell_overvoltage", 3, 0))
    p.tell(found(20, "cell_overvoltage", 7, 2, 4.24))
    assert [(c.status, c.revision) for c in p.changes] == [("open", 0), ("clear", 1), ("update", 2)]
    assert p.ids() == 1
    assert p.changes[2].cleared_ns == 0
    p.tell(found(21, "cell_overvoltage", 7, 0))
    p.tell(found(46, "cell_overvoltage", 7, 2, 4.24))
    assert p.ids() == 2


def test_a_thermal_event_takes_in_its_first_sign_and_all_that_follows() -> None:
    p = Pack()
    p.tell(found(1.0, "probe_offset", 4, 2, 6.0))
    p.tell(found(1.1, "thermal_event", 4, 4, 80.0, scope=PROBE))
    p.tell(found(1.2, "missing_cells", -1, 3, 40.0), found(1.2, "cell_undervoltage", 30, 3, 1.0))
    p.tell(found(1.3, "isolation", -1, 3, 20.0))
    assert p.ids() == 1
    assert [(c.kind, c.severity) for c in p.changes] == [("probe_offset", 2), ("thermal_event", 4)]


def test_heat_that_reaches_the_next_probe_is_one_incident_and_a_far_probe_is_another() -> None:
    p = Pack()
    p.tell(found(1, "probe_offset", 4, 2, 6.0))
    p.tell(found(1.2, "probe_offset", 5, 2, 4.0))
    p.tell(found(1.3, "probe_offset", 9, 2, 4.0))
    assert p.ids() == 2


def test_a_vote_opens_nothing_and_joins_what_is_open() -> None:
    p = Pack()
    assert p.tell(found(1, "anomaly", -1, 1, 0.99)) == []
    p.tell(found(2, "leak", 3, 2, 0.3))
    p.tell(found(3, "anomaly", -1, 1, 0.99))
    p.tell(found(4, "leak", 3, 3, 1.3))
    assert p.ids() == 1
    assert p.changes[-1].kind == "leak"
    assert p.changes[-1].evidence["anomaly"] == pytest.approx(0.99)


def test_clearing_what_was_never_open_says_nothing() -> None:
    assert Pack().tell(found(1, "leak", 3, 0)) == []


def test_text_says_which_cell_what_normal_since_when_how_sure_and_what_to_do() -> None:
    p = Pack()
    p.tell(found(4, "cell_spread", 81, 1, -0.035))
    assert p.changes[0].text == (
        "Cell 82 is 35 mV below the pack (normal here: within 6 mV) since 2026-01-05T00:00:00Z; almost certain (12 σ). "
        "Measure this cell group at rest and inspect its connections at the next service."
    )
    p.tell(found(9, "cell_spread", 81, 0))
    assert p.changes[1].text == (
        "Cleared at 2026-01-05T09:00:00Z. What was found, since 2026-01-05T00:00:00Z: cell 82 is 35 mV below the pack "
        "(normal here: within 6 mV)."
    )


def test_text_of_what_has_grown_says_how_much_it_was_at_first() -> None:
    p = Pack()
    p.tell(found(4, "cell_spread", 81, 1, -0.023))
    p.tell(found(9, "cell_spread", 81, 2, -0.046))
    p.known[:] = kernel.load(kernel.dump(p.known))
    p.tell(found(12, "cell_spread", 81, 3, -0.16))
    said = " since 2026-01-05T00:00:00Z, 23 mV when first told; "
    assert [said in c.text for c in p.changes] == [False, True, True]
    p.tell(found(15, "cell_spread", 81, 0), found(15, "cell_offset", 81, 1, 0.03))
    assert "when first told" not in p.changes[-1].text


def test_texts_of_every_kind_are_those_of_the_golden_page() -> None:
    said = page()
    assert said == GOLDEN.read_text("utf-8"), "write it again with python -m tests.support.incident_texts, and read it"
    assert [kind for kind in INDEX if f"== {kind}\n" not in said] == []


def test_every_kind_has_a_text_without_gaps() -> None:
    for name in INDEX:
        for value in (0.5, -0.5, math.nan):
            p = Pack()
            p.tell(found(1, "cell_spread", 3, 1), found(1, name, 3, 2, value))
            for c in p.changes:
                assert "{" not in c.text
                assert "nan" not in c.text
                assert c.text[0].isupper()
                assert c.text.endswith(".")


def test_dump_and_load_go_on_where_it_stood() -> None:
    one, two = Pack(), Pack()
    story = [
        [found(1, "probe_offset", 4, 2, 6.0)],
        [found(2, "cell_spread", c, 1, 0.05) for c in range(6)],
        [found(3, "cell_spread", 7, 1, 0.05), found(3, "leak", 40, 2, 0.3)],
        [found(5, "probe_offset", 4, 0)],
        [found(6, "probe_offset", 4, 2, 7.0), found(6, "leak", 40, 0)],
    ]
    for findings in story:
        one.tell(*findings)
        two.tell(*findings)
        plain = kernel.dump(two.known)
        assert all(type(v) in {str, int, float, bool, list} for row in plain for v in row)
        two.known = kernel.load(plain)
    assert one.changes == two.changes


def test_refuses_negative_times() -> None:
    with pytest.raises(ValueError, match="must be ≥ 0; got -1"):
        IncidentsConfig(reopen_s=-1)


def test_what_names_a_fault_best_takes_in_the_lesser_signs_of_the_same_frame() -> None:
    p = Pack()
    p.tell(found(1, "isolation", -1, 3, 20.0), found(1, "thermal_event", 4, 4, 90.0, scope=PROBE))
    assert [c.kind for c in p.changes] == ["thermal_event"]


def test_what_is_wrong_with_a_cell_joins_the_limit_that_it_crossed_just_before() -> None:
    p = Pack()
    p.tell(found(1, "cell_overvoltage", 4, 3, 4.3))
    p.tell(found(1.1, "cell_deviation", 4, 1, 0.5))
    assert p.ids() == 1
    assert (p.changes[-1].kind, p.changes[-1].severity) == ("cell_deviation", 3)


@pytest.mark.parametrize(("h", "cell"), [(1.5, 4), (1.1, 5)])
def test_later_or_elsewhere_it_is_another_fault(h: float, cell: int) -> None:
    p = Pack()
    p.tell(found(1, "cell_overvoltage", 4, 3, 4.3))
    p.tell(found(h, "cell_deviation", cell, 1, 0.5))
    assert p.ids() == 2
