"""A pack that moves between vehicles inside one poll keeps, frame by frame, the vehicle it was in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.frames import FrameBlock
from schemas.message import Message
from schemas.wire import decode_all
from schemas.wire_arrow import ARROW, encode_arrow
from schemas.wire_json import JSON, encode_json
from tests.support.frames import frames


def _messages(kinds: str) -> list[Message]:
    """Frames 0..7 of packs A and B; A is in V1 up to frame 3 and in V2 after it."""
    out: list[Message] = []
    for t in range(8):
        for name in ("A", "B"):
            block = frames([t], names=(name,), seq=[t])
            vehicle = ("V1" if t < 4 else "V2") if name == "A" else "V3"
            block = replace(block, vehicles=(vehicle,))
            kind = kinds[t % len(kinds)]
            data = encode_arrow(block) if kind == "a" else encode_json(block)[0][1]
            out.append(Message(data, ARROW if kind == "a" else JSON, "frames", 0, len(out)))
    return out


@pytest.mark.parametrize("kinds", ["a", "j", "aj"])
def test_frames_before_and_after_a_move_name_their_own_vehicle(kinds: str) -> None:
    blocks = [b for b in decode_all(_messages(kinds)) if isinstance(b, FrameBlock)]
    found = [
        (b.packs[p], int(seq), b.vehicles[p]) for b in blocks for p, seq in zip(b.pack.tolist(), b.seq, strict=True)
    ]
    want = [(name, t, "V3" if name == "B" else ("V1" if t < 4 else "V2")) for t in range(8) for name in ("A", "B")]
    assert found == want


@pytest.mark.parametrize("kinds", ["a", "j", "aj"])
def test_a_poll_without_a_move_is_one_block(kinds: str) -> None:
    assert len(decode_all(_messages(kinds)[:8])) == 1
