"""Priority of the scheduler and pages in memory: asked for, and given back."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

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


@pytest.mark.parametrize("right", [True, False])
def test_pages_stay_in_memory_where_that_is_allowed_and_nothing_else_changes(right: bool) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if right and os.geteuid() != 0 and soft != resource.RLIM_INFINITY:
        pytest.skip(f"memory can not be locked here: the limit is {soft} bytes")
    code = f"""
import os, resource
from edge.priority import pinned
if not {right}:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    if os.geteuid() == 0:
        os.setuid(65534)
done = pinned()
locked = [line for line in open("/proc/self/status") if line.startswith("VmLck")][0].split()[1]
print(done, int(locked) > 0)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(right)] * 2
