"""Temperature against itself: each probe beside its own normal, probes that stand still, thermal events.

A probe's deviation from the pack's median is modelled as offset + slope × heat, where heat is the mean of (current /
capacity)² over the past half hour: a probe that is always warmer, or warmer under load, is its own normal.  Offset and
slope of all probes share one covariance, since all see the same heat at the same time.

Thermal event after GB 38031-2025, C.5.3.7, made fit for vehicles: a (a cell below 0.75 of the median, or cells that
became implausible) or b (a probe at its maximum), and c (3 K between samples that are 3 s … 2 min apart: 1 °C/s for
3 s where sampling is fast); or a and b.  A probe far above its maximum is an event by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.findings import Found, emit, hold, new_found
from operators.kernels.kinds import INDEX, PACK, PROBE
from operators.kernels.limits import extremes, where
from schemas.frames import LIVE, FrameBlock
from schemas.pack import PackModel
from schemas.quality import CELL_RANGE, CELL_RATE, FROZEN, NO_CELLS, TEMP_RANGE

EVENT, OFFSET, STUCK = INDEX["thermal_event"], INDEX["probe_offset"], INDEX["stuck_probe"]
_CLEAR_S = 1800.0
_OFFSET_RAISED, _STUCK_RAISED = 1, 2  # bits of probe_flags
_INVALID = CELL_RANGE | CELL_RATE | NO_CELLS


@dataclass(frozen=True, slots=True)
class ThermalConfig:
    """Thresholds of one pack model."""

    capacity_ah: float
    temp_max_c: float = 60.0  # the maker's maximum: the MSL row
    far_c: float = 25.0  # above it: an event whatever the cells say
    rise_c: float = 3.0
    period_s: float = 30.0  # between looks at the probes' own normals
    offset_c: float = 2.5
    offset_sigmas: float = 5.0
    offset_for_s: float = 600.0
    offset_noise_c: float = 0.7  # resolution and lag, before the pack has shown its own
    prior_c: float = 4.0  # spread of offsets before anything is known
    prior_heat_c: float = 3.0  # the same of slopes, per C-rate²
    heat_tau_s: float = 1800.0
    memory_s: float = 20 * 86_400.0
    stuck_c: float = 4.0  # the median moved this far while the probe read one value

    def __post_init__(self) -> None:
        if self.capacity_ah <= 0:
            msg = f"capacity_ah must be > 0; got {self.capacity_ah}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> ThermalConfig:
        """Take capacity and maximum temperature from a pack model."""
        top = [r.bound for r in pack.limits if (r.quantity, r.tier, r.over) == ("temp_c", "MSL", True)]
        return cls(pack.nominal_ah, min(top, default=60.0))


@dataclass
class ThermalState:
    """One slot per pack."""

    ref_c: NDArray[np.float32]  # (S, P) a moment ago, NaN before the first
    mark_c: NDArray[np.float32]  # (S, P) the pack's median when the probe last changed
    offset_c: NDArray[np.float32]  # (S, P) own normal: offset …
    heat_c: NDArray[np.float32]  # (S, P) … and slope
    probe_acc: NDArray[np.float32]  # (S, P) debounce
    probe_flags: NDArray[np.uint8]  # (S, P)
    ref_ns: NDArray[np.int64]  # (S,)
    look_ns: NDArray[np.int64]  # (S,) last look, 0 before the first
    rise_ns: NDArray[np.int64]  # (S,) last time that c held
    hot_ns: NDArray[np.int64]  # (S,) last time that b held
    event_acc: NDArray[np.float32]  # (S,)
    event_n: NDArray[np.int8]  # (S,) samples in a row; −1 raised
    heat: NDArray[np.float32]  # (S,) mean of (current / capacity)²
    noise_c2: NDArray[np.float32]  # (S,) variance of the residuals
    cov: NDArray[np.float64]  # (S, 3) of offset, both, slope; over the noise

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> ThermalState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen; negative covariance stands for the prior."""
        f4, i8, each = np.float32, np.int64, (slots, probes)
        return cls(
            np.full(each, np.nan, f4),
            np.full(each, np.nan, f4),
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.zeros(each, np.uint8),
            np.zeros(slots, i8),
            np.zeros(slots, i8),
            np.zeros(slots, i8),
            np.zeros(slots, i8),
            np.zeros(slots, f4),
            np.zeros(slots, np.int8),
            np.zeros(slots, f4),
            np.zeros(slots, f4),
            np.full((slots, 3), -1.0),
        )


