"""`ibms repair`: a lake that had frames late, or a run without some, becomes that of the run in order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from flows import fleet
from flows.repair import RepairOptions, run_repair
from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from replay.source import ReplaySource
from schemas.checked import ConfigError
from schemas.frames import BACKFILL, FrameBlock
from schemas.tables import KEYS, TABLES
from sinks import ducklake
from sinks.ducklake import LakeError
from sinks.lake import LakeSink
from tests.support.fleet import MODEL, NS, SETTINGS, differences, drive, spoil, stamp
from tests.support.history import history, hold_back, seconds

KEEPING = replace(SETTINGS, keep_frames=True)
ONE_SHARD = replace(KEEPING, shards=1)
CONFIG = """
[source]
kind = "simulate"
models = ["generic-nmc@8c2t60ah"]
[fleet]
window_s = 10
state_s = 60
keep_frames = true
"""


@pytest.fixture(scope="module")
def frames() -> FrameBlock:
    block = drive(2, 0.5, 2.0)
    block = spoil(spoil(block, (300, 500), "impossible"), (900, 1500), "wire")
    rows = np.flatnonzero(block.pack == 0)
    wrong = [int(rows[200]), int(rows[300]), int(rows[700])]
    at = [int(block.t_ns[wrong[0]] + 300 * NS), 5 * NS, int(block.t_ns[wrong[2]] + 900 * NS)]
    return stamp(block, wrong, at).with_frames(src_offset=np.arange(len(block)))


@pytest.fixture(scope="module")
def ordered(frames: FrameBlock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the run in order."""
    lake = tmp_path_factory.mktemp("ordered") / "lake"
    in_lake(lake, [frames])
    return lake


