"""A watched sink writes what the inner one writes, and tells of ticks after they were taken."""

from __future__ import annotations

from pathlib import Path

from flows.observe import Observer, ObserveSettings
from flows.watched_sink import WatchedSink
from schemas.events import Tick
from sinks.lake import LakeSink


def test_a_tick_is_told_once_the_sink_has_taken_it(tmp_path: Path) -> None:
    seen = Observer(ObserveSettings())
    sink = WatchedSink(LakeSink(tmp_path, "s", recovery=True), "lake", seen)
    assert (sink.list_parts(), sink.part_fn("x")) == (["lake"], 0)
    part = sink.build_part("out", "lake", None)
    part.write_batch([Tick(5 * 10**9)])
    state = part.snapshot()
    part.write_batch([Tick(6 * 10**9)])
    part.close()
    assert state["name"] == "s"
    assert seen.values["ibms_sink_tick_seconds", (("sink", "lake"),)] == 6.0
    assert seen.values["ibms_snapshot_seconds", (("sink", "lake"),)] >= 0.0
