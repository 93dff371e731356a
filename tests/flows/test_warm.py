"""Warming compiles what a run needs, and leaves nothing else behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.warm import is_warm, warm

PROBE = """
from flows.cache import use_kernel_cache
use_kernel_cache()
from flows.warm import warm
warm()
from numba.core.dispatcher import Dispatcher
import gc
kernels = [o for o in gc.get_objects() if isinstance(o, Dispatcher) and o.stats.cache_misses]
print(sorted(f"{k.py_func.__module__}.{k.py_func.__name__}" for k in kernels))
"""


def test_after_warming_another_process_compiles_nothing() -> None:
    for _ in range(2):  # the first may still compile, the second must not
        ran = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_cache_is_warm_once_the_module_has_run_and_never_one_that_the_user_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels-0"))
    assert not is_warm()
    (tmp_path / "kernels-0").mkdir()
    (tmp_path / "kernels-0" / "warm").touch()
    assert is_warm()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "warm").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert not is_warm()


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    warm()
    assert list(tmp_path.iterdir()) == []
    assert Path(os.environ["NUMBA_CACHE_DIR"]).is_dir()