def step(cfg: ThermalConfig, state: ThermalState, block: FrameBlock) -> Found:
    """Look at the temperatures of each live, fresh row of `block`.

    Needs derived slot, dt_s, quality, v_med.
    """
    d = block.derived
    whole, real, count = _walk(
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], block.current_a, block.cell_v, block.temp_c,
        d["v_med"],
        1.0 / cfg.capacity_ah, cfg.temp_max_c, cfg.far_c, cfg.rise_c, cfg.period_s, cfg.offset_c, cfg.offset_sigmas,
        cfg.offset_for_s, cfg.offset_noise_c**2, cfg.prior_c**2, cfg.prior_heat_c**2, cfg.heat_tau_s, cfg.memory_s,
        cfg.stuck_c,
        state.ref_c, state.mark_c, state.offset_c, state.heat_c, state.probe_acc, state.probe_flags, state.ref_ns,
        state.look_ns, state.rise_ns, state.hot_ns, state.event_acc, state.event_n, state.heat,
        state.noise_c2, state.cov, *new_found(),
    )  # fmt: skip
    return whole[:count], real[:count]


@njit(cache=True)
def median_of(values, scratch):
    """Give the median of a short row without its NaNs, NaN where nothing is left; `scratch` as long as the row."""
    m = 0
    for p in range(values.size):
        v = values[p]
        if v != v:
            continue
        k = m
        while k > 0 and scratch[k - 1] > v:
            scratch[k] = scratch[k - 1]
            k -= 1
        scratch[k] = v
        m += 1
    if m == 0:
        return np.float32(np.nan)
    return np.float32(0.5) * (scratch[(m - 1) // 2] + scratch[m // 2])


@njit(cache=True)
def _walk(
    slot, t_ns, dt_s, lane, quality, current_a, cell_v, temp_c, v_med,
    per_ah, temp_max_c, far_c, rise_c, period_s, raise_c, sigmas, raise_for_s, noise0_c2, prior_c2, prior_heat_c2,
    heat_tau_s, memory_s, stuck_c,
    ref_c, mark_c, offset_c, heat_c, probe_acc, flags, ref_ns, look_ns, rise_ns, hot_ns, event_acc, event_n,
    heat, noise_c2, cov, whole, real,
):  # fmt: skip
    count = 0
    probes = temp_c.shape[1]
    scratch = np.empty(probes, np.float32)
    for n in range(slot.size):
        if lane[n] != LIVE or quality[n] & FROZEN or probes == 0:
            continue
        s, t = slot[n], t_ns[n]
        rate = current_a[n] * per_ah
        if rate == rate and dt_s[n] > 0:
            w = dt_s[n] / (dt_s[n] + heat_tau_s)
            heat[s] += w * (rate * rate - heat[s])
        # --- thermal event
        since_ref_s = (t - ref_ns[s]) * 1e-9
        steepest, steepest_at = -np.inf, -1
        if since_ref_s >= 3.0:
            for p in range(probes):
                v = temp_c[n, p]
                if v != v:
                    continue
                rise = v - ref_c[s, p]
                if rise > steepest:
                    steepest, steepest_at = rise, p
                if rise != 0.0:  # also where there is no reference yet
                    mark_c[s, p] = np.nan  # the next look marks where the pack is
                    ref_c[s, p] = v
            ref_ns[s] = t
            if steepest >= rise_c and since_ref_s <= 120.0:
                rise_ns[s] = t
        _, hottest = extremes(temp_c[n])
        lowest, _ = extremes(cell_v[n])
        if hottest >= temp_max_c:
            hot_ns[s] = t
        a = lowest < 0.75 * v_med[n] or quality[n] & _INVALID != 0
        b = hottest >= temp_max_c or (
            hot_ns[s] > 0 and t - hot_ns[s] <= 300_000_000_000 and quality[n] & TEMP_RANGE != 0
        )
        c = rise_ns[s] > 0 and t - rise_ns[s] <= 60_000_000_000
        event = (a and b) or (a and c) or (b and c) or hottest >= temp_max_c + far_c
        if event_n[s] >= 0:
            event_n[s] = min(event_n[s] + 1, 100) if event else 0
            if event_n[s] >= 2:
                event_n[s] = -1
                event_acc[s] = 0.0
                at = where(temp_c[n], hottest)
                whole, real, count = emit(
                    whole, real, count, n, EVENT, PROBE if at >= 0 else PACK, at, 4, t, hottest, temp_max_c, np.nan
                )
        else:
            event_acc[s], raised = hold(event_acc[s], True, 1 if event else -1, dt_s[n], 0.0, 1, _CLEAR_S)
            if not raised:
                event_n[s] = 0
                whole, real, count = emit(whole, real, count, n, EVENT, PACK, -1, 0, t, hottest, temp_max_c, np.nan)
        # --- each probe beside its own normal
        if look_ns[s] > 0 and (t - look_ns[s]) * 1e-9 < period_s:
            continue
        middle = median_of(temp_c[n], scratch)
        if middle != middle:
            continue
        since_s = min((t - look_ns[s]) * 1e-9, 600.0) if look_ns[s] > 0 else 0.0
        look_ns[s] = t
        if cov[s, 0] < 0:
            noise_c2[s] = noise0_c2
            cov[s, 0], cov[s, 1], cov[s, 2] = prior_c2 / noise0_c2, 0.0, prior_heat_c2 / noise0_c2
        h = heat[s]
        # Looks within ten minutes of each other say nearly the same: they share the weight of one.
        alone = 600.0 / max(since_s, 1.0)
        p1 = cov[s, 0] + cov[s, 1] * h
        p2 = cov[s, 1] + cov[s, 2] * h
        spread = p1 + p2 * h
        scale = np.sqrt(noise_c2[s] * (1.0 + spread))
        k1, k2 = p1 / (spread + alone), p2 / (spread + alone)
        bound = max(raise_c, sigmas * scale)
        square, used = 0.0, 0
        for p in range(probes):
            v = temp_c[n, p]
            if v != v:
                continue
            if mark_c[s, p] != mark_c[s, p]:
                mark_c[s, p] = middle
            e = v - middle - offset_c[s, p] - heat_c[s, p] * h
            raised = flags[s, p] & _OFFSET_RAISED != 0
            sign = 0
            if abs(e) >= bound:
                sign = 1
            elif abs(e) < 0.6 * bound:
                sign = -1
            if sign >= 0 or raised or probe_acc[s, p] > 0:
                probe_acc[s, p], now = hold(probe_acc[s, p], raised, sign, since_s, raise_for_s, 4, _CLEAR_S)
                if now != raised:
                    flags[s, p] ^= _OFFSET_RAISED
                    level = (3 if e >= 10.0 else 2 if e > 0 else 1) if now else 0
                    since = t - np.int64(raise_for_s * 1e9) if now else t
                    whole, real, count = emit(
                        whole, real, count, n, OFFSET, PROBE, p, level, since, e, 3.0 * scale, scale
                    )
            if sign < 0 and not raised:
                offset_c[s, p] += k1 * e
                heat_c[s, p] += k2 * e
                square += min(e * e, 9.0 * noise_c2[s])
                used += 1
            # --- a probe that does not follow its pack
            moved = abs(middle - mark_c[s, p])
            if flags[s, p] & _STUCK_RAISED:
                if moved < stuck_c:  # it has changed since
                    flags[s, p] ^= _STUCK_RAISED
                    whole, real, count = emit(whole, real, count, n, STUCK, PROBE, p, 0, t, v, moved, np.nan)
            elif moved >= stuck_c and v == ref_c[s, p]:
                flags[s, p] |= _STUCK_RAISED
                whole, real, count = emit(whole, real, count, n, STUCK, PROBE, p, 2, t, v, moved, np.nan)
        cov[s, 0] -= k1 * p1
        cov[s, 1] -= k1 * p2
        cov[s, 2] -= k2 * p2
        grow = 1.0 + since_s / memory_s
        cov[s, 0] = min(cov[s, 0] * grow, prior_c2 / noise0_c2)
        cov[s, 1] *= grow
        cov[s, 2] = min(cov[s, 2] * grow, prior_heat_c2 / noise0_c2)
        if used:
            weight = since_s / (since_s + 86_400.0)
            noise_c2[s] = max(noise_c2[s] + weight * (square / used - noise_c2[s]), 0.25 * noise0_c2)
    return whole, real, count
