"""Progress passes items on untouched, and says how far it is where somebody looks."""

from __future__ import annotations

import io
import sys

import pytest

from flows import progress
from flows.progress import of_span, watched
from schemas.events import Tick
from schemas.frames import FrameBlock


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_items_come_through_as_they_are(frames: FrameBlock) -> None:
    items = [frames, Tick(3), frames.take(slice(0, 0)), frames]
    assert all(a is b for a, b in zip(watched(items, "x"), items, strict=True))


def test_nothing_is_shown_where_nobody_looks(
    frames: FrameBlock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_QUIET_S", -1.0)
    assert len(list(watched([frames] * 3, "x"))) == 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet_s", [-1.0, 60.0])
def test_a_person_sees_rate_and_share_once_it_takes_long(
    frames: FrameBlock, monkeypatch: pytest.MonkeyPatch, quiet_s: float
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_QUIET_S", quiet_s)
    shares = iter([0.25, 0.5, 1.0])
    assert len(list(watched([frames] * 3, "replay", lambda _: next(shares)))) == 3
    shown = terminal.getvalue()
    assert ("replay" in shown and "frames/s" in shown) == (quiet_s < 0)


def test_the_bar_goes_away_when_the_reader_fails(frames: FrameBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_QUIET_S", -1.0)
    items = watched([frames], "replay")
    next(items)
    items.close()  # type: ignore[attr-defined] # a generator
    assert terminal.getvalue().count("\x1b[?25h") == terminal.getvalue().count("\x1b[?25l")


def test_the_share_of_a_span_grows_and_stays_within_it(frames: FrameBlock) -> None:
    first, last = int(frames.t_ns.min()), int(frames.t_ns.max())
    share = of_span(first, last)
    assert share(frames.take(slice(0, 1))) < 0.01
    assert share(frames) == 1.0
    assert share(frames.take(slice(0, 1))) == 1.0
    assert of_span(first, first + (last - first) // 2)(frames) == 1.0
