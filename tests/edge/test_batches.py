"""Batches: one frame in each period, whole after their seconds or bytes, whatever blocks the frames came in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.batches import Batches, BatchSettings
from tests.support.frames import NS, T0_NS, frames


def _cut(t_s: list[float], cuts: list[int], settings: BatchSettings) -> list[list[float]]:
    batches = Batches(settings)
    ends = [*sorted(c for c in cuts if c < len(t_s)), len(t_s)]
    out = []
    for a, b in zip([0, *ends], ends, strict=False):
        out += batches.push(frames(t_s[a:b]), T0_NS + round(t_s[b - 1] * NS)) if b > a else []
    out += batches.flush()
    assert [n for b in out for n in b.seq.tolist()] == list(range(sum(map(len, out))))
    return [((b.t_ns - T0_NS) / NS).tolist() for b in out]


def test_one_frame_a_period_and_a_batch_every_ten_seconds() -> None:
    batches = Batches(BatchSettings(period_s=1.0, batch_s=10.0))
    out = []
    for k in range(250):
        out += batches.push(frames([k / 10]), T0_NS + k * NS // 10)
    assert [len(b) for b in out] == [10, 10]
    assert np.diff(np.concatenate([b.t_ns for b in out])).tolist() == [NS] * 19
    assert [len(b) for b in batches.flush()] == [5]
    assert batches.flush() == []


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=60), st.lists(st.integers(1, 60), max_size=8))
def test_which_frames_are_sent_together_does_not_depend_on_blocks(steps: list[float], cuts: list[int]) -> None:
    t_s = np.cumsum(np.round(steps, 2)).tolist()
    settings = BatchSettings(period_s=1.0, batch_s=5.0)
    sent = _cut(t_s, cuts, settings)
    assert sent == _cut(t_s, [], settings)
    assert all(batch[-1] - batch[0] < 5.0 for batch in sent)
    periods = [int(t) for batch in sent for t in batch]
    assert periods == sorted({int(t) for t in t_s})


def test_a_batch_ends_at_its_bytes() -> None:
    settings = BatchSettings(batch_s=1e3, batch_bytes=88 * 30)
    assert [len(b) for b in _cut(list(range(100)), [], settings)] == [30, 30, 30, 10]


def test_a_batch_ends_in_time_where_no_frame_comes_and_where_the_clock_is_set_back() -> None:
    for later_s, ends in ((4, 0), (10, 1), (-1, 1)):
        batches = Batches(BatchSettings(batch_s=10.0))
        assert batches.push(frames([0.0]), T0_NS) == []
        assert len(batches.push(None, T0_NS + later_s * NS)) == ends


def test_no_frames_are_no_batch() -> None:
    assert Batches().push(None, T0_NS) == []
    assert Batches().push(frames([]), T0_NS + 100 * NS) == []
