"""Enriched frames to findings: what of a pack behaves unlike itself, its neighbours or its limits."""

from __future__ import annotations

from pathlib import Path

from bytewax.operators import KeyedStream

from operators.kernels import diagnose as kernel
from operators.kernels.extremes import extremes
from operators.shard import Packs, Told, shard_step
from operators.step import Slots, Step
from schemas.events import Item, Rows
from schemas.frames import FrameBlock
from schemas.pack import PackModel, load_pack

FINDINGS = "findings"


class DiagnoseStep(Step):
    """The detectors of one shard's packs."""

    def __init__(self, pack: PackModel, cfg: kernel.DiagnoseConfig) -> None:
        """Start with no pack."""
        self._cfg = cfg
        self.state = kernel.DiagnoseState.empty(0, pack.series, pack.probes)

    def block(self, block: FrameBlock) -> list[Item]:
        """Pass the frames on with their extremes, then what was found in them."""
        block = block.with_derived(**extremes(block)._asdict())
        found = kernel.step(self._cfg, self.state, block)
        if not found["t_ns"].size:
            return [block]
        row = found.pop("row")
        found["pack_hash"] = block.derived["pack_hash"][row]
        return [block, Rows(FINDINGS, block.model, block.packs, block.vehicles, block.pack[row], found)]


def diagnose(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs = load_pack,
    *,
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Add findings to frames that `estimate` has passed."""

    def build(pack: PackModel, slots: Slots) -> Step:  # noqa: ARG001 - slots are those of clean
        return DiagnoseStep(pack, kernel.DiagnoseConfig.of(pack))

    return shard_step(step_id, up, build, packs, files=files, told=told)
