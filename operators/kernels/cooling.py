"""A pack that does not warm and cool as its load, its coolant and the air explain.

Over spans of some minutes under current, the change of the pack's mean temperature is

    ΔT = a ∫ i² R dt / C  +  b ∫ (T_coolant − T) K dt / C  +  c ∫ (T_ambient − T) K dt / C

with R the estimated resistance and C, K the heat capacity and loss of a cell group from the pack model.  a, b and c
start from the pack model and are fitted per pack; what stays fills a two-sided CUSUM in °C.  Reversible heat,
i T dU/dT, is not modelled and widens what a span may be off by.  Where the pack file says what coolant carries, b is
known better and never learned to be less than half of that: a pack whose cooling stopped before it was ever needed
would pass for one that has none.  Without a coolant temperature nothing is said; without an ambient one the last term
is left out.
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
_TERMS = 3  # heat, coolant, air
_WARM_K = 290.0  # of a cell, near enough for reversible heat
_TRIMMED = 4  # probes from which on the outermost two do not count
# Columns of the span: start temperature and time (s, 0 = no span), the terms, variance of the first, charge
# (A·s), last current², time with little current.
_FROM_C, _FROM_S, _X, _UNSEEN, _CHARGE, _LAST_A2, _REST_S, _SPAN = 0, 1, 2, 5, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class CoolingConfig:
    """Thresholds in °C, s; heat capacity (J/K) and loss (W/K) of a cell group."""

    capacity_ah: float
    heat_capacity_j_per_k: float
    loss_w_per_k: float
    coolant_w_per_k: float | None = None  # as the pack file has it
    least_c_rate: float = 0.02  # below it the pump may stand
    span_s: float = 240.0
    rest_s: float = 60.0  # so long it may be below in between: a drive passes through zero all the time
    gap_s: float = 120.0  # a longer silence ends a span
    noise_c: float = 0.35  # of one span: resolution, lag, entropic heat
    prior: tuple[float, float, float] = (1.5, 3.0, 1.0)  # more heat than by R0 alone; a pump multiplies the loss
    prior_std: tuple[float, float, float] = (0.6, 1.5, 0.5)
    coolant_std: float = 0.25  # instead, as a share, of what the pack file says of the second
    coolant_least: float = 0.5  # share of that below which it has failed
    entropy_v_per_k: float = 2e-4  # dU/dT of graphite cells, either sign
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
        thermal = pack.thermal
        return cls(pack.nominal_ah, thermal.heat_capacity_j_per_k, thermal.loss_w_per_k, thermal.coolant_w_per_k)

    def priors(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Give a, b and c before anything is seen, their standard deviations, and the least that b may become."""
        mean, std = np.array(self.prior), np.array(self.prior_std)
        if self.coolant_w_per_k is None:
            return mean, std, 0.0
        mean[1] = self.coolant_w_per_k / self.loss_w_per_k
        std[1] = self.coolant_std * mean[1]
        return mean, std, self.coolant_least * float(mean[1])


@dataclass
class CoolingState:
    """One slot per pack."""

    fit: NDArray[np.float64]  # (S, _TERMS) a, b, c
    fit_cov: NDArray[np.float64]  # (S, _TERMS, _TERMS) over the noise; zero before the first span
    span: NDArray[np.float64]  # (S, _SPAN)
    excess_c: NDArray[np.float32]  # (S,) CUSUM with its sign
    excess_ns: NDArray[np.int64]  # (S,) when it left zero
    cooling_raised: NDArray[np.bool_]  # (S,)

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> CoolingState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        return cls(
            np.zeros((slots, _TERMS)),
            np.zeros((slots, _TERMS, _TERMS)),
            np.zeros((slots, _SPAN)),
            np.zeros(slots, np.float32),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.bool_),
        )


def step(cfg: CoolingConfig, state: CoolingState, block: FrameBlock, ext: Extremes) -> Found:
    """Follow the warming of each pack over the live, fresh rows of `block`.

    Needs derived slot, dt_s, quality, r0_ohm; `ext` is of the same block.
    """
    d = block.derived
    coolant, air = (block.context.get(name, missing_context(name, len(block))) for name in ("coolant_c", "ambient_c"))
    prior, prior_std, least_b = cfg.priors()
    return collect(
        _walk, len(block), 1,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], block.current_a,
        _inner_mean(block.temp_c, ext), d["r0_ohm"], coolant, air,
        1.0 / cfg.capacity_ah, 1.0 / cfg.heat_capacity_j_per_k, cfg.loss_w_per_k / cfg.heat_capacity_j_per_k,
        cfg.least_c_rate, cfg.rest_s, cfg.span_s, cfg.gap_s, cfg.noise_c,
        prior, (prior_std / cfg.noise_c) ** 2, least_b, cfg.entropy_v_per_k * _WARM_K / cfg.heat_capacity_j_per_k,
        cfg.slack_c, cfg.raise_c, cfg.memory_s,
        state.fit, state.fit_cov, state.span, state.excess_c, state.excess_ns, state.cooling_raised,
    )  # fmt: skip


