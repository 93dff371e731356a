"""What goes wrong between the cells and the cloud: faults that change, lose, repeat or delay frames, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.simulate.faults import ALL, BIT, KINDS, NOT_A_CLOCK, Fault
from replay.simulate.truth import Truth, join
from schemas.frames import FrameBlock, concat

_GOLDEN, _M1, _M2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_PAYLOAD = ("current_a", "pack_v", "cell_v", "temp_c")
_WOBBLE, _SPOOF_NOISE = 0.2, 1e-3  # as shares: of an open wire's error, of a spoofed value


@dataclass(slots=True)
class Stream:
    """The way of one model's frames from the vehicles to their receiver, with what is under way."""

    faults: tuple[tuple[int, Fault], ...]  # with their number in the schedule, which seeds them
    start_ns: int
    seed: int
    held: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)  # (fault, vehicle): values that repeat
    pool: tuple[FrameBlock, Truth, NDArray[np.int64]] | None = None  # delayed frames and when they arrive

    def send(self, block: FrameBlock, truth: Truth) -> tuple[FrameBlock, Truth]:
        """Give what arrives up to the time of the block's last frame, in order of arrival."""
        true_ns = block.t_ns.copy()
        at_s = (true_ns - self.start_ns) / 1e9
        delay_ns, copy_delay_ns = np.zeros((2, len(block)), np.int64)
        lost, twice = np.zeros((2, len(block)), np.bool_)
        for n, fault in self.faults:
            if fault.start_s > at_s[-1] or fault.end_s <= at_s[0]:
                continue
            hit = self._hit(n, fault, block, at_s)
            truth.fault[hit] |= np.uint32(BIT[fault.kind])
            size_ns = 1e9 * fault.size
            if fault.kind == "dropped":
                lost[hit] = True
            elif fault.kind == "late":
                delay_ns[hit] += round(size_ns)
            elif fault.kind == "out_of_order":
                delay_ns[hit] += (size_ns * self._uniform(n, block, 1)[hit]).astype(np.int64)
            elif fault.kind == "duplicated":
                twice[hit] = True
                copy_delay_ns[hit] = (size_ns * self._uniform(n, block, 1)[hit]).astype(np.int64)
            elif not KINDS[fault.kind].physical and hit.size:
                self._change(n, fault, block, hit)
        if self.pool is None and not (lost.any() or twice.any() or delay_ns.any()):
            return block, truth
        order = np.repeat(np.arange(len(block)), np.where(lost, 0, np.where(twice, 2, 1)))
        second = np.r_[False, order[1:] == order[:-1]][: order.size]
        arrive_ns = (true_ns + delay_ns)[order] + np.where(second, copy_delay_ns[order], 0)
        return self._deliver(block.take(order), truth.take(order), arrive_ns, int(true_ns[-1]))

    def rest(self) -> tuple[FrameBlock, Truth] | None:
        """Give what is still under way at the end."""
        pool, self.pool = self.pool, None
        return pool[:2] if pool else None

    def _deliver(
        self, block: FrameBlock, truth: Truth, arrive_ns: NDArray[np.int64], now_ns: int
    ) -> tuple[FrameBlock, Truth]:
        if self.pool is not None:
            block = concat([self.pool[0], block])
            truth = join([self.pool[1], truth])
            arrive_ns = np.concatenate([self.pool[2], arrive_ns])
        order = np.argsort(arrive_ns, kind="stable")
        ready = int(np.searchsorted(arrive_ns[order], now_ns, side="right"))
        out, keep = order[:ready], order[ready:]
        self.pool = (block.take(keep), truth.take(keep), arrive_ns[keep]) if keep.size else None
        return block.take(out), truth.take(out)

    def _hit(self, n: int, fault: Fault, block: FrameBlock, at_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the rows that a fault hits."""
        rows = (at_s >= fault.start_s) & (at_s < fault.end_s)
        if fault.vehicle != ALL:
            rows &= block.src_part == fault.vehicle
        if fault.share < 1.0 and rows.any():
            rows &= self._uniform(n, block, 0) < fault.share
        return np.flatnonzero(rows)

    def _change(self, n: int, fault: Fault, block: FrameBlock, hit: NDArray[np.int64]) -> None:
        """Change values in place; `block` is fresh from the simulation and nobody else's."""
        if fault.kind == "clock_jump":
            if fault.unit == NOT_A_CLOCK:
                block.t_ns[hit] -= self.start_ns + round(fault.start_s * 1e9)
            else:
                block.t_ns[hit] += round(fault.size * 1e9)
        elif fault.kind == "open_sense_wire":
            error = fault.size * (1.0 + _WOBBLE * (2.0 * self._uniform(n, block, 1)[hit] - 1.0))
            block.cell_v[hit, fault.subject] += error.astype(np.float32)
            block.cell_v[hit, fault.subject + 1] -= error.astype(np.float32)
        elif fault.kind == "missing_cells":
            block.cell_v[hit, fault.subject : fault.subject + int(fault.size)] = np.nan
        elif fault.kind == "frozen_frame":
            for name in (*_PAYLOAD, *block.context):
                self._hold(n, name, _column(block, name), block, hit)
        else:
            column = _column(block, fault.field)
            if fault.field in ("cell_v", "temp_c"):
                column = column[:, fault.subject]
            if fault.kind == "sensor_bias":
                column[hit] += fault.size
            elif fault.kind == "spoofed_field":
                column[hit] = fault.size * (1.0 + _SPOOF_NOISE * (2.0 * self._uniform(n, block, 1)[hit] - 1.0))
            else:
                self._hold(n, fault.field, column, block, hit)

    def _hold(self, n: int, name: str, column: NDArray[Any], block: FrameBlock, hit: NDArray[np.int64]) -> None:
        for vehicle in np.unique(block.src_part[hit]).tolist():
            rows = hit[block.src_part[hit] == vehicle]
            first = self.held.setdefault((n, vehicle), {}).setdefault(name, column[rows[0]].copy())
            column[rows] = first

    def _uniform(self, n: int, block: FrameBlock, use: int) -> NDArray[np.float64]:
        """Draw one number in [0, 1) a row that depends on seed, fault, vehicle and frame alone (SplitMix64)."""
        z = np.full(len(block), np.uint64(self.seed), np.uint64)
        with np.errstate(over="ignore"):
            for part in (np.uint64(2 * n + use), block.src_part.astype(np.uint64), block.seq.astype(np.uint64)):
                z = (z ^ part) + _GOLDEN
                z = (z ^ (z >> np.uint64(30))) * _M1
                z = (z ^ (z >> np.uint64(27))) * _M2
                z ^= z >> np.uint64(31)
        return (z >> np.uint64(11)).astype(np.float64) / 2.0**53


def _column(block: FrameBlock, name: str) -> NDArray[Any]:
    return block.context[name] if name in block.context else getattr(block, name)
