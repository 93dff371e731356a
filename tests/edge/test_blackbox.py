"""The black box: the minute before a trip at once, what follows piece by piece, every frame once."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.blackbox import Blackbox, BlackboxSettings, Mark, Piece
from tests.support.frames import NS, T0_NS, frames


def _run(
    seconds: float, trips: list[float], box: Blackbox | None = None, step_s: float = 0.1, *, begin_s: float = 0.0
) -> list[tuple[float, Piece]]:
    """Feed frames every 10 ms in blocks of `step_s`; gives pieces and when they came."""
    box = box or Blackbox()
    out: list[tuple[float, Piece]] = []
    rows = max(1, round(step_s / 0.01))
    for k in range(round(begin_s / step_s), round(seconds / step_s)):
        now_s = (k + 1) * step_s
        block = frames([round(k * step_s + j * 0.01, 2) for j in range(rows)])
        trip = next((t for t in trips if now_s - step_s < t <= now_s), None)
        trip_ns = None if trip is None else T0_NS + round(trip * NS)
        out += [(now_s, piece) for piece in box.push(block, trip_ns, T0_NS + round(now_s * NS))]
    return out


def _times(pieces: list[tuple[float, Piece]]) -> list[float]:
    return [round((t - T0_NS) / NS, 2) for _, piece in pieces for t in piece.frames.t_ns.tolist()]


def test_a_minute_before_and_half_a_minute_after_at_full_rate_each_frame_once() -> None:
    pieces = _run(140, [100.0])
    times = _times(pieces)
    assert times == [round(40 + k / 100, 2) for k in range(9001)]
    assert {piece.trip_ns for _, piece in pieces} == {T0_NS + 100 * NS}
    assert [piece.number for _, piece in pieces] == list(range(len(pieces)))
    assert [piece.last for _, piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_the_minute_before_comes_at_the_trip_and_the_rest_every_two_seconds() -> None:
    came = _run(140, [100.0])
    assert came[0][0] == 100.0
    assert [round(t, 1) for t in sorted({t for t, _ in came})] == [*range(100, 132, 2), 130.1]
    assert _times([came[0]])[0] == 40.0


def test_a_trip_soon_after_the_start_has_what_there_is() -> None:
    assert _times(_run(60, [5.0])) == [round(k / 100, 2) for k in range(3501)]


def test_another_trip_makes_the_recording_longer_and_no_frame_comes_twice() -> None:
    pieces = _run(200, [100.0, 120.0])
    times = _times(pieces)
    assert (times[0], times[-1]) == (40.0, 150.0)
    assert all(b > a for a, b in pairwise(times))
    assert {piece.trip_ns for _, piece in pieces} == {T0_NS + 100 * NS}


def test_trips_without_end_make_a_recording_of_bounded_length() -> None:
    box = Blackbox(BlackboxSettings(before_s=1, after_s=5, longest_s=20))
    pieces = _run(40, [float(t) for t in range(10, 35)], box)
    ends = [piece for _, piece in pieces if piece.last]
    assert len(ends) == 2
    assert (ends[0].frames.t_ns[-1] - ends[0].trip_ns) / NS <= 20


def test_without_a_trip_nothing_comes_and_memory_is_bounded() -> None:
    box = Blackbox(BlackboxSettings(before_s=10))
    assert _run(60, [], box) == []
    assert 9 * 10 <= len(box._ring) <= 11 * 10
    assert not box.recording


def test_a_recording_ends_in_time_where_no_frame_comes() -> None:
    box = Blackbox()
    _run(10, [9.0], box)
    assert box.recording
    assert box.push(None, None, T0_NS + 38 * NS)  # what had come since
    assert box.recording
    assert box.push(None, None, T0_NS + 41 * NS) == []
    assert not box.recording


def test_a_clock_that_is_set_keeps_no_frames_for_ever() -> None:
    box = Blackbox()
    _run(5, [], box)
    box.push(frames([1e6]), None, T0_NS + 10**6 * NS)
    assert len(box._ring) == 1
    box.push(frames([5.0]), None, T0_NS + 5 * NS)
    assert len(box._ring) == 1


@settings(max_examples=20)
@given(st.integers(2, 10), st.sampled_from([0.05, 0.1, 0.5]))
def test_which_frames_are_kept_does_not_depend_on_blocks(halves: int, step_s: float) -> None:
    trip_s = halves / 2
    box = Blackbox(BlackboxSettings(before_s=3, after_s=2, piece_s=0.5))
    times = _times(_run(8, [trip_s], box, step_s))
    want = [round(k / 100, 2) for k in range(800) if trip_s - 3 <= round(k / 100, 2) <= trip_s + 2]
    assert times == want


def test_a_recording_that_was_cut_off_goes_on_after_a_restart_and_no_frame_comes_twice() -> None:
    box = Blackbox()
    pieces = _run(110, [100.0], box)
    mark = box.mark
    assert mark is not None
    assert mark[:2] == (T0_NS + 100 * NS, T0_NS + 130 * NS)
    after = Blackbox()
    after.resume(mark, T0_NS + 112 * NS)
    later = _run(140, [], after, begin_s=112.0)
    assert [p.number for _, p in pieces + later] == list(range(len(pieces) + len(later)))
    assert [p.last for _, p in pieces + later] == [False] * (len(pieces) + len(later) - 1) + [True]
    times = _times(pieces + later)
    assert times == sorted(set(times))
    assert (_times(later)[0], _times(later)[-1]) == (112.0, 130.0)
    assert after.mark is None


def test_a_recording_whose_time_is_over_is_not_resumed() -> None:
    box = Blackbox()
    mark = Mark(T0_NS, T0_NS + 30 * NS, 3)
    for now_s in (-1, 30, 1000):
        box.resume(mark, T0_NS + now_s * NS)
        assert box.mark is None
    box.resume(mark, T0_NS + 29 * NS)
    assert box.mark == mark


def test_what_has_been_gathered_comes_out_at_the_end() -> None:
    box = Blackbox()
    pieces = _run(111.5, [100.0], box)
    rest = box.flush(T0_NS + round(111.5 * NS))
    assert _times(pieces + [(111.5, p) for p in rest]) == [round(40 + k / 100, 2) for k in range(7150)]
    assert Blackbox().flush(T0_NS) == []