def _inner_mean(temp_c: NDArray[np.float32], ext: Extremes) -> NDArray[np.float32]:
    """Give the mean of each row without its coldest and hottest probe, (N,): one probe that lies warms no pack.

    Of fewer than four probes all count.
    """
    if temp_c.shape[1] < _TRIMMED:
        return ext.t_mean
    seen = temp_c.shape[1] - np.isnan(temp_c).sum(axis=1)
    inner = (ext.t_mean * seen - ext.t_low - ext.t_high) / np.maximum(seen - 2, 1)
    return np.where(seen >= _TRIMMED, inner, ext.t_mean).astype(np.float32)


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, dt_s, lane, quality, current_a, t_mean, r0_ohm, coolant_c, air_c,
    per_ah, per_capacity, per_s, least_c_rate, rest_s, span_s, gap_s, noise_c,
    prior, prior_var, least_b, per_as, slack_c, raise_c, memory_s,
    fit, cov, span, excess_c, excess_ns, raised,
):  # fmt: skip
    gain = np.empty(_TERMS, np.float64)
    for n in range(start, slot.size):
        if count[0] + 1 > len(whole):
            return n
        if lane[n] != LIVE:
            continue
        s, t, i, mean = slot[n], t_ns[n], current_a[n], t_mean[n]
        # False also where one of them is not known; a frozen frame ends a span, since time goes on behind it.
        loaded = abs(i) * per_ah >= least_c_rate
        span[s, _REST_S] = 0.0 if loaded else span[s, _REST_S] + dt_s[n]
        active = (
            not quality[n] & FROZEN
            and (loaded or (span[s, _FROM_S] > 0.0 and span[s, _REST_S] < rest_s))
            and dt_s[n] <= gap_s
            and coolant_c[n] + r0_ohm[n] + mean < np.inf
        )
        if not active:
            span[s, _FROM_S] = 0.0
            continue
        if span[s, _FROM_S] == 0.0:
            for j in range(_SPAN):
                span[s, j] = 0.0
            span[s, _FROM_C], span[s, _FROM_S], span[s, _LAST_A2] = mean, t * 1e-9, i * i
            continue
        # Between frames the current is not known: half of what its square changed is the error of the heat.
        per_a2 = r0_ohm[n] * dt_s[n] * per_capacity
        span[s, _X] += 0.5 * (i * i + span[s, _LAST_A2]) * per_a2
        span[s, _UNSEEN] += (0.5 * (i * i - span[s, _LAST_A2]) * per_a2) ** 2
        span[s, _LAST_A2] = i * i
        span[s, _CHARGE] += i * dt_s[n]
        span[s, _X + 1] += (coolant_c[n] - mean) * dt_s[n] * per_s
        if air_c[n] == air_c[n]:
            span[s, _X + 2] += (air_c[n] - mean) * dt_s[n] * per_s
        lasted_s = t * 1e-9 - span[s, _FROM_S]
        if lasted_s < span_s:
            continue
        if cov[s, 0, 0] == 0.0:
            for j in range(_TERMS):
                fit[s, j], cov[s, j, j] = prior[j], prior_var[j]
        e, known = mean - span[s, _FROM_C], 0.0
        for j in range(_TERMS):
            e -= fit[s, j] * span[s, _X + j]
            gain[j] = 0.0
            for k in range(_TERMS):
                gain[j] += cov[s, j, k] * span[s, _X + k]
            known += gain[j] * span[s, _X + j]
        unseen = (fit[s, 0] * fit[s, 0] * span[s, _UNSEEN] + (per_as * span[s, _CHARGE]) ** 2) / (noise_c * noise_c)
        scale = noise_c * np.sqrt(1.0 + known + unseen)
        for j in range(_LAST_A2):
            span[s, j] = 0.0
        span[s, _FROM_C], span[s, _FROM_S] = mean, t * 1e-9
        # Each span may be off by its own uncertainty; only what goes on counts.
        allowed = slack_c + 2.0 * (scale - noise_c)
        was = excess_c[s]
        side = np.float32(-1.0) if was < 0 or (was == 0 and e < 0) else np.float32(1.0)
        filled = np.float32(min(max(abs(was) + side * e - allowed, 0.0), 4.0 * raise_c))
        excess_c[s] = side * filled
        if was == 0 and filled > 0:
            excess_ns[s] = t - np.int64(lasted_s * 1e9)
        if (raised[s] and filled == 0) or (not raised[s] and filled >= raise_c):
            raised[s] = not raised[s]
            level = 2 if raised[s] else 0
            emit(whole, real, count, n, _COOLING, PACK, -1, level, excess_ns[s], excess_c[s], raise_c, scale)
        if raised[s] or filled >= 0.5 * raise_c:
            continue
        share, grow = 1.0 / (1.0 + known + unseen), 1.0 + lasted_s / memory_s
        for j in range(_TERMS):
            fit[s, j] += gain[j] * e * share
        fit[s, 1] = max(fit[s, 1], least_b)
        for j in range(_TERMS):
            for k in range(_TERMS):
                cov[s, j, k] = (cov[s, j, k] - gain[j] * gain[k] * share) * grow
        for j in range(_TERMS):
            if cov[s, j, j] > prior_var[j]:  # no more can be unknown than at first
                f = np.sqrt(prior_var[j] / cov[s, j, j])
                for k in range(_TERMS):
                    cov[s, j, k] *= f
                    cov[s, k, j] *= f
    return slot.size
