"""The uplink over TLS to a broker that asks the gateway for a certificate too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.sender import Sender
from edge.uplink import KafkaUplink
from schemas.checked import Table
from schemas.kafka_settings import KafkaSettings, kafka_settings
from tests.conftest import broker_possible
from tests.support.broker import Cluster, free_ports, new_cluster
from tests.support.edge_kafka import keep, lain, open_outbox, topics_for, until
from tests.support.frames import frames
from tests.support.papers import Paper, paper


@pytest.fixture
def papers(tmp_path: Path) -> dict[str, Paper]:
    authority = paper(tmp_path, "authority")
    return {name: paper(tmp_path, name, authority) for name in ("broker", "gateway")} | {
        "stranger": paper(tmp_path, "stranger")
    }


@pytest.fixture
def tls(tmp_path: Path, papers: dict[str, Paper], request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, int]]:
    """Give a broker with a listener of TLS, and its port."""
    if not request.config.getoption("--thorough"):
        pytest.skip("a broker of its own: just kill-test, or --thorough")
    broker_possible()
    cluster, (port,) = new_cluster(tmp_path / "kafka"), free_ports(1)
    (broker,) = cluster.brokers
    plain = f"PLAINTEXT://{broker.address}"
    settings = {
        "listeners": f"{plain},CONTROLLER://127.0.0.1:{broker.controller_port},SSL://127.0.0.1:{port}",
        "advertised.listeners": f"{plain},SSL://localhost:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": papers["broker"].path,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": tmp_path / "authority.crt",
        "ssl.client.auth": "required",
    }
    try:
        cluster.start(settings)
        yield cluster, port
    finally:
        cluster.stop()


def _settings(folder: Path, port: int, name: str) -> KafkaSettings:
    told = {"bootstrap": f"localhost:{port}", "security": "tls", "ca_file": f"{folder}/authority.crt"}
    told |= {"cert_file": f"{folder}/{name}.crt", "key_file": f"{folder}/{name}.pem"}
    return kafka_settings(Table(told, "gateway.toml"))


def test_a_gateway_with_a_certificate_sends_and_a_stranger_does_not(tls: tuple[Cluster, int], tmp_path: Path) -> None:
    cluster, port = tls
    topics = topics_for(cluster)
    box, now_ns = open_outbox(tmp_path / "box"), time.time_ns()
    name = keep(box, frames([0.0], seq=[0]), now_ns)
    stranger = Sender(box, KafkaUplink(_settings(tmp_path, port, "stranger").client(), topics, "V1", timeout_s=2.0))
    until(lambda: stranger.failures > 0, lambda: stranger.step(time.time_ns()))
    stranger.close()
    assert sum(box.waiting.values()) == 1
    gateway = Sender(box, KafkaUplink(_settings(tmp_path, port, "gateway").client(), topics, "V1"))
    until(lambda: not any(box.waiting.values()), lambda: gateway.step(time.time_ns()))
    gateway.close()
    assert [m.headers["id"].decode() for m in lain(cluster, topics, "frames", "backfill")] == [name]
