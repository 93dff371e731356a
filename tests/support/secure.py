"""A broker that lets nobody in without TLS and a password: certificates of our own, SCRAM and PLAIN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from tests.support.broker import classpath, free_ports, new_cluster
from tests.support.papers import paper

USER, PASSWORD = "ibms", "correct horse"
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secured:
    """Where it listens, and what its clients must trust; `other_ca` has signed nothing of it."""

    bootstrap: str
    ca_file: Path
    other_ca: Path


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """Run a broker with one listener for clients, SASL over TLS, and one for itself; ended afterwards."""
    classpath()
    folder.mkdir(parents=True, exist_ok=True)
    authority, other = paper(folder, "ca"), paper(folder, "other-ca")
    cluster = new_cluster(folder / "kafka")
    (broker,) = cluster.brokers
    (port,) = free_ports(1)
    secure = f"SECURE://127.0.0.1:{port}"
    settings = {
        "listeners": f"PLAINTEXT://{broker.address},{secure},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{broker.address},{secure}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": paper(folder, "broker", authority).path,
        "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        ),
    }
    try:
        cluster.start(settings)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = cluster.admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, info, PASSWORD.encode())])
        made[USER].result(30)
        yield Secured(f"127.0.0.1:{port}", authority.certificate_path, other.certificate_path)
    finally:
        cluster.stop()
