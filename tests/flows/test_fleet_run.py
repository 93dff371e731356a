"""`ibms run fleet`: a settings file, a lake, and a store that is resumed or refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from flows.compare import compare
from flows.fleet_run import run_configured
from sinks import ducklake
from tests.support.commands import Ibms

SOURCE = """
[source]
kind = "simulate"
vehicles = 6
hours = 10
faults = false
models = ["generic-nmc@8c2t60ah"]
"""


def _config(folder: Path, name: str = "s", *, source: str = SOURCE, lake: str = "lake", more: str = "") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'{source}\n[lake]\ndir = "{folder / lake}"\n{more}')
    return path


def _recovery(folder: Path, name: str = "recovery") -> str:
    return f'[recovery]\ndir = "{folder / name}"\nepoch_s = 0.05\n'


def _equal(a: Path, b: Path) -> bool:
    found = compare(a, b, 0.0)
    assert found[-1].in_a > 20
    return all(d.equal for d in found)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of a run without snapshots."""
    folder = tmp_path_factory.mktemp("plain")
    run_configured(_config(folder), None, None)
    return folder / "lake"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of a finished run whose snapshots are in r beside it."""
    folder = tmp_path_factory.mktemp("finished")
    run_configured(_config(folder, more=_recovery(folder, "r")), None, None)
    return folder / "lake"


def test_a_run_says_what_it_read(ibms: Ibms, tmp_path: Path) -> None:
    ran = ibms("run", "fleet", "--config", _config(tmp_path))
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(rf"[1-9],\d\d\d frames → {tmp_path / 'lake'}\n", ran.out)


def test_snapshots_change_nothing_and_a_finished_run_adds_nothing(ibms: Ibms, plain: Path, tmp_path: Path) -> None:
    kept = _config(tmp_path, "kept", lake="kept", more=_recovery(tmp_path))
    for _ in range(2):
        assert ibms("run", "fleet", "--config", kept).code == 0
    assert _equal(plain, tmp_path / "kept")


def test_a_pace_with_ticks_changes_no_final_record(ibms: Ibms, plain: Path, tmp_path: Path) -> None:
    source = "ticks = true\n" + SOURCE + "speed = 100000\n"
    paced = ibms("run", "fleet", "--config", _config(tmp_path, "paced", source=source, lake="paced"))
    assert (paced.code, paced.err) == (0, "")
    assert _equal(plain, tmp_path / "paced")


def test_traces_are_a_source_too(ibms: Ibms, tmp_path: Path, frames_file: Path, lake: Path) -> None:
    source = f'[source]\nkind = "traces"\npaths = ["{frames_file}"]\n'
    ran = ibms("run", "fleet", "--config", _config(tmp_path, source=source, more="[fleet]\nstate_s = 60\n"))
    assert ran.out == f"720 frames → {tmp_path / 'lake'}\n"
    assert _equal(lake, tmp_path / "lake")


@pytest.mark.parametrize(
    ("source", "more", "said"),
    [
        (SOURCE, "[fleet]\nshards = 8\n", "fleet.shards must be 4"),
        (SOURCE.replace("vehicles = 6", "vehicles = 7"), "", "source must be vehicles=6"),
        (
            SOURCE + "speed = 1000\n",
            "",
            "speed=paced",
        ),  # a pace cuts blocks elsewhere, and places are counted in blocks
    ],
)
def test_a_store_is_resumed_only_with_what_it_was_made_for(
    ibms: Ibms, finished: Path, tmp_path: Path, source: str, more: str, said: str
) -> None:
    ran = ibms(
        "run", "fleet", "--config", _config(tmp_path, source=source, more=more + _recovery(finished.parent, "r"))
    )
    assert ran.code == 2
    assert said in ran.error


def test_a_lake_has_one_writer(ibms: Ibms, tmp_path: Path) -> None:
    handle = ducklake.lock(tmp_path / "lake")
    try:
        ran = ibms("run", "fleet", "--config", _config(tmp_path))
    finally:
        os.close(handle)
    assert (ran.code, ran.out) == (2, "")
    assert "another process writes to the lake" in ran.error


def test_a_store_of_another_lake_is_refused(ibms: Ibms, finished: Path, tmp_path: Path) -> None:
    ran = ibms("run", "fleet", "--config", _config(tmp_path, more=_recovery(finished.parent, "r")))
    assert ran.code == 2
    assert "the recovery store is of run 1 of fleet" in ran.error


@pytest.mark.parametrize(
    "cluster",
    [
        ("--process", 1),
        ("--addresses", "127.0.0.1:1"),
        ("--process", 2, "--addresses", "127.0.0.1:1,127.0.0.1:2"),
        ("--process", -1, "--addresses", "127.0.0.1:1"),
    ],
)
def test_a_process_must_be_one_of_the_cluster(ibms: Ibms, tmp_path: Path, cluster: tuple[object, ...]) -> None:
    ran = ibms("run", "fleet", "--config", _config(tmp_path), *cluster)
    assert ran.code == 2
    assert "--process must be the number of one of --addresses, from 0" in ran.error
