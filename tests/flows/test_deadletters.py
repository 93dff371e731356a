"""`ibms deadletters` on a real broker: what was refused is counted, shown, and sent again once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.deadletters import RESUBMITTED, run_list, run_resubmit, run_show
from flows.kafka_admin import read_kafka, run_init
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.headers import pack_headers
from schemas.topics import DECLARED
from sinks.kafka import KafkaSink
from tests.support.broker import Cluster
from tests.support.kafka_account import messages
from tests.support.lake import records

EVENT = [("content-type", b"application/json"), ("ce_type", b"ibms.gateway.incident"), ("ce_id", b"one")]
HEADERS = [("content-type", b"application/json"), ("trace", b"\xff\x01")]


@pytest.fixture
def config(tmp_path: Path, kafka: Cluster, capsys: pytest.CaptureFixture[str]) -> Path:
    """Topics with four dead letters: two of frames, one of a gateway's report, one of a file."""
    (tmp_path / "topics.toml").write_text(DECLARED.read_text().replace("partitions = 64", "partitions = 3"))
    path = tmp_path / "fleet.toml"
    where = f'bootstrap = "{kafka.bootstrap}"\nprefix = "{kafka.topic("letters")}."\n'
    path.write_text(f'[kafka]\n{where}topics_file = "{tmp_path / "topics.toml"}"\n')
    run_init(path, dry_run=False)
    topics = read_kafka(path).topics()
    frames = topics["frames"].name
    packed = pack_headers(b"V\xfe", HEADERS)
    report = DeadLetter(
        "c4", topics["gateways"].name, 1, 3, 0, "unknown_kind", "of a newer gateway", "", 0, 0, "application/json",
        b'{"what": "alert", "vehicle": "V1", "at_ns": 5, "text": "welded"}', pack_headers(b"V1", EVENT),
    )  # fmt: skip
    letters = [
        report,
        DeadLetter("aa1", frames, 2, 7, 0, "undecodable", "no JSON", "", 0, 0, "application/json", b"{\x00", packed),
        DeadLetter("ab2", frames, 1, 8, 3, "late", "too late", "P", 5, 0, "application/json", b'{"row": 3}', ""),
        DeadLetter("b3", "drive.log", 0, 1, 0, "late", "too late", "P", 5, 0, "application/json", b"{}", ""),
    ]
    sink = KafkaSink(
        {"bootstrap.servers": kafka.bootstrap}, {"dead_letters": topics["dead_letters"].name}, "t", started=None
    )
    part = sink.build_part("kafka", "kafka", None)
    part.write_batch(records(*letters))
    part.snapshot()
    capsys.readouterr()
    return path


def test_letters_are_counted_by_reason(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_list(config, as_json=True)
    late, undecodable, unknown = json.loads(capsys.readouterr().out)
    assert (unknown["reason"], unknown["count"]) == ("unknown_kind", 1)
    assert (late["reason"], late["count"], late["resubmitted"]) == ("late", 2, 0)
    assert (undecodable["reason"], undecodable["count"]) == ("undecodable", 1)
    run_list(config, as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["late", "2", "0"]


def test_one_is_shown_with_its_bytes_and_what_the_decoder_says(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_show(config, "aa")
    shown = {line[:24].strip(): line[24:] for line in capsys.readouterr().out.splitlines()}
    assert shown["id"] == "aa1"
    assert (shown["reason"], shown["partition"], shown["offset"]) == ("undecodable", "2", "7")
    assert (shown["key"], shown["value"], shown["header trace"]) == ("56 fe", "7b 00", "ff 01")
    assert shown["decoded"].startswith("undecodable: ")
    assert shown["resubmitted"] == "no"


def test_what_a_newer_gateway_said_goes_back_as_it_was_once_somebody_can_read_it(
    config: Path, kafka: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run_show(config, "c4")
    assert f"{'decoded':24}alert: welded\n" in capsys.readouterr().out
    run_resubmit(config, "", "unknown_kind")
    assert capsys.readouterr().out == "1 sent, 0 had been sent before, 0 cannot be\n"
    (sent,) = messages(kafka, read_kafka(config).topics()["gateways"].name)
    assert (sent.key(), sent.partition(), sent.headers()[:3]) == (b"V1", 1, EVENT)  # type: ignore[index]


@pytest.mark.parametrize("name", ["a", "zz"])
def test_an_id_that_is_not_of_one_letter_is_an_error(config: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"id must be that of one dead letter, or its beginning; got {name}, which"):
        run_show(config, name)


def test_a_letter_goes_back_to_its_partition_as_it_came_and_never_twice(
    config: Path, kafka: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = read_kafka(config).topics()["frames"].name
    run_resubmit(config, "aa1", "")
    assert capsys.readouterr().out == "1 sent, 0 had been sent before, 0 cannot be\n"
    run_resubmit(config, "aa1", "")
    assert capsys.readouterr().out == "0 sent, 1 had been sent before, 0 cannot be\n"
    (sent,) = messages(kafka, frames)
    assert (sent.key(), sent.value(), sent.partition()) == (b"V\xfe", b"{\x00", 2)
    assert list(sent.headers() or ()) == [*HEADERS, (RESUBMITTED, b"aa1")]
    run_list(config, as_json=True)
    assert [r["resubmitted"] for r in json.loads(capsys.readouterr().out)] == [0, 1, 0]


def test_a_reason_sends_what_came_from_our_topics(
    config: Path, kafka: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run_resubmit(config, "", "late")
    assert capsys.readouterr().out == "1 sent, 0 had been sent before, 1 cannot be: cut, or not from a topic of ours\n"
    (sent,) = messages(kafka, read_kafka(config).topics()["frames"].name)
    assert dict(sent.headers() or ())["content-type"] == b"application/json"
    assert sent.partition() == 1
    with pytest.raises(
        ConfigError, match=r"--reason must be one that dead letters have \(late, undecodable, unknown_kind\); got odd"
    ):
        run_resubmit(config, "", "odd")
    with pytest.raises(ConfigError, match=r"give an id or --reason; got neither"):
        run_resubmit(config, "", "")
