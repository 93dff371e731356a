"""constraints.txt against pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "constraints.txt").read_text()
ENTRIES = TEXT.replace("\\\n", " ").splitlines()


def _wanted() -> list[str]:
    config = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    project = config["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [*config["build-system"]["requires"], *project["dependencies"], *extras]


def test_every_entry_is_one_version_with_hashes() -> None:
    assert ENTRIES
    entry = re.compile(r"[a-z0-9][a-z0-9.-]*==[^\s;]+(?: ; [^-]+?)?(?:\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in ENTRIES if not entry.fullmatch(line.rstrip())] == []


def test_no_entry_names_a_host() -> None:
    assert "://" not in TEXT
    assert [line for line in ENTRIES if line.startswith("-")] == []


@pytest.mark.parametrize("text", _wanted())
def test_the_pin_satisfies_what_the_project_asks_for(text: str) -> None:
    wanted = Requirement(text)
    named = canonicalize_name(wanted.name) + "=="
    pins = [line.removeprefix(named).split()[0] for line in ENTRIES if line.startswith(named)]
    assert pins, "not pinned"
    assert [pin for pin in pins if Version(pin) not in wanted.specifier] == []
