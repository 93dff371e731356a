"""How a process that judges sessions stays small: what nothing here uses is left out, or given back."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from operators.kernels import health

# pyarrow and DuckDB import pandas, and numba SciPy's linear algebra, wherever they are installed: 40 MB of a process
# that has no data frame, and no kernel that multiplies matrices (sums would depend on how rows were cut).
UNUSED = ("pandas", "scipy.linalg")
COMPILER = "libllvmlite"  # 70 MB of code, of which all but a little runs only before the first kernel does
# Left alone, glibc raises the sizes from which on memory goes back with each large array, and gives each thread a heap
# of its own: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX.
_MALLOC = {-1: 1 << 17, -3: 1 << 18, -8: 1}
_MAPS = Path("/proc/self/maps")


@contextmanager
def serving() -> Iterator[None]:
    """Keep the process small inside, where sessions are judged for as long as they come."""
    pa.set_memory_pool(pa.system_memory_pool())  # what a batch held goes back: its own pool keeps it
    libc = ctypes.CDLL(None)
    for option, value in _MALLOC.items():
        if hasattr(libc, "mallopt"):  # glibc's
            libc.mallopt(option, value)
    with without(*UNUSED):
        health.cycles_before(health.HealthState.empty(0, 1, 1), np.zeros(0, np.int32), np.zeros(0))  # the first kernel
        give_back(COMPILER)
        yield


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let imports of these modules fail inside, as where they are not installed; what is loaded already stays."""
    absent = _Absent(names)
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


class _Absent:
    """Says of some modules that they are not installed."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Raise ModuleNotFoundError for these modules, know nothing of others."""
        if name in self._names:
            msg = f"{name} is left out here"
            raise ModuleNotFoundError(msg, name=name)


def give_back(library: str) -> int:
    """Unmap the code pages of a library whose file name begins so, and say how many bytes it is mapped over.

    They stay in the page cache, which other processes share and the system empties where it must; what runs again is
    mapped again.  Only code is: it is never written, so nothing can be lost.  Does nothing where there is no /proc.
    """
    if not _MAPS.exists():
        return 0
    libc, mapped = ctypes.CDLL(None), 0
    for line in _MAPS.read_text().splitlines():
        place, rights, _, _, _, *name = line.split(maxsplit=5)
        if name and rights == "r-xp" and Path(name[0]).name.startswith(library):
            begin, end = (int(at, 16) for at in place.split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)
            mapped += end - begin
    return mapped
