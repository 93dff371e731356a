"""TLS and SASL on a broker that asks for both: every client of ours gets in with them, and none without."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from flows.doctor import examine
from flows.kafka_admin import run_init
from flows.kafka_run import kafka_sink, kafka_source
from flows.observe import Observer, ObserveSettings
from flows.settings import KafkaInSettings, RunSettings, load_settings
from schemas.frames import FrameBlock
from schemas.wire_json import JSON, row_json
from tests.support.broker import KafkaUnavailableError
from tests.support.frames import frames
from tests.support.lake import records, windows
from tests.support.secure import PASSWORD, USER, Secured, secured_broker

FRAMES = 5
CONFIG = """
outputs = ["kafka"]
[source]
kind = "kafka"
models = ["generic-nmc@4c2t60ah"]
readers = 1
[kafka]
bootstrap = "{bootstrap}"
security = "{security}"
ca_file = "{ca_file}"
sasl_mechanism = "{mechanism}"
sasl_user = "{user}"
password_file = "{folder}/password"
[recovery]
dir = "{folder}/recovery"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One secured broker for the tests of this file."""
    try:
        with secured_broker(tmp_path_factory.mktemp("secured")) as made:
            yield made
    except KafkaUnavailableError as missing:
        if os.environ.get("IBMS_REQUIRE_KAFKA") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def _config(folder: Path, broker: Secured, mechanism: str = "SCRAM-SHA-512", **wrong: Any) -> Path:
    text = CONFIG
    values = {"security": "sasl_tls", "ca_file": broker.ca_file, "user": USER, "password": PASSWORD} | wrong
    (folder / "password").write_text(f"{values.pop('password')}\n")
    path = folder / "fleet.toml"
    path.write_text(text.format(bootstrap=broker.bootstrap, mechanism=mechanism, folder=folder, **values))
    return path


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_tool_source_and_sink_get_in_with_a_password_over_tls(tmp_path: Path, broker: Secured, mechanism: str) -> None:
    config = _config(tmp_path, broker, mechanism)
    run_init(config, dry_run=False)
    assert not [one for one in examine(config) if one.state == "wrong"]
    settings = load_settings(config)
    seen = Observer(ObserveSettings())
    sent = frames([10.0 * i for i in range(FRAMES)], names=(mechanism,), seq=range(FRAMES))
    assert settings.kafka is not None
    producer = Producer(settings.kafka.client())
    for row in range(len(sent)):
        producer.produce("ibms.frames", row_json(sent, row), mechanism, headers=[("content-type", JSON)])
    assert producer.flush(30) == 0
    assert _read(settings, seen, mechanism) == len(sent)
    sink = kafka_sink(settings, "secured", seen)
    first = sink.build_part("kafka", "kafka", None)
    state = first.snapshot()
    first.write_batch(records(windows(20, first=0, pack=mechanism)))
    first.close()
    resumed = sink.build_part("kafka", "kafka", state)
    assert len(resumed.skip) == 20, "what lies behind the snapshot is read back"
    resumed.close()


def _read(settings: RunSettings, seen: Observer, pack: str) -> int:
    assert isinstance(settings.source, KafkaInSettings)
    reader = kafka_source(settings, settings.source, seen).build_part("source", "reader-0000", None)
    read, end = 0, time.monotonic() + 60
    try:
        while read < FRAMES and time.monotonic() < end:
            blocks = [i for i in reader.next_batch() if isinstance(i, FrameBlock)]
            read += sum(b.packs[p] == pack for b in blocks for p in b.pack)
            time.sleep(0.01)
    finally:
        reader.close()
    return read


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"password": "guess"}, "correct sasl_user, the password or sasl_mechanism"),
        ({"user": "nobody"}, "correct sasl_user, the password or sasl_mechanism"),
        ({"ca_file": "other"}, "correct security, ca_file, cert_file or key_file"),
        ({"security": "sasl_plaintext", "ca_file": ""}, "start it, or correct [kafka] bootstrap and security"),
    ],
)
def test_what_is_wrong_is_found_by_doctor_with_what_to_do(
    tmp_path: Path, broker: Secured, wrong: dict[str, str], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.kafka_admin._ANSWER_S", 6.0)
    given: dict[str, Any] = {k: broker.other_ca if v == "other" else v for k, v in wrong.items()}
    (found,) = (one for one in examine(_config(tmp_path, broker, **given)) if one.state == "wrong")
    assert (found.what, found.advice) == ("broker", advice), found.text
    assert PASSWORD not in found.text
