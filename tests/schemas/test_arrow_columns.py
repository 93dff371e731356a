"""Arrow arrays of numpy columns: equal to what pyarrow itself makes of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from schemas.arrow_columns import names, numbers, repeated

KINDS = [
    (np.int8, pa.int8()), (np.int16, pa.int16()), (np.int32, pa.int32()), (np.int64, pa.int64()),
    (np.uint32, pa.uint32()), (np.float32, pa.float32()), (np.float64, pa.float64()), (np.bool_, pa.bool_()),
    (np.int64, pa.timestamp("ns")),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "kind"), KINDS, ids=str)
@given(data=st.data())
def test_numbers_are_what_pyarrow_makes_of_them(dtype: Any, kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(hn.arrays(dtype, st.integers(0, 40)))
    values = values[:: data.draw(st.sampled_from([1, 2, -1]))]
    got = numbers(values, kind)
    got.validate(full=True)
    assert got.equals(pa.array(np.ascontiguousarray(values), from_pandas=True).cast(kind))
    assert got.null_count == (int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0)


def test_numbers_of_another_type_are_cast() -> None:
    assert numbers(np.array([1, 2], np.int64), pa.int16()).to_pylist() == [1, 2]
    assert numbers(np.array([0.5, np.nan]), pa.float32()).to_pylist() == [0.5, None]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_names_keep_every_character(texts: list[str]) -> None:
    got = names(texts)
    got.validate(full=True)
    assert got.to_pylist() == texts


def test_repeated_names_are_stored_once() -> None:
    got = repeated(np.array([1, 0, 1]), ["A", "Bö"])
    assert got.to_pylist() == ["Bö", "A", "Bö"]
    assert len(got.dictionary) == 2


def test_no_start_pays_for_pandas() -> None:
    code = """
import sys, numpy as np
from schemas.arrow import Provenance, to_arrow
from schemas.events import Rows
from schemas.frames import make_block
rows = Rows("windows", "m", ("A",), ("A",), np.zeros(2, np.int32), {"start_ns": np.arange(2), "soc_end": np.ones(2)})
assert to_arrow([rows], Provenance({}, "1", "p"))
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
