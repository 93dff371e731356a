"""A broker that lets nobody in without TLS and a password: certificates of our own, SCRAM and PLAIN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.broker import classpath, free_ports, new_cluster

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
    ca, other = folder / "ca.pem", folder / "other-ca.pem"
    _certificates(ca, folder / "broker.pem")
    _certificates(other, folder / "nobody.pem")
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
        "listener.name.secure.ssl.keystore.location": folder / "broker.pem",
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
        yield Secured(f"127.0.0.1:{port}", ca, other)
    finally:
        cluster.stop()


def _certificates(ca_file: Path, chain_file: Path) -> None:
    """Make an authority, and a key for 127.0.0.1 with a certificate that it has signed."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own authority")])
    root = (
        _certificate(name, name, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
    broker = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    leaf = (
        _certificate(broker, name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(root.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain_file.write_bytes(private + leaf.public_bytes(pem) + root.public_bytes(pem))


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
