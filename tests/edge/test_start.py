"""A process of the gateway starts without what it never uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
from edge.start import lean
lean(); lean()
import can, cantools
import pyarrow as pa
import numpy as np
assert pa.array(np.arange(3)).to_pylist() == [0, 1, 2]
import sys
print(sorted({"pandas", "asammdf", "numba", "duckdb"} & sys.modules.keys()), len(sys.meta_path))
try:
    import pandas
except ModuleNotFoundError as absent:
    print(absent.name)
"""


def test_what_is_installed_and_never_used_is_left_out_for_arrow_too(tmp_path: Path) -> None:
    for name in ("pandas", "asammdf"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported')")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    run = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    left_out, name = run.stdout.splitlines()
    assert (left_out.split("]")[0], name) == ("[", "pandas")


def test_a_flow_that_is_none_is_an_error() -> None:
    run = subprocess.run([sys.executable, "-m", "edge.start", "no_flow"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "No module named 'edge.no_flow'" in run.stderr
