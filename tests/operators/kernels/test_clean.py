"""What one call of the kernel may and may not do, whatever the shapes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from operators.kernels import clean as kernel
from operators.kernels import slots
from operators.kernels.clean import CleanConfig, CleanState
from operators.kernels.plausible import PlausibleConfig
from operators.kernels.pool import Pool
from schemas.frames import FrameBlock, make_block

S = 10**9


def frames(n: int, cells: int = 4, probes: int = 2, packs: int = 1, *, step_s: float = 1.0) -> FrameBlock:
    rng = np.random.default_rng(0)
    pack = np.arange(n) % packs
    block = make_block(
        "generic-nmc",
        [f"p{k}" for k in range(packs)],
        pack=pack,
        t_ns=1_700_000_000 * S + (np.arange(n) // packs * step_s * S).astype(np.int64),
        seq=np.arange(n) // packs,
        current_a=rng.normal(0, 20, n),
        pack_v=np.full(n, 3.7 * cells),
        cell_v=rng.normal(3.7, 0.01, (n, cells)),
        temp_c=np.full((n, probes), 25.0),
        context={"soc_bms": rng.random(n)},
        src_offset=np.arange(n),
    )
    return block.with_derived(slot=pack.astype(np.int32))


def released(block: FrameBlock, cuts: list[int], slot_of: list[int] | None = None) -> list[kernel.Released]:
    slot_of = slot_of or list(range(len(block.packs)))
    state, pool = CleanState.empty(max(slot_of) + 1, block.cells, block.probes), Pool()
    cfg, out = CleanConfig(), []
    block = block.with_derived(slot=np.array(slot_of, np.int32)[block.pack])
    for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True):
        out.append(kernel.step(cfg, state, pool, 60.0, block.take(slice(a, b))))
    names = [""] * len(state.line)
    for k, s in enumerate(slot_of):
        names[s] = block.packs[k]
    end = block.take(slice(0, 0)).with_frames(packs=tuple(names), vehicles=tuple(names))
    return [*out, kernel.finish(cfg, state, pool, 60.0, end)]


def table(parts: list[kernel.Released], pack: str) -> dict[str, np.ndarray]:
    """Give all columns of one pack's released frames."""
    columns: dict[str, list[np.ndarray]] = {}
    for part in parts:
        f = part.frames
        mine = np.array([f.packs[k] == pack for k in f.pack], bool)
        for name in ("t_ns", "seq", "current_a", "pack_v", "cell_v", "temp_c", "src_offset"):
            columns.setdefault(name, []).append(getattr(f, name)[mine])
        for name in ("dt_s", "quality", "cells_ok"):
            columns.setdefault(name, []).append(f.derived[name][mine])
        if "soc_bms" in f.context:
            columns.setdefault("soc_bms", []).append(f.context["soc_bms"][mine])
    return {name: np.concatenate(c) for name, c in columns.items()}


@pytest.mark.parametrize("probes", [0, 1, 16])
@pytest.mark.parametrize("cells", [1, 96, 200])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_any_shape_gives_each_frame_once_and_cuts_and_slots_change_no_bit(n: int, cells: int, probes: int) -> None:
    block = frames(n, cells, probes, packs=2 if n > 1 else 1)
    rng = np.random.default_rng(1)
    order = np.argsort(np.arange(n) + rng.uniform(0, 7, n), kind="stable")
    block = block.take(order)
    whole = released(block, [])
    cut = released(block, list(range(1, n, 3)), [3, 1][: len(block.packs)])
    for pack in block.packs:
        a, b = table(whole, pack), table(cut, pack)
        assert len(a["seq"]) == int((block.pack == block.packs.index(pack)).sum())
        assert (np.diff(a["t_ns"]) > 0).all()
        for name, column in a.items():
            np.testing.assert_array_equal(column, b[name], err_msg=name)


def test_inputs_are_not_written_into_even_where_values_are_impossible() -> None:
    block = frames(30)
    block.cell_v[5, 1], block.temp_c[6, 0], block.current_a[7], block.pack_v[8] = 66.535, 255.0, 5734.0, 6553.5

    def held() -> list[bytes]:
        return [getattr(block, k).tobytes() for k in ("cell_v", "temp_c", "current_a", "pack_v", "t_ns", "seq")]

    before = held()
    parts = released(block, [4, 12])
    assert held() == before
    assert np.isnan(table(parts, "p0")["cell_v"][5, 1])


def test_frames_in_order_are_neither_copied_nor_pooled() -> None:
    block, pool = frames(40), Pool()
    state = CleanState.empty(1, 4, 2)
    kernel.step(CleanConfig(), state, pool, 60.0, block.take(slice(0, 20)))
    assert pool.waiting == 0
    size = pool.nbytes
    rest = block.take(slice(20, 40))
    out = kernel.step(CleanConfig(), state, pool, 60.0, rest)
    assert out.frames.cell_v is rest.cell_v
    assert pool.nbytes == size


def test_the_pool_grows_within_a_call_and_is_empty_after_the_end() -> None:
    block = frames(2000, packs=500)
    block = block.with_frames(seq=np.full(2000, -1, np.int64))
    parts = released(block, [])
    assert sum(len(p.frames) for p in parts) == 2000
    assert len(parts[0].frames) == 0


def test_a_frame_that_waits_is_bounded_per_pack() -> None:
    block = frames(1000, step_s=0.001)
    block = block.with_frames(seq=np.full(1000, -1, np.int64))
    state, pool = CleanState.empty(1, 4, 2), Pool()
    kernel.step(CleanConfig(most_waiting=100), state, pool, 60.0, block)
    assert pool.waiting <= 101


def test_state_is_pickled_and_small() -> None:
    state = CleanState.empty(7, 96, 16)
    assert slots.nbytes_per_pack(state) <= 850
    copy = pickle.loads(pickle.dumps(slots.dump(state, 7)))  # noqa: S301 - our own bytes
    again = slots.restore(CleanState, copy, 7, 96, 16)
    for name, array in slots.arrays(state).items():
        assert slots.arrays(again)[name].tobytes() == array.tobytes()


def test_a_pack_with_frames_waiting_counts_as_seen() -> None:
    block, pool = frames(4, packs=2), Pool()
    block.t_ns[block.pack == 1] += 10**6 * S
    state = CleanState.empty(2, 4, 2)
    kernel.step(CleanConfig(), state, pool, 60.0, block)
    assert len(set(kernel.last_t_ns(state).tolist())) == 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lateness_s": 0}, r"lateness_s must be > 0; got 0"),
        ({"lateness_s": 61}, r"lateness_s must be < clock_jump_s \(60\.0\); got 61"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CleanConfig(**kwargs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"cell_v_min must be < cell_v_max \(5\.0\); got 6"):
        PlausibleConfig(cell_v_min=6)
