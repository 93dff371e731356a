"""LFP packs through the fleet flow: what a plateau hides is not guessed, and what its ends show is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flows.accuracy.told import Told, incidents_of
from operators.kernels.estimate import EstimateConfig
from schemas.frames import make_block
from schemas.pack import load_pack
from tests.support.circuit import one_branch_pack, run, simulate
from tests.support.frames import T0_NS

MODEL = "generic-lfp@16c4t100ah"
PACK = load_pack(MODEL)
DT_S = 10.0
CROSSING = ((0, 0.5), (50.0, 1.0), (0, 1.0), (-50.0, 1.0), (0, 1.0), (50.0, 1.0), (0, 1.0), (-50.0, 1.0), (0, 1.0))
PLATEAU = ((0, 0.5), (20.0, 1.0), (0, 1.0), (-20.0, 1.0), (0, 1.0), (20.0, 1.0), (0, 1.0), (-20.0, 1.0), (0, 1.0))
TO_THE_TOP = ((0, 0.5), (50.0, 1.28), (0, 1.0), (-50.0, 1.2), (0, 1.0), (50.0, 1.2), (0, 1.0))
LOW = 5  # the cell that is low, from 0


def recorded(plan: tuple[tuple[float, float], ...], d_soc: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Charge and discharge a pack from 35 %: current and cell voltages by sensors of 1 mV; (A, hours) by (A, hours)."""
    current = np.concatenate([np.full(int(hours * 3600 / DT_S), amps) for amps, hours in plan])
    circuit = replace(PACK, resistance=one_branch_pack(4, chemistry="lfp").resistance)
    truth = simulate(circuit, current, DT_S, 0.35, d_soc)
    noise = np.random.default_rng(1).normal(0, 1e-3, truth.cell_v.shape)
    return current, np.round(truth.cell_v + noise, 3), truth.soc


def told(current: NDArray[np.float64], cell_v: NDArray[np.float64]) -> list[Told]:
    n = current.size
    blocks = [
        make_block(
            MODEL,
            ("A",),
            t_ns=T0_NS + (np.arange(a, b) * DT_S * 1e9).astype(np.int64),
            pack=np.zeros(b - a, np.int32),
            seq=np.arange(a, b),
            current_a=current[a:b].astype(np.float32),
            pack_v=cell_v[a:b].sum(axis=1).astype(np.float32),
            cell_v=cell_v[a:b].astype(np.float32),
            temp_c=np.full((b - a, PACK.probes), 25.0, np.float32),
        )
        for a, b in ((a, min(a + 500, n)) for a in range(0, n, 500))
    ]
    return incidents_of(blocks, (MODEL,))


def low_cell(by: float) -> NDArray[np.float64]:
    d_soc = np.zeros(PACK.series)
    d_soc[LOW] = -by
    return d_soc


@pytest.mark.parametrize("plan", [CROSSING, TO_THE_TOP], ids=["past 65 %", "to 99 %"])
def test_a_cell_3_percent_low_is_named_within_two_sessions_and_no_other(plan: tuple[tuple[float, float], ...]) -> None:
    current, cell_v, _ = recorded(plan, low_cell(0.03))
    found = told(current, cell_v)
    assert {(t.kind, t.subject) for t in found} == {("cell_spread", f"cell {LOW + 1}")}
    out = run(PACK, EstimateConfig(), cell_v.astype(np.float32), current, DT_S)
    assert out["d_soc"][-1, LOW] == pytest.approx(-0.03, abs=0.006)
    assert abs(out["d_soc"][-1, LOW] + 0.03) < 3 * out["d_soc_std"][-1] + 0.002


def test_in_between_it_is_unobservable_and_the_estimate_says_so() -> None:
    current, cell_v, _ = recorded(PLATEAU, low_cell(0.03))
    assert told(current, cell_v) == []
    out = run(PACK, EstimateConfig(), cell_v.astype(np.float32), current, DT_S)
    assert out["d_soc_std"][-1] > 0.9 * EstimateConfig().spread_soc


def test_200_mv_between_the_cells_of_a_healthy_pack_at_99_percent_raises_nothing() -> None:
    """Half a percent of charge between cells is healthy; over the knee it is a fifth of a volt."""
    d_soc = np.random.default_rng(2).uniform(-0.007, 0.007, PACK.series)
    current, cell_v, soc = recorded(TO_THE_TOP, d_soc)
    cell_v = cell_v + 20.0 * np.maximum(soc - 0.985, 0.0)  # steeper than the pack file knows
    assert np.ptp(cell_v, axis=1).max() > 0.2
    assert told(current, cell_v) == []
