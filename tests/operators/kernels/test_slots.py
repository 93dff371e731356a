"""Slots of state: growth, copies and restores lose nothing and share nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.kernels.slots import arrays, capacity, dump, moved, nbytes_per_pack, restore

CELLS, PROBES = 3, 2


@dataclass(slots=True)
class Inner:
    newest_ns: NDArray[np.int64]
    temp_c: NDArray[np.float32]

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> Inner:  # noqa: ARG003 - as all states
        return cls(np.full(slots, -1, np.int64), np.full((slots, probes), np.nan, np.float32))


@dataclass(slots=True)
class Outer:
    soc: NDArray[np.float64]
    cell_v: NDArray[np.float32]
    inner: Inner

    @classmethod
    def empty(cls, slots: int, cells: int, probes: int) -> Outer:
        return cls(np.full(slots, np.nan), np.zeros((slots, cells), np.float32), Inner.empty(slots, cells, probes))


def filled(slots: int, seed: int = 1) -> Outer:
    rng = np.random.default_rng(seed)
    state = Outer.empty(slots, CELLS, PROBES)
    state.soc[:] = rng.random(slots)
    state.cell_v[:] = rng.random((slots, CELLS))
    state.inner.newest_ns[:] = rng.integers(0, 2**62, slots)
    state.inner.temp_c[:] = rng.random((slots, PROBES))
    return state


def same(a: Any, b: Any) -> bool:
    x, y = arrays(a), arrays(b)
    return x.keys() == y.keys() and all(
        np.array_equal(x[k], y[k], equal_nan=True) and x[k].dtype == y[k].dtype for k in x
    )


def test_arrays_of_an_inner_state_are_named_after_it() -> None:
    assert list(arrays(filled(1))) == ["soc", "cell_v", "inner.newest_ns", "inner.temp_c"]
    assert {f.name for f in fields(Outer)} == {"soc", "cell_v", "inner"}


@given(st.integers(0, 5), st.integers(0, 9))
def test_growth_keeps_what_was_and_adds_packs_never_seen(used: int, more: int) -> None:
    state = filled(used)
    grown = moved(state, slice(None), used + more, CELLS, PROBES)
    assert capacity(grown) == used + more
    for name, array in arrays(grown).items():
        assert np.array_equal(array[:used], arrays(state)[name], equal_nan=True)
        assert np.array_equal(array[used:], arrays(Outer.empty(more, CELLS, PROBES))[name], equal_nan=True)
        assert not np.shares_memory(array, arrays(state)[name])


@given(st.data())
def test_kept_slots_move_together(data: st.DataObject) -> None:
    state = filled(6)
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, 5)))), np.int64)
    left = moved(state, kept, len(kept), CELLS, PROBES)
    for name, array in arrays(left).items():
        assert np.array_equal(array, arrays(state)[name][kept])


@given(st.integers(0, 6), st.integers(0, 4))
def test_a_restored_state_is_the_one_that_was_dumped(used: int, spare: int) -> None:
    state = filled(6)
    back = restore(Outer, dump(state, used), used + spare, CELLS, PROBES)
    assert capacity(back) == used + spare
    assert same(moved(back, slice(0, used), used, CELLS, PROBES), moved(state, slice(0, used), used, CELLS, PROBES))
    assert np.isnan(back.soc[used:]).all()


def test_a_dump_is_a_copy() -> None:
    state = filled(4)
    kept = dump(state, 4)
    before = {k: v.copy() for k, v in kept.items()}
    for array in arrays(state).values():
        array[:] = 0
    assert all(np.array_equal(kept[k], before[k]) for k in kept)
    back = restore(Outer, kept, 4, CELLS, PROBES)
    back.soc[:] = 7
    assert not np.any(kept["soc"] == 7)


def test_a_dump_of_another_version_is_refused_with_both_lists_of_fields() -> None:
    data = dump(filled(2), 2)
    data["soh"] = data.pop("soc")
    with pytest.raises(ValueError, match=r"snapshot of Outer has .*'soh .*; this version has .*'soc "):
        restore(Outer, data, 2, CELLS, PROBES)


def test_bytes_of_a_pack_are_counted_in_all_arrays() -> None:
    assert nbytes_per_pack(filled(5)) == 8 + CELLS * 4 + 8 + PROBES * 4
