"""Journal lines."""

from __future__ import annotations

import io

import pytest

from edge.journal import ERROR, INFO, NOTICE, WARNING, Journal, level_of


def test_a_line_has_its_time_and_level_and_is_one_line() -> None:
    out = io.StringIO()
    Journal(out, lambda: 1_600_000_000_123_999_999).say(WARNING, "cell 23\n at 4.26 V")
    assert out.getvalue() == "2020-09-13T12:26:40.123Z warning: cell 23 at 4.26 V\n"


def test_under_systemd_the_level_is_a_prefix_and_the_time_is_left_to_it() -> None:
    out = io.StringIO()
    Journal(out, lambda: 0, systemd=True).say(ERROR, "contactors opened")
    assert out.getvalue() == "<3>contactors opened\n"


def test_a_journal_that_takes_nothing_stops_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    Journal(Full(), lambda: 0).say(INFO, "lost")


@pytest.mark.parametrize(
    ("tier", "active", "level"),
    [("MSL", True, ERROR), ("RSL", True, WARNING), ("MOL", True, INFO), ("MSL", False, NOTICE)],
)
def test_the_level_follows_the_tier(tier: str, active: bool, level: int) -> None:
    assert level_of(tier, active=active) == level
