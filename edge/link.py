"""How do the gateway's processes talk to each other: small messages that are never waited for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_MOST_BYTES = 1 << 17
Told = dict[str, Any]


@dataclass(slots=True)
class Link:
    """One end; messages are whole or not there, and none is waited for.

    `lost` counts what the other side was too slow to take: what matters is said again with every beat.  `over` is
    true once the other side is gone.
    """

    socket: socket.socket
    lost: int = 0
    over: bool = False

    def tell(self, message: Told) -> bool:
        """Send a message; False where the other side does not take it now."""
        try:
            self.socket.send(json.dumps(message).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            self.lost += 1
        except OSError:
            self.over = True
        else:
            return True
        return False

    def hear(self) -> Iterator[Told]:
        """Give what has come, without waiting."""
        while not self.over:
            try:
                data = self.socket.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.over = True
                return
            with suppress(ValueError):  # a torn message cannot come; one that is no JSON is nobody's
                message = json.loads(data)
                if isinstance(message, dict):
                    yield message


def pair() -> tuple[Link, socket.socket]:
    """Make a link: our end, and the socket to hand to a child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Link(ours), theirs


def inherited(number: int) -> Link:
    """Take up the end that a parent handed over by its file number."""
    return Link(socket.socket(fileno=number))
