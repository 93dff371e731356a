"""How long the prognostics step takes over many sessions, and what memory it needs, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from flows import lean, prognostics
from flows.bench.core import one_core
from flows.judge import TrainedJudge
from flows.prognosis.serve import Served, served_by_hash
from flows.run import run_flow
from flows.session_rows import LakeSessions, lake_models
from flows.settings import RecoverySettings
from schemas.pack import load_pack
from sinks.lake import LakeSink, publish_pending

# From here on the measured process must find compiled kernels, as after a first run: compiling takes 160 MB more.
_MANY = 10_000


def measure(sessions: int) -> dict[str, Any]:
    """Judge that many sessions of a tenth as many packs with a trained model: seconds on one core, MB at the peak."""
    from flows.bench import many_sessions  # noqa: PLC0415 - training needs xgboost, and the measured process does not

    with tempfile.TemporaryDirectory(prefix="ibms-bench-") as where:
        folder, few = Path(where), Path(where) / "few"
        many_sessions.make_lake(folder / "lake", sessions)
        sha = many_sessions.train(folder / "models")
        if sessions >= _MANY:
            many_sessions.make_lake(few / "lake", 100)
            many_sessions.train(few / "models")
            _judge_apart(few, sha)
        found = _judge_apart(folder, sha)
    return {
        "prognostics_100k_sessions_s": found["seconds"] * 100_000 / sessions,
        "prognostics_sessions_per_s": sessions / found["seconds"],
        "prognostics_peak_mb": found["mb"],
        "prognostics_imports_mb": found["imports_mb"],
    }


def _judge_apart(folder: Path, sha: str) -> dict[str, float]:
    """Judge in a process of its own."""
    command = [sys.executable, "-m", "flows.bench.prognostics", str(folder), sha]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def run(folder: Path, sha: str) -> dict[str, float]:
    """Judge the lake in `folder` with snapshots on, on one core."""
    judge = partial(TrainedJudge, Served(served_by_hash(folder / "models", sha), None))
    lake, out = folder / "lake", folder / "out"
    imports_mb = peak_mb()
    with one_core(), lean.serving():
        began = perf_counter()
        sink = LakeSink(out, "bench", recovery=True)
        recovery = RecoverySettings(folder / "recovery")
        flow = prognostics.build(
            LakeSessions(lake, load_pack), sink, lake_models(lake), judge=judge, trained=sha, files=recovery.files
        )
        run_flow(flow, recovery, prognostics.SHARDS)
        publish_pending(out, "bench")
        seconds = perf_counter() - began
    return {
        "seconds": seconds,
        "mb": peak_mb(),
        "imports_mb": imports_mb,
    }


def peak_mb() -> float:
    """Give this process's own largest resident set; getrusage would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    from flows.cache import use_kernel_cache

    use_kernel_cache()
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]), sys.argv[2])) + "\n")
