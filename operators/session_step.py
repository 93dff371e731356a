"""How a step that follows sessions is added to a flow: packs get their slots as they come, other items pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bytewax.operators import KeyedStream

from operators.shard import Packs, shard_step
from operators.step import Step
from schemas.events import Item
from schemas.pack import PackModel

SESSIONS = "sessions_in"  # the internal table of sessions on their way through these steps


def session_step(
    step_id: str, up: KeyedStream[Item], build: Callable[[PackModel], Step], packs: Packs, files: Path | None
) -> KeyedStream[Item]:
    """Add the step that `build` makes per shard; `files` as of `shard_step`."""
    return shard_step(step_id, up, lambda pack, _: build(pack), packs, assigns=True, admits=SESSIONS, files=files)
