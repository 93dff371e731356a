"""Ask the processor for memory before it is needed: packs come in any order, so their state is rarely near."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_LINE = 64  # bytes of a cache line


@intrinsic
def _prefetch(typing_context: Any, array: Any, offset: Any) -> Any:  # noqa: ANN401, ARG001 - numba's types
    """Ask for the cache line at byte `offset` from the start of an array's data."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401 - LLVM values
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte = ir.IntType(8).as_pointer()
        at = builder.gep(builder.bitcast(data, byte), [args[1]])
        word = ir.IntType(32)
        name = "llvm.prefetch.p0" if at.type.is_opaque else "llvm.prefetch.p0i8"
        kind = ir.FunctionType(ir.VoidType(), [at.type, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        # to read, into every level, data
        builder.call(function, [at, ir.Constant(word, 0), ir.Constant(word, 3), ir.Constant(word, 1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@njit(cache=True, error_model="numpy")
def row(array, n):
    """Ask for all cache lines of `array[n]`; changes no value."""
    size = array.itemsize
    for k in range(1, array.ndim):
        size *= array.shape[k]
    for offset in range(n * size, (n + 1) * size, _LINE):
        _prefetch(array, offset)  # type: ignore[call-arg]
