"""What `ibms deadletters` does: say what was refused and why, show it, and send it once more."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from flows.kafka_admin import read_kafka
from schemas.checked import ConfigError
from schemas.events import DeadLetter, GatewayReport, Item, Rows
from schemas.frames import FrameBlock
from schemas.headers import Headers
from schemas.kafka_settings import KafkaSettings
from schemas.message import Message
from schemas.topics import INPUTS
from schemas.wire import Decoder
from schemas.wire_gateway import Said, decode_gateways
from sinks.kafka_records import ID, MARKER

RESUBMITTED = "ibms.resubmitted"  # header: on the message sent again, and on the note that it was; holds the id
_ANSWER_S = 30.0
_READ_MANY, _READ_S = 2_000, 0.1
_SHOWN_BYTES = 256


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter as its topic holds it."""

    id: str
    reason: str
    time_ms: int  # when it was written
    key: bytes | None
    value: bytes
    headers: Headers  # as the message had them
    why: dict[str, str]  # error.* without the prefix


def run_list(config: Path, *, as_json: bool) -> None:
    """Print, for each reason: how many, how many of them sent again, first and last time."""
    letters, again = read_letters(read_kafka(config))
    reasons = Counter(letter.reason for letter in letters)
    rows = []
    for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0])):
        of = [letter for letter in letters if letter.reason == reason]
        first, last = min(x.time_ms for x in of), max(x.time_ms for x in of)
        sent = sum(letter.id in again for letter in of)
        rows.append({"reason": reason, "count": count, "resubmitted": sent, "first": _time(first), "last": _time(last)})
    if as_json:
        sys.stdout.write(orjson.dumps(rows).decode() + "\n")
        return
    sys.stdout.write(f"{'reason':24}{'count':>8}{'resubmitted':>13}  {'first (UTC)':21}last (UTC)\n")
    for row in rows:
        sys.stdout.write(
            f"{row['reason']:24}{row['count']:>8}{row['resubmitted']:>13}  {row['first']:21}{row['last']}\n"
        )


def run_show(config: Path, name: str) -> None:
    """Print one dead letter: why, where from, headers, and its bytes as far as they can be read."""
    settings = read_kafka(config)
    letters, again = read_letters(settings)
    letter = _named(letters, name)
    shown: list[tuple[str, str]] = [("id", letter.id), ("written", _time(letter.time_ms))]
    shown += list(letter.why.items())
    shown += [("resubmitted", "yes" if letter.id in again else "no"), ("key", _text(letter.key))]
    shown += [(f"header {k}", _text(v)) for k, v in letter.headers]
    shown += [("bytes", str(len(letter.value))), ("value", _text(letter.value)), ("decoded", _decoded(letter))]
    sys.stdout.write("".join(f"{k:24}{v}\n" for k, v in shown))


def run_resubmit(config: Path, name: str, reason: str) -> None:
    """Send one dead letter, or all of a reason, to the topic that it came from; never one twice.

    The message and the note that it was sent are one transaction, and a second command at the same time is fenced
    off, so neither a crash nor an impatient hand sends anything twice.
    """
    if bool(name) == bool(reason):
        msg = f"give an id or --reason; got {name or 'neither'}{' and ' + reason if reason else ''}"
        raise ConfigError(msg)
    settings = read_kafka(config)
    to = settings.topics()["dead_letters"].name
    producer = Producer(settings.client() | {"transactional.id": f"{to}-resubmit", "log_level": 2})
    try:
        producer.init_transactions(_ANSWER_S)  # from here on no other can, and what another had begun is undone
        letters, again = read_letters(settings)
        wanted = [_named(letters, name)] if name else [x for x in letters if x.reason == reason]
        if not wanted:
            known = ", ".join(sorted({x.reason for x in letters})) or "none"
            msg = f"--reason must be one that dead letters have ({known}); got {reason}"
            raise ConfigError(msg)
        topics = settings.topics()
        inputs = {topics[role].name for role in INPUTS}
        todo = [x for x in wanted if x.id not in again and _sendable(x, inputs)]
        if todo:
            _send(producer, to, todo)
    except KafkaException as bad:
        msg = f"dead letters must reach their topic; nothing was sent: {bad.args[0].str()}"
        raise ConfigError(msg) from None
    before = sum(x.id in again for x in wanted)
    left = len(wanted) - len(todo) - before
    why = ": cut, or not from a topic of ours" if left else ""
    sys.stdout.write(f"{len(todo)} sent, {before} had been sent before, {left} cannot be{why}\n")


def _send(producer: Producer, to: str, letters: list[Letter]) -> None:
    producer.begin_transaction()
    failed: list[KafkaError] = []
    for letter in letters:
        mark = (RESUBMITTED, letter.id.encode())
        sent: Any = [*letter.headers, mark]
        if not any(k == "content-type" for k, _ in letter.headers):  # a row encoded anew: not as its message was
            sent.append(("content-type", letter.why.get("content_type", "").encode()))
        note: Any = [mark]
        _produce(producer, letter.why["topic"], int(letter.why["partition"]), letter, letter.value, sent, failed)
        _produce(producer, to, -1, letter, b"", note, failed)
    producer.flush(_ANSWER_S)
    if failed:
        producer.abort_transaction(_ANSWER_S)
        raise KafkaException(failed[0])
    producer.commit_transaction(_ANSWER_S)


