"""What waits to be sent, on disk: a power cut loses nothing that was synced, and nothing damaged is ever delivered.

Append-only files of records (edge.segments), begun anew at every start and every `segment_bytes`.  What was delivered
is noted in the same files; a new file says first what was delivered of all older ones, so that those can go.

**When it is synced.**  Incidents, black boxes and notes of what was dropped: before `append` returns.  Frames: every
`sync_s`, so a power cut costs at most that much of them.  That an incident or a black box was delivered: at once.

**When it is full.**  `max_bytes` bounds all of it: frames are thinned, the oldest first, before anything else goes
(edge.retention).  Frames that ended `max_days` before the newest record go too.  What went is itself a record.  Where
the disk takes nothing, frames that come are counted and let go, and the oldest frames make room for an incident.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

from edge.retention import BLACKBOX, DAMAGED, DROPPED, FRAMES, KINDS, UNWRITTEN, Choice, Held, least, too_old
from edge.segment_files import Place, SegmentFiles
from edge.segments import Entry, spans
from schemas.ids import record_id

URGENT, LIVE, BACKFILL = "urgent", "live", "backfill"  # lanes
JSON = "application/json"
_DELIVERED = "delivered"  # the kind of record that says which others were


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Bounds and periods.  `live_age_s`: frames that are older go by the backfill lane."""

    max_bytes: int = 256 << 20
    max_days: float = 7.0
    segment_bytes: int = 1 << 20
    sync_s: float = 10.0
    live_age_s: float = 30.0


class Record(NamedTuple):
    """What is sent: `id` is the same however often it is sent, `t_ns` and `end_ns` the first and last time in it.

    `subject` says what it is about.
    """

    number: int
    kind: str
    id: str
    t_ns: int
    end_ns: int
    content_type: str
    payload: bytes
    subject: str = ""


