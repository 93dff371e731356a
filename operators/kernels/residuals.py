"""Cells that leave their own place in the pack: leaks, steps, and what is not yet known to be either.

d_soc follows offset + slope × z of the pack's median cell, fitted per cell with one covariance shared by all
cells, since all see the same z.  What stays off that line fills a two-sided CUSUM (E. S. Page, Biometrika 41, 1954) in
SOC × hours, whose slack grows with the line's own uncertainty.  What has moved is then followed at rest alone, and by
the voltage of the frame, since the estimate takes hours to reach a new place: a cell that goes on down while its pack
stands or charges leaks; one that lacks capacity moves only while the pack discharges; one that stays where it is over
some swing of the pack has a measurement or a contact that changed.
Balancing moves cells on purpose and falsifies what it measures: looks pause, and the line takes up what has changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels.findings import Found, collect, emit
from operators.kernels.kinds import CELL, INDEX
from operators.kernels.robust import NEAR, is_alone
from schemas.frames import LIVE, FrameBlock, missing_context
from schemas.pack import PackModel
from schemas.quality import FROZEN, SWEEP_SKEW

_LEAK, _OFFSET, _STEP = INDEX["leak"], INDEX["cell_offset"], INDEX["cell_step"]
_MOVED, _LEAKS, _LEAKS_FAST, _STEPPED = 1, 2, 3, 4  # values of cell_level; 0 in its place

WATCHES = 4  # cells whose way out is timed, per pack
_HOUR_NS = 3_600_000_000_000
_STEEP_V = 0.3  # V per unit SOC: on a flatter curve a millivolt says nothing of charge
# Columns of `way`: d_soc off the line last; sum of voltage beside the pack and number of frames, at rest since the last
# look; at the last look at rest: hours since the watch began, V off the line, SOC of the median cell, number of
# frames; hours of rest and what it moved in them, V; least and most of V and SOC.
_LAST, _SUM, _COUNT, _REST_H, _REST_V, _REST_Z, _READINGS, _HOURS, _MOTION = range(9)
_V_LOW, _V_HIGH, _Z_LOW, _Z_HIGH, _WAY = range(9, 14)
_STANDS, _STANDS_H = 0.004, 0.001  # SOC, and SOC per h, that a pack may pass between two looks and be called at rest
_OWN = 5e-6  # slack per unit of own_noise: four σ, σ being 1.25 times the mean deviation


@dataclass(frozen=True, slots=True)
class ResidualsConfig:
    """Thresholds; SOC 0..1, h."""

    capacity_ah: float
    look_s: float = 600.0  # between looks at d_soc
    soc_std: float = 0.015  # d_soc less certain than this is not looked at
    slack: float = 0.005  # SOC that a cell may be off its line
    slack_blind: float = 0.02  # the same where the vehicle does not say when it balances
    sigmas: float = 4.0
    raise_h: float = 0.01  # SOC × h; grows as the slack does
    most_cells: int = WATCHES  # more cells off their lines at once are a matter of the pack
    least_rate: float = 3e-4  # SOC per h: what moves out more slowly is no leak (15 mA of 50 Ah)
    rest_c_rate: float = 0.1  # up to this current a cell's voltage says how far off it is
    reading_v: float = 0.002  # of one reading of one cell
    leak_h: float = 1.0  # of rest in which it must move on
    step_h: float = 2.0  # of rest in which it must not
    step_swing: float = 0.15  # SOC that the pack must pass meanwhile: a cell that lacks capacity would move
    noise: float = 0.003  # SOC, before the pack has shown its own
    prior: float = 0.05  # spread of offsets and slopes before anything is known, SOC
    memory_s: float = 14 * 86_400.0
    bleed_s: float = 1200.0  # of frames after balancing until d_soc is itself again

    def __post_init__(self) -> None:
        if self.capacity_ah <= 0:
            msg = f"capacity_ah must be > 0; got {self.capacity_ah}"
            raise ValueError(msg)

    @classmethod
    def of(cls, pack: PackModel) -> ResidualsConfig:
        """Take what depends on the pack model from it."""
        if pack.chemistry == "lfp":  # on a plateau a millivolt is percents, whatever the estimate thinks of itself
            return cls(pack.nominal_ah, slack=0.03, slack_blind=0.04, raise_h=0.08, most_cells=1)
        return cls(pack.nominal_ah)


@dataclass
class ResidualsState:
    """One slot per pack."""

    soc_offset: NDArray[np.float32]  # (S, C) own line of d_soc: at z = 0.5 …
    soc_slope: NDArray[np.float32]  # (S, C) … and per unit z
    cusum: NDArray[np.float32]  # (S, C) SOC × h, with the sign of the deviation
    own_noise: NDArray[np.uint16]  # (S, C) mean |deviation| of d_soc from the line in 1e-6
    cell_level: NDArray[np.uint8]  # (S, C) 0 nothing, 1 moved, 2 leak, 3 strong leak, 4 stepped
    look_ns: NDArray[np.int64]  # (S,) last look at d_soc
    bled: NDArray[np.bool_]  # (S,) it has balanced since the last look
    bleed_free_s: NDArray[np.float32]  # (S,) of frames since then
    noise: NDArray[np.float32]  # (S,) variance of d_soc about its lines
    cov: NDArray[np.float64]  # (S, 3) of offset, both, slope; over the noise; negative before the first look
    watch_cell: NDArray[np.int16]  # (S, WATCHES) −1 free
    watch_ns: NDArray[np.int64]  # (S, WATCHES) when it left its line
    watch_way: NDArray[np.float32]  # (S, WATCHES, _WAY) how it has moved since

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> ResidualsState:  # noqa: ARG003 - every state is made alike
        """State of packs never seen."""
        f4, i8, each, few = np.float32, np.int64, (slots, cells), (slots, WATCHES)
        return cls(
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.zeros(each, f4),
            np.zeros(each, np.uint16),
            np.zeros(each, np.uint8),
            np.zeros(slots, i8),
            np.zeros(slots, np.bool_),
            np.zeros(slots, f4),
            np.zeros(slots, f4),
            np.full((slots, 3), -1.0),
            np.full(few, -1, np.int16),
            np.zeros(few, i8),
            np.zeros((*few, _WAY), f4),
        )


def step(cfg: ResidualsConfig, state: ResidualsState, block: FrameBlock, docv: NDArray[np.float64]) -> Found:
    """Look at the cells in the live, fresh rows of `block`.

    Needs derived slot, dt_s, quality, z_med, v_med, d_soc, d_soc_std.  `docv` (K,) is the slope of the OCV over SOC
    0..1, V per unit SOC.
    """
    d = block.derived
    mask = block.context.get("balancing_mask")
    slack = cfg.slack_blind if mask is None else cfg.slack
    return collect(
        _walk, len(block), 2 * block.cells,
        d["slot"], block.t_ns, d["dt_s"], block.lane, d["quality"], d["z_med"], d["d_soc"], d["d_soc_std"],
        block.cell_v, d["v_med"], block.current_a, docv,
        missing_context("balancing_mask", len(block)) if mask is None else mask,
        1.0 / cfg.capacity_ah, cfg.look_s, cfg.soc_std, slack, cfg.sigmas, cfg.raise_h, cfg.most_cells,
        (cfg.least_rate, cfg.leak_h, cfg.step_h, cfg.step_swing, cfg.reading_v), cfg.rest_c_rate,
        cfg.noise**2, (cfg.prior / cfg.noise) ** 2, cfg.memory_s, cfg.bleed_s,
        state.soc_offset, state.soc_slope, state.cusum, state.own_noise, state.cell_level, state.look_ns, state.bled,
        state.bleed_free_s, state.noise, state.cov,
        (state.watch_cell, state.watch_ns, state.watch_way),
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _walk(
    start, whole, real, count,
    slot, t_ns, dt_s, lane, quality, z_med, d_soc, d_soc_std, cell_v, v_med, current_a,
    docv, mask, per_ah, look_s, soc_std, slack, sigmas, raise_h, most_cells, ways, rest_c_rate, noise0, prior, memory_s,
    bleed_s,
    soc_offset, soc_slope, cusum, own_noise, cell_level, look_ns, bled, bleed_free_s, noise, cov, watch,
):  # fmt: skip
    x = np.empty(d_soc.shape[1], np.float32)
    near = np.empty(NEAR, np.float32)
    for n in range(start, slot.size):
        if count[0] + 2 * d_soc.shape[1] > len(whole):
            return n
        if lane[n] != LIVE:
            continue
        s, t = slot[n], t_ns[n]
        if mask[n] != 0:
            bled[s] = True
            bleed_free_s[s] = 0.0
        elif bled[s] and dt_s[n] > 0:
            bleed_free_s[s] += min(dt_s[n], 120.0)
        if quality[n] & (FROZEN | SWEEP_SKEW):
            continue
        _read(watch, s, cell_v[n], v_med[n], abs(current_a[n]) * per_ah <= rest_c_rate)
        if (
            t - look_ns[s] >= look_s * 1e9
            and z_med[n] == z_med[n]
            and d_soc_std[n] <= soc_std
            and not (bled[s] and bleed_free_s[s] < bleed_s)
        ):
            _look_soc(
                n, s, t, d_soc, docv, z_med[n], per_ah, slack, sigmas, raise_h, most_cells, ways, noise0, prior,
                memory_s, bled[s], look_ns, soc_offset, soc_slope, cusum, own_noise, cell_level, noise, cov, watch, x,
                near, whole, real, count,
            )  # fmt: skip
            bled[s] = False
    return slot.size


@njit(cache=True, error_model="numpy")
def _look_soc(
    n, s, t, d_soc, docv, z, per_ah, slack0, sigmas, raise_h, most_cells, ways, noise0, prior, memory_s, bled,
    look_ns, soc_offset, soc_slope, cusum, own_noise, cell_level, noise, cov, watch, es, near, whole, real, count,
):  # fmt: skip
    """Hold d_soc of pack `s` against its lines, and let the lines learn."""
    apart_s = (t - look_ns[s]) * 1e-9 if look_ns[s] > 0 else 0.0
    since_s = min(apart_s, 3600.0)
    look_ns[s] = t
    if cov[s, 0] < 0:
        noise[s] = noise0
        cov[s, 0], cov[s, 1], cov[s, 2] = prior, 0.0, 0.15 * prior
    x = z - 0.5
    x4 = np.float32(x)
    p1 = cov[s, 0] + cov[s, 1] * x
    p2 = cov[s, 1] + cov[s, 2] * x
    spread = p1 + p2 * x
    alone = 3600.0 / max(since_s, 60.0)  # looks within an hour share the weight of one
    k1, k2 = np.float32(p1 / (spread + alone)), np.float32(p2 / (spread + alone))
    scale = np.sqrt(noise[s] * (1.0 + spread))
    common = np.float32(max(slack0, sigmas * scale))
    # What is off its line stays off while the vehicle sleeps, from one check to the next.
    hours, slept_h = np.float32(since_s / 3600.0), np.float32(min(apart_s, 5.0 * 3600.0) / 3600.0)
    square, used = 0.0, 0
    learned = since_s / (since_s + 2.0 * 86_400.0)
    off = 0
    for c in range(d_soc.shape[1]):
        es[c] = d_soc[n, c] - soc_offset[s, c] - soc_slope[s, c] * x4
        off += abs(es[c]) > max(common, np.float32(_OWN * own_noise[s, c]))
    for c in range(d_soc.shape[1]):
        e = es[c]
        if e != e:
            continue
        slack = max(common, np.float32(_OWN * own_noise[s, c]))
        if cell_level[s, c] == 0:
            own = own_noise[s, c] + learned * (min(abs(e), slack) * 1e6 - own_noise[s, c])
            own_noise[s, c] = np.uint16(min(own + 0.5, 65535.0))
        # Cells fail alone: what moves many at once, or a neighbourhood, is not in the cells.
        if abs(e) > slack and cell_level[s, c] == 0 and (off > most_cells or not is_alone(es, c, near)):
            soc_offset[s, c] += e
            if cusum[s, c] != 0:
                cusum[s, c] = 0.0
                _watch(watch, s, c, t, e, cusum[s, c] != 0)
            continue
        filled = abs(cusum[s, c])
        if bled:
            was_off = np.float32(0.0)
            if filled > 0:
                w = _watch(watch, s, c, t, e, filled > 0)
                if w >= 0:
                    was_off = watch[2][s, w, _LAST]
                else:
                    cusum[s, c] = filled = np.float32(0.0)
            soc_offset[s, c] += e - was_off
            e = was_off
        if filled == 0 and abs(e) <= slack:
            soc_offset[s, c] += k1 * e
            soc_slope[s, c] += k2 * e
            square += e * e
            used += 1
            if cell_level[s, c] == 0:
                continue
        full = np.float32(raise_h * slack / slack0)
        sign = np.float32(1.0)
        if cusum[s, c] < 0 or (filled == 0 and e < 0):
            sign = np.float32(-1.0)
        out = sign * e
        gone = (out - slack) * (slept_h if filled > 0 else hours)
        if out > 2.0 * slack:
            gone *= 0.5 * out / slack  # far beyond any doubt it need not last as long
        filled = np.float32(min(max(filled + gone, 0.0), 4.0 * full))
        if filled == 0 and out > slack:
            filled = np.float32(1e-6)  # the first look of a pack: no time has passed yet
        cusum[s, c] = sign * filled
        w = _watch(watch, s, c, t, e, filled > 0)
        was = cell_level[s, c]
        level = was
        moves_on, stays, rate, unsure = False, False, 0.0, np.nan
        if w >= 0:
            if watch[2][s, w, _COUNT] > 0:
                line = np.float32(_slope(docv, z)) * (d_soc[n, c] - e)
                _follow(watch[2][s, w], (t - watch[1][s, w]) / _HOUR_NS, line, z)
            moves_on, stays, rate, unsure = _way(watch[2][s, w], _slope(docv, z + d_soc[n, c]), slack, ways)
        if filled == 0:
            level = 0
        elif filled >= full and out > slack:
            if moves_on and e < 0:
                level = _LEAKS_FAST if rate / per_ah >= 1.0 else _LEAKS
            elif stays and was <= _MOVED:
                level = _STEPPED
            elif was == 0:
                level = _MOVED
        if level == was:
            continue
        cell_level[s, c] = level
        since = watch[1][s, w] if w >= 0 else t
        kind = _kind_of(level)
        if level in (_LEAKS, _LEAKS_FAST):
            least, sigma = slack0 / (24.0 * per_ah), unsure / per_ah
            emit(whole, real, count, n, kind, CELL, c, level, since, rate / per_ah, least, sigma)
        elif level == _STEPPED:
            slope, volts = _slope(docv, z), watch[2][s, w, _REST_V]
            emit(whole, real, count, n, kind, CELL, c, 1, since, volts, slack * slope, scale * slope)
        elif level == _MOVED:
            emit(whole, real, count, n, kind, CELL, c, 1, since, e, slack, scale)
        if was and _kind_of(was) != kind:
            emit(whole, real, count, n, _kind_of(was), CELL, c, 0, since, e, slack, scale)
    # In double precision and symmetric; and no more can be unknown than before the first look.
    share = 1.0 / (spread + alone)
    grow = 1.0 + since_s / memory_s
    aa, ab, bb = (
        (cov[s, 0] - p1 * p1 * share) * grow,
        (cov[s, 1] - p1 * p2 * share) * grow,
        (cov[s, 2] - p2 * p2 * share) * grow,
    )
    fa, fb = min(np.sqrt(prior / aa), 1.0), min(np.sqrt(0.15 * prior / bb), 1.0)
    cov[s, 0], cov[s, 1], cov[s, 2] = aa * fa * fa, ab * fa * fb, bb * fb * fb
    if used:
        noise[s] = max(noise[s] + learned * (square / used - noise[s]), 0.1 * noise0)


@njit(cache=True, error_model="numpy")
def _watch(watch, s, c, t, e, out):
    """Find or open the watch of a cell that is off its line, or close it; gives its place or −1."""
    cell, since, way = watch
    free = -1
    for w in range(cell.shape[1]):
        if cell[s, w] == c:
            if not out:
                cell[s, w] = -1
            else:
                way[s, w, _LAST] = e
            return w
        if cell[s, w] < 0 and free < 0:
            free = w
    if not out or free < 0:
        return -1
    cell[s, free] = c
    since[s, free] = t
    way[s, free, :] = 0.0
    way[s, free, _LAST] = e
    way[s, free, _REST_H] = -1.0
    return free


@njit(cache=True, error_model="numpy")
def _kind_of(level):
    if level == 0:
        return -1
    return _OFFSET if level == _MOVED else _STEP if level == _STEPPED else _LEAK


@njit(cache=True, error_model="numpy")
def _slope(docv, z):
    """Give the slope of the OCV at a SOC, V per unit."""
    return max(docv[min(max(int(z * (docv.size - 1) + 0.5), 0), docv.size - 1)], _STEEP_V)


@njit(cache=True, error_model="numpy")
def _read(watch, s, cell_v, v_med, rests):
    """Add up what watched cells read beside their pack while it rests."""
    for w in range(WATCHES):
        c = watch[0][s, w]
        if c < 0:
            continue
        if not rests:
            watch[2][s, w, _SUM] = watch[2][s, w, _COUNT] = 0.0
        elif cell_v[c] == cell_v[c] and v_med == v_med:
            watch[2][s, w, _SUM] += cell_v[c] - v_med
            watch[2][s, w, _COUNT] += 1.0


@njit(cache=True, error_model="numpy")
def _follow(way, hours, line, z):
    """Note how far off its line (V) a watched cell has read at rest, `hours` after it left it."""
    volts = way[_SUM] / way[_COUNT] - line
    if way[_REST_H] < 0.0:
        way[_V_LOW] = way[_V_HIGH] = volts
        way[_Z_LOW] = way[_Z_HIGH] = z
    else:
        way[_V_LOW], way[_V_HIGH] = min(way[_V_LOW], volts), max(way[_V_HIGH], volts)
        way[_Z_LOW], way[_Z_HIGH] = min(way[_Z_LOW], z), max(way[_Z_HIGH], z)
        # Where the pack has moved meanwhile, so does a cell of another capacity.
        if abs(z - way[_REST_Z]) <= _STANDS + _STANDS_H * (hours - way[_REST_H]):
            way[_HOURS] += hours - way[_REST_H]
            way[_MOTION] += volts - way[_REST_V]
    way[_REST_H], way[_REST_V], way[_REST_Z] = hours, volts, z
    way[_READINGS], way[_SUM], way[_COUNT] = way[_COUNT], 0.0, 0.0


@njit(cache=True, error_model="numpy")
def _way(way, slope, slack, ways):
    """Say whether a watched cell goes on down at rest, whether it stays, how fast it falls (SOC/h), and how sure.

    `slope` (V per unit SOC) is that at the cell's own place.
    """
    least_rate, leak_h, step_h, step_swing, reading_v = ways
    hours, fallen = way[_HOURS], -way[_MOTION] / slope
    rate = fallen / hours if hours > 0.0 else 0.0
    unsure = 1.4 * reading_v / (slope * np.sqrt(max(way[_READINGS], 1.0)))  # a difference of two means
    moves_on = hours >= leak_h and rate >= least_rate and fallen >= max(0.5 * slack, 4.0 * unsure)
    far = max(abs(way[_V_LOW]), abs(way[_V_HIGH]))
    stays = (
        hours >= step_h
        and way[_Z_HIGH] - way[_Z_LOW] >= step_swing
        and way[_V_HIGH] - way[_V_LOW] <= 0.35 * far
        and abs(fallen) <= max(0.5 * slack, 4.0 * unsure)
    )
    return moves_on, stays, rate, unsure / max(hours, 1.0)
