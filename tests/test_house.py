"""Rules of the house that no linter knows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGES = ("schemas", "operators", "sinks", "replay", "edge", "flows")
MAX_LINES = 400
LIMITED = {".py", ".sql"}  # suffixes that MAX_LINES holds for

# folder → the folder of its mirror tests: every module there has a test file of its own
MIRRORED = {
    "operators/kernels": "tests/operators/kernels",
    "flows": "tests/flows",
    "flows/bench": "tests/flows/bench",
}

# what → the pattern that finds it, in any text of the project
FORBIDDEN_TEXT = {
    "path of one machine": re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt)/\w"),
    "package registry host": re.compile(r"pypi\.org|pythonhosted\.org"),
    "private address": re.compile(r"\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b"),
}
THIS_FILE = Path(__file__).relative_to(PROJECT)  # names what it forbids


def _tree() -> list[Path]:
    """List the project's files, tracked or about to be, relative to its root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (PROJECT / name).is_file()]


TREE = _tree()
PRODUCT = [path for path in TREE if path.parts[0] in PACKAGES and path.suffix == ".py"]


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {str(path): len((PROJECT / path).read_text().splitlines()) for path in TREE if path.suffix in LIMITED}
    assert lines, "the tree holds no source"
    assert {path: n for path, n in lines.items() if n > MAX_LINES} == {}


def test_no_step_has_a_timer_of_its_own() -> None:
    # a timer emits into an epoch whose predecessor is not durable yet, and a two-phase sink then repeats
    assert PRODUCT
    assert [str(path) for path in PRODUCT if re.search(r"def\s+notify_at\b", (PROJECT / path).read_text())] == []


def test_every_package_folder_has_an_empty_init() -> None:
    folders = {path.parent for path in PRODUCT}
    inits = {path for path in PRODUCT if path.name == "__init__.py"}
    assert folders - {path.parent for path in inits} == set()
    assert [str(path) for path in inits if (PROJECT / path).stat().st_size] == []


def test_every_package_folder_says_which_question_it_answers() -> None:
    folders = {path.parent for path in PRODUCT}
    assert [str(folder) for folder in folders if not (PROJECT / folder / "README.md").is_file()] == []


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_file_names_a_machine(what: str) -> None:
    found = []
    for path in TREE:
        content = (PROJECT / path).read_bytes()
        if path != THIS_FILE and b"\0" not in content and FORBIDDEN_TEXT[what].search(content.decode(errors="replace")):
            found.append(str(path))
    assert found == []


@pytest.mark.parametrize(("folder", "tests"), MIRRORED.items())
def test_every_module_has_a_test_file_of_its_name(folder: str, tests: str) -> None:
    modules = [path.stem for path in PRODUCT if path.parent == Path(folder) and path.stem != "__init__"]
    assert [name for name in modules if not (PROJECT / tests / f"test_{name}.py").is_file()] == []


def test_protection_waits_for_no_import_but_the_standard_library_and_schemas() -> None:
    shown = "import sys; before = set(sys.modules); import edge.protection; print(*(set(sys.modules) - before))"
    command = [sys.executable, "-S", "-c", shown]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    allowed = {*sys.stdlib_module_names, "schemas"}
    assert {n for n in done.stdout.split() if n.partition(".")[0] not in allowed} == {"edge", "edge.protection"}