@pytest.fixture(scope="module")
def late(frames: FrameBlock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of a run in which `holes` came when no copy waited for them."""
    lake = tmp_path_factory.mktemp("late") / "lake"
    in_lake(lake, behind(frames, holes(frames), BACKFILL))
    return lake


def in_lake(lake: Path, blocks: Sequence[FrameBlock], settings: FleetSettings = KEEPING) -> dict[str, pa.Table]:
    sink = LakeSink(lake, "test", recovery=False)
    run_flow(fleet.build(settings, ReplaySource(lambda: blocks), sink, (MODEL,)), RecoverySettings(), settings.shards)
    return held(lake)


def held(lake: Path) -> dict[str, pa.Table]:
    """Give what the views show, but dead letters, in one order."""
    out = {}
    with ducklake.attach(lake) as con:
        for table in TABLES.keys() - {"dead_letters"}:
            columns = ", ".join(f'"{c.name}"' for c in TABLES[table])
            rows = con.execute(f"SELECT {columns} FROM {table} ORDER BY {', '.join(KEYS[table])}").to_arrow_table()
            if len(rows):
                out[table] = rows
    return history(out)


def between(frames: FrameBlock, begin_s: float, end_s: float) -> NDArray[np.bool_]:
    t = (frames.t_ns - np.sort(frames.t_ns)[10]) / NS
    return np.asarray((frames.pack == 0) & (t >= begin_s) & (t < end_s))


def holes(frames: FrameBlock) -> NDArray[np.bool_]:
    """Choose two frames in a row again and again: too few for a copy to be made."""
    chosen = [between(frames, begin_s, begin_s + 4) for begin_s in (*range(700, 770, 10), *range(1000, 1100, 25))]
    return np.asarray(np.logical_or.reduce(chosen))


def behind(frames: FrameBlock, rows: NDArray[np.bool_], lane: int) -> list[FrameBlock]:
    """Send `rows` when all others have come: no copy waits for them any more."""
    late = frames.take(np.flatnonzero(rows))
    late = late.with_frames(lane=np.full(len(late), lane, np.uint8))
    return [frames.take(np.flatnonzero(~rows)), late]


def repair(lake: Path, tmp_path: Path, pack: str, **more: str | bool) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text(CONFIG)
    run_repair(RepairOptions(pack, lake=lake, config=config, **more))  # type: ignore[arg-type] # of its fields


def test_late_frames_and_short_holes_are_put_where_they_belong_bit_for_bit(
    frames: FrameBlock, ordered: Path, late: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(late, tmp_path / "late")
    expected, broken = held(ordered), held(late)
    assert differences(expected, broken) != []
    pack = frames.packs[0]
    repair(tmp_path / "late", tmp_path, pack, dry_run=True)
    assert "nothing was written" in capsys.readouterr().out
    assert differences(broken, held(tmp_path / "late")) == []
    repair(tmp_path / "late", tmp_path, pack)
    said = capsys.readouterr().out
    assert f"{np.count_nonzero(holes(frames))} of them dead letters" in said
    assert differences(expected, held(tmp_path / "late")) == []
    repair(tmp_path / "late", tmp_path, pack)
    counts = [line.split()[-3:] for line in capsys.readouterr().out.splitlines()[2:]]
    assert counts
    assert all(line == ["0", "0", "0"] for line in counts), "a second repair finds nothing to do"


def test_what_a_run_still_has_open_stays_its_own(frames: FrameBlock, ordered: Path, late: Path, tmp_path: Path) -> None:
    """The frames of the lake end before those of the run: its last window and session are not closed yet."""
    shutil.copytree(ordered, tmp_path / "order")
    shutil.copytree(late, tmp_path / "late")
    for lake in ("order", "late"):
        with ducklake.open_writer(tmp_path / lake) as con:
            con.execute("DELETE FROM raw.windows WHERE start_ns >= (SELECT max(start_ns) FROM windows)")
            con.execute("DELETE FROM raw.sessions WHERE end_ns >= (SELECT max(t_ns) FROM frames) - INTERVAL 10 SECOND")
    expected = held(tmp_path / "order")
    repair(tmp_path / "late", tmp_path, frames.packs[0])
    assert differences(expected, held(tmp_path / "late")) == []


def test_only_the_span_is_corrected(frames: FrameBlock, ordered: Path, late: Path, tmp_path: Path) -> None:
    shutil.copytree(late, tmp_path / "late")
    before, expected = held(late), held(ordered)
    t_ns = frames.t_ns[between(frames, 700, 800)]
    begin_ns, end_ns = int(t_ns.min()) // (60 * NS) * 60 * NS, int(t_ns.max()) + 60 * NS
    begin, end = (datetime.fromtimestamp(t // NS, UTC).isoformat() for t in (begin_ns, end_ns))
    repair(tmp_path / "late", tmp_path, frames.packs[0], begin=begin, end=end)
    after = held(tmp_path / "late")
    for rows, same in ((after["windows"], expected["windows"]),):
        inside = pc.and_(
            pc.greater_equal(pc.cast(rows["start_ns"], pa.int64()), begin_ns),
            pc.less(pc.cast(rows["start_ns"], pa.int64()), end_ns // NS * NS),
        )
        of_span = rows.filter(inside)
        assert 3 < len(of_span) < len(rows) / 2
        keys = set(
            zip(of_span["pack_id"].to_pylist(), pc.cast(of_span["start_ns"], pa.int64()).to_pylist(), strict=True)
        )
        there = [
            key in keys
            for key in zip(same["pack_id"].to_pylist(), pc.cast(same["start_ns"], pa.int64()).to_pylist(), strict=True)
        ]
        assert differences({"windows": same.filter(pa.array(there))}, {"windows": of_span}) == []
        old = before["windows"]
        later = pc.greater(pc.cast(old["start_ns"], pa.int64()), end_ns)
        now = rows.filter(pc.greater(pc.cast(rows["start_ns"], pa.int64()), end_ns))
        assert differences({"windows": old.filter(later)}, {"windows": now}) == []


def test_refuses_what_it_cannot_make_equal(frames: FrameBlock, ordered: Path, tmp_path: Path) -> None:
    lake, pack = tmp_path / "lake", frames.packs[0]
    shutil.copytree(ordered, lake)
    with pytest.raises(ConfigError, match=r"the lake must keep frames of nobody, .*no such pack"):
        repair(lake, tmp_path, "nobody")
    with pytest.raises(ConfigError, match=r"--config must hold the settings of the run that wrote the windows"):
        run_repair(RepairOptions(pack, lake=lake))
    with pytest.raises(ConfigError, match="--from must be before --to"):
        repair(lake, tmp_path, pack, begin="2026-01-05T08:00:00Z", end="2026-01-05T07:00:00Z")
    with pytest.raises(LakeError, match="no lake in"):
        repair(tmp_path / "none", tmp_path, pack)
    handle = ducklake.lock(lake)
    with pytest.raises(LakeError, match="one writer at a time"):
        repair(lake, tmp_path, pack)
    os.close(handle)
    with ducklake.open_writer(lake) as con:
        con.execute("DELETE FROM raw.frames WHERE t_ns > (SELECT max(t_ns) FROM frames) - INTERVAL 100 SECOND")
    with pytest.raises(ConfigError, match=r"all frames of .* between --from and --to must be kept; \d+ windows"):
        repair(lake, tmp_path, pack)


def test_what_finds_no_room_for_its_copy_is_told_and_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network fails for more packs at once than a shard keeps copies for."""
    block = drive(11, 0.25, 2.0)
    block = block.with_frames(src_offset=np.arange(len(block)))
    expected = in_lake(tmp_path / "order", [block], ONE_SHARD)
    held_back = (seconds(block) >= 300) & (seconds(block) < 500)
    sent = hold_back(block, held_back, 650)
    in_lake(tmp_path / "late", [sent], ONE_SHARD)
    with ducklake.attach(tmp_path / "late") as con:
        letters = con.execute("SELECT pack_id, reason, count(*) FROM dead_letters GROUP BY ALL ORDER BY ALL").fetchall()
        (kept,) = con.execute("SELECT count(*) FROM frames").fetchone() or (0,)
    assert [(reason, count) for _, reason, count in letters] == [("backfill_overflow", 100)] * 3
    assert kept + 3 * 100 == len(block)
    for pack, _, _ in letters:
        repair(tmp_path / "late", tmp_path, pack)
        assert "100 of them dead letters" in capsys.readouterr().out
    assert differences(expected, held(tmp_path / "late")) == []
