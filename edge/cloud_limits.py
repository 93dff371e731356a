"""Which limits does the fleet take back from afar? Signed ones, for a time, and only to the safe side.

Pure.  A message replaces the one before as a whole; one that is refused changes nothing, and says why.  Its content:

    {"charge_a": 40.0, "discharge_a": 120.0, "bounds": {"cell_v/MSL/over/any": 4.2}}

Each may be left out; without any the local limits hold alone again.  `bounds` go by edge.protection.key_of.  Rows that
open at speed cannot be changed.  What has expired stays expired, whatever the clock does afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.derating import Caps
from edge.protection import key_of
from schemas.limits import FAST, QUANTITIES, Limit
from schemas.signed import LIMITS, MALFORMED, Signed, SignedError, opened

DAY_NS = 86_400 * 10**9
LONGEST_NS = 30 * DAY_NS  # a limit from outside must expire
CLOCK_NS = 300 * 10**9  # by which the clocks of sender and vehicle may differ
# Why a message is refused, beside MALFORMED and UNSIGNED.
OTHER_VEHICLE, OTHER_KIND = "other_vehicle", "other_kind"
OLDER, REPLAYED, EXPIRED, NOT_YET, LOOSENING = "older", "replayed", "expired", "not_yet", "loosening"
_CAPS = ("charge_a", "discharge_a")


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """What messages are judged by: whose they are, who may sign, and the local limits."""

    vehicle: str
    keys: tuple[Ed25519PublicKey, ...]
    rows: tuple[Limit, ...]
    charge_max_a: float
    discharge_max_a: float


class State(NamedTuple):
    """The message that was accepted last: its number, until when it holds (0: no longer), and what it says."""

    sequence: int = -1
    expires_ns: int = 0
    bounds: tuple[tuple[str, float], ...] = ()
    charge_a: float = math.nan
    discharge_a: float = math.nan


class Judged(NamedTuple):
    """What became of a message: `reason` "" where it was accepted, and words for the journal."""

    reason: str
    text: str
    sequence: int = -1


def receive(cfg: CloudConfig, state: State, data: bytes, now_ns: int) -> tuple[State, Judged]:
    """Judge a message's bytes at a wall-clock time, ns."""
    try:
        message = opened(data, cfg.keys)
    except SignedError as bad:
        return state, Judged(bad.reason, f"limits from outside refused: {bad}")
    refused = stamped(message, LIMITS, cfg.vehicle, state.sequence, now_ns)
    made = state if refused else _read(cfg, message)
    if isinstance(made, Judged):
        refused, made = (made.reason, made.text), state
    if refused:
        return state, Judged(
            refused[0], f"limits {message.sequence} from outside refused: {refused[1]}", message.sequence
        )
    return made, Judged("", f"limits {message.sequence} from outside: {_words(made)}", message.sequence)


def stamped(message: Signed, kind: str, vehicle: str, last: int, now_ns: int) -> tuple[str, str] | None:
    """Say why a signed message is not for us now: reason and words; None where it is."""
    sequence, begins_ns, ends_ns = message.sequence, message.issued_ns, message.expires_ns
    checks = (
        (message.kind == kind, OTHER_KIND, f"kind must be {kind}; got {message.kind!r:.40}"),
        (message.vehicle == vehicle, OTHER_VEHICLE, f"vehicle must be {vehicle}; got {message.vehicle!r:.80}"),
        (sequence != last, REPLAYED, f"it was taken before, and sequence must be above {last}"),
        (sequence > last, OLDER, f"sequence must be above {last}; got {sequence}"),
        (ends_ns > now_ns, EXPIRED, f"it expired {(now_ns - ends_ns) / 1e9:.0f} s ago"),
        (begins_ns <= now_ns + CLOCK_NS, NOT_YET, f"it is from {(begins_ns - now_ns) / 1e9:.0f} s ahead of this clock"),
        (0 < ends_ns - begins_ns <= LONGEST_NS, MALFORMED, f"it must expire within {LONGEST_NS / DAY_NS:.0f} days"),
    )
    return next(((reason, words) for good, reason, words in checks if not good), None)


