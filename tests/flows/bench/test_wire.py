"""Bytes on the wire: each codec over the same frames, as they are sent."""

from __future__ import annotations

import numpy as np
import pytest

from edge.batches import BatchSettings
from flows.bench.wire import CODECS, sizes
from schemas.frames import FrameBlock
from tests.support.frames import frames


def _drive() -> FrameBlock:
    seconds = np.arange(600.0)
    cells = np.round(3.7 + 0.05 * np.sin(seconds / 50)[:, None] + 0.001 * (np.arange(96) % 5), 3)
    current = np.round(40 * np.sin(seconds / 7), 1)
    return frames(seconds, current, cell_v=cells, cells=96, probes=8, pack_v=np.round(cells.sum(axis=1), 1))


def test_whole_steps_and_changes_are_the_smallest_and_grow_smaller_together() -> None:
    block = _drive()
    short, long = (sizes(block, BatchSettings(batch_s=s)) for s in (10.0, 60.0))
    for found in (short, long):
        assert list(found) == list(CODECS)
        assert found["JSON"][0] > found["Arrow"][0] > found["Arrow + zstd"][0] > found["Arrow, delta + zstd 19"][0]
    assert long["Arrow, delta + zstd 19"][0] < 0.5 * short["Arrow, delta + zstd 19"][0]


def test_a_day_counts_the_headers_of_each_message() -> None:
    found = sizes(_drive(), BatchSettings(batch_s=10.0))
    headers = {codec: day / 86_400 - per_frame for codec, (per_frame, day) in found.items()}
    assert headers["JSON"] == pytest.approx(10 * headers["Arrow"])
    assert 100 < headers["JSON"] < 150
