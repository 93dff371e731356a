"""DBC files: cantools parses them, our kernel decodes with what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from operators.kernels.can_decode import Message, Signal
from schemas.checked import ConfigError, shown

if TYPE_CHECKING:
    from cantools.database.can import Message as DbcMessage
    from cantools.database.can.signal import Signal as DbcSignal

# Labels of value tables that mean "there is no value", as the cars' DBC files write them.
_NO_VALUE = re.compile(
    r"(signal[_ ]?)?(sna|snv|invalid|unavail\w*|not[_ ]?avail\w*|error)([_ ]?signal)?|\w+_(sna|snv|invalid)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Dbc:
    """The messages of one DBC file, by name and by (id, extended)."""

    path: Path
    by_name: Mapping[str, Message]
    by_id: Mapping[tuple[int, bool], Message]


def load_dbc(path: str | Path) -> Dbc:
    """Read a DBC file.

    Overlapping signals are read, since real files have them.  Raises ConfigError where the file is
    missing or no DBC.
    """
    import cantools.database  # noqa: PLC0415 - it brings python-can and pandas, and most flows read no DBC file

    path = Path(path)
    try:
        database = cantools.database.load_file(path, database_format="dbc", strict=False)
    except OSError as e:
        msg = f"dbc must be a readable file; got {e.strerror or e} ({path})"
        raise ConfigError(msg) from None
    except Exception as e:  # noqa: BLE001 - the parser's errors share no base class
        msg = f"dbc must be a DBC file; got {shown(str(e) or type(e).__name__)} ({path})"
        raise ConfigError(msg) from None
    assert isinstance(database, cantools.database.can.Database)
    messages = [_message(m) for m in database.messages]
    return Dbc(path, {m.name: m for m in messages}, {(m.can_id, m.ext): m for m in messages})


def _message(message: DbcMessage) -> Message:
    source = {s.name: s for s in message.signals}
    signals: dict[str, Signal] = {}
    for name in source:
        _signal(name, source, signals)
    return Message(
        message.name,
        message.frame_id,
        message.is_extended_frame,
        message.length,
        {name: signals[name] for name in source},
        float("nan") if not message.cycle_time else message.cycle_time / 1000,
    )


def _signal(name: str, source: Mapping[str, DbcSignal], done: dict[str, Signal]) -> Signal:
    """Translate a signal and, before it, the multiplexer that it hangs on."""
    if name in done:
        return done[name]
    s = source[name]
    little = s.byte_order == "little_endian"
    labels = {int(k): str(v) for k, v in (s.choices or {}).items()}
    done[name] = Signal(
        name,
        s.start if little else 8 * (s.start // 8) + 7 - s.start % 8,
        s.length,
        little,
        s.is_signed,
        s.is_float,
        s.scale,
        s.offset,
        s.unit or "",
        labels,
        tuple(sorted(k for k, v in labels.items() if _NO_VALUE.fullmatch(v.strip()))),
        _signal(_multiplexer(s, source), source, done) if s.multiplexer_signal else None,
        frozenset(s.multiplexer_ids or ()),
    )
    return done[name]


def _multiplexer(signal: DbcSignal, source: Mapping[str, DbcSignal]) -> str:
    """Name a signal's multiplexer; cantools renames it by its long name and leaves the short one in its signals."""
    short = signal.multiplexer_signal or ""
    if short in source:
        return short
    return next(name for name, s in source.items() if s.is_multiplexer and name.startswith(short))
