"""The CAN bus, over any interface that python-can knows: frames in with their time, frames out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge.commands import Sent
from edge.decode import Frame
from schemas.checked import ConfigError, Table, shown

if TYPE_CHECKING:
    from can import BusABC

TICK_S = 0.01  # a receiver wakes at least so often, so that silence is noticed
MOST_FRAMES = 256  # taken at once: a flood must not keep the judgement waiting
_MOST_WAITING = 1 << 16  # that an interface may hold
_REOPEN_NS = 10**9
_OLDEST_NS = 10**9  # a stamp that is older than this is of another clock
_PLAIN = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class CanSettings:
    """The bus: python-can's interface and channel, and what else that interface takes."""

    interface: str
    channel: str
    options: Mapping[str, Any] = field(default_factory=dict)


def read_can(t: Table) -> CanSettings:
    """Read the table `can` of a settings file, errors as `checked.Table` gives them."""
    interface, channel = t.text("interface"), t.text("channel")
    options = t.raw("options") or {}
    if not isinstance(options, dict) or not all(isinstance(v, _PLAIN) for v in options.values()):
        t.refuse("options", "a table of texts, numbers and truth values that the interface takes", options)
    t.done()
    return CanSettings(interface, channel, options)


def open_bus(can: CanSettings) -> BusABC:
    """Open the bus; raises ConfigError where there is no such interface or it does not open."""
    import can as python_can  # noqa: PLC0415 - after edge.start.lean

    try:
        bus: BusABC = python_can.Bus(interface=can.interface, channel=can.channel, **can.options)
    except (python_can.CanError, OSError, ValueError, TypeError, ImportError, NotImplementedError) as bad:
        msg = f"can must be an interface that opens; got {shown(str(bad))} ({can.interface}, {can.channel})"
        raise ConfigError(msg) from None
    return bus


@dataclass(slots=True)
class Port:
    """One end of a bus.

    `now`: ns of a monotonic clock; `wall`: ns since 1970, which interfaces stamp with.  A bus that fails is silence:
    it is counted in `errors` and opened anew each second.
    """

    settings: CanSettings
    now: Callable[[], int]
    wall: Callable[[], int]
    bus: Any = None
    errors: int = 0
    unsent: int = 0
    _tried_ns: int = 0

    def __post_init__(self) -> None:
        """Open the bus."""
        self.bus = open_bus(self.settings)

    def take(self, wait_s: float = TICK_S) -> list[Frame]:
        """Wait for a frame, at most `wait_s`, and give all that have come since, in order."""
        frames: list[Frame] = []
        try:
            if self.bus is None:
                self._reopen()
            message = self.bus.recv(wait_s)
            while message is not None:
                if not (message.is_error_frame or message.is_remote_frame):
                    frames.append(self._frame(message))
                if len(frames) >= MOST_FRAMES:
                    break
                message = self.bus.recv(0)
        except Exception:  # noqa: BLE001 - interfaces raise what they like, and protection goes on without them
            self._failed(wait_s)
        return frames

    def forget(self) -> None:
        """Drop what has come so far: frames that waited while a process started tell nothing of now."""
        for _ in range(_MOST_WAITING // MOST_FRAMES):
            if len(self.take(0.0)) < MOST_FRAMES:
                return

    def send(self, sent: Iterable[Sent]) -> None:
        """Send frames; what the interface does not take is counted, and missed by the receiver's watchdog."""
        from can import Message  # noqa: PLC0415 - as in open_bus

        for one in sent:
            try:
                self.bus.send(Message(arbitration_id=one.can_id, is_extended_id=one.ext, data=one.data))
            except Exception:  # noqa: BLE001 - as in take
                self.unsent += 1

    def close(self) -> None:
        """Close the bus."""
        if self.bus is not None:
            self.bus.shutdown()
            self.bus = None

    def _frame(self, message: Any) -> Frame:  # noqa: ANN401 - python-can's message
        """Stamp a frame with when the interface got it, by its age: a frame may have waited while we were busy."""
        age_ns = self.wall() - int(message.timestamp * 1e9)
        age_ns = age_ns if 0 <= age_ns <= _OLDEST_NS else 0
        return Frame(message.arbitration_id, message.is_extended_id, bytes(message.data), self.now() - age_ns)

    def _failed(self, wait_s: float) -> None:
        self.errors += 1
        bus, self.bus = self.bus, None
        if bus is not None:
            with suppress(Exception):  # it is gone anyway
                bus.shutdown()
        time.sleep(wait_s)

    def _reopen(self) -> None:
        """Open the bus again, at most once a second; raises ConfigError."""
        if self.now() - self._tried_ns < _REOPEN_NS:
            msg = "the bus is down"
            raise ConfigError(msg)
        self._tried_ns = self.now()
        self.bus = open_bus(self.settings)
