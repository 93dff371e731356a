"""What decoders give, so that it can be compared however it is cut into blocks."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import DeadLetter
from schemas.frames import CONTEXT, FrameBlock, missing_context

COLUMNS = (
    "t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane", "recv_ns", "src_part", "src_offset", "src_row",
)  # fmt: skip


def rows(found: Sequence[FrameBlock | DeadLetter]) -> tuple[dict[str, list[object]], list[DeadLetter]]:
    """Give the frames of each model in order, however they are cut into blocks, and the refused by place."""
    frames_of: dict[str, list[object]] = {}
    for block in found:
        if not isinstance(block, FrameBlock):
            continue
        plain = [(n, getattr(block, n)) for n in COLUMNS]
        plain += [(n, block.context.get(n, missing_context(n, len(block)))) for n in CONTEXT]
        frames_of.setdefault(block.model, []).extend(
            [(block.packs[p], block.vehicles[p]), {n: (v[i].tobytes(), v.dtype) for n, v in plain}]
            for i, p in enumerate(block.pack.tolist())
        )
    return frames_of, sorted((i for i in found if isinstance(i, DeadLetter)), key=lambda i: (i.offset, i.row))
