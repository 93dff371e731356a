"""What survives a restart, written by the supervisor beside its loop: a slow disk must not hold it up."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.latches import LatchError, Record, create, read, write


@dataclass
class Keeper:
    """The latch file.

    `record` is None where it cannot be trusted: then nothing is written until a person makes it anew.  `lost` says why,
    and `failed` what the last writing said, "" where it went well.
    """

    path: Path
    record: Record | None = None
    lost: str = ""
    failed: str = ""
    _wanted: Record | None = None
    _more: threading.Condition = field(default_factory=threading.Condition)
    _over: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Read the file and begin to write."""
        try:
            self.record = read(self.path)
        except LatchError as bad:
            self.lost = str(bad)
        self._thread = threading.Thread(target=self._write, name="latches", daemon=True)
        self._thread.start()

    def keep(self, latched: tuple[str, ...], kept: Mapping[str, Any]) -> None:
        """Ask for a record to be on disk soon; nothing happens where it is as before."""
        if self.record is None or (self.record.latched == latched and self.record.kept == kept):
            return
        self.record = Record(self.record.sequence + 1, latched, dict(kept))
        with self._more:
            self._wanted = self.record
            self._more.notify()

    def anew(self, latched: tuple[str, ...], kept: Mapping[str, Any]) -> None:
        """Make the file anew, as a person asked; raises OSError."""
        self.record = create(self.path, Record(0, latched, dict(kept)))
        self.lost = ""

    def stop(self, wait_s: float = 2.0) -> None:
        """Write what is still wanted, and end."""
        with self._more:
            self._over = True
            self._more.notify()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _write(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._wanted is not None or self._over)
                wanted, self._wanted = self._wanted, None
            if wanted is None:
                return
            try:
                write(self.path, wanted)
            except (OSError, LatchError) as bad:
                self.failed = str(bad)
            else:
                self.failed = ""
