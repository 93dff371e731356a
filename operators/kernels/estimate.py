"""Estimates of every pack after each of its frames: SOC, cell differences, energy and power, in one walk over rows.

The parts are in soc (the median cell group), imbalance (every cell against it), power and ocv.
"""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.kernels import imbalance, ocv, power, prefetch, soc
from operators.kernels.imbalance import QQ, RR, ZZ
from operators.kernels.median import lower_median
from operators.kernels.ocv import BRANCHES, DOCV, OCV, R0
from operators.kernels.parameters import Parameters
from schemas.frames import BACKFILL
from schemas.quality import FROZEN, SWEEP_SKEW

CELL, PACK = 0, 1  # values of soc_source
_SHARED = soc.SOC_END  # first column of the cells' covariance
_CORE = _SHARED + imbalance.WIDTH
_FIRST_DT_S = 1e9  # the first sample is as good as one after a long silence


@dataclass(frozen=True, slots=True)
class EstimateConfig:
    """How much to trust the tables, the sensors and the past; standard deviations unless named otherwise."""

    initial_soc: float = float("nan")  # SOC of a pack never seen; NaN: from the voltage of its first frame
    initial_soc_std: float = 0.2
    bms_std: float = 0.1  # of the vehicle's own SOC, which is asked once: for a pack never seen
    hold_s: float = 600.0  # a longer time between frames tells nothing about the current in it
    rest_c_rate: float = 0.02  # current over capacity (1/h) that counts as rest
    unseen_c_rate: float = 0.002  # that may flow in a silence between two frames at rest
    unknown_c_rate: float = 0.3  # that may flow while the current is unknown
    between: float = 0.3  # of a step in current: what the mean between two frames may miss,
    between_s: float = 10.0  # and with the root of what they are further apart, up to the whole step
    soc_noise: float = 5e-10  # variance per second: what the rest of this model does not say
    offset: float = 0.005  # of the current sensor, over capacity (1/h)
    open_noise: float = 0.0005  # of what it shows while the contactors are open
    open_tau_s: float = 3600.0  # for how long such an error lasts
    drift_offset: float = 1e-11  # variance per second: .5 % of capacity per hour in a month
    noise_v: float = 10e-3  # voltage the circuit model leaves unexplained
    noise_c: float = 0.1  # and in proportion to the drop of R0 under 1 C
    noise_tau_s: float = 40.0  # for how long such an error lasts
    load_noise: float = 0.01  # the same in proportion to the drop under load
    branch_noise: float = 0.15  # of the voltage of an RC branch, in proportion, for as long as the branch lasts
    skew: float = 0.2  # of a step in i·R0 that a sweep over the cells may catch or miss
    pack_noise_v: float = 10e-3  # per cell group, where only the pack sensor tells
    bias_v: float = 3e-3  # slow error of an OCV table that was measured on this kind of cell
    borrowed_v: float = 4e-3  # of one that was measured on another kind,
    borrowed_soc: float = 0.005  # and along its SOC
    hysteresis_share: float = 0.4  # of the hysteresis that the pack file's number may miss
    bias_c: float = 0.06  # and in proportion to the drop of R0 under 1 C
    bias_tau_s: float = 2e6
    bias_soc: float = 0.1  # change of SOC after which the table's error is another one
    scale: float = 0.2  # of all resistances against the table, in proportion
    scale_tau_s: float = 1e7
    outlier: float = 6.0  # an innovation counts up to this many standard deviations
    hysteresis_rate: float = 20.0  # per unit of SOC that passes
    spread_soc: float = 0.03  # between the cells of a pack never seen
    spread_r0: float = 0.15
    spread_q: float = 0.03
    drift_soc: float = 1.2e-11  # variance per second: .1 % in a day
    drift_r0: float = 1e-9  # 5 % in a month
    drift_q: float = 1.5e-10  # 2 % in a month
    cell_noise_v: float = 2e-3
    cell_bias_v: float = 5e-4  # constant error of a cell's own channel
    cell_noise_tau_s: float = 40.0
    cell_load_noise: float = 0.05
    cell_skew: float = 0.2
    cell_outlier: float = 4.0  # a residual counts up to this many standard deviations
    flat_v: float = 0.1  # V per unit SOC (1 mV/%): where OCV is flatter, cell differences are not observable
    power_memory_s: float = 600.0  # SOE assumes the mean discharge power of the past
    reserve_soc: float = 0.0  # SOE counts down to this SOC

    def __post_init__(self) -> None:
        """Check every value; raises ValueError naming it and what is accepted."""
        if self.initial_soc == self.initial_soc and not 0 <= self.initial_soc <= 1:
            msg = f"initial_soc must be in 0..1, or NaN for the first voltage's; got {self.initial_soc}"
            raise ValueError(msg)
        if not 0 <= self.reserve_soc < 1:
            msg = f"reserve_soc must be ≥ 0 and < 1; got {self.reserve_soc}"
            raise ValueError(msg)
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in {"initial_soc", "reserve_soc"} and not 0 < value < float("inf"):
                msg = f"{f.name} must be > 0; got {value}"
                raise ValueError(msg)


