"""Journal lines for a person: one line, plain words, a level that systemd understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # as syslog counts them
_WORDS = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}


@dataclass(frozen=True, slots=True)
class Journal:
    """Where lines go; `wall` gives ns since 1970.  Under systemd lines begin with their level, and it adds the time."""

    stream: TextIO
    wall: Callable[[], int]
    systemd: bool = False

    def say(self, level: int, text: str) -> None:
        """Write one line; a journal that does not take it costs nothing else."""
        line = " ".join(text.split())
        if self.systemd:
            line = f"<{level}>{line}"
        else:
            at = datetime.fromtimestamp(self.wall() // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
            line = f"{at.removesuffix('+00:00')}Z {_WORDS[level]}: {line}"
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except OSError:
            return


def level_of(tier: str, *, active: bool) -> int:
    """Give the level of a decision: MSL is an error, RSL a warning, what clears a notice."""
    return {"MSL": ERROR, "RSL": WARNING}.get(tier, INFO) if active else NOTICE
