"""One round of the telemetry process: frames and protection's words in, requests on the bus and words out.

It joins what asks (edge.care), what is kept and sent (edge.keeping), and what comes from afar: signed orders.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import care, cloud_limits, cloud_soc, local_soc, records
from edge.care import Asked, Asking, CareConfig
from edge.cloud_limits import CloudConfig, Judged
from edge.commands import Sent, Writer
from edge.journal import NOTICE, WARNING
from edge.json_file import read_json, write_json
from edge.keeping import Keeping
from edge.link import Told
from schemas.frames import FrameBlock
from schemas.signed import SOC, SignedError, opened

SOC_NS = 300 * 10**9  # between writings of the charge, which a restart begins from
_MOST_REPORTS = 256
_S = 10**9


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """`soc_file` keeps the charge; `asks` is false for an observer; `about` stands in each report: version, model."""

    care: CareConfig
    cloud: CloudConfig
    soc_file: Path
    asks: bool
    about: Mapping[str, Any] = field(default_factory=dict)


class Telemetry:
    """The process, between a bus that it reads and a supervisor that it tells."""

    def __init__(self, cfg: TelemetryConfig, keeping: Keeping, writer: Writer) -> None:
        """Take up the charge that the run before left."""
        self.cfg, self.keeping = cfg, keeping
        self.care = care.fresh_state(cfg.care, read_json(cfg.soc_file))
        self.limits = cloud_limits.State()
        self.asked: Asked | None = None
        self.judged: Counter[str] = Counter()  # orders, by what became of them
        self._asking = Asking(writer)
        self._kept_ns = 0
        self._started = False  # as was reported
        self._reports: deque[Told] = deque(maxlen=_MOST_REPORTS)  # that wait for an outbox

    def step(
        self, block: FrameBlock | None, heard: Sequence[Told], now_ns: int, wall_ns: int
    ) -> tuple[list[Sent], list[Told]]:
        """Take a round; `now_ns` is of a monotonic clock.  Gives frames to send, and words for the supervisor."""
        self.care, self.asked = care.step(self.cfg.care, self.care, block, heard, wall_ns)
        sent = self._asking.due(self.asked, now_ns) if self.cfg.asks else []
        words: list[Told] = []
        self.keeping.open(wall_ns)
        trip_ns = None
        for message in heard:
            if message.get("kind") == "limits":
                self.limits = cloud_limits.load(message)
            elif "number" in message:
                self._reports.append(message)
                if message.get("active") and message.get("opens"):
                    trip_ns = int(message["at_ns"])
        words += self._report(wall_ns)
        self.keeping.step(block, trip_ns, wall_ns)
        words += self._orders(wall_ns)
        if not 0 <= wall_ns - self._kept_ns < SOC_NS:
            self._keep_charge(wall_ns)
        words += [{"kind": "journal", "level": line.level, "text": line.text} for line in self.keeping.lines]
        self.keeping.lines.clear()
        return sent, words

    def close(self, wall_ns: int) -> None:
        """Keep what is gathered, and let go."""
        self._keep_charge(wall_ns)
        self.keeping.close(wall_ns)

    def _report(self, wall_ns: int) -> list[Told]:
        """Keep decisions and alerts; what is on the disk is confirmed, so that it need not be said again."""
        words: list[Told] = []
        vehicle = self.cfg.cloud.vehicle
        if not self._started and self.keeping.outbox is not None:
            self._started = self.keeping.keep(records.start_record(self.cfg.about, vehicle, wall_ns), wall_ns)
        while self._reports and self.keeping.outbox is not None:
            message = self._reports.popleft()
            if self.keeping.keep(records.told_record(message, vehicle, self._stands()), wall_ns):
                words.append({"kind": "kept", "number": message["number"]})
        return words

    def _stands(self) -> Mapping[str, Any]:
        """Say of what this gateway is made, and how full its pack is by its own count."""
        if self.asked is None:
            return self.cfg.about
        return {**self.cfg.about, "soc": self.asked.soc.soc, "soc_std": self.asked.soc.std}

    def _orders(self, wall_ns: int) -> list[Told]:
        """Judge what was said from afar: what is refused changes nothing, and is reported like what is taken."""
        words: list[Told] = []
        before, self.limits = self.limits, cloud_limits.expire(self.limits, wall_ns)
        if before != self.limits:
            words.append(_line(NOTICE, f"limits {self.limits.sequence} from outside have expired"))
        cloud = self.cfg.cloud
        for data in self.keeping.uplink.hear():
            judged, changed = self._judge(data, wall_ns)
            self.judged[judged.reason or "taken"] += 1
            words.append(_line(WARNING if judged.reason else NOTICE, judged.text))
            self.keeping.keep(records.order_record(judged, cloud.vehicle, wall_ns, self.cfg.about), wall_ns)
            if changed:
                words.append({"kind": "limits", **cloud_limits.dump(self.limits)})
        return words

    def _judge(self, data: bytes, wall_ns: int) -> tuple[Judged, bool]:
        """Judge one order; says also whether it changed limits."""
        cloud = self.cfg.cloud
        kind = ""
        with suppress(SignedError):
            kind = opened(data, cloud.keys).kind
        if kind == SOC:
            soc, judged = cloud_soc.receive(self.cfg.care.soc, self.care.soc, data, cloud.keys, cloud.vehicle, wall_ns)
            self.care = self.care._replace(soc=soc)
            return judged, False
        self.limits, judged = cloud_limits.receive(cloud, self.limits, data, wall_ns)
        return judged, not judged.reason

    def _keep_charge(self, wall_ns: int) -> None:
        self._kept_ns = wall_ns
        with suppress(OSError):  # the next time, or a rest: the charge is found again without it
            write_json(self.cfg.soc_file, local_soc.dump(self.care.soc))

    def metrics(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Give what stands now, for the local port."""
        yield from self.keeping.metrics()
        for result, n in self.judged.items():
            yield "ibms_edge_orders_total", {"result": result}, n
        yield "ibms_edge_outside_limits_until_seconds", {}, self.limits.expires_ns / _S
        if self.asked is not None:
            yield "ibms_edge_soc", {}, self.asked.soc.soc
            yield "ibms_edge_soc_std", {}, self.asked.soc.std
            yield "ibms_edge_cooling_request", {}, self.asked.request.cooling
            yield "ibms_edge_heating_request", {}, self.asked.request.heating
            if self.asked.balance is not None:
                yield "ibms_edge_bleeding_cells", {}, int(self.asked.balance.mask.sum())
                yield "ibms_edge_bleeding_watts", {}, self.asked.balance.heat_w


def _line(level: int, text: str) -> Told:
    return {"kind": "journal", "level": level, "text": text}
