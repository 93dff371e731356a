"""What a chaos run reads: deterministic frames of a small fleet, what its gateways say, messages of every bad kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from confluent_kafka import Producer

from edge.outbox import URGENT, Record
from edge.records import Kept, told_record
from edge.retention import BLACKBOX
from edge.uplink import encode, headers
from flows.kafka_send import messages_of
from schemas.frames import FrameBlock
from schemas.wire_arrow import ARROW, encode_arrow
from schemas.wire_json import JSON, row_json
from tests.support import frames as made
from tests.support.kill_flow import PACKS, T0_NS, block

GROUPS = 4  # partitions of the frames topic; a group's packs lie in one
BLOCKS = 400
BLOCK_S = 20  # of the fleet's time
MAX_BYTES = 65_536  # of a message, as the runs are told
REPORTS = 40  # of gateways, spread over a feed; every fourth is a piece of a black box
PIECE = 25  # frames of one
_CLOSING_S = 3600  # silence before the frames that close every window


class Sent(NamedTuple):
    """One message: `label` tells messages apart, whatever their offset; `why` is what refuses it, "" for frames."""

    label: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    frames: tuple[tuple[str, int, int], ...] = ()  # (pack, seq, t_ns) of its rows
    why: str = ""


@cache
def feed(*, poison: bool = False) -> tuple[tuple[Sent, ...], ...]:
    """Give the messages of each partition, in order."""
    return tuple(tuple(_partition(group, poison=poison)) for group in range(GROUPS))


def _partition(group: int, *, poison: bool) -> Iterator[Sent]:
    bad = list(_poison(group)) if poison else []
    for number in range(BLOCKS):
        yield from _messages(group, number, _rows(group, number))
        if bad and number % 8 == 4:
            yield bad.pop(0)
    yield from bad
    for number in range(3):
        yield from _messages(group, BLOCKS + number, _closing(group, number))


def _rows(group: int, number: int) -> FrameBlock:
    """Make a block, now and then with a frame from the future, or a second frame of the same number."""
    frames = block(group, number)
    t_ns, current_a = frames.t_ns.copy(), frames.current_a.copy()
    if number % 29 == 7:
        t_ns[number % len(frames)] = T0_NS + 10**18
    if number % 23 == 5:
        frames = frames.take(np.append(np.arange(len(frames)), number % len(frames)))
        t_ns, current_a = np.append(t_ns, frames.t_ns[-1]), np.append(current_a, frames.current_a[-1] + 5)
    return frames.with_frames(t_ns=t_ns, current_a=current_a)


def _messages(group: int, number: int, frames: FrameBlock) -> Iterator[Sent]:
    encoding, kind = ("arrow", ARROW) if group % 2 == 0 else ("json", JSON)
    for key, value in messages_of(frames, encoding, 10):
        of = [i for i, pack in enumerate(frames.packs) if pack == key]
        rows = [r for r in range(len(frames)) if frames.pack[r] in of]
        who = tuple((key, int(frames.seq[r]), int(frames.t_ns[r])) for r in rows)
        yield Sent(f"{number}/{key}", key.encode(), value, [("content-type", kind.encode())], who)


def _closing(group: int, number: int) -> FrameBlock:
    """Make a frame of each pack an hour later, so that no window with other frames stays open."""
    names = [f"P{group}-{i}" for i in range(PACKS)]
    return made.frames(
        [BLOCKS * BLOCK_S + _CLOSING_S + number * 10] * PACKS,
        names=names,
        pack=list(range(PACKS)),
        seq=[2 * BLOCKS + number] * PACKS,
    )


def _poison(group: int) -> Iterator[Sent]:
    """Give a message of every kind that is refused whole; frames of every kind that is refused are in the blocks."""
    name = f"X{group}"
    good = made.frames(range(30), names=(name,), seq=range(30))
    arrow = encode_arrow(good.take(np.array([0])))
    plain: dict[str, Any] = orjson.loads(row_json(good, 0))
    frame = plain["frames"][0]
    cells = next(k for k in frame if k.endswith("CellVoltages"))
    probes = next(k for k in frame if k.endswith("CellTemperature"))

    def json(**changed: Any) -> bytes:
        return orjson.dumps(plain | changed)

    def rows(**changed: Any) -> bytes:
        return json(frames=[frame | changed])

    kinds: list[tuple[str, str, bytes | None]] = [
        ("undecodable", ARROW, b"\x00\x01 no arrow"),
        ("undecodable", ARROW, arrow[: len(arrow) // 2]),
        ("undecodable", ARROW, b"\x28\xb5\x2f\xfd no zstd"),
        ("undecodable", JSON, b"{"),
        ("undecodable", JSON, b"[1]"),
        ("undecodable", JSON, None),
        ("undecodable", JSON, json(frames=[])),
        ("unknown_content_type", "text/plain", b"hello"),
        ("unknown_content_type", "", json()),
        ("too_large", JSON, b" " * (MAX_BYTES + 1)),
        ("too_large", JSON, pa.compress(b" " * (MAX_BYTES + 1), codec="zstd", asbytes=True)),
        ("unknown_version", JSON, json(schema=99)),
        ("unknown_model", JSON, json(model="../../etc/passwd")),
        ("unknown_model", JSON, json(model="leaf-24kwh")),
        ("bad_id", JSON, json(pack="")),
        ("bad_id", JSON, json(pack="x" * 200)),
        ("wrong_type", JSON, rows(seq="seven")),
        ("cell_count", JSON, rows(**{cells: [3.7] * 5})),
        ("probe_count", JSON, rows(**{probes: [20.0]})),
        ("no_time", JSON, rows(t_ns=None)),
    ]
    for i, (why, kind, value) in enumerate(kinds):
        headers = [("content-type", kind.encode())] if kind else []
        odd = [("x-odd", b"\xff\x00")] if i % 3 == 0 else []
        yield Sent(f"bad-{i}/{why}", None if i % 4 == 0 else name.encode(), value, headers + odd, (), why)


def report(number: int) -> Sent:
    """Give what a gateway says beside frames."""
    vehicle, at_ns = f"P0-{number % PACKS}", T0_NS + number * 10**9
    if number % 4:
        alert = {"kind": "alert", "number": number, "at_ns": at_ns, "text": f"alert {number}"}
        kept = told_record(alert, vehicle)
    else:
        payload, kind = encode(made.frames(range(PIECE), names=(vehicle,)))
        kept = Kept(BLACKBOX, f"piece-{number}", at_ns, at_ns, payload, kind, f"trip {at_ns} piece 0 last")
    record = Record(number, kept.kind, kept.id, at_ns, at_ns, kept.content_type, kept.payload, kept.subject)
    return Sent(f"report-{number}", vehicle.encode(), kept.payload, headers(URGENT, record, vehicle))


@dataclass
class Feeder:
    """Sends a feed into a topic over `seconds`, in a thread; what brokers have not taken is sent when they are back.

    Reports of gateways go to a topic of their own, spread over the feed.

    Messages carry the time at which they are sent: a broker that was killed forgets an idempotent producer whose last
    message is stamped more than a day ago (producer.id.expiration.ms), and would take a message twice.
    """

    bootstrap: str
    topic: str
    gateways: str
    messages: Sequence[Sequence[Sent]]
    seconds: float
    _stopped: threading.Event = field(default_factory=threading.Event)
    _going: threading.Event = field(default_factory=threading.Event)
    _failed: list[str] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._going.set()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def wait(self, patience_s: float) -> None:
        """Wait until brokers have everything, offsets as the order in the feed."""
        assert self._thread is not None
        self._thread.join(patience_s)
        assert not self._thread.is_alive(), f"{self.topic} did not take all messages in {patience_s:.0f} s"
        assert not self._failed, self._failed[0]

    def pause(self) -> None:
        """Hold on until told to go on, or to hurry."""
        self._going.clear()

    def go(self) -> None:
        """Send on as before a pause."""
        self._going.set()

    def hurry(self) -> None:
        """Send the rest at once."""
        self.seconds = 0.0
        self._going.set()

    def stop(self) -> None:
        """End it where it is."""
        self._stopped.set()
        self._going.set()

    def _send(self) -> None:
        client = {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "message.timeout.ms": 0}
        producer = Producer(client | {"linger.ms": 5, "log_level": 0})
        parts, began, longest = self.messages, time.monotonic(), max(map(len, self.messages))
        due = {k * longest // REPORTS: k for k in range(REPORTS)}
        for at in range(longest):
            if at in due:
                self._produce(producer, self.gateways, 0, due[at], report(due[at]))
            for partition, messages in enumerate(parts):
                if at < len(messages):
                    self._produce(producer, self.topic, partition, at, messages[at])
            producer.poll(0)
            if not self._going.is_set():
                producer.flush()
                paused = time.monotonic()
                self._going.wait()
                began += time.monotonic() - paused
            pause = began + self.seconds * at / longest - time.monotonic()
            if self._stopped.wait(max(0.0, pause) if pause > 0.005 else 0.0):
                return
        while producer.flush(1.0) and not self._stopped.is_set():
            pass

    def _produce(self, producer: Producer, topic: str, partition: int, offset: int, one: Sent) -> None:
        def placed(error: Any, message: Any) -> None:
            # None: a broker that had it already, before it was killed, does not say where; the next one's place tells
            if error is not None or message.offset() not in {offset, None}:
                got = error or message.offset()
                self._failed.append(f"{one.label} must be at {partition}/{offset} of {topic}; got {got}")

        headers: Any = one.headers
        producer.produce(topic, one.value, one.key, partition, placed, headers=headers)