class Outbox:
    """One folder of records that one process owns; `pack_id` goes into the ids of what it writes itself."""

    def __init__(self, folder: Path, pack_id: str, settings: OutboxSettings | None = None) -> None:
        """Read what is there; raises OSError where the folder cannot be made or read."""
        self.settings = settings or OutboxSettings()
        self.dropped: dict[tuple[str, str], list[int]] = {}  # (kind, why) → records and bytes since the start
        self._pack = pack_id
        self._files = SegmentFiles(folder, self.settings.segment_bytes, self._first)
        self._held: dict[str, dict[int, Held]] = {kind: {} for kind in KINDS}  # by kind and number, in order
        self._taken: set[int] = set()
        self._delivered: list[int] = []  # not yet written
        self._notes: list[dict[str, Any]] = []  # not yet written
        self._waits: Counter[int] = Counter()  # file → how many of its records wait
        self._ghosts: dict[int, int] = {}  # record that lies in a file and does not wait → its file
        self._synced_ns = 0
        self._load()

    def append(
        self,
        kind: str,
        record: str,
        t_ns: int,
        end_ns: int,
        payload: bytes,
        *,
        content_type: str,
        now_ns: int,
        subject: str = "",
    ) -> bool:
        """Keep a record under its id; False where the disk does not take it: then it is noted, and gone."""
        about = {"kind": kind, "id": record, "t_ns": t_ns, "end_ns": end_ns, "type": content_type, "subject": subject}
        need = len(payload) + 1024
        if self.size + need > self.settings.max_bytes:
            self._sweep()
        while self.size + need > self.settings.max_bytes and self._drop(least(self._all(), self._levels())):
            pass
        kept = _tried(lambda: self._write(about, payload))
        while not kept and kind != FRAMES and self._drop(least(self._all(), self._levels(), thin=False)):
            kept = _tried(lambda: self._write(about, payload))
        if not kept:
            self._note(kind, UNWRITTEN, t_ns, end_ns, 1, len(payload))
        elif kind != FRAMES:
            _tried(self.sync)
        self.settle(now_ns)
        return kept

    def settle(self, now_ns: int) -> None:
        """Sync where `sync_s` has passed; called with every append, and now and then where none comes."""
        if not 0 <= now_ns - self._synced_ns < self.settings.sync_s * 1e9:  # also where the clock was set back
            self._synced_ns = now_ns
            _tried(self.sync)
            for choice in too_old(list(self._held[FRAMES].values()), self.settings.max_days):
                self._drop(choice)

    def sync(self) -> None:
        """Bring all of it onto the disk; raises OSError."""
        while self._notes:
            told = [h for h in self._held[DROPPED].values() if h.number not in self._taken]
            before = [(h.number, json.loads(e.payload)) for h in told if (e := self._entry(h)) is not None]
            note = self._notes[0]
            same = [(n, old) for n, old in before if (old["kind"], old["why"]) == (note["kind"], note["why"])]
            for _, old in same:  # one note a kind and reason, or notes would fill what frames have left
                note = _merged(old, note)
            name = record_id(self._pack, DROPPED, f"{note['kind']} {note['why']} {self._files.next}", note["from_ns"])
            about = {"kind": DROPPED, "id": name, "t_ns": note["from_ns"], "end_ns": note["to_ns"], "type": JSON}
            self._write(about, json.dumps(note, separators=(",", ":")).encode())
            del self._notes[0]
            self._forget(n for n, _ in same)
            self._delivered += [n for n, _ in same]
        if self._delivered:
            self._files.write({"kind": _DELIVERED, "spans": spans(sorted(self._delivered))})
            self._delivered.clear()
        self._files.sync()

    def take(self, lane: str, now_ns: int, most_bytes: int) -> list[Record]:
        """Give records of a lane to be sent: at most `most_bytes` but one at least, each once until it comes back.

        Urgent: incidents and notes, then black boxes.  Live: frames up to `live_age_s` old, in their order.
        Backfill: those before, oldest first.
        """
        out: list[Record] = []
        size = 0
        for held in list(self._lane(lane, now_ns, most_bytes)):
            entry = self._entry(held)
            if entry is None:
                self._note(held.kind, DAMAGED, held.t_ns, held.end_ns, 1, held.length)
                self.delivered([held.number])
                continue
            if out and size + held.length > most_bytes:
                break
            size += held.length
            self._taken.add(held.number)
            about = entry.about
            made = (held.number, held.kind, about["id"], held.t_ns, held.end_ns, about["type"], entry.payload)
            out.append(Record(*made, about.get("subject", "")))
        return out

    def give_back(self, numbers: Iterable[int]) -> None:
        """Take back what could not be sent."""
        self._taken.difference_update(numbers)

    def delivered(self, numbers: Iterable[int]) -> None:
        """Forget what has arrived."""
        known = [(kind, n) for n in numbers for kind in KINDS if n in self._held[kind]]
        self._forget(n for _, n in known)
        self._delivered += [n for _, n in known]
        if any(kind != FRAMES for kind, _ in known):
            _tried(self.sync)
        self._sweep()

    @property
    def waiting(self) -> dict[str, int]:
        """Records that wait, by kind."""
        return {kind: len(held) for kind, held in self._held.items()}

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._files.size

    def close(self) -> None:
        """Sync and let go."""
        _tried(self.sync)
        self._files.leave()

    def _load(self) -> None:
        gone: set[int] = set()
        damage: dict[int, int] = {}
        for segment, records, damaged in self._files.load():
            if damaged:
                damage[segment.number] = damaged
            for entry in records:
                about = entry.about
                if about.get("kind") == _DELIVERED:
                    for first, last in about["spans"]:
                        gone.update(range(first, last + 1))
                elif "level" in about:
                    segment.level = about["level"]
                else:
                    self._hold(entry.number, about, Place(segment.number, entry.offset, entry.length))
        self._forget(gone)
        if damage:
            self._note("bytes", DAMAGED, 0, 0, 0, sum(damage.values()))
            _tried(self.sync)
        for number in damage:  # clean, so that the damage is noted once
            self._rewrite(number)
        self._sweep()

    def _first(self) -> dict[str, Any]:
        """Say what lies in the files and no longer waits: spans that hold no number of one that does."""
        waits = set().union(*self._held.values())
        out: list[list[int]] = []
        ended = True
        for number in sorted(waits | self._ghosts.keys()):
            if number in waits:
                ended = True
            elif ended:
                out.append([number, number])
                ended = False
            else:
                out[-1][1] = number
        return {"kind": _DELIVERED, "spans": out}

    def _write(self, about: dict[str, Any], payload: bytes) -> None:
        number, place = self._files.write(about, payload)
        self._hold(number, about, place)

    def _hold(self, number: int, about: dict[str, Any], place: Place) -> None:
        self._held[about["kind"]][number] = Held(number, intern(about["kind"]), about["t_ns"], about["end_ns"], *place)
        self._waits[place.segment] += 1

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._taken.discard(number)
            for held in self._held.values():
                gone = held.pop(number, None)
                if gone is not None:
                    self._waits[gone.segment] -= 1
                    self._ghosts[number] = gone.segment

    def _lane(self, lane: str, now_ns: int, most_bytes: int) -> Iterator[Held]:
        """Give what of a lane waits and is not being sent, in the order in which it goes, somewhat beyond the bytes."""
        if lane == URGENT:
            found: Iterable[Held] = [h for kind in KINDS[:-1] for h in self._held[kind].values()]
            found = sorted(found, key=lambda h: (h.kind == BLACKBOX, h.number))
        else:
            oldest_ns = now_ns - round(self.settings.live_age_s * 1e9)
            live: list[Held] = []
            for held in reversed(self._held[FRAMES].values()):
                if held.end_ns < oldest_ns:
                    break
                live.append(held)
            begins = live[-1].number if live else self._files.next
            frames = self._held[FRAMES].values()
            found = reversed(live) if lane == LIVE else (h for h in frames if h.number < begins)
        size = 0
        for held in found:
            if held.number not in self._taken:
                yield held
                size += held.length
                if size > 2 * most_bytes:
                    return

    def _drop(self, choice: Choice | None) -> bool:
        """Note records and let them go; False where there are none, or the disk lets none go."""
        if choice is None:
            return False
        gone = [held[n] for n in choice.numbers for held in self._held.values() if n in held]
        for kind in KINDS:
            mine = [h for h in gone if h.kind == kind]
            if mine:
                first_ns, last_ns = min(h.t_ns for h in mine), max(h.end_ns for h in mine)
                self._note(kind, choice.why, first_ns, last_ns, len(mine), sum(h.length for h in mine))
        _tried(self.sync)  # before they go; where the disk is full the note waits for the room that this makes
        self._files.segments[choice.segment].level += 1
        self._forget(choice.numbers)
        rewritten = self._rewrite(choice.segment)
        self._sweep()  # notes that were merged
        return rewritten

    def _rewrite(self, number: int) -> bool:
        kept = sorted((h for h in self._all() if h.segment == number), key=lambda h: h.offset)
        places = [Place(h.segment, h.offset, h.length) for h in kept]
        try:
            moved = self._files.rewrite(self._files.segments[number], places)
        except OSError:
            return False
        self._ghosts = {n: s for n, s in self._ghosts.items() if s != number}
        if not kept:
            self._waits.pop(number, None)
        for held in kept:
            self._held[held.kind][held.number] = held._replace(offset=moved[held.offset].offset)
        return True

    def _sweep(self) -> None:
        """Remove files of which nothing waits; the current one says what was delivered of them."""
        files = self._files
        for number in [n for n, s in files.segments.items() if not self._waits[n] and s is not files.current]:
            self._rewrite(number)

    def _note(self, kind: str, why: str, first_ns: int, last_ns: int, records: int, size: int) -> None:
        total = self.dropped.setdefault((kind, why), [0, 0])
        total[0] += records
        total[1] += size
        note = {"kind": kind, "why": why, "from_ns": first_ns, "to_ns": last_ns, "records": records, "bytes": size}
        for k, old in enumerate(self._notes):  # what could not be written yet
            if (old["kind"], old["why"]) == (kind, why):
                self._notes[k] = _merged(old, note)
                return
        self._notes.append(note)

    def _entry(self, held: Held) -> Entry | None:
        """Read a record that waits; None where it is damaged or its file is gone."""
        try:
            entry = self._files.read(Place(held.segment, held.offset, held.length))
        except OSError:
            return None
        return entry if entry is not None and entry.number == held.number else None

    def _all(self) -> Iterator[Held]:
        for held in self._held.values():
            yield from held.values()

    def _levels(self) -> dict[int, int]:
        return {s.number: s.level for s in self._files.segments.values()}


def _merged(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    times = {"from_ns": min(a["from_ns"], b["from_ns"]), "to_ns": max(a["to_ns"], b["to_ns"])}
    return a | times | {"records": a["records"] + b["records"], "bytes": a["bytes"] + b["bytes"]}


def _tried(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True
