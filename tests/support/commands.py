"""The command `ibms` in this process, and small inputs for it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.__main__ import main
from schemas.arrow import Provenance, to_arrow
from schemas.events import Item
from sinks.lake import LakeSink


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of standard error."""
        assert self.err.startswith("ibms: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err[len("ibms: ") : -1]


class Ibms:
    """Run `ibms` with arguments, as a person types them."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *args: object) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["ibms", *map(str, args)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)


def make_lake(folder: Path, items: Iterable[Item], name: str = "test") -> Path:
    """Write records to a lake without a flow."""
    part = LakeSink(folder, name, recovery=False).build_part("lake", "lake", None)
    part.write_batch(to_arrow(items, Provenance({}, "1", "p")))
    part.snapshot()
    part.close()
    return folder
