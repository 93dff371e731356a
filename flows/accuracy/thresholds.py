"""What an ordinary BMS would say of simulated vehicles: fixed thresholds, from the pack file's rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from replay.simulate.fleet import FleetConfig, simulate
from schemas.frames import FrameBlock
from schemas.pack import PackModel

_IN_A_ROW = 3  # samples beyond a threshold that count


class Crossed:
    """When the fixed thresholds of a pack file are crossed, in so many samples in a row, by vehicle."""

    def __init__(self, pack: PackModel, vehicles: int) -> None:
        """Take the thresholds from the pack file; nothing is crossed yet."""

        def bound(quantity: str, *, over: bool) -> float:
            found = [r.bound for r in pack.limits if r.quantity == quantity and r.over == over and r.tier != "MOL"]
            return (min(found) if over else max(found)) if found else (np.inf if over else -np.inf)

        self._cell, self._probe = bound("cell_dev_v", over=True), bound("temp_dev_c", over=True)
        self._low, self._high = bound("cell_v", over=False), bound("cell_v", over=True)
        self._hot = bound("temp_c", over=True)
        self._row = np.zeros(vehicles, np.int64)
        self._at: dict[int, list[int]] = {}

    def watch(self, cfg: FleetConfig) -> Iterator[FrameBlock]:
        """Pass the frames of a fleet on, and note which rows are beyond a threshold."""
        for block, _ in simulate(cfg):
            self._look(block)
            yield block

    def _look(self, block: FrameBlock) -> None:
        cell_v, temp_c = block.cell_v, block.temp_c
        middle = np.median(cell_v[:, ::5], axis=1)  # of every fifth cell: a threshold does not need more
        beyond = (np.abs(cell_v - middle[:, None]) >= self._cell).any(axis=1)
        beyond |= (cell_v <= self._low).any(axis=1) | (cell_v >= self._high).any(axis=1)
        beyond |= (np.abs(temp_c - temp_c.mean(axis=1)[:, None]) >= self._probe).any(axis=1)
        beyond |= (temp_c >= self._hot).any(axis=1)
        number = np.array([int(name.rpartition("-")[2]) for name in block.packs])[block.pack]
        for vehicle in np.unique(number[beyond | (self._row[number] > 0)]).tolist():
            for i in np.flatnonzero(number == vehicle).tolist():
                self._row[vehicle] = self._row[vehicle] + 1 if beyond[i] else 0
                if self._row[vehicle] == _IN_A_ROW:
                    self._at.setdefault(vehicle, []).append(int(block.t_ns[i]))

    def first(self, vehicle: int, from_ns: int) -> int | None:
        """Give when a threshold was first crossed for long enough after `from_ns`."""
        return next((t for t in self._at.get(vehicle, []) if t >= from_ns), None)

    def packs(self) -> int:
        """Count the packs in which one was ever crossed."""
        return len(self._at)
