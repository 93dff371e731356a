"""How do records leave the vehicle? To Kafka, or to a folder that somebody carries away; orders come the same way.

The only module of the edge that touches Kafka and Arrow.  A message is what the fleet flow's source reads: frames as
Arrow (version 2) on the topics `frames` and `backfill`; incidents, notes and black boxes as CloudEvents on `gateways`.
The key is the vehicle, and the header `id` is the same however often a record is sent.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edge.outbox import BACKFILL, LIVE, URGENT, Record
from edge.telemetry_settings import FILE, KAFKA, UplinkSettings
from schemas.checked import ConfigError, shown
from schemas.durable import sync_folder
from schemas.frames import FrameBlock
from schemas.kafka_partition import order_key, partition_of
from schemas.signed import KINDS
from schemas.wire_arrow import ARROW, ZSTD_LEVEL, encode_delta

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition

_ROLE = {LIVE: "frames", BACKFILL: "backfill", URGENT: "gateways"}
_CLOSE_S = 2.0  # that producer and consumer may each take to let go
_ORDERS = 16  # read at once
# A message is given up by the client after this, comes back to the outbox, and goes again by the lane of its age.
TIMEOUT_S = 20.0
_HARD_BYTES = 64 << 10  # what is more, a black box, is packed in a tenth of the time: nothing here may hold up the bus
_QUICK_LEVEL = 3
_ROW_BYTES = 64


class Report(NamedTuple):
    """What became of records, by number."""

    delivered: list[int]
    failed: list[int]


class Uplink(Protocol):
    """A way out."""

    def send(self, lane: str, record: Record) -> bool:
        """Begin to send; False where nothing more is taken now."""

    def report(self) -> Report:
        """Say what has arrived since, and what has not."""

    def hear(self) -> list[bytes]:
        """Give what somebody has said to this vehicle since."""

    def cost(self, lane: str, record: Record) -> int:
        """Give the bytes that a record is on the line: payload, key and headers."""

    def close(self) -> Report:
        """Let go; gives what became of the last records, and what it does not name has not arrived."""


def encode(block: FrameBlock) -> tuple[bytes, str]:
    """Give frames as bytes and their content type."""
    size = len(block) * (4 * (block.cells + block.probes) + _ROW_BYTES)
    return encode_delta(block, ZSTD_LEVEL if size <= _HARD_BYTES else _QUICK_LEVEL), ARROW


def headers(lane: str, record: Record, vehicle: str) -> list[tuple[str, bytes]]:
    """Give a message's headers."""
    told = {"content-type": record.content_type, "id": record.id}
    if lane != URGENT:
        told["lane"] = lane
    else:
        time = datetime.fromtimestamp(record.t_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told |= {"ce_specversion": "1.0", "ce_id": record.id, "ce_source": f"/ibms/gateways/{vehicle}"}
        told |= {"ce_type": f"ibms.gateway.{record.kind}", "ce_subject": record.subject or "-", "ce_time": time}
    return [(name, value.encode()) for name, value in told.items()]


def cost(lane: str, record: Record, vehicle: str) -> int:
    """Give the bytes of a message: payload, key and headers, not the broker's own framing."""
    return len(record.payload) + len(vehicle) + sum(len(k) + len(v) for k, v in headers(lane, record, vehicle))


class KafkaUplink:
    """Sends to a broker, idempotently; nothing here waits for one.

    A producer that has failed for good is replaced by another: what it had comes back as failed.
    """

    def __init__(
        self, client: Mapping[str, Any], topics: Mapping[str, str], vehicle: str, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Take librdkafka's settings and topic names by role; raises KafkaException where the settings are none."""
        from confluent_kafka import Consumer, Producer  # noqa: PLC0415 - a box without a broker installs none

        ours = {
            "enable.idempotence": True,
            "partitioner": "murmur2",
            "linger.ms": 20,
            "compression.type": "none",  # frames are packed
            "message.timeout.ms": round(timeout_s * 1000),
            "queue.buffering.max.kbytes": 4096,
            "socket.keepalive.enable": True,
            "log_level": 2,
        }
        self._make: Callable[[], Producer] = lambda: Producer({**client, **ours})
        self._producer = self._make()
        heard = {"group.id": f"ibms-gateway-{vehicle}", "auto.offset.reset": "earliest", "log_level": 2}
        self._consumer = Consumer({**client, **heard})
        self._keys = {order_key(vehicle, kind).encode() for kind in ("", *KINDS)}
        self._shares: set[int] = set()
        self._consumer.subscribe([topics["commands"]], on_assign=self._share)
        self._topics, self._vehicle = topics, vehicle
        self._delivered: list[int] = []
        self._failed: list[int] = []

    def _share(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        """Read our partition alone: we are the only one in our group, so that all there are have been given to us.

        Where partitions are added our orders may lie in another from then on: the one before is read on beside it.
        """
        if given:
            self._shares.add(partition_of(self._vehicle, 1 + max(one.partition for one in given)))
        consumer.assign([one for one in given if one.partition in self._shares])

    def send(self, lane: str, record: Record) -> bool:
        """See Uplink."""

        def told(error: object, _message: object) -> None:
            (self._failed if error is not None else self._delivered).append(record.number)

        try:
            self._producer.produce(
                self._topics[_ROLE[lane]],
                record.payload,
                self._vehicle,
                headers=[*headers(lane, record, self._vehicle)],
                on_delivery=told,
            )
        except BufferError:
            return False
        except Exception as error:  # the client's own: a producer that has failed, or a record too large for any broker
            if type(error).__name__ != "KafkaException":
                raise
            self._failed.append(record.number)  # so that others go on
            if error.args[0].fatal():
                self._anew()
        return True

    def _anew(self) -> None:
        """Replace the producer; the old one's callbacks say that what it had has failed."""
        self._producer.purge()
        self._producer.flush(1.0)
        self._producer = self._make()

    def report(self) -> Report:
        """See Uplink."""
        self._producer.poll(0)
        made = Report(self._delivered, self._failed)
        self._delivered, self._failed = [], []
        return made

    def hear(self) -> list[bytes]:
        """See Uplink; other vehicles' orders lie in our partition too, and ours have our key."""
        messages = self._consumer.consume(_ORDERS, 0)
        ours = [m for m in messages if m.error() is None and m.key() in self._keys]
        return [value for m in ours if isinstance(value := m.value(), bytes)]

    def reads(self) -> list[TopicPartition]:
        """Give the partitions from which orders come."""
        return self._consumer.assignment()

    def cost(self, lane: str, record: Record) -> int:
        """See Uplink."""
        return cost(lane, record, self._vehicle)

    def close(self) -> Report:
        """See Uplink."""
        self._producer.flush(_CLOSE_S)
        # it waits for a broker that it has known, however long that is away: then a thread waits that ends with us
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        return self.report()


@dataclass(slots=True)
class FileUplink:
    """Writes each message to a file of its own, `<lane>/<time>-<id>`: a line of JSON with key and headers, the payload.

    A file that has its name is whole and synced.  What is read from `orders` is removed.
    """

    folder: Path
    vehicle: str
    _delivered: list[int] = field(default_factory=list)
    _failed: list[int] = field(default_factory=list)

    def send(self, lane: str, record: Record) -> bool:
        """See Uplink."""
        told = {name: value.decode() for name, value in headers(lane, record, self.vehicle)}
        head = json.dumps({"key": self.vehicle, "topic": _ROLE[lane], "headers": told}).encode() + b"\n"
        place = self.folder / lane
        path = place / f"{record.t_ns:020d}-{record.id}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            with new.open("wb") as file:
                file.write(head + record.payload)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            sync_folder(place)
        except OSError:
            self._failed.append(record.number)
            return False
        self._delivered.append(record.number)
        return True

    def report(self) -> Report:
        """See Uplink."""
        made = Report(self._delivered, self._failed)
        self._delivered, self._failed = [], []
        return made

    def hear(self) -> list[bytes]:
        """See Uplink."""
        found: list[bytes] = []
        for path in sorted((self.folder / "orders").glob("*")):
            if path.suffix != ".new":
                with suppress(OSError):
                    found.append(path.read_bytes())
                    path.unlink()
        return found

    def cost(self, lane: str, record: Record) -> int:
        """See Uplink."""
        return cost(lane, record, self.vehicle)

    def close(self) -> Report:
        """See Uplink."""
        return self.report()


class NoUplink:
    """Keeps everything on the box."""

    def send(self, lane: str, record: Record) -> bool:
        """Take nothing."""
        return False

    def report(self) -> Report:
        """Say that nothing has arrived."""
        return Report([], [])

    def hear(self) -> list[bytes]:
        """Hear nothing."""
        return []

    def cost(self, lane: str, record: Record) -> int:
        """Cost nothing."""
        return 0

    def close(self) -> Report:
        """Do nothing."""
        return self.report()


def read_message(data: bytes) -> tuple[str, str, list[tuple[str, bytes]], bytes]:
    """Read a file that FileUplink wrote: topic's role, key, headers and payload; raises ValueError."""
    head, end, payload = data.partition(b"\n")
    told = json.loads(head)
    if not end or not isinstance(told, dict) or told.keys() != {"key", "topic", "headers"}:
        msg = "a message must begin with a line of key, topic and headers"
        raise ValueError(msg)
    return told["topic"], told["key"], [(k, v.encode()) for k, v in told["headers"].items()], payload


def open_uplink(settings: UplinkSettings, vehicle: str) -> Uplink:
    """Open the way out that the settings name; raises ConfigError."""
    if settings.kind == FILE:
        return FileUplink(settings.folder, vehicle)
    if settings.kind == KAFKA:
        assert settings.kafka is not None
        topics = {role: topic.name for role, topic in settings.kafka.topics().items()}
        try:
            return KafkaUplink(settings.kafka.client(), topics, vehicle)
        except Exception as bad:
            if type(bad).__name__ != "KafkaException":
                raise
            why, file = shown(bad.args[0].str()), settings.kafka.file
            msg = f"uplink.kafka must be settings that the client takes; got {why} ({file})"
            raise ConfigError(msg) from None
    return NoUplink()
