"""`ibms kafka send`: every frame of a file arrives, keyed by vehicle and in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer

from edge.outbox import LIVE as LANE_LIVE
from edge.outbox import URGENT, Record
from edge.retention import FRAMES, INCIDENT
from edge.uplink import FileUplink, encode, headers
from flows.kafka_admin import run_init
from flows.kafka_send import left_in, messages_of, run_send
from replay.frames_file import read_frames, write_frames
from schemas.checked import ConfigError
from schemas.frames import FrameBlock
from schemas.wire import decode
from schemas.wire_arrow import ARROW
from schemas.wire_json import JSON
from tests.support.broker import Cluster
from tests.support.frames import frames
from tests.support.kafka_account import messages

VEHICLES, ROWS = 3, 25


def fleet() -> FrameBlock:
    """Frames of some packs, one after the other as they would arrive."""
    names = tuple(f"P{k}" for k in range(VEHICLES))
    t_s = np.repeat(np.arange(ROWS) * 10.0, VEHICLES)
    return frames(t_s.tolist(), names=names, pack=np.tile(np.arange(VEHICLES), ROWS).tolist())


def rows_of(blocks: list[Any]) -> list[tuple[str, int]]:
    return [(b.packs[p], t) for b in blocks for p, t in zip(b.pack.tolist(), b.t_ns.tolist(), strict=True)]


@pytest.mark.parametrize(("encoding", "kind"), [("arrow", ARROW), ("json", JSON)])
@pytest.mark.parametrize("size", [1, 10, 1000])
def test_messages_hold_every_frame_once_and_each_packs_in_order(encoding: str, kind: str, size: int) -> None:
    block = fleet()
    made = list(messages_of(block, encoding, size))
    assert len(made) == VEHICLES * -(-ROWS // size)
    found = [(key, rows_of(decode(value, kind, "frames", 0, 0))) for key, value in made]
    for vehicle in block.vehicles:
        mine = [row for key, rows in found if key == vehicle for row in rows]
        assert mine == [row for row in rows_of([block]) if row[0] == vehicle]


def test_a_file_arrives_on_a_real_broker(kafka: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, topic = tmp_path / "fleet.toml", "sent.frames"
    config.write_text(f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nprefix = "sent."\n')
    run_init(config, dry_run=False)
    capsys.readouterr()
    write_frames([fleet()], tmp_path / "f.parquet")
    run_send(config, [tmp_path / "f.parquet"], "arrow", 10)
    assert capsys.readouterr().out == f"{VEHICLES * ROWS} frames in {VEHICLES * 3} messages → {topic}\n"
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "t", "auto.offset.reset": "earliest"})
    reader.subscribe([topic])
    got: list[tuple[str, int]] = []
    while len(got) < VEHICLES * ROWS:
        message = reader.poll(30)
        assert message is not None
        value, (header,) = message.value(), message.headers() or []
        assert value is not None
        assert header == ("content-type", ARROW.encode())
        part = rows_of(decode(value, ARROW, topic, 0, 0))
        key = message.key()
        assert {row[0] for row in part} == {key.decode() if isinstance(key, bytes) else key}
        got += part
    reader.close()
    assert sorted(got) == sorted(rows_of([b for b in read_frames(tmp_path / "f.parquet") if isinstance(b, FrameBlock)]))


def test_what_a_gateway_left_in_a_folder_arrives_as_it_would_have_sent_it(
    kafka: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, up = tmp_path / "fleet.toml", FileUplink(tmp_path / "up", "V1")
    config.write_text(f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nprefix = "left."\n')
    run_init(config, dry_run=False)
    capsys.readouterr()
    payload, kind = encode(frames([0, 1], names=("V1",)))
    told = Record(1, INCIDENT, "one", 5, 5, "application/json", b"{}", "decision on")
    wanted = {"frames": (LANE_LIVE, Record(0, FRAMES, "f", 3, 4, kind, payload)), "gateways": (URGENT, told)}
    for lane, record in wanted.values():
        assert up.send(lane, record)
    (tmp_path / "up" / "urgent" / "half.new").write_bytes(b"{")
    run_send(config, [tmp_path / "up"], "arrow", 10)
    said = [f"1 messages of gateways → left.{role}\n" for role in wanted]
    assert capsys.readouterr().out == "".join(said)
    for role, (lane, record) in wanted.items():
        (one,) = messages(kafka, f"left.{role}")
        assert (one.key(), one.value(), one.headers()) == (b"V1", record.payload, headers(lane, record, "V1"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"nothing", "urgent/1 must be a message that a gateway's uplink wrote; got "),
        (
            b'{"key": "V", "topic": "commands", "headers": {}}\n',
            "must be for frames, .*; got 'commands'",
        ),
        (None, "FILES must be files of frames, or a folder that a gateway's uplink wrote; got "),
    ],
)
def test_a_folder_of_something_else_is_one_clear_line(tmp_path: Path, content: bytes | None, error: str) -> None:
    (tmp_path / "urgent").mkdir()
    if content is not None:
        (tmp_path / "urgent" / "1").write_bytes(content)
    with pytest.raises(ConfigError, match=error):
        list(left_in(tmp_path))


def test_a_topic_that_is_not_there_is_one_clear_line(kafka: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text(f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nprefix = "nowhere."\n')
    write_frames([fleet()], tmp_path / "f.parquet")
    with pytest.raises(ConfigError, match=r"that takes records of nowhere.frames; got "):
        run_send(config, [tmp_path / "f.parquet"], "json", 1)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--encoding must be arrow or json; got xml"):
        run_send(tmp_path / "fleet.toml", [], "xml", 1)
