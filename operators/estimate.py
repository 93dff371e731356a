"""Estimate SOC, cell differences, energy and power of each pack after each frame."""

from __future__ import annotations

from pathlib import Path

from bytewax.operators import KeyedStream

from operators.kernels import estimate as kernel
from operators.kernels.estimate import EstimateConfig, EstimateState
from operators.kernels.parameters import parameters
from operators.shard import Packs, Told, shard_step
from operators.step import Slots, Step
from schemas.events import Item
from schemas.frames import FrameBlock
from schemas.pack import PackModel, load_pack


class EstimateStep(Step):
    """The estimates of one shard's packs."""

    def __init__(self, pack: PackModel, cfg: EstimateConfig) -> None:
        """Take the pack model and the settings; no pack is known yet."""
        self._pack = parameters(pack)
        self._cfg = cfg
        self.state: EstimateState = EstimateState.empty(0, pack.series, pack.probes)

    def block(self, block: FrameBlock) -> list[Item]:
        """Add the columns that `kernels.estimate.step` gives."""
        derived = block.derived
        columns = kernel.step(
            self._cfg, self.state, self._pack, derived["slot"], derived["dt_s"], derived["quality"], block.lane,
            block.current_a, block.pack_v, block.cell_v, block.temp_c, block.context.get("soc_bms"),
            block.context.get("contactor_state"),
        )  # fmt: skip
        return [block.with_derived(**columns)]


def estimate(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs = load_pack,
    cfg: EstimateConfig | None = None,
    *,
    files: Path | None = None,
    told: Told | None = None,
) -> KeyedStream[Item]:
    """Add the estimates to frames that `clean` has passed."""
    settings = cfg or EstimateConfig()

    def build(pack: PackModel, slots: Slots) -> Step:  # noqa: ARG001 - slots are those of clean
        return EstimateStep(pack, settings)

    return shard_step(step_id, up, build, packs, files=files, told=told)
