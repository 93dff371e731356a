"""How long do protection's steps take? A histogram that one process fills and another shows."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

STEP_US = (50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300, 350, 400, 500, 750, 1000, 2000, 5000, 10_000)


@dataclass(slots=True)
class Timings:
    """How many steps took up to each of STEP_US, their sum and the longest, µs."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(STEP_US) + 1))
    total_us: float = 0.0
    longest_us: float = 0.0

    def add(self, took_us: float) -> None:
        """Count one step."""
        self.counts[bisect_left(STEP_US, took_us)] += 1
        self.total_us += took_us
        self.longest_us = max(self.longest_us, took_us)
