"""All detectors together: the same findings however the stream was cut and whatever other packs do."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels import diagnose as kernel
from operators.kernels import slots
from operators.kernels.kinds import KINDS
from schemas.frames import FrameBlock
from schemas.pack import load_pack
from schemas.quality import FROZEN, NO_CELLS, SUM_MISMATCH, SWEEP_SKEW
from tests.support.enriched import enriched

CELLS, PROBES = 16, 4


def config(cells: int = CELLS, probes: int = PROBES) -> kernel.DiagnoseConfig:
    return kernel.DiagnoseConfig.of(load_pack(f"generic-nmc@{cells}c{probes}t60ah"))


CFG = config()


def troubled(seed: int, n: int = 400, packs: int = 3, cells: int = CELLS, probes: int = PROBES) -> FrameBlock:
    """Frames of several packs with everything wrong that a draw can bring, NaN and gaps included."""
    rng = np.random.default_rng(seed)
    t_s = np.cumsum(rng.choice([1.0, 10.0, 60.0, 600.0, 7200.0], n, p=[0.3, 0.3, 0.2, 0.15, 0.05]))
    v = 3.7 + 0.1 * np.sin(t_s / 600.0)[:, None] + rng.normal(0, 2e-3, (n, cells))
    temp = 25.0 + 8.0 * np.sin(t_s / 9000.0)[:, None] + rng.normal(0, 0.3, (n, probes))
    d_soc, d_r0 = rng.normal(0, 1e-3, (n, cells)), rng.normal(0, 0.01, (n, cells))
    late = np.arange(n) > n // 2
    c = int(rng.integers(cells))
    v[late, c] += rng.choice([-1.0, -0.1, 0.1, 0.6])
    v[late & (rng.random(n) < 0.5), (c + 1) % cells] -= 0.1
    d_soc[late, (c + 2) % cells] -= 0.03
    d_r0[late, (c + 3) % cells] += 0.5
    if probes:
        temp[late, int(rng.integers(probes))] += rng.choice([5.0, 60.0])
    v[rng.random(v.shape) < 0.01] = np.nan
    temp[rng.random(temp.shape) < 0.01] = np.nan
    flags = np.array([0, FROZEN, SWEEP_SKEW, SUM_MISMATCH, NO_CELLS], np.uint32)
    return enriched(
        t_s,
        cells=cells,
        probes=probes,
        names=("A", "B", "C")[:packs],
        pack=rng.integers(0, packs, n),
        model=f"generic-nmc@{cells}c{probes}t60ah",
        current_a=rng.choice([0.0, -3.0, 60.0, -150.0, np.nan], n),
        cell_v=v,
        temp_c=temp,
        quality=rng.choice(flags, n, p=[0.8, 0.05, 0.05, 0.05, 0.05]),
        lane=(rng.random(n) < 0.05).astype(np.uint8),
        z_med=rng.uniform(0.2, 0.9, n),
        d_soc=d_soc,
        d_r0=d_r0,
        context={"coolant_c": np.full(n, 20.0, np.float32), "isolation_ohm": np.full(n, 1e6, np.float32)},
    )


def run(cfg: kernel.DiagnoseConfig, block: FrameBlock, cuts: list[int], packs: int = 3) -> list[tuple[Any, ...]]:
    state = kernel.DiagnoseState.empty(packs, block.cells, block.probes)
    out: list[tuple[Any, ...]] = []
    for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True):
        found = kernel.step(cfg, state, block.take(slice(a, b)))
        found.pop("row")
        out += list(zip(*(c.tolist() for c in found.values()), strict=True))
    return [tuple(repr(x) for x in row) for row in out]


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.data())
def test_cutting_the_stream_changes_no_finding(seed: int, data: st.DataObject) -> None:
    block = troubled(seed)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(block)), max_size=20)))
    assert run(CFG, block, cuts) == run(CFG, block, [])


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_a_pack_says_the_same_alone_and_in_any_slot(seed: int) -> None:
    block = troubled(seed)
    together = run(CFG, block, [])
    for slot in range(3):
        rows = np.flatnonzero(block.pack == slot)
        alone = block.take(rows)
        alone = alone.with_derived(slot=np.zeros(len(rows), np.int32))
        assert [row[1:] for row in run(CFG, alone, [], 1)] == [row[1:] for row in together if row[0] == str(slot)]


def test_the_troubled_packs_are_troubled() -> None:
    kinds = {KINDS[int(row[2])].name for seed in range(20) for row in run(CFG, troubled(seed), [])}
    assert len(kinds) >= 10


@pytest.mark.parametrize("cells", [1, 5, 96, 200])
@pytest.mark.parametrize("probes", [0, 1, 16])
@pytest.mark.parametrize("n", [0, 1, 60])
def test_packs_of_every_size_pass_through(cells: int, probes: int, n: int) -> None:
    run(
        config(cells, probes),
        troubled(3, n, 3, cells, probes) if n else troubled(3, 1, 3, cells, probes).take(slice(0, 0)),
        [],
    )


def test_nothing_known_is_nothing_said() -> None:
    nan: dict[str, Any] = dict.fromkeys(
        ("z_med", "d_soc", "d_r0", "d_q", "d_soc_std", "d_r0_std", "d_q_std", "r0_ohm"), np.nan
    )
    block = enriched(np.arange(5000) * 60.0, cell_v=np.nan, temp_c=np.nan, current_a=np.nan, pack_v=np.nan, **nan)
    found = {KINDS[int(row[2])].name for row in run(CFG, block, [], 1)}
    assert found <= {"missing_cells"}


def test_repeated_frames_and_no_time_between_them_are_harmless() -> None:
    block = enriched(np.repeat(np.arange(50) * 10.0, 4))
    assert run(CFG, block, [], 1) == []


def test_inputs_are_left_as_they_were_and_state_pickles() -> None:
    block = troubled(5)
    before = pickle.dumps((block.cell_v, block.temp_c, block.derived, block.context))
    state = kernel.DiagnoseState.empty(3, CELLS, PROBES)
    kernel.step(CFG, state, block)
    assert pickle.dumps((block.cell_v, block.temp_c, block.derived, block.context)) == before
    again = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own bytes
    for name, array in slots.arrays(state).items():
        np.testing.assert_array_equal(slots.arrays(again)[name], array)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_a_snapshot_goes_on_where_it_stood(seed: int) -> None:
    block = troubled(seed)
    whole = run(CFG, block, [200])
    state = kernel.DiagnoseState.empty(3, CELLS, PROBES)
    first = kernel.step(CFG, state, block.take(slice(0, 200)))
    state = slots.restore(kernel.DiagnoseState, slots.dump(state, 3), 7, CELLS, PROBES)
    second = kernel.step(CFG, state, block.take(slice(200, None)))
    assert len(first["t_ns"]) + len(second["t_ns"]) == len(whole)
    at = [k for k in first if k != "row"].index("value")
    got = [repr(x) for found in (first, second) for x in found["value"].tolist()]
    assert got == [row[at] for row in whole]


def test_state_of_one_pack_is_small() -> None:
    assert slots.nbytes_per_pack(kernel.DiagnoseState.empty(10, 96, 16)) <= 3850
