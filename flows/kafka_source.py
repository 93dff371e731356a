"""How frames come from Kafka: readers that own partitions, offsets in snapshots, nothing skipped in silence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Literal

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Polled

from flows.kafka_decode import decode_poll
from flows.kafka_json import scan_json
from replay.source import ROWS
from schemas.events import Gap, Item
from schemas.frames import FrameBlock
from schemas.ids import record_id
from schemas.message import MAX_BYTES, Packs
from schemas.pack import load_pack
from schemas.wire import Decoder

Place = tuple[str, int]  # topic and partition
_LINGER_S = 0.2
_LOOK_S = 10.0  # between looks for new partitions
_SOON_S = 1.0  # between looks while a broker or a topic is missing
_ASK_S = 4.0
_BELIEF_S = 15.0  # a leader that has just changed may state an end that lies before what was read
_IDLE = timedelta(milliseconds=20)
_PAUSE = timedelta(milliseconds=2)  # while a block fills: what fetches and unpacks needs the processor too
_MOST = 10_000  # messages a call takes
_ROWS_EACH = 64.0  # frames a message, until it is known: the first block is soon there, and not ten times too large
_CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # the default jumps to the end where an offset has expired
    "enable.partition.eof": False,
    "isolation.level": "read_committed",
    "check.crcs": True,
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.error.backoff.ms": 100,
    "log_level": 2,
}


class KafkaSourceError(ValueError):
    """Input that is not as the snapshot left it; the message is one line."""


def _quiet(_what: str, **_values: object) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Input:
    """What is read, and how: `topics` in order, `backfill` the one of them that holds re-sent history."""

    client: Mapping[str, Any]
    topics: tuple[str, ...]
    group: str
    backfill: str = ""
    gateways: str = ""  # the one of them that holds what gateways say beside frames, which may be missing
    readers: int = 4
    on_expired: Literal["earliest", "fail"] = "fail"
    max_bytes: int = MAX_BYTES
    packs: Packs = load_pack
    decode: Callable[[Sequence[Polled]], list[Item]] | None = None  # of the messages of one poll; None: frames
    patience_s: float = _BELIEF_S  # until an end that lies before what was read is believed
    say: Callable[..., None] = _quiet  # an event and its values, for the log
    waiting: Callable[[str], None] = _quiet  # why nothing can be read; "" once it can
    lag: Callable[[Place, int], None] = field(default=lambda _place, _lag: None)


class KafkaSource(FixedPartitionedSource[Item, dict[str, Any]]):
    """Frames of some topics through a fixed number of readers; reader r owns the partitions p with p mod readers = r.

    bytewax lists a source's parts only at start, and keeps a snapshot for each: so its parts are the readers, and a
    Kafka partition that is added while the flow runs has one already.
    """

    def __init__(self, given: Input) -> None:
        """Keep the settings; no connection is made before the flow runs."""
        self.given = given

    def list_parts(self) -> list[str]:
        """Name the readers."""
        return [f"reader-{r:04d}" for r in range(self.given.readers)]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Reader:
        """Begin at the snapshot's offsets, or at the beginning; does not wait for a broker."""
        return Reader(self.given, int(for_part.rpartition("-")[2]), resume_state)


