"""A way out of the vehicle for tests."""

from __future__ import annotations

from edge.outbox import Record
from edge.uplink import Report, cost


class Line:
    """An uplink that takes everything, and says so at the next report, where it is `up`.

    `heard` is what somebody says to the vehicle.
    """

    def __init__(self) -> None:
        self.up = True
        self.sent: list[Record] = []
        self.heard: list[bytes] = []
        self.closed = False
        self._arrived: list[int] = []

    def send(self, lane: str, record: Record) -> bool:
        self.sent.append(record)
        self._arrived.append(record.number)
        return True

    def report(self) -> Report:
        arrived, self._arrived = self._arrived, []
        return Report(arrived, []) if self.up else Report([], arrived)

    def hear(self) -> list[bytes]:
        heard, self.heard = self.heard, []
        return heard

    def cost(self, lane: str, record: Record) -> int:
        return cost(lane, record, "v")

    def close(self) -> Report:
        self.closed = True
        return self.report()
