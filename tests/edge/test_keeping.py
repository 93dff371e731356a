"""What of the frames is kept and sent, and what happens where the disk does not take it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.batches import BatchSettings
from edge.blackbox import BlackboxSettings
from edge.journal import INFO, NOTICE, WARNING
from edge.keeping import SAY_NS, TRY_NS, Keeping, read_mark
from edge.outbox import OutboxSettings, Record
from edge.records import told_record
from edge.retention import BLACKBOX, FRAMES, INCIDENT
from edge.telemetry_settings import TelemetrySettings, UplinkSettings
from edge.uplink import NoUplink, encode
from tests.support.frames import NS, T0_NS, frames
from tests.support.uplink import Line

ALERT = {"kind": "alert", "text": "welded", "at_ns": T0_NS}


def _settings(folder: Path) -> TelemetrySettings:
    return TelemetrySettings(
        folder / "outbox",
        BatchSettings(period_s=1.0, batch_s=10.0),
        OutboxSettings(sync_s=0.0),
        BlackboxSettings(before_s=20.0, after_s=5.0),
    )


def _keeping(folder: Path, uplink: Line | NoUplink) -> Keeping:
    return Keeping(_settings(folder), "v", uplink, encode)


def _go(keeping: Keeping, seconds: Iterable[float], trip_s: float | None = None) -> None:
    """Give each 100 ms a frame, and the time of a trip at the first that is not before it."""
    for t_s in seconds:
        now_ns = T0_NS + round(t_s * NS)
        trip_ns = None
        if trip_s is not None and t_s >= trip_s:
            trip_ns, trip_s = T0_NS + round(trip_s * NS), None
        keeping.open(now_ns)
        keeping.step(frames([t_s]), trip_ns, now_ns)


def _kinds(sent: Sequence[Record]) -> dict[str, int]:
    return {kind: sum(r.kind == kind for r in sent) for kind in (INCIDENT, BLACKBOX, FRAMES)}


def test_frames_are_sent_one_in_each_period_and_several_together(tmp_path: Path) -> None:
    line = Line()
    keeping = _keeping(tmp_path, line)
    _go(keeping, np.arange(0.05, 20.6, 0.1))
    assert _kinds(line.sent) == {INCIDENT: 0, BLACKBOX: 0, FRAMES: 2}
    assert line.sent[0].end_ns - line.sent[0].t_ns == pytest.approx(9 * NS, abs=2 * NS)
    told = {(name, *labels.values()): value for name, labels, value in keeping.metrics()}
    assert told["ibms_edge_rows_total",] == 206
    assert told["ibms_edge_sent_records_total", "live"] == 2
    assert told["ibms_edge_sent_bytes_total", "live"] == told["ibms_edge_day_bytes",]
    assert told["ibms_edge_frame_bytes_total",] == sum(len(r.payload) for r in line.sent)
    assert told["ibms_edge_outbox_records", FRAMES] == 0


def test_a_trip_is_kept_at_the_full_rate_and_told_in_words(tmp_path: Path) -> None:
    line = Line()
    keeping = _keeping(tmp_path, line)
    _go(keeping, np.arange(0.0, 50.0, 0.1), trip_s=30.0)
    pieces = [r for r in line.sent if r.kind == BLACKBOX]
    assert pieces[0].t_ns == pytest.approx(T0_NS + 10 * NS, abs=NS // 5)
    assert pieces[-1].end_ns == pytest.approx(T0_NS + 35 * NS, abs=NS // 5)
    assert pieces[-1].subject.endswith("last")
    said = [line.text for line in keeping.lines if "black box" in line.text]
    assert said[0] == "black box: piece 1, -20 s to 0 s from the trip, is kept"
    assert said[-1].startswith("black box: the last piece, ")
    assert said[-1].endswith("5 s from the trip, is kept")


def test_a_killed_process_goes_on_with_the_recording_and_an_orderly_end_keeps_all_of_it(tmp_path: Path) -> None:
    for end in ("killed", "closed"):
        folder, line = tmp_path / end, Line()
        first = _keeping(folder, NoUplink())
        _go(first, np.arange(0.0, 32.0, 0.1), trip_s=30.0)
        if end == "closed":
            first.close(T0_NS + 32 * NS)
        assert (folder / "outbox" / "blackbox.json").exists()
        second = _keeping(folder, line)
        _go(second, np.arange(33.0, 50.0, 0.1))
        pieces = [r for r in line.sent if r.kind == BLACKBOX]
        assert [r.subject.split(" piece ")[1] for r in pieces[:-1]] == [str(k) for k in range(len(pieces) - 1)]
        assert pieces[-1].subject.endswith("last")
        assert {r.subject.split(" piece ")[0] for r in pieces} == {f"trip {T0_NS + 30 * NS}"}
        assert pieces[-1].end_ns == pytest.approx(T0_NS + 35 * NS, abs=NS // 5)
        gaps = [b.t_ns - a.end_ns for a, b in pairwise(pieces)]
        assert max(gaps) < (1.3 if end == "closed" else 3.3) * NS
        assert not (folder / "outbox" / "blackbox.json").exists()
        third = _keeping(folder, line)
        _go(third, np.arange(51.0, 60.0, 0.1))
        assert len([r for r in line.sent if r.kind == BLACKBOX]) == len(pieces), "sent once"


def test_a_mark_that_nobody_wrote_is_none(tmp_path: Path) -> None:
    for content in ("", "[]", "[1, 2]", '["1", 2, 3]', "{", "[1, 2, 3.5]"):
        (tmp_path / "blackbox.json").write_text(content)
        assert read_mark(tmp_path / "blackbox.json") is None
    assert read_mark(tmp_path / "none") is None


def test_what_waits_is_sent_by_the_next_run_under_the_same_id(tmp_path: Path) -> None:
    first = _keeping(tmp_path, NoUplink())
    _go(first, np.arange(0.0, 15.0, 0.1))
    assert first.keep(told_record(ALERT, "v"), T0_NS)
    first.close(T0_NS + 15 * NS)
    line = Line()
    second = _keeping(tmp_path, line)
    _go(second, np.arange(60.0, 61.0, 0.1))
    assert _kinds(line.sent) == {INCIDENT: 1, BLACKBOX: 0, FRAMES: 2}, "what was gathered at the end too"
    assert line.sent[0].id == told_record(ALERT, "v").id
    assert [tuple(one) for one in second.lines] == [
        (INFO, "the outbox is open; of the run before wait: 1 incident, 2 frames")
    ]
    second.close(T0_NS + 61 * NS)
    assert line.closed


def test_a_day_that_has_cost_its_budget_is_said_once(tmp_path: Path) -> None:
    settings = replace(_settings(tmp_path), uplink=UplinkSettings(budget_bytes=1000))
    keeping = Keeping(settings, "v", Line(), encode)
    _go(keeping, np.arange(0.0, 60.0, 0.5))
    said = [line.text for line in keeping.lines if "history waits" in line.text]
    assert said == ["the 0.001 MB of this day are sent: history waits until midnight UTC"]
    _go(keeping, np.arange(86_400.0, 86_460.0, 0.5))
    assert len([line for line in keeping.lines if "history waits" in line.text]) == 2
    told = {name: value for name, _, value in keeping.metrics()}
    assert told["ibms_edge_day_before_bytes"] >= 1000
    assert told["ibms_edge_day_budget_bytes"] == 1000


def test_without_a_way_out_everything_waits(tmp_path: Path) -> None:
    keeping = _keeping(tmp_path, NoUplink())
    _go(keeping, np.arange(0.0, 35.0, 0.1))
    told = {(name, *labels.values()): value for name, labels, value in keeping.metrics()}
    assert told["ibms_edge_outbox_records", FRAMES] == 3
    assert not any(name.startswith("ibms_edge_sent") for name, *_ in told)


def test_a_line_on_which_nothing_arrives_is_said_once_and_its_return_too(tmp_path: Path) -> None:
    line = Line()
    keeping = _keeping(tmp_path, line)
    _go(keeping, np.arange(0.0, 15.0, 0.5))
    line.up = False
    _go(keeping, np.arange(15.0, 200.0, 0.5))
    line.up = True
    _go(keeping, np.arange(200.0, 205.0, 0.5))
    said = [line.text for line in keeping.lines if "arrive" in line.text]
    assert said[0].startswith("nothing that is sent has arrived for a minute; ")
    assert said[1].startswith("what is sent arrives again; ")
    assert len(said) == 2


def test_a_line_that_has_nothing_to_carry_is_not_one_on_which_nothing_arrives(tmp_path: Path) -> None:
    keeping = _keeping(tmp_path, Line())
    for t_s in np.arange(0.0, 200.0, 0.5):
        keeping.open(T0_NS + round(t_s * NS))
        keeping.step(None, None, T0_NS + round(t_s * NS))
    assert [line.level for line in keeping.lines] == [INFO]


def test_an_outbox_that_does_not_open_is_said_once_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")
    keeping = _keeping(tmp_path, Line())
    _go(keeping, np.arange(0.0, 3 * TRY_NS / NS, 0.5))
    assert [line.level for line in keeping.lines] == [WARNING]
    assert keeping.lines[0].text.startswith("the outbox does not open, nothing is kept: ")
    assert not keeping.keep(told_record(ALERT, "v"), T0_NS)
    (tmp_path / "outbox").unlink()
    _go(keeping, np.arange(3 * TRY_NS / NS, 5 * TRY_NS / NS, 0.5))
    assert [line.level for line in keeping.lines[1:]] == [NOTICE]
    assert keeping.keep(told_record(ALERT, "v"), T0_NS)


def test_what_the_disk_does_not_take_is_counted_and_said_at_most_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = _keeping(tmp_path, NoUplink())
    _go(keeping, np.arange(0.0, 1.0, 0.1))
    assert keeping.outbox is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.segment_files._write_all", full)
    _go(keeping, np.arange(1.0, 65.0, 0.5), trip_s=30.0)
    said = [line.text for line in keeping.lines]
    assert "black box: piece 1, -20 s to 0 s from the trip, is not kept" in said
    gone = [text for text in said if "were let go: the disk did not take them" in text]
    assert gone[0] == "1 records of frames were let go: the disk did not take them"
    assert len([text for text in gone if "frames" in text]) <= 1 + 65 * NS // SAY_NS
    told = {(name, *labels.values()): value for name, labels, value in keeping.metrics()}
    assert told["ibms_edge_dropped_records_total", FRAMES, "unwritten"] >= 5
    monkeypatch.undo()
    _go(keeping, np.arange(65.0, 80.0, 0.5))
    assert keeping.outbox.waiting[FRAMES] >= 1, "as soon as it takes something again, it is kept"
