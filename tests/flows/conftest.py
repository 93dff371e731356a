"""Inputs that tests of several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import flows.spm as pybamm_module
from flows.replay import ReplayOptions, run_replay
from flows.traces import TraceOptions
from replay.candump import write_candump
from replay.frames_file import write_frames
from replay.record import record_pack
from schemas.frames import FrameBlock
from tests.support.commands import Ibms
from tests.support.fleet import drive


@pytest.fixture
def ibms(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ibms:
    """The command, in this process."""
    return Ibms(capsys, monkeypatch)


@pytest.fixture(scope="session")
def spm() -> Any:
    """The module that needs PyBaMM, or a skip; with IBMS_REQUIRE_PYBAMM=1 a failure."""
    if os.environ.get("IBMS_REQUIRE_PYBAMM") != "1":
        pytest.importorskip("pybamm", reason="the extra pybamm is not installed: pip install 'ibms[cloud,pybamm]'")
    pybamm_module.pybamm()
    return pybamm_module


@pytest.fixture(scope="session")
def frames() -> FrameBlock:
    """Twelve minutes of two vehicles, a frame every 2 s."""
    return drive(2, 0.2, 2.0)


@pytest.fixture(scope="session")
def frames_file(frames: FrameBlock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file of frames."""
    path = tmp_path_factory.mktemp("frames") / "frames.parquet"
    write_frames([frames], path)
    return path


@pytest.fixture(scope="session")
def can_log(frames: FrameBlock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first vehicle's frames as candump text, through our own DBC."""
    path = tmp_path_factory.mktemp("can") / "car.log"
    write_candump(path, record_pack(frames.take((frames.pack == 0).nonzero()[0]).pruned()))
    return path


@pytest.fixture(scope="session")
def lake(frames_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fleet flow makes of the frames."""
    path = tmp_path_factory.mktemp("run") / "lake"
    run_replay(ReplayOptions(TraceOptions((str(frames_file),)), out=path))
    return path
