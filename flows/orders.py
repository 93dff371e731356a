"""What `ibms order` does: sign what a vehicle is told, and send it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.cloud_limits import CloudConfig, State, receive
from flows.kafka_admin import read_kafka
from flows.settings import time_ns
from schemas.checked import ConfigError
from schemas.kafka_partition import order_key, partition_of
from schemas.pack import load_pack
from schemas.signed import CONTENT_TYPE, LIMITS, SOC, Signed, make_key, read_private, said_kind, sign

_FLUSH_S = 30.0
_HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class LimitsOrder:
    """Limits for one vehicle, for some hours; None = no word.  `bounds` are KEY=VALUE."""

    vehicle: str
    pack: str
    charge_a: float | None
    discharge_a: float | None
    bounds: Sequence[str]
    hours: float


@dataclass(frozen=True, slots=True)
class SocOrder:
    """A pack's usable SOC, 0..1, its standard deviation, and its time ("" is now), for a vehicle to count on from."""

    vehicle: str
    soc: float
    std: float
    time: str
    hours: float


def run_key(path: Path) -> None:
    """Make `path` and `path`.pub; raises FileExistsError where one is there."""
    public = path.with_name(path.name + ".pub")
    make_key(path, public)
    sys.stdout.write(f"{path}: keep it secret; {public}: for gateways\n")


def run_limits(order: LimitsOrder, key: Path, out: Path | None, config: Path | None) -> None:
    """Sign limits, to a file or to the commands topic; raises ConfigError where a vehicle would refuse them."""
    now_ns = time.time_ns()
    _give(signed_limits(order, key, now_ns), order.vehicle, out, config)
    sys.stdout.write(f"limits {now_ns // 10**6} for {order.vehicle}, {order.hours:g} h\n")


def run_soc(order: SocOrder, key: Path, out: Path | None, config: Path | None) -> None:
    """Sign an estimate of a pack's charge, to a file or to the commands topic; raises ConfigError."""
    now_ns = time.time_ns()
    t_ns = time_ns(order.time, "--time") if order.time else now_ns
    content = {"soc": order.soc, "std": order.std, "t_ns": t_ns}
    data = signed_soc(order.vehicle, content, read_private(key), now_ns, order.hours)
    _give(data, order.vehicle, out, config)
    sys.stdout.write(f"soc {now_ns // 10**6} for {order.vehicle}, {order.hours:g} h\n")


def _give(data: bytes, vehicle: str, out: Path | None, config: Path | None) -> None:
    give([(vehicle, out, data)], config)


def give(messages: Sequence[tuple[str, Path | None, bytes]], config: Path | None) -> None:
    """Write messages (vehicle, file or None, bytes) and send them to the commands topic; raises ConfigError."""
    if config is None and any(out is None for _, out, _ in messages):
        msg = "an order must go somewhere: --out, or --config SETTINGS for the commands topic"
        raise ConfigError(msg)
    for _, out, data in messages:
        if out is not None:
            new = out.with_name(out.name + ".new")  # a gateway may be reading the folder
            new.write_bytes(data)
            new.replace(out)
    if config is not None:
        _send(config, [(vehicle, data) for vehicle, _, data in messages])


def signed_soc(
    vehicle: str, content: Mapping[str, object], private: Ed25519PrivateKey, now_ns: int, hours: float
) -> bytes:
    """Sign what a gateway is to count on with (edge.cloud_soc); the sequence is the time in ms, so that it grows."""
    until_ns = now_ns + round(hours * _HOUR_NS)
    return sign(Signed(SOC, vehicle, now_ns // 10**6, now_ns, until_ns, content), private)


def signed_limits(order: LimitsOrder, key: Path, now_ns: int) -> bytes:
    """Sign limits as the vehicle will judge them; the sequence is the time in ms, so that it grows."""
    private, pack = read_private(key), load_pack(order.pack)
    content: dict[str, object] = {
        name: value
        for name, value in (("charge_a", order.charge_a), ("discharge_a", order.discharge_a))
        if value is not None
    }
    if order.bounds:
        content["bounds"] = dict(map(_bound, order.bounds))
    until_ns = now_ns + round(order.hours * _HOUR_NS)
    data = sign(Signed(LIMITS, order.vehicle, now_ns // 10**6, now_ns, until_ns, content), private)
    cfg = CloudConfig(order.vehicle, (private.public_key(),), pack.limits, pack.charge_max_a, pack.discharge_max_a)
    _, judged = receive(cfg, State(), data, now_ns)
    if judged.reason:
        raise ConfigError(judged.text)
    return data


def _bound(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError:
        msg = f"--bound must be KEY=NUMBER, as cell_v/MSL/over/any=4.2; got {text}"
        raise ConfigError(msg) from None


def _send(config: Path, messages: Sequence[tuple[str, bytes]]) -> None:
    settings = read_kafka(config)
    topic = settings.topics()["commands"].name
    client = {"enable.idempotence": True, "partitioner": "murmur2", "topic.metadata.propagation.max.ms": 5_000}
    refused: list[str] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            refused.append(error.str())

    try:
        producer = Producer({**settings.client(), **client})
        partitions = len(producer.list_topics(topic, _FLUSH_S).topics[topic].partitions)
        if not partitions:
            refused.append("no such topic")
        for vehicle, data in messages if partitions else ():
            key, where = order_key(vehicle, said_kind(data)), partition_of(vehicle, partitions)
            producer.produce(topic, data, key, where, headers=[("content-type", CONTENT_TYPE)], on_delivery=delivered)
            producer.poll(0)
        left = producer.flush(_FLUSH_S)
    except KafkaException as error:
        left, refused = 0, [error.args[0].str()]
    if refused or left:
        why = refused[0] if refused else f"no answer within {_FLUSH_S:.0f} s"
        msg = f"kafka.bootstrap must be a broker that takes records of {topic}; got {why} ({settings.bootstrap})"
        raise ConfigError(msg)
