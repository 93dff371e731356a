"""What the suite says: a line a case, a table, and the same as JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tests.chaos.account import Account

KNOWN_BAD = "known_bad"  # the case in which something must be found
_HEAD = ("case", "frames", "records", "lost", "repeated", "bit equal", "restarts", "s")


@dataclass(frozen=True)
class Line:
    """One case: its account, or why there is none; `skipped` where this machine cannot run it."""

    name: str
    account: Account | None
    restarts: int
    seconds: float
    why: str = ""
    skipped: bool = False

    def good(self) -> bool:
        """Say whether it is as demanded: nothing lost or repeated, and with the sinks known to be bad, both."""
        if self.account is None:
            return self.skipped and os.environ.get("IBMS_REQUIRE_KAFKA") != "1"
        if self.name == KNOWN_BAD:
            return bool(self.account.lost and self.account.repeated and not self.account.bit_equal)
        return self.account.sound

    def said(self) -> str:
        """Say it in a line or two."""
        if self.account is None:
            return f"{'skipped' if self.skipped else 'FAILED'}: {self.why}"
        a = self.account
        text = f"lost {a.lost:,}, repeated {a.repeated:,} of {a.frames:,} frames and {a.records:,} records"
        text += f", {'bit-equal' if a.bit_equal else 'not bit-equal'}, {self.restarts} restarts, {self.seconds:.0f} s"
        return text if self.good() or self.name == KNOWN_BAD else "\n      ".join([f"FAILED: {text}", *a.notes])

    def cells(self) -> tuple[str, ...]:
        """Give the line of the table."""
        if self.account is None:
            return (self.name, "-", "-", "-", "-", "skipped" if self.skipped else "FAILED", "-", f"{self.seconds:.0f}")
        a = self.account
        counts = (f"{n:,}" for n in (a.frames, a.records, a.lost, a.repeated))
        return (self.name, *counts, "yes" if a.bit_equal else "no", str(self.restarts), f"{self.seconds:.0f}")

    def as_json(self) -> dict[str, Any]:
        """Give what is counted; a case that came to no end has lost what it was sent, as far as anybody knows."""
        a = self.account
        if a is None:
            return {"name": self.name, "frames": 0, "lost": None, "repeated": None, "bit_equal": False}
        return {
            "name": self.name, "frames": a.frames, "lost": a.lost, "repeated": a.repeated, "bit_equal": a.bit_equal,
        }  # fmt: skip


def table(lines: list[Line]) -> str:
    """Lay the lines out, numbers to the right."""
    rows = [_HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
