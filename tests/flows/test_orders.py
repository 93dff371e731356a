"""Orders: signed as the vehicle will judge them, to a file or onto the commands topic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer

from edge import cloud_soc, local_soc
from edge.cloud_limits import CloudConfig, State, bounds_of, caps_of, receive
from edge.local_soc import fresh_state, local_soc_config
from flows.kafka_admin import run_init
from schemas.kafka_partition import partition_of
from schemas.pack import load_pack
from schemas.signed import opened, read_public
from tests.support.broker import Cluster
from tests.support.commands import Ibms
from tests.support.frames import NS, T0_NS, frames

BOUND = "cell_v/MSL/over/any"


@pytest.fixture
def key(tmp_path: Path, ibms: Ibms) -> Path:
    path = tmp_path / "fleet.key"
    ran = ibms("order", "key", str(path))
    assert ran.code == 0
    assert "keep it secret" in ran.out
    return path


def _limits(key: Path, *more: str) -> list[str]:
    return ["order", "limits", "--key", str(key), "--vehicle", "V1", "--pack", "bmw-i3-60ah", *more]


def test_a_gateway_takes_what_was_signed(key: Path, tmp_path: Path, ibms: Ibms) -> None:
    out = tmp_path / "limits"
    ran = ibms(*_limits(key, "--charge", "40", "--bound", f"{BOUND}=4.2", "--hours", "2", "--out", str(out)))
    assert ran.code == 0, ran.err
    assert ran.out.endswith("for V1, 2 h\n")
    public = read_public(tmp_path / "fleet.key.pub")
    message = opened(out.read_bytes(), [public])
    assert message.expires_ns - message.issued_ns == 7200 * 10**9
    pack = load_pack("bmw-i3-60ah")
    cfg = CloudConfig("V1", (public,), pack.limits, pack.charge_max_a, pack.discharge_max_a)
    state, judged = receive(cfg, State(), out.read_bytes(), message.issued_ns)
    assert judged.reason == ""
    assert bounds_of(state) == {BOUND: 4.2}
    assert caps_of(state).charge_a == 40.0
    assert not list(tmp_path.glob("*.new"))


def test_a_gateway_takes_an_estimate_of_its_charge(key: Path, tmp_path: Path, ibms: Ibms) -> None:
    out = tmp_path / "soc"
    told = ["order", "soc", "--key", str(key), "--vehicle", "V1", "--soc", "0.6", "--std", "0.02"]
    ran = ibms(*told, "--out", str(out))
    assert ran.code == 0, ran.err
    keys = [read_public(tmp_path / "fleet.key.pub")]
    message = opened(out.read_bytes(), keys)
    assert message.content == {"soc": 0.6, "std": 0.02, "t_ns": message.issued_ns}
    cfg = local_soc_config(load_pack("generic-nmc@4c2t60ah"))
    block = frames([0.0, 1.0], cell_v=3.7).with_frames(t_ns=message.issued_ns + np.array([-60 * NS, -NS]))
    state = local_soc.step(cfg, fresh_state(cfg), block, None, message.issued_ns)[0]
    state, judged = cloud_soc.receive(cfg, state, out.read_bytes(), keys, "V1", message.issued_ns)
    assert judged.reason == "", judged.text
    assert state.sequence == message.sequence
    at = ibms(*told, "--time", "2026-01-05T08:00:00Z", "--out", str(out))
    assert at.code == 0
    assert opened(out.read_bytes(), keys).content["t_ns"] == T0_NS + 8 * 3600 * NS
    assert "an order must go somewhere" in ibms(*told).error
    assert "--time must be a time" in ibms(*told, "--time", "noon", "--out", str(out)).error
    assert ibms(*told[:-1], "0.5", "--out", str(out)).code == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--bound", f"{BOUND}=4.3", "--out", "x"], f"{BOUND} must be at most 4.25; got 4.3"),
        (["--bound", BOUND, "--out", "x"], "--bound must be KEY=NUMBER"),
        (["--bound", "nothing=1", "--out", "x"], "bounds must go by keys of this pack's rows; got nothing"),
        (["--charge", "1000", "--out", "x"], "charge_a must be in 0..150; got 1000"),
        (["--charge", "10"], "an order must go somewhere"),
        (["--hours", "721", "--out", "x"], "721"),
        (["--charge", "10", "--config", "none.toml"], "settings must be a readable TOML file"),
    ],
)
def test_what_a_gateway_would_refuse_is_not_signed(key: Path, ibms: Ibms, more: list[str], says: str) -> None:
    ran = ibms(*_limits(key, *more))
    assert ran.code == 2
    assert says in ran.error
    assert not Path("x").exists()


def test_a_key_is_never_replaced_and_another_file_is_none(key: Path, ibms: Ibms) -> None:
    assert "File exists" in ibms("order", "key", str(key)).error
    wrong = ibms(*_limits(key.with_name("fleet.key.pub"), "--out", "x"))
    assert "must be an Ed25519 private key" in wrong.error


def test_an_order_reaches_the_commands_topic_under_its_vehicle(
    key: Path, tmp_path: Path, ibms: Ibms, kafka: Cluster
) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text(f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nprefix = "orders."\n')
    run_init(config, dry_run=False)
    ran = ibms(*_limits(key, "--discharge", "50", "--config", str(config)))
    assert ran.code == 0, ran.err
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["orders.commands"])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert (message.key(), message.partition()) == (b"V1/limits", partition_of("V1", 64))
    assert opened(message.value() or b"", [read_public(tmp_path / "fleet.key.pub")]).content == {"discharge_a": 50.0}
