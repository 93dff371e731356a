from __future__ import annotations

import gzip
from pathlib import Path

import can
import numpy as np
import pytest

from replay.readers import FORMATS, START_NS, read_can
from schemas.can import EXT_MAX, STD_MAX, CanBlock, concat_can
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from tests.support.can_data import TRACES, need_traces

EPOCH_S = 1_600_000_000


def some_messages(count: int = 300, start_s: float = EPOCH_S) -> list[can.Message]:
    rng = np.random.default_rng(1)
    return [
        can.Message(
            timestamp=start_s + i * 0.001,
            arbitration_id=int(rng.integers(0, (EXT_MAX if i % 3 == 0 else STD_MAX) + 1)),
            is_extended_id=i % 3 == 0,
            data=rng.integers(0, 256, int(rng.integers(0, 9)), np.uint8).tobytes(),
        )
        for i in range(count)
    ]


def written(path: Path, messages: list[can.Message]) -> Path:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    with can.Logger(plain) as writer:
        for message in messages:
            writer(message)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def read(path: Path, chunk: int = 1 << 22) -> tuple[CanBlock, list[DeadLetter]]:
    items = list(read_can(path, chunk=chunk))
    return concat_can([i for i in items if isinstance(i, CanBlock)]), [i for i in items if isinstance(i, DeadLetter)]


@pytest.mark.parametrize("suffix", [f + gz for f in FORMATS for gz in ("", ".gz")])
def test_each_format_gives_the_frames_that_were_written(tmp_path: Path, suffix: str) -> None:
    messages = some_messages()
    block, dead = read(written(tmp_path / f"trace{suffix}", messages))
    assert not dead
    assert len(block) == len(messages)
    relative = suffix.startswith(".asc")
    assert block.mapped == relative
    base = START_NS if relative else EPOCH_S * 10**9
    for i, m in enumerate(messages):
        assert (block.can_id[i], block.ext[i]) == (m.arbitration_id, m.is_extended_id)
        assert block.data[i, : block.length[i]].tobytes() == bytes(m.data)
        assert abs(int(block.t_ns[i]) - base - i * 10**6) <= 1000
    assert np.all(np.diff(block.record) >= 1)


def test_relative_times_are_laid_onto_the_start_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"(0.5) can0 123#00\n(1.5) can0 123#01\n")
    first = next(iter(read_can(path)))
    assert isinstance(first, CanBlock)
    assert first.mapped
    assert first.t_ns.tolist() == [START_NS + 500_000_000, START_NS + 1_500_000_000]
    other = next(iter(read_can(path, start_ns=7)))
    assert isinstance(other, CanBlock)
    assert other.t_ns[0] == 500_000_007


def test_a_bad_line_is_a_dead_letter_with_file_line_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"(1600000000.0) can0 123#00\nnonsense\n(1600000000.1) can0 123#00\n")
    block, (dead,) = read(path)
    assert len(block) == 2
    assert (dead.source, dead.offset, dead.reason, dead.payload) == (str(path), 2, "undecodable", b"nonsense")
    assert dead.detail.startswith("line 2: not a candump line")
    assert dead.id == read(path)[1][0].id


@pytest.mark.parametrize("suffix", [".csv", ".asc", ".trc"])
@pytest.mark.parametrize("at", [0, 1, 150, 299])
def test_a_text_goes_on_after_a_line_that_cannot_be_read(tmp_path: Path, suffix: str, at: int) -> None:
    messages = some_messages()
    path = written(tmp_path / f"a{suffix}", messages)
    lines = path.read_text().splitlines()
    spot = next(
        i for i, line in enumerate(lines) if f"{messages[at].arbitration_id:x}" in line.lower().split(".", 1)[-1]
    )
    row = {
        ".csv": "1600000000.5,0xZZ,0,0,0,1,AA==",
        ".asc": " 0.1 1 12Z Rx d 1 00",
        ".trc": "5 1.0 DT 1 0ZZZ Rx - 1 00",
    }
    broken = [*lines[:spot], row[suffix], row[suffix], *lines[spot:]]
    path.write_text("\n".join(broken) + "\n")
    block, dead = read(path, chunk=777)
    assert len(block) == len(messages)
    assert [d.offset for d in dead] == [spot + 1, spot + 2]
    assert dead[0].payload.decode().strip() == row[suffix].strip()


@pytest.mark.parametrize("suffix", [f + gz for f in FORMATS for gz in ("", ".gz")])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "zeros"])
def test_no_damage_raises(tmp_path: Path, suffix: str, damage: str) -> None:
    path = written(tmp_path / f"a{suffix}", some_messages(2000))
    data = path.read_bytes()
    rng = np.random.default_rng(5)
    data = {
        "cut": data[: len(data) * 2 // 3],
        "noise": bytes(np.where(rng.random(len(data)) < 0.01, rng.integers(0, 256, len(data)), list(data)).tolist()),
        "empty": b"",
        "zeros": b"\0" * 5000,
    }[damage]
    path.write_bytes(data)
    try:
        items = list(read_can(path))
    except ConfigError as refused:
        assert ".csv" in suffix  # without its head nothing says that it is one of ours
        assert "timestamp,arbitration_id" in str(refused)  # noqa: PT017 - most damage is not refused
        return
    frames = sum(len(i) for i in items if isinstance(i, CanBlock))
    letters = [i for i in items if isinstance(i, DeadLetter)]
    if damage == "cut" and suffix.endswith(".gz"):
        assert frames > 0 or letters
        assert letters


def test_a_file_that_is_missing_or_of_no_known_format_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"trace must be a readable file; got No such file or directory \(.*none\.log\)"
    ):
        read_can(tmp_path / "none.log")
    with pytest.raises(ConfigError, match=r"trace must end in \.log, .*; got a\.xyz"):
        read_can(tmp_path / "a.xyz")
    (tmp_path / "a.csv").write_text("time,id\n1,2\n")
    with pytest.raises(ConfigError, match="must begin with timestamp,arbitration_id"):
        read_can(tmp_path / "a.csv")


def test_a_recorded_gzip_reads_whole() -> None:
    need_traces()
    block, dead = read(TRACES / "bmw_i3_dc_ionity_mid.candump.log.gz")
    assert (len(block), len(dead), block.mapped) == (64_787, 0, False)
