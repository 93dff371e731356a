"""What became of every frame and record: lost, repeated, and equal bit by bit to a run that nobody disturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import Message

from flows.kafka_run import store_name
from schemas.ids import dead_letter_id
from schemas.tables import AGAIN, KEYS, TABLES
from schemas.topics import OUTPUTS
from sinks import ducklake
from sinks.kafka_records import ids_in
from tests.chaos.feed import Sent
from tests.chaos.run import Run
from tests.support.kafka_account import messages, texts

Feed = Sequence[Sequence[Sent]]
Frame = tuple[str, int, int]  # pack, number, time
Record = tuple[str, str]  # where it lies, and its name or all its bits
_EXPIRED = "expired"


@dataclass
class Holdings:
    """What a run has left: `keys` name records, `rows` are they with every bit, `frames` those accepted or refused.

    What depends on how a run's topics are called, or on where in a partition a message lies, is put in terms of the
    feed.  `letters` are messages by label, with the reason; `expired` what brokers deleted before it was read.
    """

    keys: Counter[Record] = field(default_factory=Counter)
    rows: Counter[Record] = field(default_factory=Counter)
    frames: Counter[Frame] = field(default_factory=Counter)
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    expired: Counter[tuple[int, int, int]] = field(default_factory=Counter)  # partition, first and last offset


@dataclass
class Account:
    """The result of a case; `notes` are the first things that are wrong."""

    frames: int
    records: int
    lost: int
    repeated: int
    bit_equal: bool
    notes: list[str]

    @property
    def sound(self) -> bool:
        """Say whether nothing is wrong."""
        return self.bit_equal and not self.lost and not self.repeated


def holdings(run: Run, feed: Feed) -> Holdings:
    """Read lake and topics of a run; what an idle pack showed provisionally depends on wall time and is left out."""
    found = Holdings()
    _read_lake(run, feed, found)
    writer = store_name(run.recovery)
    for table in OUTPUTS:
        for message in messages(run.cluster, run.topic(table)):
            _take(message, table, run, feed, writer, found)
    return found


def _take(message: Message, table: str, run: Run, feed: Feed, writer: str, found: Holdings) -> None:
    value: Any = message.value()
    headers: Any = message.headers()
    held = dict(headers)
    if table == "dead_letters":
        partition, offset, row = (int(held[f"error.{k}"]) for k in ("partition", "offset", "row"))
        assert held["ibms.id"].decode() == dead_letter_id(run.topic("frames"), partition, offset, row)
        label = _label(feed, partition, offset)
        put = {"ibms.id": b"", "error.topic": b"", "error.offset": label.encode(), "ibms.writer": b""}
        same = [(k, put.get(k, v)) for k, v in headers]
        found.keys["topic dead_letters", f"{label} {row}"] += 1
        found.rows["topic dead_letters", f"{label} {message.partition()} {message.key()!r} {same} {value!r}"] += 1
        return
    if _EXPIRED in held.get("ce_type", b"").decode():
        return
    found.keys.update((f"topic {table}", str(i)) for i in ids_in(value, headers, writer) if not i[-1])
    found.rows.update((f"topic {table}", text.replace(writer, "WRITER")) for text in texts(message))


def _label(feed: Feed, partition: int, offset: int) -> str:
    return f"{partition}/{feed[partition][offset].label}"


def _read_lake(run: Run, feed: Feed, found: Holdings) -> None:
    with ducklake.attach(run.lake) as con:
        for table in TABLES.keys() - {"dead_letters"}:
            names = {c.name for c in TABLES[table]}
            final = "NOT provisional" if "provisional" in names else "true"
            final = f"kind <> '{_EXPIRED}'" if table == "gaps" else final
            drop = {"frames": "precedence, src_offset, recv_ns"}.get(table, "precedence")  # where and when it came
            drop += ", recv_ns" if table in AGAIN else ""
            key = ", ".join((*KEYS[table], *({"revision"} & names)))
            # text has every digit of a float, and equals itself where NaN does not
            held = f"(SELECT * EXCLUDE ({drop}) FROM raw.{table} WHERE {final}) held"
            for name, row in con.execute(f"SELECT row({key})::VARCHAR, held::VARCHAR FROM {held}").fetchall():
                found.keys[f"lake {table}", name] += 1
                found.rows[f"lake {table}", row] += 1
        places = "src_part, src_offset, src_row"
        for *frame, part, offset, at in con.execute(
            f"SELECT pack_id, seq, epoch_ns(t_ns), {places} FROM raw.frames"
        ).fetchall():
            assert feed[part][offset].frames[at] == tuple(frame), "a frame must lie where its record says"
            found.frames[feed[part][offset].frames[at]] += 1
        gaps = f"SELECT pack_id, first_seq, last_seq FROM raw.gaps WHERE kind = '{_EXPIRED}'"
        for place, first, last in con.execute(gaps).fetchall():
            found.expired[int(place.rpartition("/")[2]), first, last] += 1
        rest = ", ".join(f'"{c.name}"' for c in TABLES["dead_letters"] if c.name not in {"id", "source", "offset"})
        letters = con.execute(
            f'SELECT row({rest})::VARCHAR, id, source, partition, "offset", row, reason FROM raw.dead_letters'
        ).fetchall()
    refused: set[Frame] = set()
    for text, name, source, partition, offset, row, reason in letters:
        assert name == dead_letter_id(source, partition, offset, row), "an id must follow from the place"
        label = _label(feed, partition, offset)
        found.keys["lake dead_letters", f"{label} {row}"] += 1
        found.rows["lake dead_letters", f"{label} {text}"] += 1
        found.letters[label, reason] += 1
        refused.update(feed[partition][offset].frames[row : row + 1])
    for missing in refused - found.frames.keys():  # one that was refused, and accepted when it came again, is there
        found.frames[missing] += 1


def compare(
    have: Holdings, want: Holdings, feed: Feed, *, expired: Collection[tuple[int, int, int]] = (), clean: bool = False
) -> Account:
    """Account for a run over `feed` that came to its end.

    `expired` are the places that brokers deleted before they were read; `clean`: the other run's feed had no bad
    messages.
    """
    gone = {f for p, a, b in expired for m in feed[p][a : b + 1] for f in m.frames}
    sent = {f for part in feed for message in part for f in message.frames}
    bad = {f"{p}/{m.label}": m.why for p, part in enumerate(feed) for m in part if m.why}
    for p, a, b in expired:
        for m in feed[p][a : b + 1]:
            bad.pop(f"{p}/{m.label}", None)
    if clean:
        have = without(have, bad)
    notes: list[str] = []
    again = Counter({f: n - 1 for f, n in have.frames.items() if n > 1})
    kept = {f for part in feed for m in part for f in m.frames} & want.frames.keys() if gone else sent
    lost = _note(notes, "lost frame", Counter(kept) - have.frames) + _note(notes, "lost", want.keys - have.keys)
    repeated = _note(notes, "repeated frame", again) + _note(notes, "repeated", have.keys - want.keys)
    told = {k: n for k, n in have.letters.items() if k[0] in bad}
    wrong = _note(notes, "refused wrongly", _apart(Counter(told), Counter(dict.fromkeys(bad.items(), 1))))
    wrong += _note(notes, "expired wrongly", _apart(have.expired, Counter(expired)))
    wrong += _note(notes, "lacks", want.rows - have.rows) + _note(notes, "has beyond", have.rows - want.rows)
    return Account(len(kept), want.rows.total(), lost, repeated, not wrong, notes)


def without(found: Holdings, labels: Collection[str]) -> Holdings:
    """Leave out the dead letters of some messages; their labels end as given."""

    def kept(counted: Counter[Record]) -> Counter[Record]:
        names = tuple(f"{label} " for label in labels)
        return Counter(
            {k: n for k, n in counted.items() if "dead_letters" not in k[0] or not any(name in k[1] for name in names)}
        )

    return replace(found, keys=kept(found.keys), rows=kept(found.rows))


def _apart(a: Counter[Any], b: Counter[Any]) -> Counter[Any]:
    return (a - b) + (b - a)


def _note(notes: list[str], what: str, found: Counter[Any]) -> int:
    notes += [f"{what}: {one!s:.400}" for one in list(found)[:3]]
    return found.total()
