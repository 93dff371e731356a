"""Each temperature probe beside its own normal, and probes that stand still.

A probe's deviation from the pack's middle is modelled as offset + a × heat + b × (middle − its mean of half an hour)
+ c × (air − middle), where heat is the mean of (current / capacity)² over half an hour: a probe that is always warmer,
or warmer under load, while the pack warms up or in cold air, is its own normal.  All probes share one covariance, since
all see the same inputs.  The middle is the mean of the inner half of the probes, since their median is as coarse as one
reading.

A probe that follows its pack changes its reading when the pack has gone a step of the probe's resolution.  One that has
not, while the middle moved by more than a step and what is expected of it by more than half of one from what it reads,
stands still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.findings import Found, collect, emit, hold
from operators.kernels.kinds import INDEX, PROBE
from operators.kernels.robust import middle_of
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.pack import PackModel
from schemas.quality import FROZEN

_OFFSET, _STUCK = INDEX["probe_offset"], INDEX["stuck_probe"]
_CLEAR_S = 1800.0
_OFFSET_RAISED, _STUCK_RAISED, _LEFT = 1, 2, 4  # bits of probe_flags
_MINUTE_NS = 60_000_000_000
_TERMS = 4  # offset, heat, warming, air


@dataclass(frozen=True, slots=True)
class ProbesConfig:
    """Thresholds in °C and s."""

    capacity_ah: float
    look_s: float = 60.0
    warm_c: float = 2.5  # above its own normal
    cold_c: float = 4.0  # below: a fault of the probe alone, and no hurry
    sigmas: float = 5.0
    for_s: float = 600.0
    noise_c: float = 0.6  # resolution and lag, before the pack has shown its own
    prior_c: float = 4.0  # spread of offsets before anything is known
    prior_heat_c: float = 4.0  # the same of what heat does, per C-rate²
    prior_warming: float = 0.3  # the same of what warming does, °C per °C
    prior_air: float = 0.05  # the same of what the air does
    tau_s: float = 1800.0
    alone_s: float = 3600.0  # looks within this time share the weight of one
    memory_s: float = 20 * 86_400.0
    stuck_c: float = 5.0  # the middle moved this far while the probe read one value
    still_c: float = 0.5  # beyond a step of its resolution, where it has left its normal by as much beyond half a step
    still_sigmas: float = 1.5  # and by so many of its usual deviations
    still_lag: float = 0.15  # and by this share of what the pack has warmed in half an hour
    step_c: float = 1.0  # resolution, before a probe has changed

    def __post_init__(self) -> None:
        if self.capacity_ah <= 0:
            msg = f"capacity_ah must be > 0; got {self.capacity_ah}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> ProbesConfig:
        """Take what depends on the pack model from it."""
        return cls(pack.nominal_ah)


@dataclass
class ProbesState:
    """One slot per pack."""

    last_c: NDArray[np.float32]  # (S, P) NaN before the first
    mark_c: NDArray[np.float32]  # (S, P) the pack's middle when the probe last changed
    mark_min: NDArray[np.int32]  # (S, P) and that time, minutes since 1970
    normal_c: NDArray[np.float32]  # (S, P, _TERMS) own normal
    probe_acc: NDArray[np.float32]  # (S, P) debounce
    probe_flags: NDArray[np.uint8]  # (S, P)
    look_ns: NDArray[np.int64]  # (S,) last look, 0 before the first
    heat: NDArray[np.float32]  # (S,) mean of (current / capacity)²
    slow_c: NDArray[np.float32]  # (S,) mean of the middle
    air_c: NDArray[np.float32]  # (S,) newest, NaN before the first
    step_c: NDArray[np.float32]  # (S,) smallest change of a reading, infinite before the first
    noise_c2: NDArray[np.float32]  # (S,) variance of the residuals
    cov: NDArray[np.float64]  # (S, _TERMS, _TERMS) over the noise; negative before the first look

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> ProbesState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        f4, each = np.float32, (slots, probes)
        return cls(
            np.full(each, np.nan, f4),
            np.full(each, np.nan, f4),
            np.zeros(each, np.int32),
            np.zeros((*each, _TERMS), f4),
            np.zeros(each, f4),
            np.zeros(each, np.uint8),
            np.zeros(slots, np.int64),
            np.zeros(slots, f4),
            np.zeros(slots, f4),
            np.full(slots, np.nan, f4),
            np.full(slots, np.inf, f4),
            np.zeros(slots, f4),
            np.full((slots, _TERMS, _TERMS), -1.0),
        )


def step(cfg: ProbesConfig, state: ProbesState, block: FrameBlock) -> Found:
    """Look at the probes in the live, fresh rows of `block`.  Needs derived slot, dt_s, quality."""
    d = block.derived
    priors = np.array([cfg.prior_c, cfg.prior_heat_c, cfg.prior_warming, cfg.prior_air])
    air_c = block.context.get("ambient_c", missing_context("ambient_c", len(block)))
    return collect(
        _walk, len(block), 2 * block.probes,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], block.current_a, block.temp_c, air_c,
        1.0 / cfg.capacity_ah, cfg.look_s, cfg.warm_c, cfg.cold_c, cfg.sigmas, cfg.for_s, cfg.noise_c**2,
        priors * priors / cfg.noise_c**2, cfg.tau_s, cfg.alone_s, cfg.memory_s, cfg.stuck_c,
        (cfg.still_c, cfg.still_sigmas, cfg.still_lag, cfg.step_c),
        state.last_c, state.mark_c, state.mark_min, state.normal_c, state.probe_acc, state.probe_flags, state.look_ns,
        state.heat, state.slow_c, state.air_c, state.step_c, state.noise_c2, state.cov,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, dt_s, lane, quality, current_a, temp_c, ambient_c,
    per_ah, look_s, warm_c, cold_c, sigmas, for_s, noise0, prior, tau_s, alone_s, memory_s, stuck_c,
    still, last_c, mark_c, mark_min, normal_c, probe_acc, flags, look_ns, heat, slow_c, air_c, step_c, noise_c2, cov,
):  # fmt: skip
    probes = temp_c.shape[1]
    scratch = np.empty(probes, np.float32)
    x = np.ones(_TERMS, np.float64)
    gain = np.empty(_TERMS, np.float64)
    still_c, still_sigmas, still_lag, step0 = still
    for n in range(start, slot.size):
        if count[0] + 2 * probes > len(whole):
            return n
        if lane[n] != LIVE or quality[n] & FROZEN or probes == 0:
            continue
        s, t = slot[n], t_ns[n]
        rate = current_a[n] * per_ah
        if rate == rate and dt_s[n] > 0:
            heat[s] += dt_s[n] / (dt_s[n] + tau_s) * (rate * rate - heat[s])
        if look_ns[s] > 0 and (t - look_ns[s]) * 1e-9 < look_s:
            continue
        middle = middle_of(temp_c[n], scratch)
        if middle != middle:
            continue
        apart_s = (t - look_ns[s]) * 1e-9 if look_ns[s] > 0 else 0.0
        if look_ns[s] == 0:
            slow_c[s] = middle
            noise_c2[s] = noise0
            for j in range(_TERMS):
                for k in range(_TERMS):
                    cov[s, j, k] = prior[j] if j == k else 0.0
        look_ns[s] = t
        slow_c[s] += apart_s / (apart_s + tau_s) * (middle - slow_c[s])
        since_s = min(apart_s, 600.0)
        x[1] = heat[s]
        x[2] = middle - slow_c[s]
        if ambient_c[n] == ambient_c[n]:
            air_c[s] = ambient_c[n]
        x[3] = air_c[s] - middle if air_c[s] == air_c[s] else 0.0
        spread = 0.0
        for j in range(_TERMS):
            gain[j] = 0.0
            for k in range(_TERMS):
                gain[j] += cov[s, j, k] * x[k]
            spread += gain[j] * x[j]
        scale = np.sqrt(noise_c2[s] * (1.0 + spread))
        share = 1.0 / (spread + alone_s / max(since_s, 1.0))
        square, used = 0.0, 0
        for p in range(probes):
            v = temp_c[n, p]
            if v != v:
                continue
            expected = np.float64(middle)
            for j in range(_TERMS):
                expected += normal_c[s, p, j] * x[j]
            e = v - expected
            bound = max(warm_c if e > 0 else cold_c, sigmas * scale)
            raised = flags[s, p] & _OFFSET_RAISED != 0
            sign = 1 if abs(e) >= bound else -1 if abs(e) < 0.6 * bound else 0
            if sign >= 0 or raised or probe_acc[s, p] > 0:
                probe_acc[s, p], now = hold(probe_acc[s, p], raised, sign, since_s, for_s, 4, _CLEAR_S)
                if now != raised:
                    flags[s, p] ^= _OFFSET_RAISED
                    level = (3 if e >= 10.0 else 2 if e > 0 else 1) if now else 0
                    since = t - np.int64(for_s * 1e9) if now else t
                    emit(whole, real, count, n, _OFFSET, PROBE, p, level, since, e, 3.0 * scale, scale)
            if sign < 0 and not raised:
                for j in range(_TERMS):
                    normal_c[s, p, j] += gain[j] * share * e
                square += min(e * e, 9.0 * noise_c2[s])
                used += 1
            # A probe that does not follow its pack, until it moves.
            stuck = flags[s, p] & _STUCK_RAISED != 0
            changed = v != last_c[s, p]
            if changed:
                step_c[s] = min(step_c[s], abs(v - last_c[s, p])) if last_c[s, p] == last_c[s, p] else step_c[s]
                last_c[s, p] = v
                mark_c[s, p], mark_min[s, p] = middle, t // _MINUTE_NS
            went = middle - mark_c[s, p]
            moved = abs(went)
            one = min(step_c[s], step0)
            beyond = max(still_c, still_sigmas * scale) + still_lag * abs(x[2])
            left = moved >= one + beyond and abs(e) >= 0.5 * one + beyond and e * went < 0.0
            again = left and flags[s, p] & _LEFT != 0  # one look alone may be a lag
            flags[s, p] = flags[s, p] | _LEFT if left else flags[s, p] & ~_LEFT
            if (stuck and changed) or (not stuck and (moved >= stuck_c or again)):
                flags[s, p] ^= _STUCK_RAISED
                level = 0 if stuck else 2
                since = mark_min[s, p] * _MINUTE_NS
                emit(whole, real, count, n, _STUCK, PROBE, p, level, since, v, moved, np.nan)
        grow = 1.0 + since_s / memory_s
        for j in range(_TERMS):
            for k in range(_TERMS):
                cov[s, j, k] = (cov[s, j, k] - gain[j] * gain[k] * share) * grow
        for j in range(_TERMS):
            if cov[s, j, j] > prior[j]:  # no more can be unknown than before the first look
                f = np.sqrt(prior[j] / cov[s, j, j])
                for k in range(_TERMS):
                    cov[s, j, k] *= f
                    cov[s, k, j] *= f
        if used:
            weight = since_s / (since_s + 86_400.0)
            noise_c2[s] = max(noise_c2[s] + weight * (square / used - noise_c2[s]), 0.1 * noise0)
    return slot.size
