"""The wheel, as somebody else installs it."""

import json
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ["edge", "flows", "operators", "replay", "schemas", "sinks"]


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this tree."""
    out = tmp_path_factory.mktemp("dist")
    built = _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=PROJECT)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_env(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, and nothing else, into a new environment; the path of its bin directory."""
    env = tmp_path_factory.mktemp("env")
    made = _run(sys.executable, "-m", "venv", "--without-pip", env, cwd=env)
    assert made.returncode == 0, made.stderr
    python = env / "bin" / "python"
    options = ["--no-index", "--no-deps"]
    installed = _run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=env)
    assert installed.returncode == 0, installed.stderr
    return python.parent


def test_the_wheel_holds_the_packages_files_and_no_others(wheel: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PACKAGES]
    listed = _run(*command, cwd=PROJECT)
    assert listed.returncode == 0, listed.stderr
    tree = {name for name in listed.stdout.splitlines() if (PROJECT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == tree
        assert [name for name in tree if archive.read(name) != (PROJECT / name).read_bytes()] == []


def test_the_wheel_carries_the_licence_and_asks_for_the_base_set_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert "License-Expression: Apache-2.0" in lines
    base = {line.split()[1] for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line}
    names = {"bytewax", "numpy", "pyarrow", "orjson", "cryptography", "python-can", "cantools", "msgpack"}
    assert {name.split("=")[0].split(">")[0] for name in base} == names


def test_each_of_the_six_names_belongs_to_ibms(clean_env: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps(m.packages_distributions()))"
    asked = _run(clean_env / "python", "-c", code, cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == {name: ["ibms"] for name in PACKAGES}


def test_ibms_edge_asks_for_its_settings_in_one_line(clean_env: Path, tmp_path: Path) -> None:
    # in an environment without any dependency: help and errors need the standard library only
    ran = _run(clean_env / "ibms-edge", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "ibms-edge: --config must name the gateway's settings (gateway.toml); got nothing\n"
    assert "status" in _run(clean_env / "ibms-edge", "--help", cwd=tmp_path).stdout


def test_ibms_runs_from_the_wheel(clean_env: Path, tmp_path: Path) -> None:
    # Dependencies are lent by the environment under test. A directory named in a .pth file does not get its own .pth
    # files read, so an editable install there lends no source of this project.
    (site,) = (clean_env.parent / "lib").glob("python*/site-packages")
    lent = site / "lent.pth"
    lent.write_text(sysconfig.get_paths()["purelib"] + "\n")
    try:
        found = _run(clean_env / "python", "-c", "import flows.__main__ as main; print(main.__file__)", cwd=tmp_path)
        ran = _run(clean_env / "ibms", "--version", cwd=tmp_path)
        example = site / "edge" / "deploy" / "gateway.toml"
        checked = _run(clean_env / "ibms-edge", "--config", example, "--check", cwd=tmp_path)
    finally:
        lent.unlink()
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_relative_to(site)
    assert ran.returncode == 0, ran.stderr
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] in ran.stdout
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "result         it may start"), checked.stderr
