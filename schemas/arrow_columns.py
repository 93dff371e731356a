"""How numpy columns and short lists of names become Arrow arrays, without a copy where none is needed.

`pyarrow.array` imports pandas wherever that is installed, half a second of every start, and looks at each value.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Give (N,) numbers or truths as Arrow's `kind`, cast where they are of another; NaN becomes null."""
    if pa.types.is_boolean(kind):
        bits = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(bits)])
    values = np.ascontiguousarray(values, np.int64 if pa.types.is_timestamp(kind) else kind.to_pandas_dtype())
    known = None
    if values.dtype.kind == "f":
        nan = np.isnan(values)
        known = pa.py_buffer(np.packbits(~nan, bitorder="little")) if nan.any() else None
    return pa.Array.from_buffers(kind, len(values), [known, pa.py_buffer(values)])


def names(texts: Sequence[str]) -> pa.Array:
    """Give texts as an Arrow string array."""
    encoded = [text.encode() for text in texts]
    ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int32, len(encoded) + 1)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def repeated(index: NDArray[Any], texts: Sequence[str]) -> pa.DictionaryArray:
    """Give texts[index] with each text stored once."""
    return pa.DictionaryArray.from_arrays(numbers(index, pa.int32()), names(texts))
