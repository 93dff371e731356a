"""A process that judges sessions: what it leaves out is left out, what it gives back comes again."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from flows.lean import COMPILER, UNUSED, give_back, without
from operators.kernels import smooth

_HEAVY = (*UNUSED, "pyarrow.dataset", "pyarrow.parquet", "river", "scipy.sparse", "xgboost")


def test_what_is_left_out_cannot_be_imported_inside_and_can_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with without("colorsys"), pytest.raises(ModuleNotFoundError, match="colorsys is left out here"):
        __import__("colorsys")
    assert __import__("colorsys").rgb_to_hsv(0, 0, 1)[2] == 1


def test_what_was_loaded_before_stays() -> None:
    with without("json"):
        assert __import__("json") is sys.modules["json"]


def test_code_that_was_given_back_still_runs() -> None:
    f = smooth.Smooth(
        np.zeros(1), np.ones(1), np.ones(1), np.zeros((1, 1)), 1.0, np.array([2.0]), np.zeros(1), offset=0.5
    )
    before = smooth.value(f, np.zeros((1, 1)))
    assert give_back(COMPILER) > 1 << 20
    assert give_back("no-such-library") == 0
    assert smooth.value(f, np.zeros((1, 1))) == before == 2.5
    assert njit(lambda x: x + 1)(1) == 2, "the compiler itself runs again"


def test_to_judge_sessions_with_a_model_loads_neither_what_trains_nor_what_draws_tables() -> None:
    shown = (
        "import sys, flows.judge, flows.oracle, flows.prognostics_run as run\n"
        "with run.lean.serving(): pass\n"
        f"print([name for name in {_HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
