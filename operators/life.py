"""How long each pack will go on: a trained model's word with interval and trajectory, or why there is no number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytewax.operators import KeyedStream
from numpy.typing import NDArray

from operators.kernels import life as kernel
from operators.session_step import SESSIONS, session_step
from operators.shard import Packs
from operators.step import Step
from schemas.events import Item, Rows
from schemas.pack import PackModel

Floats = NDArray[np.float64]
NO_MODEL, NOT_YET, NO_CAPACITY, SHORT = REASONS = ("no_model", "not_valid_yet", "no_capacity", "short_history")
STEPS = 11  # of a trajectory
_LEAST = 2  # points of a history
_PACE_DAYS = 7.0  # before, a pace says nothing


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """What is said of D packs' lives; NaN, and a reason, where nothing can be.

    `beside` is what the model says that runs beside.
    """

    left: Floats  # (D,) full cycles to the end of life
    low: Floats  # of the 90 % interval
    high: Floats
    at_cycles: Floats  # (D, STEPS)
    soh_at: Floats
    soh_low: Floats
    soh_high: Floats
    eol_soh: Floats
    sha: NDArray[np.str_]
    beside: Floats
    beside_sha: NDArray[np.str_]
    reason: NDArray[np.str_]

    @classmethod
    def unknown(cls, n: int, reason: str) -> Life:
        """Say of n packs that nothing can be said."""
        numbers = ("left", "low", "high", "eol_soh", "beside")
        tables = ("at_cycles", "soh_at", "soh_low", "soh_high")
        return cls(
            **{name: np.full(n, np.nan) for name in numbers},
            **{name: np.full((n, STEPS), np.nan) for name in tables},
            **{name: np.full(n, "", "<U16") for name in ("sha", "beside_sha")},
            reason=np.full(n, reason, "<U16"),
        )


class Oracle:
    """A trained model of life over one shard's packs; this one knows nothing."""

    def hear(self, slot: NDArray[np.int32], charge: dict[str, Any]) -> Any:  # noqa: ANN401 - what `say` takes
        """Follow charges (N,), those of a pack in order of time; gives what they say."""

    def say(
        self,
        heard: Any,  # noqa: ANN401 - of `hear`
        rows: NDArray[np.int64],
        t_ns: NDArray[np.int64],
        cycles: Floats,
        soh_std: Floats,
        past: Sequence[tuple[Floats, Floats]],
    ) -> Life:
        """Say the life that is left after charges `rows` (D,), at times, cycles and errors of SOH (D,)."""
        return Life.unknown(len(rows), NO_MODEL)

    def dump(self) -> dict[str, Any]:
        """Give its state as plain arrays."""
        return {}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""


MakeOracle = Callable[[PackModel], Oracle]


class LifeStep(Step):
    """The lives of one shard's packs."""

    def __init__(self, pack: PackModel, oracle: Oracle) -> None:
        """Start with no pack."""
        self.state = kernel.LifeState.empty(0, pack.series, pack.probes)
        self._oracle = oracle

    def dump(self) -> dict[str, Any]:
        """Give the trained model's state."""
        return self._oracle.dump()

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump` gave."""
        self._oracle.load(data)

    def rows(self, rows: Rows) -> list[Item]:
        """Follow sessions whose health is known; they end here."""
        if rows.table != SESSIONS:
            return [rows]
        at = np.flatnonzero(rows.data["judged"])
        if not at.size:
            return []
        d = {k: v[at] for k, v in rows.data.items()}
        heard = self._oracle.hear(d["slot"], d)
        due = kernel.follow(self.state, d["slot"], d["end_ns"], d["counted"], d["cycles"], d["soh"])
        if not due.rows.size:
            return []
        k = due.rows
        said = self._oracle.say(heard, k, d["end_ns"][k], d["cycles"][k], d["soh_std"][k], due.past)
        return [_told(rows, at[k], due, _checked(said, due, d["accepted"][k]))]


def _checked(said: Life, due: kernel.Due, accepted: Floats) -> Life:
    """Take back numbers that stand on no history, with the reason."""
    points = np.array([len(c) for c, _ in due.past])
    for k in range(len(points)):
        why = NO_CAPACITY if accepted[k] < 1 else SHORT if points[k] < _LEAST else ""
        if why and said.reason[k] in {"", SHORT}:
            said.reason[k] = why
            said.sha[k] = said.beside_sha[k] = ""
            for column in (said.left, said.low, said.high, said.beside):
                column[k] = np.nan
            for table in (said.at_cycles, said.soh_at, said.soh_low, said.soh_high):
                table[k] = np.nan
    return said


def _told(rows: Rows, at: NDArray[np.int64], due: kernel.Due, said: Life) -> Rows:
    d = rows.data
    with np.errstate(divide="ignore", invalid="ignore"):
        pace = np.where(due.days >= _PACE_DAYS, d["cycles"][at] / due.days, np.nan)
    columns = {
        "pack_hash": d["pack_hash"][at],
        "session_id": d["id"][at],
        "revision": d["revision"][at].astype(np.int32),
        "t_ns": d["end_ns"][at],
        "soh": d["soh"][at],
        "soh_std": d["soh_std"][at],
        "cycles": d["cycles"][at],
        "cycles_per_day": pace,
        "eol_soh": said.eol_soh,
        "left_cycles": said.left,
        "left_low": said.low,
        "left_high": said.high,
        "at_cycles": said.at_cycles,
        "soh_at": said.soh_at,
        "soh_at_low": said.soh_low,
        "soh_at_high": said.soh_high,
        "model_sha": said.sha,
        "left_beside": said.beside,
        "beside_sha": said.beside_sha,
        "reason": said.reason,
    }
    return Rows("forecasts", rows.model, rows.packs, rows.vehicles, rows.pack[at], columns)


def life(
    step_id: str,
    up: KeyedStream[Item],
    packs: Packs,
    *,
    oracle: MakeOracle | None = None,
    files: Path | None = None,
) -> KeyedStream[Item]:
    """Add the step: sessions with their pack's health become forecasts; other items pass."""

    def build(pack: PackModel) -> Step:
        return LifeStep(pack, Oracle() if oracle is None else oracle(pack))

    return session_step(step_id, up, build, packs, files)
