"""Priority of the scheduler: asked for, and given back."""

from __future__ import annotations

import os

import pytest

from edge.priority import urgent, urgently


def test_without_the_right_or_a_wish_everything_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refused(_: int, policy: int, __: os.sched_param) -> None:
        asked.append(policy)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    urgent(0)
    assert asked == []
    urgent(50)
    assert asked == [os.SCHED_FIFO]


def test_who_was_first_for_a_while_is_as_before_even_after_an_error() -> None:
    with pytest.raises(ValueError, match="x"), urgently(1):
        raise ValueError("x")  # noqa: EM101 - any error
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
