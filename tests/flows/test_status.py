"""`ibms status` says what heartbeats tell."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from flows.status import show


def _beat(at: float, frames: int, waiting: dict[str, str] | None = None) -> dict[str, Any]:
    values: list[Any] = [["ibms_frames_total", {"stage": "decoded"}, frames]]
    values += [["ibms_lag_messages", {"topic": "frames", "partition": "3"}, 77]]
    return {"pid": 41, "at": at, "waiting": waiting or {}, "values": values}


def _text(*args: Any) -> str:
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(show(*args))
    return shown.get()


def test_the_rate_is_that_between_two_looks() -> None:
    assert "2,500" in _text([_beat(10, 1000)], [_beat(12, 6000)], 12.0)


def test_lag_and_waiting_are_said() -> None:
    text = _text([], [_beat(10, 1, {"source": "brokers are away"})], 12.0)
    assert "brokers are away" in text
    assert "77" in text
