from __future__ import annotations

import gzip
from pathlib import Path

import can
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.candump import BadLine, format_candump, parse_candump, read_candump, write_candump
from schemas.can import BRS, ERROR, ESI, EXT_MAX, FD, REMOTE, STD_MAX, TX, CanBlock, concat_can, make_can_block
from tests.support.can_data import candump_text

LINES = [
    b"(1600000000.000001) can0 123#DEADBEEF",
    b"(1600000000.000002) can1 123#deadbeef R",
    b"(1600000000.000003) vcan12 18FEF100#0102030405060708 T",
    b"(1600000000.000004) can0 7FF#",
    b"(1600000000.000005) can0 001#R",
    b"(1600000000.000006) can0 001#R8",
    b"(1600000000.000007) can0 100##3" + b"A5" * 64,
    b"(1600000000.000008) can0 100##01122",
    b"(0.5)  can0  00000001#11.22.33\r",
    b"(1600000000.123456789) can0 000#00",
]
FRAMES = [  # t_ns, bus, id, ext, payload, flags
    (1_600_000_000_000_001_000, "can0", 0x123, False, "deadbeef", 0),
    (1_600_000_000_000_002_000, "can1", 0x123, False, "deadbeef", 0),
    (1_600_000_000_000_003_000, "vcan12", 0x18FEF100, True, "0102030405060708", TX),
    (1_600_000_000_000_004_000, "can0", 0x7FF, False, "", 0),
    (1_600_000_000_000_005_000, "can0", 1, False, "", REMOTE),
    (1_600_000_000_000_006_000, "can0", 1, False, "00" * 8, REMOTE),
    (1_600_000_000_000_007_000, "can0", 0x100, False, "a5" * 64, FD | BRS | ESI),
    (1_600_000_000_000_008_000, "can0", 0x100, False, "1122", FD),
    (500_000_000, "can0", 1, True, "112233", 0),
    (1_600_000_000_123_456_789, "can0", 0, False, "00", 0),
]
BAD = {
    b"hello": "not a candump line",
    b"(16.5) can0 123": "not a candump line",
    b"(16.5) can0 12G#00": "not a candump line",
    b"(16.5) can0 123#0": "no whole bytes",
    b"(16.5) can0 123#" + b"00" * 9: "at most 8",
    b"(16.5) can0 123##0" + b"00" * 65: "at most 64",
    b"(16.5) can0 800#00": "beyond 11 bits",
    b"(16.5) can0 FFFFFFFF1#00": "not a candump line",
    b"(9999999999.5) can0 123#00": "beyond 9000000000 s",
    b"(16.5) can0 123#00 X": "not a candump line",
    b"\xff\xfe\x00": "not a candump line",
}


def frames(block: CanBlock) -> list[tuple[int, str, int, bool, str, int]]:
    return [
        (
            int(block.t_ns[i]),
            block.buses[block.bus[i]],
            int(block.can_id[i]),
            bool(block.ext[i]),
            block.data[i, : block.length[i]].tobytes().hex(),
            int(block.flags[i]),
        )
        for i in range(len(block))
    ]


def everything(path: Path, chunk: int = 1 << 22) -> tuple[list[CanBlock], list[BadLine]]:
    items = list(read_candump(path, chunk))
    return [i for i in items if isinstance(i, CanBlock)], [i for i in items if isinstance(i, BadLine)]


def test_each_variant_of_a_line_gives_its_frame() -> None:
    block, bad = parse_candump(b"\n".join(LINES))
    assert not bad
    assert frames(block) == FRAMES
    assert block.record.tolist() == list(range(1, 11))


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_line_that_is_no_frame_is_given_back_with_its_number_and_reason(text: bytes) -> None:
    block, bad = parse_candump(b"\n".join([LINES[0], b"", text, LINES[1]]) + b"\n", line=7)
    assert frames(block) == FRAMES[:2]
    assert block.record.tolist() == [7, 10]
    assert [(b.line, b.text) for b in bad] == [(9, text)]
    assert BAD[text] in bad[0].reason


def test_an_error_frame_keeps_its_mark() -> None:
    block, bad = parse_candump(b"(1.0) can0 20000080#0000000000000000\n")
    assert not bad
    assert block.flags.tolist() == [ERROR]


@given(st.lists(st.sampled_from([*LINES, *BAD, b""]), max_size=30), st.integers(1, 500))
def test_the_same_frames_come_out_however_the_text_is_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.log"
    path.write_bytes(b"\n".join(lines))
    blocks, bad = everything(path, max(chunk, 160))
    whole, bad_whole = everything(path)
    assert [f for b in blocks for f in frames(b)] == [f for b in whole for f in frames(b)]
    assert [r for b in blocks for r in b.record.tolist()] == [r for b in whole for r in b.record.tolist()]
    assert sorted(bad, key=lambda b: b.line) == bad_whole


@given(st.binary(max_size=400))
def test_garbage_never_raises_and_loses_no_line(text: bytes) -> None:
    block, bad = parse_candump(text)
    given_back = {b.line for b in bad} | set(block.record.tolist())
    assert given_back == {i for i, line in enumerate(text.split(b"\n"), 1) if line.strip()}