@dataclass(slots=True)
class EstimateState:
    """One slot per pack: the filter of its median cell group, and the differences of its cells."""

    core: NDArray[np.float64]  # (S, columns named in soc and imbalance)
    cell: NDArray[np.float32]  # (S, 3, C): Δsoc, ΔR0/R0, ΔQ/Q

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> EstimateState:  # noqa: ARG003 - as every state
        """State of packs never seen."""
        core = np.zeros((slots, _CORE))
        soc.fresh(core)
        return cls(core, np.zeros((slots, 3, cells), np.float32))


_Config = namedtuple("_Config", [f.name for f in fields(EstimateConfig)])  # type: ignore[misc]  # noqa: PYI024 - numba reads it


@lru_cache(maxsize=16)
def _plain(cfg: EstimateConfig) -> Any:  # noqa: ANN401 - a tuple with the names of EstimateConfig
    return _Config(*(float(getattr(cfg, f.name)) for f in fields(cfg)))


# The columns that come out, by type; their places in the arrays that the loops fill.
_F64 = ("soc", "z_med")
_F32 = (
    "soc_std", "r0_ohm", "v_med", "innov_v", "innov_std_v", "soe_kwh", "soe_std_kwh", "d_soc_std", "d_r0_std",
    "d_q_std", "capacity_ah", "q_med_ah", "current_offset_a", "current_offset_std_a", "r0_std_ohm", "capacity_std_ah",
    *power.STD_NAMES, *power.NAMES,
)  # fmt: skip
_I8 = ("soc_source", *power.LIMIT_NAMES)
_I16 = ("soc_low_cell", "soc_high_cell", "sop_discharge_cell", "sop_charge_cell")
_CELLS = ("d_soc", "d_r0", "d_q", "resid_v")
_SOC, _Z_MED = range(2)
(
    _SOC_STD, _R0, _V_MED, _INNOV, _INNOV_STD, _SOE, _SOE_STD, _D_SOC_STD, _D_R0_STD, _D_Q_STD, _CAPACITY, _Q_MED,
    _OFFSET, _OFFSET_STD, _R0_STD, _CAPACITY_STD, _SOP_STD,
) = range(17)  # fmt: skip
_SOP = _SOP_STD + len(power.STD_NAMES)
_SOURCE, _LIMIT = range(2)
_LOW, _HIGH, _OUT_CELL, _IN_CELL = range(4)
_RESID = 3  # after the three differences
# Rows of the scratch array, one value per cell group each.
_KEYS, _LIFT, _ERROR, _PAIR = 0, 1, 2, 3
_SCRATCH = 5
_NONE, _NO_STATE = np.empty(0, np.float32), np.empty(0, np.int8)  # no column
_OPEN = 0  # contactor_state
_AHEAD = 2  # rows whose state is asked for early