def _read(cfg: CloudConfig, message: Signed) -> State | Judged:
    content = message.content
    unknown = content.keys() - {"bounds", *_CAPS}
    bounds = content.get("bounds", {})
    caps = {name: content[name] for name in _CAPS if name in content}
    if unknown or not isinstance(bounds, dict):
        return Judged(
            MALFORMED, f"content must be charge_a, discharge_a and bounds; got {sorted(unknown) or 'others'!s:.80}"
        )
    for name, value in (*caps.items(), *bounds.items()):
        if not _number(value):
            return Judged(MALFORMED, f"{name:.80} must be a number; got {value!r:.40}")
    for (name, value), most in (
        (item, {"charge_a": cfg.charge_max_a}.get(item[0], cfg.discharge_max_a)) for item in caps.items()
    ):
        if not 0 <= value <= most:
            reason = LOOSENING if value > most else MALFORMED
            return Judged(reason, f"{name} must be in 0..{most:g}; got {value:g}")
    local = {key_of(row): row for row in cfg.rows}
    for key, value in bounds.items():
        wrong = _wrong(local.get(key), key, value)
        if wrong:
            return wrong
    kept = tuple(sorted((key, float(value)) for key, value in bounds.items()))
    return State(message.sequence, message.expires_ns, kept, *(float(caps.get(name, math.nan)) for name in _CAPS))


def _wrong(row: Limit | None, key: str, value: float) -> Judged | None:
    if row is None:
        return Judged(MALFORMED, f"bounds must go by keys of this pack's rows; got {key:.80}")
    if row.quantity in FAST:
        return Judged(MALFORMED, f"{key} opens at speed and cannot be changed; charge_a and discharge_a can")
    low, high = QUANTITIES[row.quantity]
    if (value > row.bound) if row.over else (value < row.bound):
        return Judged(LOOSENING, f"{key} must be {'at most' if row.over else 'at least'} {row.bound:g}; got {value:g}")
    if not low <= value <= high:
        return Judged(MALFORMED, f"{key} must be in {low:g}..{high:g}; got {value:g}")
    return None


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # noqa: PLR2004 - false for NaN


def _words(state: State) -> str:
    said = [
        f"{name.removesuffix('_a')} at most {value:g} A"
        for name, value in zip(_CAPS, state[3:], strict=True)
        if not math.isnan(value)
    ]
    said += [f"{key} {bound:g}" for key, bound in state.bounds]
    return ", ".join(said) or "none any more"


def expire(state: State, now_ns: int) -> State:
    """Forget what a message said once its time is over; its number is kept."""
    return State(state.sequence) if state.expires_ns and now_ns >= state.expires_ns else state


def bounds_of(state: State) -> dict[str, float]:
    """Give bounds by row, as edge.tighten takes them."""
    return dict(state.bounds)


def caps_of(state: State) -> Caps:
    """Give the largest currents, as edge.derating takes them."""
    return Caps(state.charge_a, state.discharge_a)


def dump(state: State) -> dict[str, Any]:
    """Write the state as JSON values: for protection, and for the file that survives a restart (edge.latches)."""
    caps = {name: value for name, value in zip(_CAPS, state[3:], strict=True) if not math.isnan(value)}
    return {"sequence": state.sequence, "until_ns": state.expires_ns, "bounds": dict(state.bounds), **caps}


def load(kept: object) -> State:
    """Read what `dump` wrote; anything else is a vehicle that was never told anything."""
    if not isinstance(kept, Mapping):
        return State()
    sequence, expires_ns, bounds = kept.get("sequence"), kept.get("until_ns"), kept.get("bounds")
    caps: Sequence[Any] = [kept.get(name, math.nan) for name in _CAPS]
    whole: Iterable[object] = (sequence, expires_ns)
    if not all(type(v) is int for v in whole) or not isinstance(bounds, dict) or not all(map(_number, bounds.values())):
        return State()
    if not all(_number(v) or (isinstance(v, float) and math.isnan(v)) for v in caps):
        return State()
    return State(sequence, expires_ns, tuple(sorted(bounds.items())), *map(float, caps))  # type: ignore[arg-type] # checked
