"""How does a person ask something of a gateway that runs: words over a socket that only its owner may use."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.checked import ConfigError, shown

SERVICE = "service"  # somebody has looked at the pack
WORDS = (SERVICE,)
NAME = "control"
_MOST_BYTES = 64


@dataclass(frozen=True, slots=True)
class Control:
    """The gateway's end."""

    socket: socket.socket
    path: Path

    def asked(self) -> Iterator[str]:
        """Give the words that have come, without waiting; others than WORDS are nobody's."""
        with suppress(OSError):
            while True:
                word = self.socket.recv(_MOST_BYTES, socket.MSG_DONTWAIT).decode(errors="replace")
                if word in WORDS:
                    yield word

    def close(self) -> None:
        """Take the socket away."""
        self.socket.close()
        self.path.unlink(missing_ok=True)


def listen(folder: Path) -> Control:
    """Open the gateway's end; raises ConfigError where the folder does not take a socket."""
    path = folder / NAME
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = os.umask(0o177)  # from its first moment on it is the owner's alone
    try:
        path.unlink(missing_ok=True)
        ours.bind(str(path))
    except OSError as bad:
        ours.close()
        msg = f"state_dir must be a folder that takes a socket; got {bad.strerror or bad} ({path})"
        raise ConfigError(msg) from None
    finally:
        os.umask(before)
    return Control(ours, path)


def ask(folder: Path, word: str) -> None:
    """Ask a gateway that runs; raises ConfigError where there is none, or it is somebody else's."""
    path = folder / NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        try:
            ours.sendto(word.encode(), str(path))
        except OSError as bad:
            msg = f"a gateway must run and be yours; got {shown(bad.strerror or str(bad))} ({path})"
            raise ConfigError(msg) from None
