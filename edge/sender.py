"""What is sent next, and how much: incidents first, live frames at once, history in what is left of the line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edge.outbox import BACKFILL, LIVE, URGENT, Outbox
from edge.uplink import Report, Uplink

_DAY_NS = 86_400 * 10**9
_AGAIN_NS = 5 * 10**9


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """Most bytes on their way by lane, and what a day may cost.

    History has one handful on its way at a time, and none while anything else waits: what comes meanwhile waits for no
    more than that.  `budget_bytes` bounds history; incidents and live frames go whatever the day has cost.
    """

    urgent_bytes: int = 1 << 20
    live_bytes: int = 256 << 10
    backfill_bytes: int = 32 << 10
    budget_bytes: int = 10_000_000


@dataclass(slots=True)
class Sender:
    """Moves records from an outbox to an uplink."""

    outbox: Outbox
    uplink: Uplink
    settings: SenderSettings = field(default_factory=SenderSettings)
    sent: dict[str, list[int]] = field(default_factory=lambda: {lane: [0, 0] for lane in (URGENT, LIVE, BACKFILL)})
    failures: int = 0
    day: int = -1
    day_bytes: int = 0  # delivered since midnight UTC, or since the start
    before_bytes: int = 0  # delivered on the day before, 0 where that is not known
    _flying: dict[int, tuple[str, int]] = field(default_factory=dict)
    _parked: list[int] = field(default_factory=list)  # tried again once something arrives, or after a while
    _parked_ns: int = 0

    def step(self, now_ns: int) -> None:
        """Take in what became of what was sent, and send what is next; `now_ns` is wall time."""
        self._settle(now_ns)
        for lane, most in self._lanes():
            room = most - sum(size for flying, size in self._flying.values() if flying == lane)
            if room <= 0:
                continue
            records = self.outbox.take(lane, now_ns, room)
            for k, record in enumerate(records):
                if not self.uplink.send(lane, record):
                    self.outbox.give_back(r.number for r in records[k:])
                    break
                self._flying[record.number] = (lane, self.uplink.cost(lane, record))

    def _lanes(self) -> Iterator[tuple[str, int]]:
        yield URGENT, self.settings.urgent_bytes
        yield LIVE, self.settings.live_bytes
        if not self._flying and not self.spent:
            yield BACKFILL, self.settings.backfill_bytes

    @property
    def spent(self) -> bool:
        """Say whether the day has cost what it may."""
        return self.day_bytes >= self.settings.budget_bytes

    def close(self) -> None:
        """Let the uplink go, and note what it delivered last."""
        self._noted(self.uplink.close(), self._parked_ns)
        self.outbox.give_back([*self._flying, *self._parked])

    def _settle(self, now_ns: int) -> None:
        today = now_ns // _DAY_NS
        if today != self.day:
            self.before_bytes = self.day_bytes if today == self.day + 1 else 0
            self.day, self.day_bytes = today, 0
        self._noted(self.uplink.report(), now_ns)

    def _noted(self, report: Report, now_ns: int) -> None:
        for number in report.delivered:
            lane, size = self._flying.pop(number, (LIVE, 0))
            self.sent[lane][0] += 1
            self.sent[lane][1] += size
            self.day_bytes += size
        for number in report.failed:
            self._flying.pop(number, None)
            self.failures += 1
        if report.delivered:
            self.outbox.delivered(report.delivered)
        self._parked += report.failed  # not given back each time: one that nobody takes must not keep history waiting
        if report.delivered or not 0 <= now_ns - self._parked_ns < _AGAIN_NS:
            self.outbox.give_back(self._parked)
            self._parked, self._parked_ns = [], now_ns
