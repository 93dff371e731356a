"""What is given up first when the outbox is full.

Pure.  Frames before anything else: every second record of the file that was thinned least and is oldest, up to one
record in 16; then the oldest frames; only then black boxes, and incidents last.  Notes of what went stay: they are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

INCIDENT, DROPPED, BLACKBOX, FRAMES = "incident", "dropped", "blackbox", "frames"
KINDS = (INCIDENT, DROPPED, BLACKBOX, FRAMES)  # in the order in which they are sent
THINNED, TOO_OLD, FULL, DAMAGED, UNWRITTEN = "thinned", "too_old", "full", "damaged", "unwritten"  # why
LEVELS = 4  # times that a file is thinned
_AGREE = 6  # records in a row that must say how late it is: one wrong stamp must not throw away the history


class Held(NamedTuple):
    """A record that waits: its number, kind, first and last time, and where it lies."""

    number: int
    kind: str
    t_ns: int
    end_ns: int
    segment: int
    offset: int
    length: int


class Choice(NamedTuple):
    """Records of one file that go, and why."""

    segment: int
    numbers: tuple[int, ...]
    why: str


def least(held: Iterable[Held], levels: dict[int, int], *, thin: bool = True) -> Choice | None:
    """Choose what goes next; None where nothing is left.  `levels`: how often each file was thinned.

    Where the disk takes nothing, thinning needs room that is not there: `thin` false chooses whole files' frames.
    """
    of_kind: dict[str, dict[int, list[int]]] = {kind: {} for kind in KINDS}
    for one in held:
        of_kind[one.kind].setdefault(one.segment, []).append(one.number)
    frames = of_kind[FRAMES]
    thick = {s: n for s, n in frames.items() if levels[s] < LEVELS and len(n) > 1}
    if thin and thick:
        segment = min(thick, key=lambda s: (levels[s], s))
        return Choice(segment, tuple(thick[segment][1::2]), THINNED)
    if frames:
        return Choice(min(frames), tuple(frames[min(frames)]), FULL)
    for kind in (BLACKBOX, INCIDENT):
        if of_kind[kind]:
            segment = min(of_kind[kind])
            return Choice(segment, (of_kind[kind][segment][0],), FULL)
    return None


def too_old(frames: Sequence[Held], days: float) -> list[Choice]:
    """List frames, given in their order, that ended more than `days` before the newest, file by file."""
    if len(frames) < _AGREE:
        return []
    limit_ns = min(one.end_ns for one in frames[-_AGREE:]) - round(days * 86_400 * 1e9)
    old: dict[int, list[int]] = {}
    for one in frames:
        if one.end_ns < limit_ns:
            old.setdefault(one.segment, []).append(one.number)
    return [Choice(segment, tuple(numbers), TOO_OLD) for segment, numbers in old.items()]