class Reader(StatefulSourcePartition[Item, dict[str, Any]]):
    """One consumer over its share of the partitions.

    `next_` is where each partition goes on after what was emitted, with the broker's time (ns) of the message before;
    messages that are held have been taken from the consumer and are in no snapshot.
    """

    def __init__(self, given: Input, number: int, resume: dict[str, Any] | None) -> None:
        """See KafkaSource.build_part."""
        self._given, self._number = given, number
        self._why = ""
        self._consumer = Consumer(
            _CONSUMER | dict(given.client) | {"group.id": given.group, "error_cb": self._on_error}
        )
        self._next: dict[Place, tuple[int, int]] = {
            (topic, part): (offset, stamp) for topic, part, offset, stamp in (resume or {}).get("next", ())
        }
        self._lost: dict[Place, tuple[int, int]] = {}  # expired: the offset that was due, and the time before it
        self._consumer.assign([TopicPartition(t, p, o) for (t, p), (o, _) in self._next.items()])
        self._doubted: dict[Place, float] = {}  # ends before where it is to go on: since when it is so
        self._decoder = Decoder(max_bytes=given.max_bytes, packs=given.packs, scan=scan_json)
        self._held: list[Polled] = []
        self._held_since = 0.0
        self._rows_each = _ROWS_EACH  # frames a message, lately
        self._durable: dict[Place, int] | None = None  # of the last snapshot, not yet committed
        self._looker = ThreadPoolExecutor(1)
        self._looked: Future[set[Place]] | None = None
        self._look_at = 0.0
        self._awake: datetime | None = None
        self._deaf = False  # gateways cannot be heard, as was said

    def next_batch(self) -> list[Item]:
        """Give what has come, once it fills a block or has waited 200 ms."""
        self._commit()
        self._look()
        now = time.monotonic()
        enough = ceil(ROWS / self._rows_each)  # messages
        want = enough - len(self._held)
        took = self._consumer.consume(min(want, _MOST), 0) if want > 0 else []
        gaps = self._take(took)
        if took and self._held and not self._held_since:
            self._held_since = now
        full = len(self._held) >= enough
        due = self._held_since and now - self._held_since >= _LINGER_S
        if not (self._held and (full or due)):
            self._awake = datetime.now(UTC) + (_PAUSE if took else _IDLE)
            return gaps
        self._awake = None
        return gaps + self._emit()

    def next_awake(self) -> datetime | None:
        """Rest a moment where nothing came."""
        return self._awake

    def snapshot(self) -> dict[str, Any]:
        """Give where each partition goes on."""
        self._durable = {place: offset for place, (offset, _) in self._next.items()}
        return {"version": 1, "next": [[t, p, o, stamp] for (t, p), (o, stamp) in sorted(self._next.items())]}

    def close(self) -> None:
        """Leave the broker."""
        self._looker.shutdown(wait=False, cancel_futures=True)
        self._consumer.close()

    def _take(self, took: Iterable[Polled]) -> list[Item]:
        gaps: list[Item] = []
        for message in took:
            error = message.error()
            if error is None:
                self._held.append(message)
                if self._doubted:
                    self._doubted.pop((message.topic() or "", message.partition() or 0), None)
            else:
                gaps += self._on_failed(message, error)
        return gaps

    def _emit(self) -> list[Item]:
        held, self._held, self._held_since = self._held, [], 0.0
        items = self._gaps(held)
        if self._given.decode is None:
            made = decode_poll(held, self._decoder, backfill=self._given.backfill, gateways=self._given.gateways)
        else:
            made = self._given.decode(held)
        last = {(m.topic() or "", m.partition() or 0): m for m in held}
        for place, message in last.items():
            self._next[place] = ((message.offset() or 0) + 1, max(0, message.timestamp()[1]) * 1_000_000)
        rows = sum(len(b) for b in made if isinstance(b, FrameBlock))
        if rows:
            self._rows_each = max(1.0, rows / len(held))
        if self._why:
            self._wait_for("")
        return [*items, *made]

    def _commit(self) -> None:
        """Commit the last snapshot's offsets: bytewax polls again only when that snapshot is durable."""
        if self._durable is None:
            return
        offsets = [TopicPartition(t, p, o) for (t, p), o in self._durable.items() if o >= 0]
        self._durable = None
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)  # for tools; nothing is read back from there

    def _look(self) -> None:
        """Find partitions that are ours and new; asked in a thread, for an answer may take seconds."""
        now = time.monotonic()
        if self._looked is None:
            if now >= self._look_at:
                self._looked = self._looker.submit(self._ask)
            return
        if not self._looked.done():
            return
        looked, self._looked = self._looked, None
        try:
            found = looked.result()
        except KafkaException as bad:
            self._look_at = now + _SOON_S
            self._wait_for(bad.args[0].str())
            return
        self._look_at = now + _LOOK_S
        self._wait_for("")
        new = sorted(found - self._next.keys())
        for place in new:
            self._next[place] = (OFFSET_BEGINNING, 0)
            self._given.say("partition", topic=place[0], partition=place[1], reader=self._number)
        if new:
            self._consumer.incremental_assign([TopicPartition(t, p, OFFSET_BEGINNING) for t, p in new])
        self._tell_lag()

    def _ask(self) -> set[Place]:
        found: set[Place] = set()
        for topic in self._given.topics:
            about = self._consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
            if about.error is not None and topic == self._given.gateways:
                self._said_of_gateways(about.error)
                continue
            if about.error is not None:
                raise KafkaException(about.error)
            found |= {(topic, p) for p in about.partitions if p % self._given.readers == self._number}
        return found

    def _said_of_gateways(self, error: KafkaError) -> None:
        """Say once that gateways cannot be heard: frames do not wait for it."""
        if not self._deaf:
            self._given.say("unreadable", topic=self._given.gateways, error=error.str())
        self._deaf = True

    def _tell_lag(self) -> None:
        for place, (offset, _) in self._next.items():
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if high >= 0:
                self._given.lag(place, high - max(offset, low))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in {KafkaError._AUTHENTICATION, KafkaError.TOPIC_AUTHORIZATION_FAILED}:  # noqa: SLF001 - its public name
            self._given.say("kafka_error", error=error.str())
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._wait_for(error.str())

    def _wait_for(self, why: str) -> None:
        if why or self._why:
            self._given.waiting(why)
        self._why = why

    def _on_failed(self, message: Polled, error: KafkaError) -> list[Item]:
        place = (message.topic() or "", message.partition() or 0)
        if error.code() != KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            self._wait_for(error.str())  # librdkafka tries again by itself
            return []
        due, stamp = self._next[place]
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_ASK_S)
        except KafkaException as bad:
            self._wait_for(bad.args[0].str())
            self._go_on(place, due)
            return []
        if due < 0:
            self._go_on(place, low)
            return []
        name = f"{place[0]}/{place[1]}"
        if due > high:
            msg = f"{name} must go on at offset {due}, but ends at {high}: the topic was made again, or cut"
            if time.monotonic() - self._doubted.setdefault(place, time.monotonic()) > self._given.patience_s:
                raise KafkaSourceError(msg)
            self._wait_for(msg)
            self._go_on(place, due)
            return []
        if self._given.on_expired == "fail":
            msg = f"{name}: {low - due} messages from offset {due} have expired before they were read; "
            raise KafkaSourceError(msg + 'source.on_expired = "earliest" goes on without them')
        self._given.say("expired", topic=place[0], partition=place[1], first=due, last=low - 1)
        self._lost.setdefault(place, (due, stamp))
        self._go_on(place, low)
        return []

    def _go_on(self, place: Place, offset: int) -> None:
        self._consumer.incremental_unassign([TopicPartition(*place)])
        self._consumer.incremental_assign([TopicPartition(*place, offset)])

    def _gaps(self, held: list[Polled]) -> list[Item]:
        """Say what has expired, once the first message after it tells where and when the hole ends."""
        if not self._lost:
            return []
        gaps: list[Item] = []
        for message in held:
            place = (message.topic() or "", message.partition() or 0)
            if place in self._lost:
                due, stamp = self._lost.pop(place)
                gaps.append(_gap(place, due, stamp, message))
        return gaps


def _gap(place: Place, due: int, before_ns: int, after: Polled) -> Gap:
    """Record messages that expired unread: numbers are offsets, and the pack is the partition."""
    name, first = f"{place[0]}/{place[1]}", after.offset() or 0
    to_ns = max(0, after.timestamp()[1]) * 1_000_000
    return Gap(
        record_id(name, "gap", f"expired {due}", before_ns), 0, "", name, "",
        "expired", before_ns, to_ns, due, first - 1, first - due,
    )  # fmt: skip
