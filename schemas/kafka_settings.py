"""How a broker is reached: the settings that source, sinks and tools share, checked at start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.checked import ConfigError, Table
from schemas.topics import Topic, load_topics

_PROTOCOLS = {"plaintext": "PLAINTEXT", "tls": "SSL", "sasl_plaintext": "SASL_PLAINTEXT", "sasl_tls": "SASL_SSL"}
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# What delivery rests on, and what has a key of its own: not to be set as a property of librdkafka.
_OURS = {
    "acks", "bootstrap.servers", "enable.auto.commit", "enable.auto.offset.store", "enable.gapless.guarantee",
    "enable.idempotence", "group.id", "isolation.level", "max.in.flight", "auto.offset.reset", "partitioner",
    "max.in.flight.requests.per.connection", "message.send.max.retries", "message.timeout.ms", "delivery.timeout.ms",
    "request.required.acks", "retries", "sasl.mechanism", "sasl.mechanisms", "sasl.password", "sasl.username",
    "security.protocol", "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
    "transactional.id", "metadata.broker.list",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A broker, who we are there, and our topics."""

    bootstrap: str  # host:port, by comma
    prefix: str = "ibms."  # of every topic's name
    group: str = "ibms-fleet"  # consumer group under which ordinary tools see the lag
    security: str = "plaintext"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_user: str = ""
    password_env: str = ""
    password_file: str = ""
    topics_file: str = ""  # instead of schemas/topics.toml
    properties: dict[str, str | int | float | bool] = field(default_factory=dict)  # of librdkafka
    file: str = ""  # where this was read, for errors

    def client(self) -> dict[str, Any]:
        """Give librdkafka's settings for any client; reads the password, raises ConfigError where there is none."""
        made: dict[str, Any] = dict(self.properties)
        made |= {"bootstrap.servers": self.bootstrap, "security.protocol": _PROTOCOLS[self.security]}
        files = {"ssl.ca.location": self.ca_file, "ssl.certificate.location": self.cert_file}
        made |= {key: path for key, path in (files | {"ssl.key.location": self.key_file}).items() if path}
        if self.security.startswith("sasl"):
            made |= {"sasl.mechanism": self.sasl_mechanism, "sasl.username": self.sasl_user}
            made["sasl.password"] = self._password()
        return made

    def topics(self) -> dict[str, Topic]:
        """Give the topics by role, with their full names; raises ConfigError."""
        return load_topics(Path(self.topics_file) if self.topics_file else None, self.prefix)

    def _password(self) -> str:
        if self.password_env:
            password = os.environ.get(self.password_env, "")
            if not password:
                msg = f"kafka.password_env must name a variable that is set; got {self.password_env} ({self.file})"
                raise ConfigError(msg)
            return password
        try:
            return Path(self.password_file).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as bad:
            why = bad.strerror if isinstance(bad, OSError) else "no text"
            msg = f"kafka.password_file must be a readable file; got {self.password_file}: {why} ({self.file})"
            raise ConfigError(msg) from None


def kafka_settings(table: Table) -> KafkaSettings:
    """Read the table [kafka]; raises ConfigError with file, key, value and what is accepted."""
    d = KafkaSettings("")
    if table.raw("password") is not None or table.raw("sasl_password") is not None:
        key = "password" if table.raw("password") is not None else "sasl_password"
        table.refuse(key, "left out: a password comes from password_env or password_file", "***")
    settings = KafkaSettings(
        bootstrap=table.text("bootstrap"),
        prefix=_text(table, "prefix", d.prefix),
        group=table.text("group", default=d.group),
        security=table.text("security", tuple(_PROTOCOLS), d.security),
        ca_file=_text(table, "ca_file", ""),
        cert_file=_text(table, "cert_file", ""),
        key_file=_text(table, "key_file", ""),
        sasl_mechanism=table.text("sasl_mechanism", _MECHANISMS, d.sasl_mechanism),
        sasl_user=_text(table, "sasl_user", ""),
        password_env=_text(table, "password_env", ""),
        password_file=_text(table, "password_file", ""),
        topics_file=_text(table, "topics_file", ""),
        properties=_properties(table),
        file=table.file,
    )
    _check(table, settings)
    table.done()
    return settings


def _check(table: Table, s: KafkaSettings) -> None:
    for address in s.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            table.refuse("bootstrap", "host:port, several by comma", s.bootstrap)
    if bool(s.cert_file) != bool(s.key_file):
        table.refuse("key_file" if s.cert_file else "cert_file", "given with the other of cert_file and key_file")
    if not s.security.endswith("tls") and (s.ca_file or s.cert_file):
        table.refuse("security", "tls or sasl_tls where ca_file or cert_file is given", s.security)
    if s.security.startswith("sasl"):
        if not s.sasl_user:
            table.refuse("sasl_user", f"given with security = {s.security}")
        if bool(s.password_env) == bool(s.password_file):
            table.refuse(
                "password_env", f"given, or password_file, with security = {s.security}", s.password_env or None
            )


def _text(table: Table, key: str, default: str) -> str:
    value = table.raw(key)
    if value is None:
        return default
    if not isinstance(value, str):
        table.refuse(key, "a text", value)
    return value


def _properties(table: Table) -> dict[str, str | int | float | bool]:
    value = table.raw("properties")
    if value is None:
        return {}
    if not isinstance(value, dict):
        table.refuse("properties", 'a table of librdkafka properties, as {"linger.ms" = 5}', value)
    for key, item in value.items():
        if key in _OURS:
            table.refuse(f"properties.{key}", "left out: delivery rests on it, or it has a key of its own", "***")
        if not isinstance(item, str | int | float | bool):
            table.refuse(f"properties.{key}", "a text, a number, true or false", item)
    return value
