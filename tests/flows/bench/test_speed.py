"""What the benchmark times is the whole flow, on one core, into a lake."""

from __future__ import annotations

import pytest

from flows.bench.blocks import fleet_blocks
from flows.bench.speed import stages, to_lake
from schemas.frames import FrameBlock


@pytest.fixture(scope="module")
def blocks() -> list[FrameBlock]:
    return fleet_blocks(20, 13)


@pytest.mark.parametrize("snapshots", [True, False])
def test_the_flow_takes_every_frame_once(blocks: list[FrameBlock], snapshots: bool) -> None:
    taken: list[int] = []

    def counted() -> list[FrameBlock]:
        taken.append(sum(map(len, blocks)))
        return blocks

    class Counted(list[FrameBlock]):
        def __getitem__(self, at: int) -> FrameBlock:  # type: ignore[override] # slices are not used
            block = super().__getitem__(at)
            taken.append(len(block))
            return block

    assert to_lake(Counted(blocks), snapshots=snapshots) > 0
    assert sum(taken) == sum(map(len, blocks)) == 260


def test_each_stage_takes_time_and_state_is_counted_for_a_pack() -> None:
    spent, state = stages(20, 13)
    assert all(us > 0 for us in spent.values())
    assert 4000 < state < 8192
