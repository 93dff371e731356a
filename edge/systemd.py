"""How a service manager is told that the gateway runs (sd_notify(3), by its socket)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


def notify(environment: Mapping[str, str], *words: str) -> bool:
    """Tell it words such as READY=1; False where there is none to tell."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall("\n".join(words).encode())
        return True
    return False


def watchdog_s(environment: Mapping[str, str]) -> float:
    """Give how often it wants a word: a third of its patience; 0 where it does not watch."""
    patience = environment.get("WATCHDOG_USEC", "")
    return int(patience) / 3e6 if patience.isdigit() else 0.0