def test_many_layouts_of_one_length_are_read_like_each_alone() -> None:
    lines = [f"(16000000{k:02d}.000000) {bus} {k:03X}#00".encode() for k in range(40) for bus in ("can0", f"c{k:03d}")]
    block, bad = parse_candump(b"\n".join(lines))
    assert not bad
    assert frames(block) == [f for line in lines for f in frames(parse_candump(line)[0])]


def test_more_interfaces_than_a_vehicle_can_have_are_refused_not_a_crash() -> None:
    text = b"".join(f"(1.0) c{k:05d} 123#00\n".encode() for k in range(300))
    block, bad = parse_candump(text)
    assert len(block) == 256
    assert {b.reason for b in bad} == {"more than 256 interfaces"}


def test_an_endless_line_is_given_back_once_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(LINES[0] + b"\n" + b"x" * 100_000 + b"\n" + LINES[1] + b"\n")
    blocks, bad = everything(path, 1000)
    assert frames(concat_can(blocks)) == FRAMES[:2]
    assert [b.line for b in bad] == [2]
    assert concat_can(blocks).record.tolist() == [1, 3]


@pytest.mark.parametrize("damage", ["cut", "flip", "none"])
def test_a_damaged_gzip_gives_what_it_holds_and_says_so(tmp_path: Path, damage: str) -> None:
    rng = np.random.default_rng(0)
    text = b"".join(
        b"(1600000000.%06d) can0 123#%016X\n" % (i, int(x)) for i, x in enumerate(rng.integers(0, 2**62, 50_000))
    )
    packed = bytearray(gzip.compress(text))
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "flip":
        packed[len(packed) // 2] ^= 0xFF
        packed[len(packed) // 2 + 1] ^= 0xFF
    path = tmp_path / "a.log.gz"
    path.write_bytes(packed)
    blocks, bad = everything(path)
    read = sum(map(len, blocks))
    if damage == "none":
        assert (read, bad) == (50_000, [])
    else:
        assert 10_000 < read < 50_000
        assert "gzip" in bad[-1].reason


def test_two_gzip_files_behind_each_other_are_one_text(tmp_path: Path) -> None:
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(LINES[0] + b"\n") + gzip.compress(LINES[1] + b"\n"))
    blocks, bad = everything(path)
    assert frames(concat_can(blocks)) == FRAMES[:2]
    assert not bad


def test_a_recorded_drive_reads_as_python_can_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(candump_text("bmw_i3_dc_circontrol_end"))
    blocks, bad = everything(path)
    assert not bad
    block = concat_can(blocks)
    count = 0
    for i, m in enumerate(can.LogReader(path)):
        assert (int(block.can_id[i]), bool(block.ext[i])) == (m.arbitration_id, m.is_extended_id)
        assert block.data[i, : block.length[i]].tobytes() == bytes(m.data)
        assert abs(int(block.t_ns[i]) - m.timestamp * 1e9) < 500
        count += 1
    assert count == len(block) == 37_450


@st.composite
def blocks_of_frames(draw: st.DrawFn) -> CanBlock:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 8_999_999_999 * 10**9),
                st.integers(0, 1),
                st.booleans(),
                st.integers(0, EXT_MAX),
                st.sampled_from([0, TX, REMOTE, FD, FD | BRS, FD | ESI | TX]),
                st.binary(max_size=8),
            ),
            max_size=20,
        )
    )
    data = np.zeros((len(rows), 64), np.uint8)
    for i, row in enumerate(rows):
        if not row[4] & REMOTE:
            data[i, : len(row[5])] = list(row[5])
    return make_can_block(
        ["can0", "vcan1"],
        t_ns=[r[0] for r in rows],
        bus=[r[1] for r in rows],
        ext=[r[2] for r in rows],
        can_id=[r[3] if r[2] else r[3] & STD_MAX for r in rows],
        flags=[r[4] for r in rows],
        length=[len(r[5]) for r in rows],
        data=data,
    )


@given(blocks_of_frames())
def test_what_is_written_reads_back_the_same(block: CanBlock) -> None:
    again, bad = parse_candump(format_candump(block))
    assert not bad
    assert frames(again) == frames(block)


def test_a_written_file_is_the_same_bytes_each_time_and_readable_by_python_can(tmp_path: Path) -> None:
    block = concat_can([parse_candump(line)[0] for line in LINES[:9]])
    for name in ("a.log", "b.log.gz", "c.log.gz"):
        assert write_candump(tmp_path / name, [block, block]) == 18
    assert (tmp_path / "b.log.gz").read_bytes() == (tmp_path / "c.log.gz").read_bytes()
    assert gzip.decompress((tmp_path / "b.log.gz").read_bytes()) == (tmp_path / "a.log").read_bytes()
    assert [m.arbitration_id for m in can.LogReader(tmp_path / "a.log")] == [f[2] for f in FRAMES[:9]] * 2
