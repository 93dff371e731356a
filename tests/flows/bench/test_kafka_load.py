"""Messages for the benchmark: those of a fleet, each vehicle's frames in order, whether written or copied."""

from __future__ import annotations

import numpy as np
import pytest

from flows.bench.blocks import MODEL
from flows.bench.kafka_load import TYPES, messages
from schemas.frames import FrameBlock
from schemas.message import Message
from schemas.wire import decode_all


@pytest.mark.parametrize(("encoding", "frames"), [("arrow", 10), ("json", 1)])
def test_messages_hold_every_frame_of_every_vehicle_in_order(encoding: str, frames: int) -> None:
    made = list(messages(1000, 10, encoding, frames))
    assert len(made) == 1000 * 10 / frames
    (block,) = decode_all([Message(value, TYPES[encoding], "", 0, i) for i, (_, value, _) in enumerate(made)])
    assert isinstance(block, FrameBlock)
    assert (block.model, len(block), len(set(block.packs))) == (MODEL, 10_000, 1000)
    for pack in (0, 999):
        assert block.seq[block.pack == pack].tolist() == list(range(10))
        assert (np.diff(block.t_ns[block.pack == pack]) > 9e9).all()
    assert {key for key, _, _ in made} == set(block.packs)


def test_sizes_that_leave_a_rest_are_refused() -> None:
    with pytest.raises(AssertionError, match="vehicles must be a multiple of 500; got 750"):
        next(messages(750, 10, "json", 1))
    with pytest.raises(AssertionError, match="rounds must be a multiple of 10; got 15"):
        next(messages(20, 15, "arrow", 10))
