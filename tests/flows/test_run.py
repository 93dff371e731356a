"""How a flow runs: one run a store, the same shards and source as before, and one voice for what goes wrong."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource

from flows.run import run_flow
from flows.settings import RecoverySettings
from schemas.checked import ConfigError

BROKEN = """
import sys
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource
from flows.run import run_flow
from flows.settings import RecoverySettings

def step(x):
    print("from the step", file=sys.stderr)
    raise ValueError("broken step")

flow = Dataflow("f")
op.output("out", op.map("step", op.input("in", flow, TestingSource([1])), step), TestingSink([]))
try:
    run_flow(flow, RecoverySettings(), 1)
except Exception as error:
    while error.__cause__:
        error = error.__cause__
    print(error)
print("after", file=sys.stderr)
"""


def _flow(out: list[int], n: int = 3) -> Dataflow:
    flow = Dataflow("f")
    op.output("out", op.input("in", flow, TestingSource(range(n))), TestingSink(out))
    return flow


def test_a_flow_runs_to_its_end() -> None:
    out: list[int] = []
    run_flow(_flow(out), RecoverySettings(), 4)
    assert out == [0, 1, 2]


def test_a_finished_run_that_is_started_again_takes_nothing_twice(tmp_path: Path) -> None:
    out: list[int] = []
    for _ in range(2):
        run_flow(_flow(out), RecoverySettings(tmp_path / "r"), 4, source="a")
    assert out == [0, 1, 2]


@pytest.mark.parametrize(
    ("shards", "source", "said"),
    [(8, "a", "fleet.shards must be 4, .*; got 8"), (4, "b", "source must be a, .*; got b")],
)
def test_a_store_knows_what_it_was_made_for(tmp_path: Path, shards: int, source: str, said: str) -> None:
    run_flow(_flow([]), RecoverySettings(tmp_path), 4, source="a")
    assert json.loads((tmp_path / "ibms.json").read_text()) == {"fleet.shards": 4, "source": "a"}
    with pytest.raises(ConfigError, match=said):
        run_flow(_flow([]), RecoverySettings(tmp_path), shards, source=source)


def test_a_store_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    run_flow(_flow([]), RecoverySettings(tmp_path), 4)
    with (tmp_path / "lease-0").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"recovery.dir must belong to one run; another one is alive in it"):
            run_flow(_flow([]), RecoverySettings(tmp_path), 4)
    run_flow(_flow([]), RecoverySettings(tmp_path), 4)


@pytest.mark.parametrize("ask", [False, True])
def test_a_broken_step_is_heard_once_unless_all_is_asked_for(ask: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IBMS_TRACEBACK", raising=False)
    if ask:
        monkeypatch.setenv("IBMS_TRACEBACK", "1")
    ran = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, check=True)
    assert ran.stdout == "broken step\n"
    assert ("panicked" in ran.stderr) == ask
    said = [line for line in ran.stderr.splitlines() if line in {"from the step", "after"}]
    assert said == ["from the step", "after"]
    assert ask or len(ran.stderr.splitlines()) == 2
