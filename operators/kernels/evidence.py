"""Does a charge say how large the pack is? Every one is graded, and what speaks against it is named.

A charge moved ΔAh and SOC by ΔSOC, so the pack holds ΔAh / ΔSOC; what the current sensor shows too much is no charge,
and is taken off where the estimate knows it.  That quotient is of the pack as it is balanced today; times (smallest
cell group / usable capacity) it is of the pack once balanced, which is what ages.

On a plateau that quotient says nothing of its own: between two corrections by voltage SOC is counted with the capacity
that the estimate has, and comes back as that capacity, charge by charge.  There a charge says what the estimate has
learned of the capacity so far, less what it assumed before it saw anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.pack import PackModel

# What speaks against a charge, by bit; the order is that of the text.
REASONS = (
    "no_soc", "delta_soc", "soc_uncertain", "soc_jump", "gap", "coverage", "temperature", "auxiliary_load", "revised",
    "outlier",
)  # fmt: skip
BIT = {reason: 1 << k for k, reason in enumerate(REASONS)}
OUTLIER = BIT["outlier"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EvidenceConfig:
    """What a charge must be like to count."""

    delta_soc: float = 0.15  # at least
    relative_std: float = 0.25  # of the capacity that it says, at most; on a plateau of the estimate's
    soc_jump: float = 0.03  # between two frames, beyond what the current explains
    gap_max_s: float = 600.0
    coverage: float = 0.95
    temp_c: tuple[float, float] = (5.0, 45.0)  # of the mean: outside, OCV table and current sensor are off
    auxiliary_share: float = 0.03  # of the charge that was taken out again meanwhile
    floor: float = 0.02  # relative: what SOC's own standard deviations do not know
    unbalanced: float = 0.01  # the same where the cells' balance is not known
    # Of a plateau: the capacity that the estimate begins with, and its relative standard deviation; 0: swings speak.
    assumed_ah: float = 0.0
    assumed_std: float = 0.0

    def __post_init__(self) -> None:
        """Refuse thresholds that are not positive."""
        for name in ("delta_soc", "relative_std", "soc_jump", "gap_max_s", "auxiliary_share", "floor", "unbalanced"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 < self.coverage <= 1 or not self.temp_c[0] < self.temp_c[1]:
            msg = f"coverage must be in 0..1 and temp_c rise; got {self.coverage}, {self.temp_c}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> EvidenceConfig:
        """Take what depends on the chemistry."""
        return cls(assumed_ah=pack.usable_ah, assumed_std=pack.capacity_std) if pack.chemistry == "lfp" else cls()


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """N charges: reasons as bits (0: nothing speaks against it), and what each says by itself; NaN where nothing."""

    reasons: NDArray[np.uint32]
    d_soc: Floats
    d_soc_std: Floats
    d_ah: Floats
    capacity_ah: Floats  # of the pack once balanced
    capacity_std_ah: Floats


def grade(cfg: EvidenceConfig, charge: Mapping[str, NDArray[Any]], revised: NDArray[np.bool_]) -> Graded:
    """Grade charges, each by itself: columns (N,) of the table sessions; `revised` (N,): it was judged before."""
    c = {k: np.asarray(charge[k], np.float64) for k in _NEEDED}
    d_soc = c["soc_end"] - c["soc_start"]
    d_soc_std = np.sqrt(c["soc_start_std"] ** 2 + c["soc_end_std"] ** 2)
    hours = (np.asarray(charge["end_ns"]) - np.asarray(charge["start_ns"])) / 3600e9 * c["coverage"]
    offset_a, offset_std_a = (np.nan_to_num(c[k]) for k in ("current_offset_a", "current_offset_std_a"))
    d_ah = c["charge_in_ah"] - c["charge_out_ah"] - offset_a * hours
    balanced = c["capacity_low_ah"] / c["capacity_ah"]
    unknown = ~(balanced > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        capacity_ah = d_ah / d_soc * np.where(unknown, 1.0, balanced)
        relative = np.sqrt(
            (d_soc_std / d_soc) ** 2
            + cfg.floor**2
            + (1.0 - c["coverage"]) ** 2
            + (offset_std_a * hours / d_ah) ** 2
            + np.where(unknown, cfg.unbalanced**2, 0.0)
        )
        std_ah = capacity_ah * relative
        if cfg.assumed_ah > 0:
            capacity_ah, std_ah = _learned(cfg, c, np.asarray(charge["d_q_cell"], np.float64))
            relative = std_ah / c["capacity_low_ah"]
        out_share = c["charge_out_ah"] / c["charge_in_ah"]
    says = (d_soc > 0) & (d_ah > 0)
    against = {
        "no_soc": np.isnan(d_soc) | np.isnan(d_soc_std),
        "delta_soc": d_soc < cfg.delta_soc,
        "soc_uncertain": says & ~(relative <= cfg.relative_std),
        "soc_jump": c["soc_jump"] > cfg.soc_jump,
        "gap": c["gap_max_s"] > cfg.gap_max_s,
        "coverage": ~(c["coverage"] >= cfg.coverage),
        "temperature": ~((c["temp_mean_c"] >= cfg.temp_c[0]) & (c["temp_mean_c"] <= cfg.temp_c[1])),
        "auxiliary_load": ~(out_share <= cfg.auxiliary_share),
        "revised": revised,
    }
    reasons = np.zeros(len(d_soc), np.uint32)
    for name, wrong in against.items():
        reasons |= np.where(wrong, np.uint32(BIT[name]), np.uint32(0))
    capacity_ah, std_ah = (np.where(says, value, np.nan) for value in (capacity_ah, std_ah))
    return Graded(reasons, d_soc, d_soc_std, d_ah, capacity_ah, std_ah)


def _learned(cfg: EvidenceConfig, c: Mapping[str, Floats], d_q_cell: Floats) -> tuple[Floats, Floats]:
    """Give the estimate's capacity of the smallest cell group (N,) without what it assumed, and how sure that is; Ah.

    The estimate follows q, the share that the median group lacks of a whole one: capacity = assumed / (1 + q).
    Taking out an assumption is Bayes' rule backwards: precisions and weighted means subtract.  That is done in q, and
    capacity goes along its tangent at the estimate: where little was learned, the q that is left may be
    anything, and the capacity it stands for would look small and sure.  NaN where nothing was learned.
    """
    smallest = 1.0 + d_q_cell.min(axis=1, initial=0.0)
    missing = cfg.assumed_ah * np.where(smallest > 0, smallest, 1.0) / c["capacity_low_ah"] - 1.0
    precision = 1.0 / (c["capacity_std_ah"] / c["capacity_ah"] * (1.0 + missing)) ** 2
    assumed = 1.0 / cfg.assumed_std**2
    gained = np.where(precision > assumed, precision - assumed, np.nan)
    pulled = missing / (1.0 + missing) * assumed / gained
    return c["capacity_low_ah"] * (1.0 - pulled), c["capacity_low_ah"] / ((1.0 + missing) * np.sqrt(gained))


_NEEDED = (
    "soc_start", "soc_end", "soc_start_std", "soc_end_std", "charge_in_ah", "charge_out_ah", "capacity_ah",
    "capacity_low_ah", "capacity_std_ah", "coverage", "soc_jump", "gap_max_s", "temp_mean_c", "current_offset_a",
    "current_offset_std_a",
)  # fmt: skip


@lru_cache(maxsize=2048)
def words(reasons: int) -> str:
    """Name the reasons in a set of bits, by comma; "" where there is none."""
    return ",".join(name for name in REASONS if reasons & BIT[name])
