"""Compiled kernels are kept apart by what they were compiled from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from flows import cache
from flows.cache import use_kernel_cache


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("operators/kernels", "replay/simulate"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(cache, "_ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path


def _named(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    path = use_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == str(path)
    return path


def test_the_same_sources_share_a_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _named(monkeypatch)
    assert first.is_relative_to(project / "home" / "ibms")
    assert _named(monkeypatch) == first


@pytest.mark.parametrize("edit", ["operators/kernels/a.py", "replay/simulate/a.py", "operators/kernels/new.py"])
def test_any_edited_kernel_gets_a_folder_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch, edit: str) -> None:
    first = _named(monkeypatch)
    (project / edit).write_text("x = 2\n")
    assert _named(monkeypatch) != first


def test_a_copy_elsewhere_gets_a_folder_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _named(monkeypatch)
    shutil.copytree(project / "operators", project / "copy" / "operators")
    shutil.copytree(project / "replay", project / "copy" / "replay")
    monkeypatch.setattr(cache, "_ROOT", project / "copy")
    assert _named(monkeypatch) != first


def test_another_numba_gets_a_folder_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _named(monkeypatch)
    monkeypatch.setattr(cache, "version", lambda _: "99")
    assert _named(monkeypatch) != first


def test_a_folder_that_the_environment_names_is_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    assert use_kernel_cache() == Path("elsewhere")
