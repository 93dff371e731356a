"""One processor while something is measured."""

from __future__ import annotations

import os

from flows.bench.core import one_core


def test_a_measured_process_has_one_core_and_gets_the_others_back() -> None:
    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
