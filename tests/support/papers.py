"""Keys and certificates of our own, for brokers and clients that speak TLS on this machine."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

_HERE = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


@dataclass
class Paper:
    """A key and its certificate, together in one PEM file, and the certificate alone in another."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate
    path: Path
    certificate_path: Path


def paper(folder: Path, name: str, by: Paper | None = None) -> Paper:
    """Make a key with a certificate of an hour; `by` None: of itself, as an authority."""
    key = generate_private_key(SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(_HERE), critical=False)
        .sign(key if by is None else by.key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / f"{name}.pem"
    path.write_bytes(secret + pem)
    certificate_path = folder / f"{name}.crt"
    certificate_path.write_bytes(pem)
    return Paper(key, made, path, certificate_path)
