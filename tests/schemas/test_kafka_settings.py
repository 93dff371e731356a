"""Settings of a broker: what is accepted, and where a password may come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.checked import ConfigError, Table
from schemas.kafka_settings import KafkaSettings, kafka_settings

PLAIN = {"bootstrap": "127.0.0.1:9092"}
SASL = PLAIN | {"security": "sasl_tls", "sasl_user": "ibms"}


def _read(data: dict[str, Any]) -> KafkaSettings:
    return kafka_settings(Table(data, "fleet.toml", "kafka."))


def test_an_address_is_enough() -> None:
    settings = _read(PLAIN)
    assert settings.client() == {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"}
    assert settings.topics()["dead_letters"].name == "ibms.dead-letters"


def test_tls_and_sasl_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _read(SASL | {"password_env": "FLEET_PW", "ca_file": "ca.pem", "properties": {"linger.ms": 5}})
    monkeypatch.setenv("FLEET_PW", "s3cret")
    assert settings.client() == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ibms",
        "sasl.password": "s3cret",
        "linger.ms": 5,
    }
    assert "s3cret" not in repr(settings)


def test_a_password_file_may_end_its_line(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret\n")
    assert _read(SASL | {"password_file": str(tmp_path / "pw")}).client()["sasl.password"] == "s3cret"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "kafka.bootstrap must be a text; got nothing"),
        ({"bootstrap": "broker"}, "kafka.bootstrap must be host:port, several by comma; got 'broker'"),
        ({"bootstrap": "a:1,b:99999"}, "kafka.bootstrap must be host:port"),
        (PLAIN | {"security": "ssl"}, "kafka.security must be one of plaintext, tls, sasl_plaintext, sasl_tls"),
        (PLAIN | {"ca_file": "ca.pem"}, "kafka.security must be tls or sasl_tls where ca_file"),
        (PLAIN | {"security": "tls", "cert_file": "a"}, "kafka.key_file must be given with the other"),
        (PLAIN | {"security": "sasl_tls"}, "kafka.sasl_user must be given with security = sasl_tls; got nothing"),
        (SASL, "kafka.password_env must be given, or password_file, with security = sasl_tls"),
        (SASL | {"password": "s3cret"}, "kafka.password must be left out"),
        (PLAIN | {"properties": {"acks": 0}}, "kafka.properties.acks must be left out: delivery rests on it"),
        (PLAIN | {"properties": {"linger.ms": []}}, "kafka.properties.linger.ms must be a text, a number"),
        (PLAIN | {"topic": "x"}, "kafka.topic must be a known key"),
    ],
)
def test_a_wrong_setting_is_named_and_no_password_repeated(data: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _read(data)
    assert error in str(raised.value)
    assert "fleet.toml" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_missing_password_is_an_error_when_it_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"kafka.password_env must name a variable that is set; got NO_SUCH_PW"):
        _read(SASL | {"password_env": "NO_SUCH_PW"}).client()
    with pytest.raises(ConfigError, match=r"kafka.password_file must be a readable file; got nowhere: No such file"):
        _read(SASL | {"password_file": "nowhere"}).client()
