"""Break the safety core on purpose, line by line, and see whether a test notices: `just safety`.

mutmut makes the mutants and runs, for each, the tests that touch its function, in a copy of the tree outside the
project.  What it found is committed with a hash of what it judged, and is judged again only where that hash changed.
mutmut changes the bodies of functions; constants and defaults are held by tests that name their values.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
JUDGED = ("edge/protection.py", "edge/contactors.py", "edge/sensing.py", "edge/stuck.py")
ORACLE = (
    "tests/edge/test_protection.py", "tests/edge/test_verdict.py", "tests/edge/test_contactors.py",
    "tests/edge/test_sensing.py", "tests/edge/test_sensing_time.py", "tests/edge/test_stuck.py",
    "tests/support/limits.py",
)  # fmt: skip
TESTS = [name for name in ORACLE if Path(name).name.startswith("test_")]
RESULT, REASONS = Path(__file__).with_name("mutation.json"), Path(__file__).with_name("survivors.toml")
LEAST_PCT = 95.0
_KILLED = {"killed", "timeout"}  # a mutant that runs for ever is found too
_CONFTEST = """
from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.load_profile("same")
"""
Survivor = dict[str, str]


def judged_hash() -> str:
    """Hash what a result depends on: the judged sources, the tests that judge them, and mutmut's version."""
    found = blake2b(version("mutmut").encode(), digest_size=16)
    for name in (*JUDGED, *ORACLE):
        found.update(name.encode() + b"\0" + (PROJECT / name).read_bytes())
    return found.hexdigest()


def committed() -> dict[str, Any]:
    """Read the committed result."""
    result: dict[str, Any] = json.loads(RESULT.read_text())
    return result


def killed_pct(result: dict[str, Any]) -> float:
    """Say how many mutants of a hundred were noticed."""
    return float(100.0 * result["killed"] / result["mutants"])


def complaints(result: dict[str, Any]) -> list[str]:
    """Say what is wrong with a result: too few killed, a survivor without a reason, a reason without a survivor."""
    lines = []
    if killed_pct(result) < LEAST_PCT:
        lines.append(f"mutants killed must be ≥ {LEAST_PCT:g} %; got {killed_pct(result):.2f} %")
    left = [_named(s) for s in result["survivors"]]
    reasons = {_named(s): s["reason"] for s in tomllib.loads(REASONS.read_text()).get("survivor", [])}
    lines += [f"a survivor needs a reason in {REASONS.name}: {name}" for name in left if not reasons.get(name)]
    return lines + [f"a reason in {REASONS.name} has no survivor: {name}" for name in reasons if name not in left]


def _named(survivor: Survivor) -> str:
    return f"{survivor['in']}: {survivor['was']} -> {survivor['became']}"


def judge(processes: int) -> dict[str, Any]:
    """Make the mutants and run the tests on them; takes minutes."""
    judged = judged_hash()  # of what is copied now, whatever happens to the sources while it runs
    with tempfile.TemporaryDirectory(prefix="ibms-mutants-") as where:
        tree = Path(where)
        _copy(tree)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_", "PYTHONPATH"))}

        def mutmut(*arguments: str) -> str:
            command = [sys.executable, "-m", "mutmut", *arguments]
            done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                msg = f"mutmut {arguments[0]} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
                raise SystemExit(msg)
            return done.stdout

        mutmut("run", "--max-children", str(processes))
        lines = mutmut("results", "--all", "true").splitlines()
        status = dict(line.strip().rsplit(": ", 1) for line in lines if ": " in line)
        lived = [name for name, word in status.items() if word not in _KILLED]
        survivors = [_survivor(name, mutmut("show", name)) for name in lived]
    return {
        "hash": judged,
        "mutants": len(status),
        "killed": len(status) - len(lived),
        "survivors": sorted(survivors, key=_named),
    }


def _copy(tree: Path) -> None:
    """Copy what the tests need, so that mutants never lie in the project."""
    for folder in ("edge", "schemas", "operators"):
        shutil.copytree(PROJECT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ORACLE:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tree / name)
    (tree / "tests/conftest.py").write_text(_CONFTEST)
    (tree / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = ["--import-mode=importlib"]\n'
        f'[tool.mutmut]\nsource_paths = ["edge"]\nonly_mutate = {json.dumps(JUDGED)}\n'
        f'also_copy = ["schemas", "operators"]\npytest_add_cli_args_test_selection = {json.dumps(TESTS)}\n'
        "use_git_change_detection = false\n"
    )


def _survivor(name: str, diff: str) -> Survivor:
    """Describe a mutant by its function and the line it changed: numbers shift with every edit."""
    module, _, function = name.rpartition(".")
    function = re.sub(r"__mutmut_\d+$", "", function).removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")

    def changed(sign: str) -> str:
        mark = sign * 3
        return " ".join(ln[1:].strip() for ln in diff.splitlines() if ln[:1] == sign and not ln.startswith(mark))

    return {"in": f"{module}.{function}", "was": changed("-"), "became": changed("+")}


def branch_coverage_pct() -> float:
    """Run the tests with coverage of lines and branches; raises SystemExit where they fail."""
    with tempfile.TemporaryDirectory(prefix="ibms-coverage-") as where:
        report = Path(where) / "coverage.json"
        modules = [f"--cov={name.removesuffix('.py').replace('/', '.')}" for name in JUDGED]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *TESTS,
            *modules,
            "--cov-branch",
            f"--cov-report=json:{report}",
        ]
        environment = os.environ | {"COVERAGE_FILE": str(Path(where) / "data")}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout[-4000:] + done.stderr[-4000:])
        totals = json.loads(report.read_text())["totals"]
    return float(totals["percent_covered"])


def main(arguments: Iterable[str] | None = None) -> int:
    """Check coverage and mutants; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("--again", action="store_true", help="judge although nothing changed")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    coverage_pct = branch_coverage_pct()
    result = committed() if RESULT.exists() else {"hash": ""}
    fits = result["hash"] == judged_hash()
    if options.again or not fits:
        print("judging the mutants of", ", ".join(JUDGED), flush=True)
        result = judge(options.processes)
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(f"{RESULT.relative_to(PROJECT)} is new: look at it and commit it")
    wrong = complaints(result)
    if not fits and os.environ.get("CI"):  # the new result ends with this run, so the next would judge again
        wrong.append(f"{RESULT.name} is of other sources or tests: run `just safety` and commit what it writes")
    if coverage_pct < 100:
        wrong.append(f"branch coverage of {', '.join(JUDGED)} must be 100 %; got {coverage_pct:.2f} %")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    summary = {
        "branch_coverage_pct": round(coverage_pct, 2),
        "mutants_killed_pct": round(killed_pct(result), 2),
        "survivors": len(result["survivors"]),
    }
    print(json.dumps(summary))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
