"""What a filled gap changes in a pack's incidents: a revision of what was told otherwise, and nothing raised twice.

While a gap is being filled the pack's incidents are told as they come, and those of the copy, which sees the gap's
frames, are kept back.  When the copy takes the pack's place, they are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from operators.kernels import incidents
from operators.kernels.incidents import Change, Open, change
from operators.kernels.kinds import INDEX, KINDS


@dataclass(slots=True)
class Copy:
    """The incidents of a copy of a pack's state."""

    known: list[Open]
    before: dict[str, int]  # revision of those that the copy began with, by id
    told: dict[str, Change] = field(default_factory=dict)  # last change of each that the pack has told of since, by id
    found: dict[str, Change] = field(default_factory=dict)  # and that the copy has found


def settle(copy: Copy) -> Iterator[tuple[Change, bool]]:
    """Give the changes that bring what was told to what the copy knows; True: the incident is withdrawn.

    An incident that the copy found and the pack told of under another id, for it saw a later beginning, keeps
    the id under which it was raised.  `copy` is renamed and renumbered accordingly.
    """
    known = {o.id: o for o in copy.known}
    left = dict(copy.told)
    for name, found in list(copy.found.items()):
        same = name if name in left else _same(found, left, copy)
        told = left.pop(same, None)
        revision = copy.before.get(name, -1) if told is None else told.revision
        now = replace(found, id=same or name, revision=revision + 1)
        if told is not None and replace(now, revision=told.revision) == told:
            now = told
        else:
            if told is not None and now.status == "open":
                now = replace(now, status="update")  # it has been raised
            yield now, False
        copy.found[name] = now
        if name in known:
            known[name].id, known[name].revision = now.id, now.revision
    for name, told in left.items():
        o = known.get(name)
        if o is not None:  # the pack has told what the copy does not know of; what it knows holds
            o.revision = told.revision + 1
            copy.found[name] = change(o, "clear" if o.cleared_ns else "update")
            yield copy.found[name], False
        else:
            at = told.cleared_ns or told.updated_ns
            yield replace(told, revision=told.revision + 1, status="clear", cleared_ns=at), True


def _same(found: Change, told: dict[str, Change], copy: Copy) -> str:
    """Find the incident that was told of under another id: of one family, about one subject, and not known before."""
    family = KINDS[INDEX[found.kind]].family
    for name, other in told.items():
        if name in copy.before or name in copy.found or KINDS[INDEX[other.kind]].family != family:
            continue
        if other.subject == found.subject or KINDS[INDEX[found.kind]].wide or KINDS[INDEX[other.kind]].wide:
            return name
    return ""


def follow(later: Copy, settled: Copy) -> None:
    """Rename and renumber, in a copy that was made of `settled`, what `settle` has renamed and renumbered."""
    now = settled.found
    for o in later.known:
        if o.id in now:
            o.id, o.revision = now[o.id].id, now[o.id].revision
    later.before = {now[n].id if n in now else n: now[n].revision if n in now else r for n, r in later.before.items()}
    later.told = {now[n].id: now[n] for n in later.told if n in now}


def dump(copy: Copy) -> list[Any]:
    """Give a copy's incidents as plain values."""
    told, found = ([[n, *astuple(c)] for n, c in part.items()] for part in (copy.told, copy.found))
    return [incidents.dump(copy.known), dict(copy.before), told, found]


def load(plain: list[Any]) -> Copy:
    """Take back what `dump` gave."""
    known, before, *parts = plain
    told, found = ({n: Change(*c) for n, *c in part} for part in parts)
    return Copy(incidents.load(known), dict(before), told, found)
