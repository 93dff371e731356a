"""Read configuration tables so that a bad one says file, key, value and what is accepted."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

_SHOWN = 80  # characters of a wrong value that an error repeats


class ConfigError(ValueError):
    """A configuration file that cannot be used; the message is one line."""


def shown(value: object) -> str:
    """Repeat a value in an error: one line, shortened."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def parse_toml(data: bytes, file: str, error: type[ConfigError] = ConfigError) -> dict[str, Any]:
    """Parse TOML bytes; raises `error` naming the file and the place."""
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as bad:
        msg = f"contents must be TOML in UTF-8; got {' '.join(str(bad).split())} ({file})"
        raise error(msg) from None


def read_bytes(path: Path, must: str, error: type[ConfigError] = ConfigError) -> bytes:
    """Read a file of settings; raises `error` where it cannot, which begins with `must`: what it must be."""
    try:
        return path.read_bytes()
    except OSError as bad:
        msg = f"{must}; got {bad.strerror} ({path})"
        raise error(msg) from None


def read_table(path: Path, must: str) -> Table:
    """Read a TOML file as one table; raises ConfigError as `read_bytes` and `parse_toml` do."""
    return Table(parse_toml(read_bytes(path, must), str(path)), str(path))


class Table:
    """One TOML table being read: each getter checks a key, `done` refuses the keys nobody asked for."""

    def __init__(
        self, data: dict[str, Any], file: str, where: str = "", error: type[ConfigError] = ConfigError
    ) -> None:
        self.file = file
        self._data = data
        self._where = where
        self._error = error
        self._known: list[str] = []

    def refuse(self, key: str, accepted: str, value: object = None) -> NoReturn:
        """Raise the error for a key of this table (None: it is missing)."""
        got = "nothing" if value is None else shown(value)
        msg = f"{self._where}{key} must be {accepted}; got {got} ({self.file})"
        raise self._error(msg)

    def raw(self, key: str) -> Any:  # noqa: ANN401 - TOML holds anything
        """Give a key's value unchecked, None where it is missing."""
        self._known.append(key)
        return self._data.get(key)

    def text(self, key: str, choices: Iterable[str] = (), default: str | None = None) -> str:
        """Give a text, one of `choices` where there are any."""
        value = self.raw(key)
        value = default if value is None else value
        allowed = list(choices)
        if not isinstance(value, str) or (allowed and value not in allowed) or not value:
            self.refuse(key, f"one of {', '.join(allowed)}" if allowed else "a text", value)
        return value

    def truth(self, key: str, *, default: bool | None = None) -> bool:
        """Give true or false."""
        value = self.raw(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            self.refuse(key, "true or false", value)
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Give a whole number in low..high."""
        value = self.raw(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(key, f"a whole number in {low}..{high}", value)
        return value

    def number(self, key: str, low: float, high: float, *, above: bool = False, default: float | None = None) -> float:
        """Give a finite number in low..high; `above` excludes low itself."""
        value = self.raw(key)
        value = default if value is None else value
        if not _in(value, low, high, above=above):
            self.refuse(key, f"a number {_span(low, high, above=above)}", value)
        return float(value)

    def names(self, key: str, choices: Iterable[str]) -> tuple[str, ...]:
        """Give a list of texts out of `choices`; () where it is missing."""
        value = self.raw(key)
        value = [] if value is None else value
        allowed = list(choices)
        wrong = [v for v in value if v not in allowed] if isinstance(value, list) else [value]
        if wrong:
            self.refuse(key, f"a list out of {', '.join(allowed)}", wrong[0])
        return tuple(value)

    def numbers(self, key: str, low: float, high: float, *, above: bool = False, rising: bool = False) -> list[float]:
        """Give a list of one or more numbers in low..high, strictly increasing where `rising`."""
        value = self.raw(key)
        accepted = f"a list of numbers {_span(low, high, above=above)}{', strictly increasing' if rising else ''}"
        if not isinstance(value, list) or not value:
            self.refuse(key, accepted, value)
        for i, item in enumerate(value):
            if not _in(item, low, high, above=above) or (rising and i and item <= value[i - 1]):
                self.refuse(f"{key}[{i}]", accepted.replace("a list of numbers", "a number", 1), item)
        return [float(item) for item in value]

    def matrix(self, key: str, shape: tuple[int, ...], low: float, high: float, *, above: bool = False) -> Any:  # noqa: ANN401 - nested lists
        """Give nested lists of numbers of exactly that shape."""
        value = self.raw(key)
        self._nested(key, value, shape, (low, high, above))
        return value

    def _nested(self, key: str, value: object, shape: tuple[int, ...], span: tuple[float, float, bool]) -> None:
        low, high, above = span
        if not shape:
            if not _in(value, low, high, above=above):
                self.refuse(key, f"a number {_span(low, high, above=above)}", value)
            return
        if not isinstance(value, list) or len(value) != shape[0]:
            self.refuse(key, f"a list of {shape[0]} {'numbers' if len(shape) == 1 else 'lists'}", value)
        for i, item in enumerate(value):
            self._nested(f"{key}[{i}]", item, shape[1:], span)

    def table(self, key: str) -> Table:
        """Give a table inside this one."""
        value = self.raw(key)
        if not isinstance(value, dict):
            self.refuse(key, "a table", value)
        return Table(value, self.file, f"{self._where}{key}.", self._error)

    def tables(self, key: str) -> list[Table]:
        """Give a list of one or more tables."""
        value = self.raw(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            self.refuse(key, "a list of tables", value)
        return [Table(v, self.file, f"{self._where}{key}[{i}].", self._error) for i, v in enumerate(value)]

    @property
    def keys(self) -> list[str]:
        """Name the keys that the file has in this table."""
        return list(self._data)

    def done(self) -> None:
        """Refuse keys that nobody asked for: a misspelt key must not be silently ignored."""
        for key in self._data:
            if key not in self._known:
                self.refuse(key, f"a known key ({', '.join(self._known)})", self._data[key])


def _in(value: object, low: float, high: float, *, above: bool) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (low < value if above else low <= value) and value <= high


def _span(low: float, high: float, *, above: bool) -> str:
    return f"> {low:g} and ≤ {high:g}" if above else f"in {low:g}..{high:g}"
