"""Frames to measure on: a simulated fleet, awake all the time, in memory and repeated to any length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from replay.simulate.fleet import START_NS, FleetConfig, simulate
from replay.source import ROWS
from schemas.frames import FrameBlock, concat

MODEL = "generic-nmc@96c16t60ah"
PERIOD_S = 10.0
_DISTINCT = 2_000  # vehicles that are simulated; more are copies of them under other names
_MORNING_NS = START_NS + 7 * 3600 * 10**9


def fleet_blocks(vehicles: int, rounds: int) -> list[FrameBlock]:
    """Give `rounds` frames of each of `vehicles` in time order, in blocks of about 16,384 rows."""
    base = min(vehicles, _DISTINCT)
    cfg = FleetConfig(
        vehicles=base, hours=rounds * PERIOD_S / 3600, period_s=PERIOD_S, models=(MODEL,), seed=7,
        start_ns=_MORNING_NS, sleep=False, block_rows=base,
    )  # fmt: skip
    copies = -(-vehicles // base)
    together = max(1, ROWS // base)
    out: list[FrameBlock] = []
    names: dict[object, tuple[str, ...]] = {}
    for block, _ in simulate(cfg):
        for first in range(0, copies, together):
            part = []
            for copy in range(first, min(first + together, copies)):
                packs = names.setdefault(copy, tuple(f"{p}-{copy:03d}" for p in block.packs))
                part.append(block.with_frames(packs=packs, vehicles=packs))
            out.append(_joined(part, names))
    return out


def _joined(part: list[FrameBlock], names: dict[object, tuple[str, ...]]) -> FrameBlock:
    """Join copies; blocks of the same copies share one table of packs."""
    block = concat(part)
    table = names.setdefault((block.packs[0], block.packs[-1]), block.packs)
    return block.with_frames(packs=table, vehicles=table)


def repeated(blocks: list[FrameBlock], times: int) -> Iterator[FrameBlock]:
    """Give the blocks `times` over, each time later and counted on."""
    rounds = _rounds(blocks)
    for time in range(times):
        for block in blocks:
            yield _later(block, time, rounds)


def _rounds(blocks: list[FrameBlock]) -> int:
    return 1 + max(int(b.seq.max()) for b in blocks)


def _later(block: FrameBlock, time: int, rounds: int) -> FrameBlock:
    if not time:
        return block
    shift_ns = time * int(rounds * PERIOD_S * 1e9)
    return block.with_frames(t_ns=block.t_ns + shift_ns, seq=block.seq + time * rounds)


def save_blocks(blocks: list[FrameBlock], folder: Path) -> None:
    """Write blocks so that another process can read them."""
    rounds = _rounds(blocks)
    for i, block in enumerate(blocks):
        columns = {n: getattr(block, n) for n in _COLUMNS}
        np.savez(folder / f"{i:05d}.npz", packs=np.array(block.packs), rounds=rounds, **columns)


class SavedBlocks(Sequence[FrameBlock]):
    """What `save_blocks` wrote, `times` over as `repeated` does; each block is read when it is asked for."""

    def __init__(self, folder: Path, times: int = 1) -> None:
        """List the files."""
        self._paths = sorted(folder.glob("*.npz"))
        self._times = times
        self._tables: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._paths) * self._times

    def __getitem__(self, at: int) -> FrameBlock:  # type: ignore[override] # slices are not needed
        """Read block `at`."""
        time, number = divmod(at, len(self._paths))
        with np.load(self._paths[number]) as file:
            names = file["packs"]
            packs = self._tables.setdefault(f"{names[0]} {names[-1]}", tuple(names.tolist()))
            block = FrameBlock(MODEL, packs, packs, **{n: file[n] for n in _COLUMNS})
            rounds = int(file["rounds"])
        return _later(block, time, rounds)


_COLUMNS = (
    "pack", "t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "lane", "recv_ns", "src_part", "src_offset",
    "src_row",
)  # fmt: skip
