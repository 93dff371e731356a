"""One frame as JSON: how a row that is refused is kept."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.frames import FrameBlock

CONTENT_TYPE = "application/json"
_SCALARS = ("t_ns", "seq", "current_a", "pack_v", "lane", "recv_ns", "src_part", "src_offset", "src_row")


def row_json(block: FrameBlock, row: int) -> bytes:
    """Encode the values of one row by column name; NaN becomes null."""
    values: dict[str, Any] = {
        "model": block.model,
        "pack_id": block.packs[block.pack[row]],
        "vehicle_id": block.vehicles[block.pack[row]],
        **{name: getattr(block, name)[row] for name in _SCALARS},
        "cell_v": block.cell_v[row],
        "temp_c": block.temp_c[row],
        **{name: column[row] for name, column in block.context.items()},
    }
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