def step(
    cfg: EstimateConfig,
    state: EstimateState,
    pack: Parameters,
    slot: NDArray[np.int32],
    dt_s: NDArray[np.float64],
    quality: NDArray[np.uint32],
    lane: NDArray[np.uint8],
    current_a: NDArray[np.float32],
    pack_v: NDArray[np.float32],
    cell_v: NDArray[np.float32],
    temp_c: NDArray[np.float32],
    soc_bms: NDArray[np.float32] | None = None,
    contactor_state: NDArray[np.int8] | None = None,
) -> dict[str, NDArray[Any]]:
    """Advance `state` over N rows; what is known after each, by column name.

    Rows of one slot are in time order, `dt_s` (N,) is the time since its frame before (NaN: first).  Columns
    (N,): soc, z_med float64; those of _F32 in their units; soc_source (0 cells, 1 pack voltage) and the limits
    that bind SOP (power.VOLTAGE …) int8; the cells that empty and fill first and those that bind SOP, int16, −1
    where unknown.
    Columns (N, C) float32: d_soc, d_r0, d_q, resid_v; SOC of a cell group is z_med + d_soc within 0..1.
    Rows of the backfill lane are NaN and change nothing; frozen rows and rows without current change nothing but the
    uncertainty.  `soc_bms` (N,), the vehicle's own SOC, may be absent: it is read at a pack's first usable frame only.
    So may `contactor_state` (N,): what a sensor shows while they are open (0) is its offset.
    """
    n, cells = cell_v.shape
    assert cells == pack.cell.cells == state.cell.shape[2], f"{cells} cells, not the pack's {pack.cell.cells}"
    assert all(len(c) == n for c in (slot, dt_s, quality, lane, current_a, pack_v, temp_c)), "columns differ in length"
    f64, f32 = np.empty((len(_F64), n)), np.empty((len(_F32), n), np.float32)
    i8, i16 = np.empty((len(_I8), n), np.int8), np.empty((len(_I16), n), np.int16)
    per_cell = np.empty((len(_CELLS), n, cells), np.float32)
    work = np.empty((_SCRATCH, max(cells, temp_c.shape[1])), np.float32)
    _walk(
        _plain(cfg), pack.cell, pack.table, pack.r_to, pack.tau_s, pack.charge_share, pack.discharge_share,
        slot, dt_s, quality, lane, current_a, pack_v, cell_v, cell_v.view(np.int32), temp_c, temp_c.view(np.int32),
        _NONE if soc_bms is None else soc_bms, _NO_STATE if contactor_state is None else contactor_state,
        state.core, state.cell, f64, f32, i8, i16, per_cell, work, work.view(np.int32),
    )  # fmt: skip
    out: dict[str, NDArray[Any]] = {}
    for names, columns in ((_F64, f64), (_F32, f32), (_I8, i8), (_I16, i16), (_CELLS, per_cell)):
        out.update(zip(names, columns, strict=True))
    return out


