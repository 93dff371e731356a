"""A pack that does not warm and cool as its load and its coolant explain.

Over spans of some minutes under current, the change of the pack's mean temperature is

    ΔT = a ∫ i² R dt / C  +  b ∫ (T_coolant − T) K dt / C

with R the estimated resistance and C, K the heat capacity and loss of a cell group from the pack model.  a and b start
from the pack model, with wide priors, and are fitted per pack; what stays fills a two-sided CUSUM in °C.  Where no
coolant temperature is sent, ambient stands in for it; with neither, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.extremes import Extremes
from operators.kernels.findings import Found, collect, emit
from operators.kernels.kinds import INDEX, PACK
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.pack import PackModel
from schemas.quality import FROZEN

_COOLING = INDEX["cooling"]


@dataclass(frozen=True, slots=True)
class CoolingConfig:
    """Thresholds in °C, s; heat capacity (J/K) and loss (W/K) of a cell group."""

    capacity_ah: float
    heat_capacity_j_per_k: float
    loss_w_per_k: float
    least_c_rate: float = 0.02  # below it the pump may stand
    span_s: float = 240.0
    gap_s: float = 120.0  # a longer silence ends a span
    noise_c: float = 0.35  # of one span: resolution, lag, entropic heat
    prior_heat: float = 1.5  # a: what R0 alone leaves out
    prior_heat_std: float = 0.6
    prior_loss: float = 2.5  # b: a pump multiplies the loss at rest
    prior_loss_std: float = 1.2
    slack_c: float = 0.35  # per span
    raise_c: float = 2.5
    memory_s: float = 20 * 86_400.0

    def __post_init__(self) -> None:
        if min(self.capacity_ah, self.heat_capacity_j_per_k, self.loss_w_per_k) <= 0:
            msg = (
                "capacity_ah, heat_capacity_j_per_k and loss_w_per_k must be > 0; got "
                f"{self.capacity_ah}, {self.heat_capacity_j_per_k}, {self.loss_w_per_k}"
            )
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> CoolingConfig:
        """Take what depends on the pack model from it."""
        return cls(pack.nominal_ah, pack.thermal.heat_capacity_j_per_k, pack.thermal.loss_w_per_k)


@dataclass
class CoolingState:
    """One slot per pack."""

    fit: NDArray[np.float64]  # (S, 5) a, b and their covariance over the noise (aa, ab, bb); aa 0 before the first
    span: NDArray[
        np.float64
    ]  # (S, 6) start temperature, its time in s (0 = no span), heat term, loss term, variance of
    # the heat term, current² of the last frame
    excess_c: NDArray[np.float32]  # (S,) CUSUM with its sign
    excess_ns: NDArray[np.int64]  # (S,) when it left zero
    cooling_raised: NDArray[np.bool_]  # (S,)

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> CoolingState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(
            np.zeros((slots, 5)),
            np.zeros((slots, 6)),
            np.zeros(slots, np.float32),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.bool_),
        )


def step(cfg: CoolingConfig, state: CoolingState, block: FrameBlock, ext: Extremes) -> Found:
    """Follow the warming of each pack over the live, fresh rows of `block`.

    Needs derived slot, dt_s, quality, r0_ohm; `ext` is of the same block.
    """
    d = block.derived
    around = [block.context.get(name, missing_context(name, len(block))) for name in ("coolant_c", "ambient_c")]
    return collect(
        _walk, len(block), 1,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], block.current_a, ext.t_mean, d["r0_ohm"], around[0], around[1],
        1.0 / cfg.capacity_ah, 1.0 / cfg.heat_capacity_j_per_k, cfg.loss_w_per_k / cfg.heat_capacity_j_per_k,
        cfg.least_c_rate, cfg.span_s, cfg.gap_s, cfg.noise_c, cfg.prior_heat, (cfg.prior_heat_std / cfg.noise_c) ** 2,
        cfg.prior_loss, (cfg.prior_loss_std / cfg.noise_c) ** 2, cfg.slack_c, cfg.raise_c, cfg.memory_s,
        state.fit, state.span, state.excess_c, state.excess_ns, state.cooling_raised,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count, slot, t_ns, dt_s, lane, quality, current_a, t_mean, r0_ohm, coolant_c, ambient_c,
    per_ah, per_capacity, per_s, least_c_rate, span_s, gap_s, noise_c, prior_a, prior_aa, prior_b, prior_bb, slack_c,
    raise_c, memory_s,
    fit, span, excess_c, excess_ns, raised,
):  # fmt: skip
    for n in range(start, slot.size):
        if count[0] + 1 > len(whole):
            return n
        if lane[n] != LIVE or quality[n] & FROZEN:
            continue
        s, t = slot[n], t_ns[n]
        i = current_a[n]
        env = coolant_c[n] if coolant_c[n] == coolant_c[n] else ambient_c[n]
        mean = t_mean[n]
        active = (
            mean == mean
            and abs(i) * per_ah >= least_c_rate
            and dt_s[n] <= gap_s
            and env == env
            and r0_ohm[n] == r0_ohm[n]
        )
        if not active:
            span[s, 1] = 0.0
            continue
        if span[s, 1] == 0.0:
            span[s, 0], span[s, 1], span[s, 2], span[s, 3], span[s, 4], span[s, 5] = (
                mean,
                t * 1e-9,
                0.0,
                0.0,
                0.0,
                i * i,
            )
            continue
        # Between frames the current is not known: half of what it changed is the error of its square.
        per_a2 = r0_ohm[n] * dt_s[n] * per_capacity
        span[s, 2] += 0.5 * (i * i + span[s, 5]) * per_a2
        span[s, 4] += (0.5 * (i * i - span[s, 5]) * per_a2) ** 2
        span[s, 5] = i * i
        span[s, 3] += (env - mean) * dt_s[n] * per_s
        lasted_s = t * 1e-9 - span[s, 1]
        if lasted_s < span_s:
            continue
        if fit[s, 2] == 0.0:
            fit[s, 0], fit[s, 1], fit[s, 2], fit[s, 3], fit[s, 4] = prior_a, prior_b, prior_aa, 0.0, prior_bb
        x, y = span[s, 2], span[s, 3]
        e = mean - span[s, 0] - fit[s, 0] * x - fit[s, 1] * y
        unseen = fit[s, 0] * fit[s, 0] * span[s, 4] / (noise_c * noise_c)
        span[s, 0], span[s, 1], span[s, 2], span[s, 3], span[s, 4] = mean, t * 1e-9, 0.0, 0.0, 0.0
        p1 = fit[s, 2] * x + fit[s, 3] * y
        p2 = fit[s, 3] * x + fit[s, 4] * y
        known = p1 * x + p2 * y
        scale = noise_c * np.sqrt(1.0 + known + unseen)
        # Each span may be off by its own uncertainty; only what goes on counts.
        allowed = slack_c + 2.0 * (scale - noise_c)
        was = excess_c[s]
        side = np.float32(-1.0) if was < 0 or (was == 0 and e < 0) else np.float32(1.0)
        filled = np.float32(min(max(abs(was) + side * e - allowed, 0.0), 4.0 * raise_c))
        excess_c[s] = side * filled
        if was == 0 and filled > 0:
            excess_ns[s] = t - np.int64(lasted_s * 1e9)
        if raised[s]:
            if filled == 0:
                raised[s] = False
                emit(whole, real, count, n, _COOLING, PACK, -1, 0, t, e, raise_c, scale)
        elif filled >= raise_c:
            raised[s] = True
            emit(whole, real, count, n, _COOLING, PACK, -1, 2, excess_ns[s], excess_c[s], raise_c, scale)
        if not raised[s] and filled < 0.5 * raise_c:
            share = 1.0 / (1.0 + known + unseen)
            fit[s, 0] += p1 * e * share
            fit[s, 1] += p2 * e * share
            grow = 1.0 + lasted_s / memory_s
            aa = (fit[s, 2] - p1 * p1 * share) * grow
            ab = (fit[s, 3] - p1 * p2 * share) * grow
            bb = (fit[s, 4] - p2 * p2 * share) * grow
            fa, fb = min(np.sqrt(prior_aa / aa), 1.0), min(np.sqrt(prior_bb / bb), 1.0)  # no less known than at first
            fit[s, 2], fit[s, 3], fit[s, 4] = aa * fa * fa, ab * fa * fb, bb * fb * fb
    return slot.size
