"""Findings to incidents: one fault is one incident, opened, updated and cleared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from operators.kernels.causes import judge
from operators.kernels.kinds import CELL, INDEX, KINDS, PROBE, Kind
from schemas.ids import record_id

_GROWN = 1.5  # from so many times its first value on, the text of an update names both
BLOCK = 6  # adjacent cells on one side are one fault
_SPREAD, _EVENT = INDEX["cell_spread"], INDEX["thermal_event"]
_WIRE, _HOT = INDEX["sense_wire"], INDEX["probe_offset"]
# What shows at a cell or a probe joins the incident that is open on it: kind → family of that incident.  And what is
# found wrong with that cell or probe soon after a limit was crossed there, joins the limit's.
_JOINS = {
    INDEX["cell_overvoltage"]: "cell",
    INDEX["cell_undervoltage"]: "cell",
    INDEX["overtemperature"]: "probe",
    INDEX["thermal_event"]: "probe",
}


@dataclass(frozen=True, slots=True)
class IncidentsConfig:
    """How long incidents stay open to what belongs to them."""

    reopen_s: float = 24 * 3600.0  # a cleared incident that comes back within this time is the same one
    update_s: float = 3600.0  # between updates of equal severity
    event_s: float = 24 * 3600.0  # what follows a thermal event within this time is its consequence
    same_s: float = 600.0  # what is wrong with the cell at which a limit was crossed so shortly before is why

    def __post_init__(self) -> None:
        times = (self.reopen_s, self.update_s, self.event_s, self.same_s)
        if min(times) < 0:
            msg = f"reopen_s, update_s, event_s and same_s must be ≥ 0; got {', '.join(map(str, times))}"
            raise ValueError(msg)


@dataclass(slots=True)
class Finding:
    """One row of the findings table."""

    t_ns: int
    kind: int
    subject: int  # cell or probe, counts from 0; −1 the pack
    subject_kind: int
    level: int  # 0 cleared
    value: float
    normal: float
    sigma: float
    since_ns: int


@dataclass(slots=True)
class Open:
    """An incident in the making: what it is about and what speaks for it."""

    id: str
    kind: int
    subject_kind: int
    subjects: list[int]  # cells or probes, ascending; empty for the pack
    opened_ns: int
    revision: int = -1
    severity: int = 0
    updated_ns: int = 0
    cleared_ns: int = 0  # 0 while open
    block: bool = False
    active: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # (kind, subject) → level, value, normal,
    # sigma, since_ns, value when first told; since_ns is an int
    shown: tuple[int, int, int] = (0, 0, 0)  # severity, kind and number of subjects of the newest revision


@dataclass(frozen=True, slots=True)
class Change:
    """What to publish of an incident."""

    id: str
    revision: int
    kind: str
    subject: str
    severity: int
    status: str  # open | update | clear
    opened_ns: int
    updated_ns: int
    cleared_ns: int
    text: str
    evidence: dict[str, float]
    since_ns: int  # the earliest of what speaks for it
    causes: dict[str, float]


def step(cfg: IncidentsConfig, known: list[Open], pack_id: str, findings: list[Finding]) -> Iterator[Change]:
    """Take the findings of one pack at one time, in order; changes `known`, yields what to publish.

    At most one change per incident.  Findings of one family on one subject are one incident; BLOCK or more
    adjacent cells on one side are one; a thermal event takes in whatever follows it.
    """
    t_ns = findings[0].t_ns
    known[:] = [o for o in known if not o.cleared_ns or t_ns - o.cleared_ns <= cfg.reopen_s * 1e9]
    blocks = _blocks(findings)
    touched: list[Open] = []
    # What names a fault best comes first, so that lesser signs of the same frame join it.
    for f in sorted(findings, key=lambda f: -KINDS[f.kind].rank):
        if f.level == 0:
            homes = [o for o in known if _remove(o, f)]
            touched += [o for o in homes if o not in touched]
            continue
        block = next((b for b in blocks if f.kind == _SPREAD and f.subject in b), None)
        home = _home(cfg, known, f, block)
        if home is None:
            if not KINDS[f.kind].opens:
                continue
            home = _new(pack_id, f)
            known.append(home)
        _add(home, f, block)
        if home not in touched:
            touched.append(home)
    for o in touched:
        change = _publish(cfg, o, t_ns)
        if change is not None:
            yield change


def _blocks(findings: list[Finding]) -> list[list[int]]:
    """Find runs of BLOCK or more adjacent cells whose spread is raised on one side; gaps of two cells belong."""
    runs: list[list[int]] = []
    for side in (-1, 1):
        run: list[int] = []
        cells = sorted(f.subject for f in findings if f.kind == _SPREAD and f.level and f.value * side > 0)
        for c in cells:
            if run and c - run[-1] > 3:
                runs.append(run)
                run = []
            run.append(c)
        runs.append(run)
    return [r for r in runs if len(r) >= BLOCK]


def _home(cfg: IncidentsConfig, known: list[Open], f: Finding, block: list[int] | None) -> Open | None:
    """Find the incident that a finding belongs to; open ones before those that have cleared, the oldest first."""
    for o in sorted(known, key=lambda o: o.cleared_ns > 0):
        if not KINDS[f.kind].opens:
            belongs = not o.cleared_ns
        elif o.kind == _EVENT and f.t_ns - o.opened_ns <= cfg.event_s * 1e9:
            belongs = True
        else:
            belongs = _is_of(cfg, o, f, block)
        if belongs:
            return o
    return None


def _is_of(cfg: IncidentsConfig, o: Open, f: Finding, block: list[int] | None) -> bool:
    kind, own = KINDS[f.kind], KINDS[o.kind]
    if kind.family != own.family:
        why = _JOINS.get(o.kind) == kind.family and f.t_ns - o.opened_ns <= cfg.same_s * 1e9
        return (why or _JOINS.get(f.kind) == own.family) and f.subject in o.subjects and not o.cleared_ns
    return (
        kind.wide
        or own.wide
        or f.subject in o.subjects
        or (f.kind == _SPREAD and o.block and _touches(o, f, block))
        or (f.kind == _HOT and f.value > 0 and _spreads(o, f))
    )


def _touches(o: Open, f: Finding, block: list[int] | None) -> bool:
    sides = [e[1] for (kind, _), e in o.active.items() if kind == _SPREAD and e[0] > 0]
    if sides and sides[0] * f.value < 0:
        return False
    cells = block or [f.subject]
    return cells[0] - 3 <= o.subjects[-1] and cells[-1] + 3 >= o.subjects[0]


def _spreads(o: Open, f: Finding) -> bool:
    """Say whether heat reaches the next probe."""
    hot = any(kind == _HOT and e[0] > 0 and e[1] > 0 for (kind, _), e in o.active.items())
    return hot and any(abs(f.subject - p) == 1 for p in o.subjects)


def _new(pack_id: str, f: Finding) -> Open:
    who = [f.subject] if f.subject >= 0 else []
    name = KINDS[f.kind].name
    return Open(record_id(pack_id, name, _subject(f.subject_kind, who), f.t_ns), f.kind, f.subject_kind, who, f.t_ns)


def _add(o: Open, f: Finding, block: list[int] | None) -> None:
    if o.cleared_ns:
        o.active.clear()
    o.cleared_ns = 0
    key = (f.kind, f.subject)
    before = o.active.get(key)
    since, first = (f.since_ns, f.value) if before is None else (min(f.since_ns, int(before[4])), before[5])
    o.active[key] = [f.level, f.value, f.normal, f.sigma, since, first]
    o.block = o.block or block is not None
    if f.subject_kind == o.subject_kind and f.subject >= 0 and o.kind != _EVENT and not KINDS[f.kind].wide:
        o.subjects = sorted({*o.subjects, f.subject, f.subject + (f.kind == _WIRE)})  # a wire is between two cells
    if KINDS[f.kind].rank > KINDS[o.kind].rank:
        if f.subject_kind != o.subject_kind or KINDS[f.kind].wide:
            o.subjects = [f.subject] if f.subject >= 0 else []
        o.kind, o.subject_kind = f.kind, f.subject_kind


def _remove(o: Open, f: Finding) -> bool:
    """Take back what a clearing finding ends; a wide kind ends whatever subject it was raised with."""
    wide = KINDS[f.kind].wide
    ended = [e for k, e in o.active.items() if k[0] == f.kind and (wide or k[1] == f.subject) and e[0] > 0]
    for e in ended:
        e[0] = 0  # the numbers stay, so that the clearing can say what it was
    return bool(ended)


def _publish(cfg: IncidentsConfig, o: Open, t_ns: int) -> Change | None:
    live = any(e[0] > 0 for e in o.active.values())
    if live:
        o.severity = max(o.severity if o.revision >= 0 else 0, *(int(e[0]) for e in o.active.values()))
    now = (o.severity, o.kind, len(o.subjects))
    if not live:
        status = "clear"
        o.cleared_ns = t_ns
    elif o.revision < 0:
        status = "open"
    else:
        status = "update"
        reopened = o.shown == (0, 0, 0)
        worse = o.severity > o.shown[0] or o.kind != o.shown[1]
        late = now != o.shown and t_ns - o.updated_ns >= cfg.update_s * 1e9
        if not (reopened or worse or late):
            return None
    o.revision += 1
    o.updated_ns = t_ns
    o.shown = now if live else (0, 0, 0)
    return change(o, status)


def change(o: Open, status: str) -> Change:
    """Give an incident as it stands."""
    return Change(
        o.id,
        o.revision,
        KINDS[o.kind].name,
        _subject(o.subject_kind, o.subjects),
        o.severity,
        status,
        o.opened_ns,
        o.updated_ns,
        o.cleared_ns,
        _text(o, o.updated_ns),
        _evidence(o),
        min(int(e[4]) for e in o.active.values()),
        judge({KINDS[kind].name: e[1] for (kind, _), e in sorted(o.active.items(), key=lambda item: abs(item[1][1]))}),
    )


def _subject(subject_kind: int, who: list[int]) -> str:
    """Name cells or probes as people count them, from 1."""
    name = {CELL: "cell", PROBE: "probe"}.get(subject_kind, "")
    if not name or not who:
        return "pack"
    if len(who) == 1:
        return f"{name} {who[0] + 1}"
    return f"{name}s {who[0] + 1}-{who[-1] + 1}"


def _leading(o: Open) -> tuple[int, list[float]]:
    """Choose the evidence that the text tells: what holds before what has cleared, then the naming kind, then size."""

    def weight(item: tuple[tuple[int, int], list[float]]) -> tuple[bool, bool, float, int]:
        (kind, subject), e = item
        return e[0] > 0, kind == o.kind, abs(e[1]) if math.isfinite(e[1]) else -1.0, -subject

    (kind, _), evidence = max(o.active.items(), key=weight)
    return kind, evidence


def _text(o: Open, t_ns: int) -> str:
    """Say which cell, what value, what is normal for it, since when, how sure, and what to do."""
    at, (_, value, normal, sigma, since_ns, first) = _leading(o)
    kind, several = KINDS[at], len(o.subjects) > 1
    text = kind.text.format(
        subject=_subject(o.subject_kind, o.subjects) if o.subjects else "the pack",
        value=("up to " if several and at != _WIRE else "") + _shown(kind, value),
        normal=_shown(kind, normal),
        side="below" if value < 0 else "above",
        heat="colder" if value < 0 else "warmer",
        much="less" if value < 0 else "more",
        be="are" if several else "is",
        have="have" if several else "has",
        its="their" if several else "its",
        they="they" if several else "it",
        s="" if several else "s",
    )
    since = f"since {_when(int(since_ns))}"
    if o.cleared_ns:
        return f"Cleared at {_when(t_ns)}. What was found, {since}: {text.removesuffix(',')}."
    grown = f", {_shown(kind, first)} when first told" if first and value / first >= _GROWN else ""
    return f"{text[0].upper()}{text[1:]} {since}{grown}; {_sure(value, sigma)}. {kind.do}"


def _shown(kind: Kind, value: float) -> str:
    if not math.isfinite(value):
        return "an unknown value"
    number = value * kind.scale
    if any(word in kind.text for word in ("{side}", "{heat}", "{much}")):
        number = abs(number)
    text = f"{number:.{kind.digits}f}"
    return f"{text} {kind.unit}" if kind.unit else text


def _sure(value: float, sigma: float) -> str:
    """Say how sure a deviation is, by how many standard deviations it is from nothing."""
    if not (math.isfinite(value) and math.isfinite(sigma) and sigma > 0):
        return "measured directly"
    z = abs(value) / sigma
    word = "almost certain" if z >= 8 else "very likely" if z >= 5 else "likely" if z >= 3 else "possible"
    return f"{word} ({min(z, 99.0):.0f} σ)"


def _when(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _evidence(o: Open) -> dict[str, float]:
    """Give the numbers behind the text: per kind the largest value, what is normal, its σ, and the subjects."""
    found: dict[str, float] = {"subjects": float(len(o.subjects))}
    for (kind, _), (_, value, normal, sigma, since_ns, _) in sorted(o.active.items()):
        name = KINDS[kind].name
        if abs(value) >= abs(found.get(name, 0.0)) or name not in found:
            found |= {
                name: value,
                f"{name}_normal": normal,
                f"{name}_sigma": sigma,
                f"{name}_since_s": since_ns // 10**9,
            }
    return {k: float(v) for k, v in found.items() if math.isfinite(v)}


def dump(known: list[Open]) -> list[list[Any]]:
    """Give incidents as lists of plain values."""
    return [
        [
            o.id, o.kind, o.subject_kind, list(o.subjects), o.opened_ns, o.revision, o.severity, o.updated_ns,
            o.cleared_ns, o.block, [[*k, *e] for k, e in o.active.items()], list(o.shown),
        ]
        for o in known
    ]  # fmt: skip


def load(plain: list[list[Any]]) -> list[Open]:
    """Take back what `dump` gave."""
    names = [f.name for f in fields(Open)]
    out = []
    for row in plain:
        value = dict(zip(names, row, strict=True))
        value["subjects"] = list(value["subjects"])
        value["active"] = {(e[0], e[1]): list(e[2:]) for e in value["active"]}
        value["shown"] = tuple(value["shown"])
        out.append(Open(**value))
    return out
