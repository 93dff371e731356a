"""A recorded trace through the fleet flow, or into a file, and what the command says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.compare import compare
from flows.reading import Reading
from flows.replay import pace_of, summary
from flows.traces import TraceOptions
from replay.frames_file import read_frames
from schemas.checked import ConfigError
from schemas.frames import FrameBlock, concat
from sinks import ducklake
from tests.support.commands import Ibms
from tests.support.fleet import MODEL


def test_a_can_log_becomes_windows_in_a_lake(ibms: Ibms, can_log: Path, tmp_path: Path) -> None:
    lake = tmp_path / "a lake"
    ran = ibms("replay", can_log, "--dbc", "ibms_pack", "--pack", MODEL, "--out", lake)
    assert (ran.code, ran.err) == (0, "")
    assert f"360 frames → {lake}\n" in ran.out
    assert "  windows " in ran.out
    assert f"next: ibms query --lake '{lake}'" in ran.out
    with ducklake.attach(lake) as con:
        found = con.execute("SELECT vehicle_id, model, sum(frames), any_value(pack_file) FROM windows GROUP BY ALL")
        ((vehicle, model, frames, pack_file),) = found.fetchall()
    assert (vehicle, model, frames) == ("car", MODEL, 360)
    assert pack_file


def test_a_trace_by_way_of_a_file_of_frames_gives_the_same_lake(ibms: Ibms, can_log: Path, tmp_path: Path) -> None:
    file, direct, detour = tmp_path / "f.parquet", tmp_path / "direct", tmp_path / "detour"
    of_car = (can_log, "--dbc", "ibms_pack", "--pack", MODEL)
    assert ibms("replay", *of_car, "--frames", file).out == f"360 frames → {file}\n"
    ibms("replay", *of_car, "--out", direct)
    assert ibms("replay", file, "--out", detour).code == 0
    found = compare(direct, detour, 0.0)
    assert all(d.equal for d in found)
    assert found[-1].in_a > 5


def test_a_paced_replay_gives_the_same_lake(ibms: Ibms, frames_file: Path, lake: Path, tmp_path: Path) -> None:
    paced = tmp_path / "paced"
    assert ibms("replay", frames_file, "--speed", "100000", "--out", paced).code == 0
    assert all(d.equal for d in compare(lake, paced, 0.0))


def test_raw_frames_are_kept_and_data_files_encrypted_where_asked(
    ibms: Ibms, can_log: Path, frames: FrameBlock, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    options = ("--dbc", "ibms_pack", "--pack", MODEL, "--keep-frames", "--encrypt")
    assert ibms("replay", can_log, *options, "--out", lake).code == 0
    with ducklake.attach(lake) as con:
        ((n, length, v),) = con.execute("SELECT count(*), max(len(cell_v)), max(cell_v[1]) FROM frames").fetchall()
    of_car = frames.cell_v[frames.pack == 0]
    assert (n, length) == of_car.shape
    assert v == pytest.approx(of_car[:, 0].max(), abs=0.0011)
    files = list(lake.rglob("*.parquet"))
    assert files
    assert all(file.read_bytes()[:4] == b"PARE" for file in files)  # Parquet's mark of an encrypted footer


def test_several_models_keep_the_hashes_of_their_pack_files(
    ibms: Ibms, frames_file: Path, can_log: Path, tmp_path: Path
) -> None:
    both = ("replay", frames_file, "--out", tmp_path / "lake")
    assert ibms(*both).code == 0
    assert ibms("replay", can_log, "--dbc", "ibms_pack", "--pack", "generic-lfp@8c2t60ah", *both[2:]).code == 0
    with ducklake.attach(tmp_path / "lake") as con:
        found = con.execute(
            "SELECT model, count(DISTINCT pack_file), min(pack_file) FROM windows GROUP BY 1"
        ).fetchall()
    assert {m for m, _, _ in found} == {MODEL, "generic-lfp@8c2t60ah"}
    assert len({file for _, _, file in found}) == 2
    assert all(file for _, _, file in found)


def test_a_trace_without_frames_makes_no_lake_and_no_file(ibms: Ibms, frames_file: Path, tmp_path: Path) -> None:
    for where in ("--out", "--frames"):
        ran = ibms("replay", frames_file, "--from", "2040-01-01", where, tmp_path / "x")
        assert ran.code == 2
        assert "got none in 720 records" in ran.error
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_frames_is_not_written_at_a_pace(ibms: Ibms, frames_file: Path, tmp_path: Path) -> None:
    ran = ibms("replay", frames_file, "--speed", "10", "--frames", tmp_path / "f.parquet")
    assert (ran.code, ran.error) == (2, "--speed must be max where frames are written to a file; got 10")


def test_part_of_a_trace_can_be_kept(ibms: Ibms, frames_file: Path, frames: FrameBlock, tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    at = str(np.datetime64(int(np.sort(frames.t_ns)[500]), "ns"))[:19]
    assert ibms("replay", frames_file, "--to", at, "--frames", file).code == 0
    got = concat([b for b in read_frames(file) if isinstance(b, FrameBlock)])
    assert 0 < len(got) <= 500
    assert got.t_ns.max() < np.datetime64(at, "ns").astype(np.int64)


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast", ""])
def test_a_speed_that_is_none_is_refused(speed: str) -> None:
    with pytest.raises(ConfigError, match="--speed must be max, or a number > 0"):
        pace_of(speed)


def test_the_summary_tells_what_was_unreadable_and_what_was_mapped() -> None:
    reading = Reading(frames=1234)
    assert summary(reading, TraceOptions(()), Path("lake")) == "1,234 frames → lake\n"
    reading.unreadable["undecodable"] = 2
    reading.examples["undecodable"] = "line 3: no hex"
    reading.mapped["a.asc"] = None
    text = summary(reading, TraceOptions((), start="2026-01-05T08:00:00Z"), Path("lake"))
    assert text.splitlines()[1:] == [
        "unreadable: 2 undecodable (first: line 3: no hex)",
        "relative times, which now begin at 2026-01-05T08:00:00Z (--start): a.asc",
    ]