def _produce(
    producer: Producer,
    topic: str,
    partition: int,
    letter: Letter,
    value: bytes,
    headers: list[tuple[str, str | bytes | None]],
    failed: list[KafkaError],
) -> None:
    """Send into the partition that it came from: a row's own key may be the pack's, where the message's was not."""
    while True:
        try:
            producer.produce(
                topic, value, letter.key, partition, headers=headers,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )  # fmt: skip
        except BufferError:
            producer.poll(1.0)
        else:
            return


def _sendable(letter: Letter, inputs: set[str]) -> bool:
    """Say whether it can go back: it came from one of our topics, and its bytes are all there.

    The value of a row that was refused is a message with that row alone.
    """
    return letter.why.get("topic") in inputs and "cut_from_bytes" not in letter.why


def read_letters(settings: KafkaSettings) -> tuple[list[Letter], set[str]]:
    """Read all dead letters, oldest first, and the ids of those that were sent again; raises ConfigError."""
    topic = settings.topics()["dead_letters"].name
    reading = {"group.id": settings.group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    isolation = {"isolation.level": "read_committed", "enable.partition.eof": True, "log_level": 2}
    consumer = Consumer(settings.client() | reading | isolation)
    found: dict[str, Letter] = {}
    again: set[str] = set()
    try:
        for headers, message in _messages(consumer, topic, settings):
            held = {k: v or b"" for k, v in headers}
            if MARKER in held:
                continue
            if ID not in held:
                if RESUBMITTED in held:
                    again.add(held[RESUBMITTED].decode())
                continue
            letter = _letter(headers, held, message)
            found.setdefault(letter.id, letter)
    finally:
        consumer.close()
    return sorted(found.values(), key=lambda x: (x.time_ms, x.id)), again


def _letter(headers: Headers, held: dict[str, bytes], message: Any) -> Letter:  # noqa: ANN401 - a Kafka message
    # The sink appended its headers to those that came: they begin at error.reason, the last of that name.
    names = [k for k, _ in headers]
    start = len(names) - 1 - names[::-1].index("error.reason")
    why = {k.removeprefix("error."): (v or b"").decode() for k, v in headers[start:] if k.startswith("error.")}
    return Letter(
        held[ID].decode(), why["reason"], message.timestamp()[1], message.key(), message.value() or b"",
        headers[:start], why,
    )  # fmt: skip


def _messages(consumer: Consumer, topic: str, settings: KafkaSettings) -> Iterator[tuple[Headers, Any]]:
    try:
        there = consumer.list_topics(timeout=_ANSWER_S).topics
    except KafkaException as bad:
        msg = f"kafka.bootstrap must be brokers that answer; got {settings.bootstrap}: {bad.args[0].str()}"
        raise ConfigError(msg) from None
    if topic not in there:
        msg = f"topic {topic} must exist; `ibms kafka init` makes it ({settings.file})"
        raise ConfigError(msg)
    consumer.assign([TopicPartition(topic, p, 0) for p in there[topic].partitions])
    left = len(there[topic].partitions)
    while left:
        for message in consumer.consume(_READ_MANY, _READ_S):
            error = message.error()
            if error is None:
                headers: Any = message.headers() or []
                yield list(headers), message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin so
                left -= 1
            else:
                msg = f"topic {topic} must be readable; got {error.str()}"
                raise ConfigError(msg)


def _named(letters: list[Letter], name: str) -> Letter:
    found = [x for x in letters if x.id.startswith(name)]
    if len(found) != 1:
        msg = f"id must be that of one dead letter, or its beginning; got {name}, which {len(found)} have"
        raise ConfigError(msg)
    return found[0]


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _text(value: bytes | None) -> str:
    """Show bytes as text where they are some, as hex otherwise; not more than fits a screen."""
    if value is None:
        return "(none)"
    part = value[:_SHOWN_BYTES]
    try:
        text = part.decode(errors="strict" if part == value else "ignore")
        shown = text if text.isprintable() and (text or not part) else part.hex(" ")
    except UnicodeDecodeError:
        shown = part.hex(" ")
    return shown + ("" if part == value else " …")


def _words(made: Item) -> str:
    if isinstance(made, DeadLetter):
        return f"{made.reason}: {made.detail}"
    if isinstance(made, GatewayReport):
        return f"{made.what}: {made.text}"
    return f"{len(made)} frames of {made.model}" if isinstance(made, FrameBlock | Rows) else ""


def _decoded(letter: Letter) -> str:
    """Say what today's decoder makes of it, and what it is beneath."""
    message = Message(letter.value, letter.why.get("content_type", ""), letter.why.get("topic", ""), 0, 0)
    made: Sequence[Item]
    if any(name == "ce_type" for name, _ in letter.headers):
        made = decode_gateways([Said(message, letter.key, letter.headers)], Decoder())
    else:
        made = Decoder().decode([message])
    said = [_words(one) for one in made]
    with suppress(pa.ArrowException, OSError):
        said.append(f"Arrow columns {', '.join(pa.ipc.open_stream(letter.value).schema.names)}")
    return "; ".join(said)
