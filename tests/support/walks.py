"""One pack's frames through the walk, in seconds after T0 and without columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from operators.kernels import lines, order, waiting

NS = 10**9
T0_NS = 1_700_000_000 * NS
RULES = lines.Rules(
    5 * NS, 60 * NS, 1_262_304_000 * NS, 4_102_444_800 * NS, 60 * NS, 4096,
    60 * NS, 3, 86_400 * NS, 3600 * NS, 4096, 10_000,
)  # fmt: skip


class Refused(NamedTuple):
    """A refused frame: where it stood in the input, why, and the expected time."""

    at: int
    why: str
    expected_s: float


class Missing(NamedTuple):
    """An entry of the gap ledger."""

    first: int
    last: int
    from_s: float
    to_s: float


@dataclass
class Walk:
    """What has come out so far; `released` holds (place in the input, flags)."""

    rules: lines.Rules = RULES
    released: list[tuple[int, int]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    gaps: list[Missing] = field(default_factory=list)

    def __post_init__(self) -> None:
        node, ctl = waiting.table(1000)
        ring = np.zeros((1, lines.MARKS), np.uint32)
        none, ends = np.zeros(2, np.int32), waiting.empty_ends(1)
        self.packs = lines.Lines(lines.fresh(1), lines.no_holes(1), ends, ring, node, ctl, none)
        self._rows = 0

    def feed(self, t_s: list[float], seq: list[int], *, recv_s: float = 0.0, same_content: bool = True) -> Walk:
        """Walk frames in arrival order; the place of a frame counts over all calls."""
        n = len(t_s)
        content = np.zeros(n, np.int64) if same_content else self._rows + np.arange(n, dtype=np.int64)
        self._walk(
            lines.Columns(
                np.zeros(n, np.int32),
                T0_NS + np.array([round(t * NS) for t in t_s], np.int64),
                np.array(seq, np.int64),
                np.zeros(n, np.uint8),
                np.full(n, T0_NS + round(recv_s * NS) if recv_s else 0, np.int64),
                content,
            ),
            end=False,
        )
        return self

    def end(self) -> Walk:
        """Say that no more input comes."""
        nothing = np.zeros(0, np.int64)
        no_slots, no_lanes = np.zeros(0, np.int32), np.zeros(0, np.uint8)
        self._walk(lines.Columns(no_slots, nothing, nothing, no_lanes, nothing, nothing), end=True)
        assert self.packs.ctl[waiting.USED] == 0
        return self

    @property
    def places(self) -> list[int]:
        """Give the places of the released frames."""
        return [at for at, _ in self.released]

    def _walk(self, columns: lines.Columns, *, end: bool) -> None:
        n = len(columns.t_ns)
        out = lines.room(n + int(self.packs.ctl[waiting.USED]))
        assert order.walk(0, columns, self.packs, out, self.rules, end) == n
        released, refused, gaps, *_ = out.num.tolist()
        for row in out.released[:released]:
            self.released.append((self._at(int(row["src"])), int(row["flags"])))
        for row in out.refused[:refused]:
            late = (int(row["expected"]) - T0_NS) / NS
            self.refused.append(Refused(self._at(int(row["src"])), lines.REASONS[row["why"]], late))
        for row in out.gaps[:gaps]:
            ends = [(int(row[k]) - T0_NS) / NS for k in ("from_ns", "to_ns")]
            self.gaps.append(Missing(int(row["first"]), int(row["last"]), *ends))
        self._store()
        self._rows += n

    def _at(self, src: int) -> int:
        return self._rows + src if src >= 0 else self._stored[-1 - src]

    def _store(self) -> None:
        """Stand in for the pool: remember at which place of the input each waiting frame stood."""
        self._stored = getattr(self, "_stored", {})
        for i in np.flatnonzero(self.packs.node[:, waiting.SRC] >= 0).tolist():
            self._stored[i] = self._rows + int(self.packs.node[i, waiting.SRC])
            self.packs.node[i, waiting.SRC] = -1