@njit(cache=True, error_model="numpy")
def _walk(
    cfg, pack, table, r_to, tau_s, charge_share, discharge_share,
    slot, dt_s, quality, lane, current_a, pack_v, cell_v, cell_bits, temp_c, temp_bits, soc_bms, contactor_state,
    cores, each, f64, f32, i8, i16, per_cell, work, bits,
):  # fmt: skip
    cells = cell_v.shape[1]
    at, decay, decay_of = np.empty(ocv.WIDTH), np.empty(BRANCHES), -1.0
    kept = np.empty((power.PULSES, BRANCHES))
    for p in range(power.PULSES):
        soc.decays(tau_s, power.PULSES_S[p], kept[p])
    for n in range(slot.size):
        s = slot[n]
        core, cell = cores[s], each[s]
        if n + _AHEAD < slot.size:
            prefetch.row(cores, slot[n + _AHEAD])
            prefetch.row(each, slot[n + _AHEAD])
        frozen = (quality[n] & FROZEN) != 0
        v_med, valid = lower_median(cell_v, cell_bits, n, bits, _KEYS)
        by_cell = valid > 0 and 2 * valid >= cells
        live = lane[n] != BACKFILL
        started = core[soc.STARTED] != 0.0
        innov, innov_var, drop, d_drop, learn_s, used_up = np.nan, np.nan, np.nan, 0.0, 0.0, False
        if live:
            dt = dt_s[n] if dt_s[n] > 0.0 else 0.0
            i = np.nan if frozen else np.float64(current_a[n])
            if not frozen:
                t_now, probes = lower_median(temp_c, temp_bits, n, bits, _KEYS)
                core[soc.TEMP_C] = t_now if probes > 0 else core[soc.TEMP_C]
            temp = core[soc.TEMP_C]
            pack_cell_v = np.float64(pack_v[n]) / pack.cells
            v = np.float64(v_med) if by_cell else pack_cell_v - core[soc.PACK_OFFSET_V]
            i_before = core[soc.CURRENT_A]
            if started and dt > 0.0:
                d_z, d_var, mean_a = soc.move(core, pack, cfg, dt, i)
                if dt != decay_of:
                    soc.decays(tau_s, dt, decay)
                    decay_of = dt
                ocv.look_up(table, core[soc.Z], temp, at)
                soc.relax(core, pack, cfg, at, decay, dt, d_z, d_var, mean_a)
                imbalance.drift(core, _SHARED, cell, cfg, dt, d_z, d_var)
                learn_s = dt
                if dt > cfg.hold_s and v == v and i == i:
                    soc.wake(core, pack, cfg, at, v, i, dt)
            elif not started and v == v and not frozen:
                core[soc.PACK_OFFSET_V] = pack.sum_offset_v
                v = v if by_cell else v - pack.sum_offset_v
                ocv.look_up(table, 0.5, temp, at)
                told = np.float64(soc_bms[n]) if soc_bms.size else np.nan
                used_up = soc.start(core, table, at, pack, cfg, v, i, temp, by_cell, told)
                imbalance.begin(core, _SHARED, cfg)
                ocv.look_up(table, core[soc.Z], temp, at)
                started, i_before, learn_s = True, i, _FIRST_DT_S
            isolated = contactor_state.size > 0 and contactor_state[n] == _OPEN
            if started and learn_s > 0.0 and isolated and abs(i) < cfg.rest_c_rate * pack.capacity_ah:
                soc.see_offset(core, pack, cfg, i, learn_s)
            if started and i == i and learn_s > 0.0:
                drop = i * at[R0]
                d_drop = (i - i_before) * at[R0] if i_before == i_before else 0.0
                if v == v:
                    extra = 0.0 if by_cell else cfg.pack_noise_v * cfg.pack_noise_v
                    if not used_up:
                        innov, innov_var = soc.correct(core, table, tau_s, pack, cfg, at, v, i, d_drop, extra, learn_s)
                    if by_cell and pack_cell_v == pack_cell_v:
                        share = learn_s / 3600.0 if learn_s < 3600.0 else 1.0
                        core[soc.PACK_OFFSET_V] += (pack_cell_v - v - core[soc.PACK_OFFSET_V]) * share
                    warm = power.heat(at, core, soc.U, core[soc.SCALE], i)
                    core[soc.POWER_W] = power.mean(core[soc.POWER_W], -i * v * pack.cells, dt, cfg.power_memory_s)
                    core[soc.HEAT_W] = power.mean(core[soc.HEAT_W], warm, dt, cfg.power_memory_s)
        f32[_V_MED, n] = v_med if by_cell else np.nan
        f32[_INNOV, n], f32[_INNOV_STD, n] = innov, math.sqrt(innov_var)
        i8[_SOURCE, n] = CELL if by_cell else PACK
        if not (live and started):
            _blank(n, f64, f32, i8, i16, per_cell)
            continue
        z, scale = core[soc.Z], core[soc.SCALE]
        ocv.look_up(table, z, temp, at)
        left, room, spread, rest_low, rest_high = z, 1.0 - z, 0.0, -1, -1
        if by_cell:
            imbalance.lift(cell, table, at, z, temp, work, _LIFT)
            imbalance.residuals(cell, cell_v, n, v_med, work, _LIFT, drop, per_cell, _RESID)
            steep = at[DOCV] >= cfg.flat_v and (quality[n] & SWEEP_SKEW) == 0
            if drop == drop and steep:
                off = innov / at[DOCV] if innov == innov else 0.0  # of the median's SOC, were all of it that
                unsure = math.sqrt(core[soc.P_ZZ] + off * off)
                bend = imbalance.bend_v(core, _SHARED, cell, table, z, temp, at[DOCV], unsure)
                imbalance.correct(
                    core, _SHARED, cell, cfg, per_cell, _RESID, n, at[DOCV], drop, d_drop, bend, learn_s,
                    work, _LIFT, _ERROR,
                )  # fmt: skip
            left, room, rest_low, rest_high = imbalance.usable(cell, z, work, bits, _PAIR)
            imbalance.report(cell, per_cell, n)
            spread = core[_SHARED + ZZ]
            f32[_D_SOC_STD, n] = math.sqrt(spread)
            f32[_D_R0_STD, n] = math.sqrt(core[_SHARED + RR])
            f32[_D_Q_STD, n] = math.sqrt(core[_SHARED + QQ])
        else:
            f32[_D_SOC_STD, n] = f32[_D_R0_STD, n] = f32[_D_Q_STD, n] = np.nan
            for k in range(per_cell.shape[0]):
                for c in range(cells):
                    per_cell[k, n, c] = np.nan
        f64[_SOC, n], f64[_Z_MED, n] = left / (left + room), z
        i16[_LOW, n], i16[_HIGH, n] = rest_low, rest_high
        f32[_SOC_STD, n] = math.sqrt(core[soc.P_ZZ] + spread)
        f32[_R0, n] = at[R0] * (1.0 + scale)
        capacity_ah = pack.capacity_ah / (1.0 + core[soc.FADE])
        f32[_OFFSET, n] = core[soc.OFFSET] * pack.capacity_ah
        f32[_OFFSET_STD, n] = math.sqrt(core[soc.P_OO]) * pack.capacity_ah
        f32[_Q_MED, n], f32[_CAPACITY, n] = capacity_ah, capacity_ah * (left + room)
        rest = at[OCV] + pack.hysteresis_v * core[soc.H] + core[soc.BIAS]
        std_r = math.sqrt(core[soc.P_SS]) / (1.0 + scale)
        std_q = math.sqrt(core[soc.P_QQ]) / (1.0 + core[soc.FADE])
        f32[_R0_STD, n], f32[_CAPACITY_STD, n] = f32[_R0, n] * std_r, f32[_CAPACITY, n] * std_q
        charge_now, discharge_now = power.allowed(temp_c, n, charge_share, discharge_share)
        first, last = -1, -1  # cell groups that bind
        doubt = (
            core[soc.P_ZZ], spread, core[soc.P + soc.BIAS], core[soc.P_BB], core[soc.P + soc.SCALE] / (1.0 + scale),
            core[soc.P_BB + 1] / (1.0 + scale), std_r * std_r, core[_SHARED + RR] if by_cell else 0.0, std_q * std_q,
        )  # fmt: skip
        for p in range(power.PULSES):
            amps = capacity_ah * 3600.0 / power.PULSES_S[p]  # that a whole charge gives for the pulse
            r_pulse, u_left, u_var = power.pulse(at, core, soc.U, scale, kept[p], 1.0 / amps)
            end_v = rest + u_left
            low, high = end_v - pack.v_min, pack.v_max - end_v
            low_per_v = high_per_v = 1.0 / r_pulse
            if by_cell:
                if p == 0:
                    first, last = power.binding(cell, low, high, work, bits, _LIFT, _ERROR, _PAIR)
                low, high = max(low + work[_LIFT, first], 0.0), max(high - work[_LIFT, last], 0.0)
                low_per_v, high_per_v = work[_ERROR, first] / r_pulse, work[_ERROR, last] / r_pulse
            out, out_limit, out_a = power.sop(
                low * low_per_v, pack.cells, r_pulse, end_v, pack.discharge_max_a, discharge_now, left * amps
            )
            back, in_limit, in_a = power.sop(
                high * high_per_v, pack.cells, -r_pulse, end_v, pack.charge_max_a, charge_now, room * amps
            )
            k = 2 * p
            f32[_SOP + k, n], f32[_SOP + k + 1, n] = out, back
            i8[_LIMIT + k, n], i8[_LIMIT + k + 1, n] = out_limit, in_limit
            f32[_SOP_STD + k, n] = power.sop_std(
                1.0, out_limit, out_a, pack.cells, r_pulse, end_v, at[DOCV], low_per_v, amps, u_left, u_var, doubt
            )
            f32[_SOP_STD + k + 1, n] = power.sop_std(
                -1.0, in_limit, in_a, pack.cells, r_pulse, end_v, at[DOCV], high_per_v, amps, u_left, u_var, doubt
            )
        i16[_OUT_CELL, n], i16[_IN_CELL, n] = first, last
        drain = (core[soc.POWER_W] / pack.cells + core[soc.HEAT_W]) / at[OCV]  # A, of the load to come
        drain = drain if drain > 0.0 and core[soc.POWER_W] > 0.0 else 0.0
        loss_v = power.loss(at, core[soc.HEAT_W], scale, drain)
        at_ocv = at[OCV]  # before `at` is overwritten
        volts = power.soe(table, r_to, z, max(left - cfg.reserve_soc, 0.0), temp, scale, drain, loss_v, pack.v_min, at)
        f32[_SOE, n] = volts * capacity_ah * pack.cells * 1e-3
        std_z = at_ocv * capacity_ah * pack.cells * 1e-3 * f32[_SOC_STD, n]
        std_e = f32[_SOE, n] * std_q
        f32[_SOE_STD, n] = math.sqrt(std_z * std_z + std_e * std_e)


@njit(cache=True, error_model="numpy")
def _blank(n, f64, f32, i8, i16, per_cell):
    """Write "not known" into a row, but for what its own voltages said."""
    for k in range(f64.shape[0]):
        f64[k, n] = np.nan
    for k in range(f32.shape[0]):
        if k != _V_MED:
            f32[k, n] = np.nan
    for k in range(_LIMIT, i8.shape[0]):
        i8[k, n] = -1
    for k in range(i16.shape[0]):
        i16[k, n] = -1
    for k in range(per_cell.shape[0]):
        for c in range(per_cell.shape[2]):
            per_cell[k, n, c] = np.nan
