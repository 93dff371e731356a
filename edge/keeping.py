"""What is kept and sent: the parts of the telemetry process that touch disk and network, joined.

One step for each round of frames.  Where the disk takes nothing, frames are let go and counted, and the disk is tried
again every few seconds; where the network is away, everything waits in the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge.batches import Batches
from edge.blackbox import Blackbox, Mark, Piece
from edge.journal import INFO, NOTICE, WARNING
from edge.json_file import read_json, write_json
from edge.outbox import Outbox
from edge.records import Kept
from edge.retention import BLACKBOX, DAMAGED, FRAMES, FULL, THINNED, TOO_OLD, UNWRITTEN
from edge.sender import Sender, SenderSettings
from edge.telemetry_settings import TelemetrySettings
from edge.uplink import NoUplink, Uplink
from schemas.frames import FrameBlock
from schemas.ids import record_id

TRY_NS = 5 * 10**9  # between attempts to open an outbox
SAY_NS = 60 * 10**9  # what had to go is said at most so often, and after so much that nothing arrives
_S = 10**9
_WHY = {
    THINNED: "the outbox is full, and every second one of the oldest goes",
    TOO_OLD: "they are older than it keeps",
    FULL: "the outbox is full",
    DAMAGED: "they are damaged",
    UNWRITTEN: "the disk did not take them",
}


class Line(NamedTuple):
    """A line for the journal."""

    level: int
    text: str


class Keeping:
    """The parts; `encode` gives frames as bytes and their content type (edge.uplink)."""

    def __init__(
        self,
        settings: TelemetrySettings,
        vehicle: str,
        uplink: Uplink,
        encode: Callable[[FrameBlock], tuple[bytes, str]],
    ) -> None:
        """Touch neither disk nor network yet."""
        self.settings, self.vehicle, self.uplink = settings, vehicle, uplink
        self.outbox: Outbox | None = None
        self.rows = 0
        self.frame_bytes = 0
        self.lines: list[Line] = []  # for the journal; whoever says them clears them
        self._encode = encode
        self._batches, self._blackbox = Batches(settings.frames), Blackbox(settings.blackbox)
        self._mark: Mark | None = None  # as it is on the disk
        self._sender: Sender | None = None
        self._tried_ns = 0
        self._trouble = ""  # why there is no outbox
        self._said_ns = 0
        self._spent_day = -1
        self._gone: dict[tuple[str, str], int] = {}  # records let go, as last said
        self._arrived = -1  # records, and when the last of them did
        self._arrived_ns = self._stepped_ns = 0
        self._away = False  # as last said

    def open(self, now_ns: int) -> None:
        """Open the outbox where it is not, at most every TRY_NS; times are of the wall clock."""
        if self.outbox is not None or 0 <= now_ns - self._tried_ns < TRY_NS:
            return
        self._tried_ns = now_ns
        try:
            self.outbox = Outbox(self.settings.folder, self.vehicle, self.settings.outbox)
        except OSError as bad:
            why = f"{bad.strerror or bad} ({self.settings.folder})"
            if why != self._trouble:
                self._say(WARNING, f"the outbox does not open, nothing is kept: {why}")
            self._trouble = why
            return
        waits = ", ".join(f"{n} {kind}" for kind, n in self.outbox.waiting.items() if n) or "nothing"
        self._say(NOTICE if self._trouble else INFO, f"the outbox is open; of the run before wait: {waits}")
        self._trouble = ""
        mark = read_mark(self._mark_file)
        if mark is not None:
            self._blackbox.resume(mark, now_ns)
            self._mark = mark
        if not isinstance(self.uplink, NoUplink):
            sending = SenderSettings(budget_bytes=self.settings.uplink.budget_bytes)
            self._sender = Sender(self.outbox, self.uplink, sending)

    def keep(self, record: Kept, now_ns: int) -> bool:
        """Put a record into the outbox; False where it is not on the disk."""
        if self.outbox is None:
            return False
        return self.outbox.append(
            record.kind, record.id, record.t_ns, record.end_ns, record.payload,
            content_type=record.content_type, now_ns=now_ns, subject=record.subject,
        )  # fmt: skip

    def step(self, block: FrameBlock | None, trip_ns: int | None, now_ns: int) -> None:
        """Take frames in their order and the time of a trip; keep and send what is due."""
        self.rows += 0 if block is None else len(block)
        for frames in self._batches.push(block, now_ns):
            self._frames(frames, now_ns)
        for piece in self._blackbox.push(block, trip_ns, now_ns):
            self._piece(piece, now_ns)
        if self.outbox is not None:
            if self._blackbox.mark != self._mark:
                self._keep_mark(self._blackbox.mark)
            self.outbox.settle(now_ns)
            self._let_go(self.outbox, now_ns)
        if self._sender is not None:
            self._sender.step(now_ns)
            self._arrives(self._sender, now_ns)
            self._spends(self._sender)

    def close(self, now_ns: int) -> None:
        """Keep what is gathered, and let go."""
        for frames in self._batches.flush():
            self._frames(frames, now_ns)
        for piece in self._blackbox.flush(now_ns):
            self._piece(piece, now_ns)
        if self.outbox is not None:
            self._keep_mark(self._blackbox.mark)
            with suppress(OSError):
                self.outbox.sync()  # now: whoever ends us has little patience, and the uplink may need it
        if self._sender is not None:
            self._sender.step(now_ns)
            self._sender.close()
        else:
            self.uplink.close()
        if self.outbox is not None:
            self.outbox.close()

    def _frames(self, frames: FrameBlock, now_ns: int) -> None:
        payload, content_type = self._encode(frames)
        self.frame_bytes += len(payload)
        first_ns, last_ns = int(frames.t_ns[0]), int(frames.t_ns[-1])
        name = record_id(self.vehicle, FRAMES, str(int(frames.seq[0])), first_ns)
        self.keep(Kept(FRAMES, name, first_ns, last_ns, payload, content_type, "frames"), now_ns)

    def _piece(self, piece: Piece, now_ns: int) -> None:
        payload, content_type = self._encode(piece.frames)
        first_ns, last_ns = int(piece.frames.t_ns[0]), int(piece.frames.t_ns[-1])
        name = record_id(self.vehicle, BLACKBOX, f"{piece.trip_ns} {piece.number}", first_ns)
        about = f"trip {piece.trip_ns} piece {piece.number}{' last' if piece.last else ''}"
        kept = self.keep(Kept(BLACKBOX, name, first_ns, last_ns, payload, content_type, about), now_ns)
        if piece.number == 0 or piece.last or not kept:
            from_s, to_s = (first_ns - piece.trip_ns) / _S, (last_ns - piece.trip_ns) / _S
            which = "the last piece" if piece.last else f"piece {piece.number + 1}"
            text = (
                f"black box: {which}, {from_s:.0f} s to {to_s:.0f} s from the trip, {'is' if kept else 'is not'} kept"
            )
            self._say(NOTICE if kept else WARNING, text)

    @property
    def _mark_file(self) -> Path:
        return self.settings.folder / "blackbox.json"

    def _keep_mark(self, mark: Mark | None) -> None:
        """Note how far the recording has come, so that a process that is killed goes on with it."""
        self._mark = mark
        with suppress(OSError):
            if mark is None:
                self._mark_file.unlink(missing_ok=True)
            else:
                write_json(self._mark_file, mark)

    def _spends(self, sender: Sender) -> None:
        """Say, once a day, that history waits for the next."""
        if sender.spent and sender.day != self._spent_day:
            self._spent_day = sender.day
            budget_mb = sender.settings.budget_bytes / 1e6
            self._say(WARNING, f"the {budget_mb:g} MB of this day are sent: history waits until midnight UTC")

    def _let_go(self, outbox: Outbox, now_ns: int) -> None:
        """Say, now and then, what had to go."""
        if 0 <= now_ns - self._said_ns < SAY_NS:
            return
        gone = {key: records for key, (records, _) in outbox.dropped.items()}
        for (kind, why), records in gone.items():
            more = records - self._gone.get((kind, why), 0)
            if more > 0:
                self._said_ns = now_ns
                self._say(WARNING, f"{more} records of {kind} were let go: {_WHY.get(why, why)}")
        self._gone = gone

    def _arrives(self, sender: Sender, now_ns: int) -> None:
        """Say where nothing arrives any more, and where it does again."""
        arrived = sum(records for records, _ in sender.sent.values())
        waits = sum(sender.outbox.waiting.values())
        jumped = not 0 <= now_ns - self._stepped_ns < TRY_NS  # a clock that was set says nothing of a line
        self._stepped_ns = now_ns
        if jumped and not self._away:
            self._arrived_ns = now_ns
        if arrived != self._arrived or not waits:
            if self._away:
                self._say(NOTICE, f"what is sent arrives again; {waits} records wait")
            self._arrived, self._arrived_ns, self._away = arrived, now_ns, False
        elif not self._away and now_ns - self._arrived_ns >= SAY_NS:
            self._away = True
            self._say(WARNING, f"nothing that is sent has arrived for a minute; {waits} records wait")

    def _say(self, level: int, text: str) -> None:
        self.lines.append(Line(level, text))

    def metrics(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Give what stands now, for the local port."""
        yield "ibms_edge_rows_total", {}, self.rows
        yield "ibms_edge_frame_bytes_total", {}, self.frame_bytes
        yield "ibms_edge_outbox_up", {}, self.outbox is not None
        if self.outbox is not None:
            yield "ibms_edge_outbox_bytes", {}, self.outbox.size
            yield from _counted("ibms_edge_outbox_records", self.outbox.waiting.items())
            for (kind, why), (records, size) in self.outbox.dropped.items():
                yield "ibms_edge_dropped_records_total", {"kind": kind, "why": why}, records
                yield "ibms_edge_dropped_bytes_total", {"kind": kind, "why": why}, size
        if self._sender is not None:
            for lane, (records, size) in self._sender.sent.items():
                yield "ibms_edge_sent_records_total", {"lane": lane}, records
                yield "ibms_edge_sent_bytes_total", {"lane": lane}, size
            yield "ibms_edge_send_failures_total", {}, self._sender.failures
            yield "ibms_edge_day_bytes", {}, self._sender.day_bytes
            yield "ibms_edge_day_before_bytes", {}, self._sender.before_bytes
            yield "ibms_edge_day_budget_bytes", {}, self.settings.uplink.budget_bytes


def read_mark(path: Path) -> Mark | None:
    """Read how far a recording had come; None where nobody wrote it."""
    kept = read_json(path)
    if not isinstance(kept, list) or len(kept) != len(Mark._fields) or not all(type(value) is int for value in kept):
        return None
    return Mark(*kept)


def _counted(name: str, counts: Iterable[tuple[str, int]]) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for kind, n in counts:
        yield name, {"kind": kind}, n
