"""The step against a known truth: disorder, repeats, losses, wrong clocks and cuts change nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.clean import CleanStep
from operators.kernels.clean import CleanConfig
from operators.shard import ShardLogic
from operators.step import Slots
from schemas.events import DeadLetter, Gap, Item, Tick
from schemas.frames import BACKFILL, FrameBlock, make_block
from schemas.pack import PackModel, load_pack
from schemas.quality import BOOT, GAP_BEFORE
from schemas.wire import decode

MODEL = "generic-nmc@4c2t60ah"
S = 10**9
T0 = 1_700_000_000 * S
LATENESS_NS = 5 * S
EXAMPLES = int(os.environ.get("IBMS_EXAMPLES", "60"))


def shard(resume: dict[str, object] | None = None) -> ShardLogic:
    def build(pack: PackModel, slots: Slots) -> CleanStep:
        return CleanStep(pack, slots, CleanConfig(), "test")

    return ShardLogic(build, load_pack, resume, assigns=True)


@dataclass(frozen=True)
class Frame:
    """One frame as its vehicle made it."""

    pack: int
    true_ns: int
    seq: int
    stamp_ns: int
    number: int  # of all frames: its content and its source position
    boot: bool = False

    @property
    def bad(self) -> bool:
        return self.stamp_ns != self.true_ns


def block(frames: list[Frame], packs: tuple[str, ...] = ("A", "B"), **more: Any) -> FrameBlock:
    number = np.array([f.number for f in frames], np.float64)
    return make_block(
        MODEL,
        packs,
        pack=[f.pack for f in frames],
        t_ns=[f.stamp_ns for f in frames],
        seq=[f.seq for f in frames],
        current_a=number % 50,
        pack_v=14.8 + number / 1000,
        cell_v=3.7 + number[:, None] / 4000 * np.ones(4),
        temp_c=np.full((len(frames), 2), 25.0),
        src_offset=[f.number for f in frames],
        **more,
    ).pruned()


@dataclass
class Seen:
    """What came out, per pack and in order."""

    released: dict[str, list[tuple[int, int, int, int, float]]]
    gaps: list[tuple[str, int, int, int, int, int]]
    letters: list[tuple[str, str, int, int, int]]


def gather(items: list[Item]) -> Seen:
    seen = Seen({}, [], [])
    for item in items:
        if isinstance(item, FrameBlock):
            quality, dt_s = item.derived["quality"], item.derived["dt_s"]
            for n in range(len(item)):
                pack = item.packs[item.pack[n]]
                number = round((float(item.pack_v[n]) - 14.8) * 1000)
                assert number == item.src_offset[n]
                assert item.cell_v[n] == pytest.approx(3.7 + number / 4000, abs=1e-6)
                marks = int(quality[n]) & (BOOT | GAP_BEFORE)
                row = (number, int(item.t_ns[n]), int(item.seq[n]), marks, round(float(np.nan_to_num(dt_s[n])), 6))
                seen.released.setdefault(pack, []).append(row)
        elif isinstance(item, Gap):
            if item.revision and not item.missing:
                continue  # it has been filled
            assert item.missing == (item.last_seq - item.first_seq + 1 if item.kind == "sequence" else -1)
            seen.gaps.append((item.pack_id, item.first_seq, item.last_seq, item.missing, item.from_ns, item.to_ns))
        elif isinstance(item, DeadLetter):
            (again,) = decode(item.payload, item.content_type, item.source, item.partition, item.offset)
            assert isinstance(again, FrameBlock)  # what is refused can be read again
            assert float(again.pack_v[0]) == pytest.approx(14.8 + item.offset / 1000, abs=1e-5)
            seen.letters.append((item.pack_id, item.reason, item.offset, item.t_ns, item.expected_ns))
    seen.gaps.sort()
    seen.letters.sort()
    return seen


def run(arrivals: list[Frame], cuts: list[int]) -> Seen:
    """Feed the frames cut into blocks; a snapshot and a resume stand at every third cut."""
    logic, items = shard(), list[Item]()
    for k, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(arrivals)], strict=True)):
        items += logic.on_batch([block(arrivals[a:b]), Tick(k)])[0] if b > a else []
        if k % 3 == 2:
            logic = shard(logic.snapshot())
    items += logic.on_eof()[0]
    assert list(logic.on_eof()[0]) == []
    return gather(items)


def truth(lines: list[list[Frame]]) -> Seen:
    """Say what must come out of frames that are listed in the order in which they were made."""
    seen = Seen({}, [], [])
    for line in lines:
        last: Frame | None = None
        known: set[int] = set()
        for f in line:
            name = "AB"[f.pack]
            if f.bad:
                known.add(f.seq)
                continue
            marks, dt_s = 0, 0.0
            if last is not None:
                dt_s = (f.true_ns - last.true_ns) / S
                missing = [k for k in range(last.seq + 1, f.seq) if k not in known]
                for k in missing:
                    marks = GAP_BEFORE
                    if k - 1 not in missing:
                        end = next(j for j in range(k, f.seq) if j + 1 not in missing)
                        seen.gaps.append((name, k, end, end - k + 1, last.true_ns, f.true_ns))
                if f.seq <= last.seq:
                    marks = BOOT
            seen.released.setdefault(name, []).append((f.number, f.true_ns, f.seq, marks, round(dt_s, 6)))
            last, known = f, set()
        for f in line:
            if f.bad:
                reason = "clock_future" if f.stamp_ns > f.true_ns else "clock_past"
                seen.letters.append(("AB"[f.pack], reason, f.number, f.stamp_ns, f.true_ns))
    seen.gaps.sort()
    seen.letters.sort()
    return seen


@st.composite
def fleets(draw: st.DrawFn) -> list[list[Frame]]:
    """Draw what two packs made and what of it was not lost."""
    lines, number = [], 0
    for pack in range(2):
        n = draw(st.integers(12, 50))
        period = draw(st.sampled_from([S // 10, S // 2, S, 2 * S, 10 * S]))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        p_drop, p_bad, p_gap, p_boot = (draw(st.sampled_from([0.0, 0.02, 0.1])) for _ in range(4))
        line, t, seq = [], T0 + pack * S // 7, int(rng.integers(100, 1000))
        since_bad, since_change = 9, 99
        changes = rng.random(n) < np.where(rng.random(n) < 0.5, p_gap, p_boot)
        changes[:8] = changes[-8:] = False
        for k in range(n):
            boot = False
            if changes[k] and since_change > 8:
                t += int(rng.choice([3, 20, 59, 61, 4000]) * S)
                since_change = 0
                if rng.random() < 0.5 and seq > 60:
                    boot, seq = True, int(rng.integers(0, 3))
            soon = changes[k + 1 : k + 9].any() or k >= n - 4 or since_change < 4
            stamp = t
            if not soon and since_bad > 3 and rng.random() < p_bad:
                stamp, since_bad = (t + 300 * S, 0) if rng.random() < 0.5 else (int(rng.integers(0, 10**6)) * S, 0)
            f = Frame(pack, t, seq, stamp, number, boot)
            if f.bad or k >= n - 4 or rng.random() >= p_drop:
                line.append(f)
            t += period + int(rng.integers(-period // 8, period // 8 + 1))
            seq, number, since_bad, since_change = seq + 1, number + 1, since_bad + 1, since_change + 1
        lines.append(line)
    return lines


def disorder(lines: list[list[Frame]], rng: np.random.Generator, repeats: float) -> list[Frame]:
    """Let each frame and its repeats arrive up to the lateness after it was made; packs are interleaved."""

    def late(f: Frame) -> tuple[int, Frame]:
        return f.true_ns + int(rng.integers(0, LATENESS_NS + 1)), f

    arrivals = [late(f) for line in lines for f in line]
    arrivals += [late(f) for line in lines for f in line if rng.random() < repeats]
    return [f for _, f in sorted(arrivals, key=lambda a: a[0])]


def near(seen: Seen, true: Seen) -> None:
    """Hold what came out against the truth; the expected time of a refused frame may be off by some periods."""
    assert seen.released == true.released
    assert seen.gaps == true.gaps
    assert [x[:4] for x in seen.letters] == [x[:4] for x in true.letters]
    for mine, theirs in zip(seen.letters, true.letters, strict=True):
        assert abs(mine[4] - theirs[4]) <= 60 * S


@settings(max_examples=EXAMPLES)
@given(fleets(), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5]), st.booleans())
def test_disorder_repeats_losses_wrong_clocks_and_cuts_leave_what_the_packs_made(
    lines: list[list[Frame]], seed: int, repeats: float, one_by_one: bool
) -> None:
    rng = np.random.default_rng(seed)
    plain = run([f for line in lines for f in line], [])
    near(plain, truth(lines))
    arrivals = disorder(lines, rng, repeats)
    cuts = sorted(rng.choice(len(arrivals), int(rng.integers(0, 9))).tolist())
    other = run(arrivals, list(range(1, len(arrivals))) if one_by_one else cuts)
    assert other == plain


def by_time(lines: list[list[Frame]]) -> Seen:
    """Say what must come out of frames that nobody counted: silences instead of missing numbers."""
    seen = truth([[replace(f, boot=False) for f in line] for line in lines])
    seen.gaps = []
    for name, rows in seen.released.items():
        periods: list[float] = []
        for k, (number, t_ns, _, _, dt_s) in enumerate(rows):
            recent = sorted(periods[-3:])
            silent = bool(recent) and dt_s > max(10 * recent[len(recent) // 2 if len(recent) > 2 else 0], 60.0)
            if silent:
                seen.gaps.append((name, -1, -1, -1, rows[k - 1][1], t_ns))
            rows[k] = (number, t_ns, -1, GAP_BEFORE if silent else 0, dt_s)
            if k:
                periods.append(dt_s)
    seen.gaps.sort()
    return seen


@settings(max_examples=EXAMPLES // 2)
@given(fleets(), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5]))
def test_without_a_counter_time_alone_gives_the_same_order_and_the_silences(
    lines: list[list[Frame]], seed: int, repeats: float
) -> None:
    uncounted = [[replace(f, seq=-1) for f in line if f.stamp_ns <= f.true_ns] for line in lines]
    rng = np.random.default_rng(seed)
    arrivals = disorder(uncounted, rng, repeats)
    seen = run(arrivals, sorted(rng.choice(len(arrivals), 4).tolist()))
    true = by_time(uncounted)
    assert seen.released == true.released
    assert seen.gaps == true.gaps
    assert [x[:4] for x in seen.letters] == [x[:4] for x in true.letters]


TIMES = st.one_of(
    st.integers(0, 40).map(lambda k: T0 + k * S // 2),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, T0 + 61 * S, T0 + 300 * S, T0 - 3600 * S, 2**63 - 1]),
)
NUMBERS = st.one_of(st.integers(-1, 40), st.integers(-(2**63), 2**63 - 1))
GARBAGE = st.tuples(TIMES, NUMBERS, st.one_of(st.just(0), TIMES), st.integers(0, 3), st.integers(0, 1))


@settings(max_examples=EXAMPLES)
@given(st.lists(GARBAGE, min_size=1, max_size=80), st.data())
def test_of_any_garbage_each_row_comes_out_once_or_is_refused_or_is_a_repeat(
    rows: list[tuple[int, int, int, int, int]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)), max_size=5)))
    logic, items = shard(), list[Item]()
    for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        part = [Frame(pack, t_ns, seq, t_ns, content) for t_ns, seq, _, content, pack in rows[a:b]]
        items += logic.on_batch([block(part, recv_ns=[row[2] for row in rows[a:b]])])[0] if part else []
    items += logic.on_eof()[0]
    seen = gather(items)
    assert logic._step is not None
    repeats = int(logic._step.state.line["repeats"].sum())
    # What came behind a gap runs through its copy too, if frames of the gap come after all.
    distinct = sum(len({row[1] for row in out}) for out in seen.released.values())
    assert distinct + len(seen.letters) + repeats == len(rows)
    frames = [x for x in items if isinstance(x, FrameBlock)]
    for slot in range(2):  # the packs' own
        out = np.concatenate([x.t_ns[x.derived["slot"] == slot] for x in frames] or [np.zeros(0, np.int64)])
        assert (np.diff(out) > 0).all()


def line(n: int, *, pack: int = 0, period: int = S, seq: int = 10, start: int = T0) -> list[Frame]:
    return [Frame(pack, start + k * period, seq + k if seq >= 0 else -1, start + k * period, k) for k in range(n)]


def released(seen: Seen, pack: str = "A") -> list[int]:
    return [row[0] for row in seen.released.get(pack, [])]


@pytest.mark.parametrize("seq", [10, -1])
def test_a_frame_stamped_five_minutes_ahead_or_1970_makes_no_correct_frame_late(seq: int) -> None:
    frames = line(60, seq=seq)
    frames[20] = replace(frames[20], stamp_ns=frames[20].true_ns + 300 * S)
    frames[40] = replace(frames[40], stamp_ns=5 * S)
    seen = run(frames, [7, 21, 22, 41])
    assert released(seen) == [k for k in range(60) if k not in {20, 40}]
    assert seen.gaps == []
    assert [x[1:4] for x in seen.letters] == [
        ("clock_future", 20, frames[20].stamp_ns),
        ("clock_past", 40, frames[40].stamp_ns),
    ]
    for letter, k in zip(seen.letters, (20, 40), strict=True):
        assert abs(letter[4] - frames[k].true_ns) <= (1 if seq >= 0 else S)


def test_a_frame_stamped_ahead_that_comes_last_is_refused_because_later_numbers_came_before_it() -> None:
    frames = line(20)
    wrong = replace(frames[16], stamp_ns=frames[16].true_ns + 300 * S)
    seen = run([*frames[:16], *frames[17:], wrong], [18])
    assert [x[1:] for x in seen.letters] == [("clock_future", 16, wrong.stamp_ns, wrong.true_ns)]
    assert seen.gaps == []


@pytest.mark.parametrize("seq", [10, -1])
def test_a_real_gap_continues_and_passes(seq: int) -> None:
    frames = line(20, seq=seq) + [
        replace(f, number=f.number + 20) for f in line(20, seq=seq + 20 if seq >= 0 else -1, start=T0 + 5000 * S)
    ]
    seen = run(frames, [])
    assert released(seen) == list(range(40))
    assert seen.letters == []
    assert len(seen.gaps) == (0 if seq >= 0 else 1)


def test_frames_minutes_apart_pass_although_each_is_a_jump() -> None:
    assert released(run(line(30, period=300 * S, seq=-1), [3, 9])) == list(range(30))
    assert released(run(line(30, period=300 * S), [3, 9])) == list(range(30))


def test_with_the_broker_s_time_a_wrong_clock_is_refused_at_once_and_a_gap_holds_nothing() -> None:
    frames = line(12) + [replace(f, number=f.number + 12) for f in line(9, seq=22, start=T0 + 5000 * S)]
    frames[9] = replace(frames[9], stamp_ns=frames[9].true_ns + 61 * S)
    frames[10] = replace(frames[10], stamp_ns=frames[10].true_ns + 59 * S)  # within what is believed
    logic = shard()
    recv = [f.true_ns for f in frames]
    first = gather(list(logic.on_batch([block(frames[:10], recv_ns=recv[:10])])[0]))
    assert released(first) == list(range(9))
    assert [x[1:] for x in first.letters] == [("clock_future", 9, frames[9].stamp_ns, frames[9].true_ns)]
    then = gather(list(logic.on_batch([block(frames[10:], recv_ns=recv[10:])])[0]))
    assert sorted(released(then)) == list(range(10, 21))
    assert then.letters == []


def test_resent_history_of_a_time_before_any_copy_is_a_dead_letter_and_touches_nothing() -> None:
    frames = line(12)
    old = [replace(f, stamp_ns=f.stamp_ns - 86_400 * S) for f in line(3, seq=900)]
    plain, mixed = shard(), shard()
    expected = gather([*plain.on_batch([block(frames)])[0], *plain.on_eof()[0]])
    seen = list(mixed.on_batch([block(frames[:8])])[0])
    again = list(mixed.on_batch([block(old, lane=BACKFILL)])[0])
    assert [x.reason for x in again if isinstance(x, DeadLetter)] == ["backfill_no_copy"] * 3
    assert len(again) == 3
    assert gather([*seen, *mixed.on_batch([block(frames[8:])])[0], *mixed.on_eof()[0]]) == expected


def test_another_content_under_the_same_number_and_time_is_a_conflict_and_a_repeat_is_not() -> None:
    frames = line(20)
    other = replace(frames[12], number=99)
    logic = shard()
    seen = gather([*logic.on_batch([block([*frames[:15], frames[12], other, *frames[15:]])])[0], *logic.on_eof()[0]])
    assert released(seen) == list(range(20))
    assert [x[1:3] for x in seen.letters] == [("seq_conflict", 99)]
    assert logic._step is not None
    assert int(logic._step.state.line["repeats"].sum()) == 1


def test_of_two_contents_at_one_time_that_nobody_counted_the_same_one_wins_in_any_order() -> None:
    frames = line(20, seq=-1)
    other = replace(frames[12], number=99)
    one = run([*frames[:12], other, *frames[12:]], [])
    two = run([*frames[:13], other, *frames[13:]], [13])
    assert one == two
    assert [x[1] for x in one.letters] == ["time_conflict"]


def test_a_frame_behind_those_passed_on_is_late_and_its_number_stays_a_gap() -> None:
    frames = line(30)
    seen = run([*frames[:10], *frames[11:25], frames[10], *frames[25:]], [5, 24])
    assert released(seen) == [k for k in range(30) if k != 10]
    assert [x[1:3] for x in seen.letters] == [("late", 10)]
    assert [x[1:4] for x in seen.gaps] == [(20, 20, 1)]


def test_an_empty_end_emits_nothing_and_a_shard_without_frames_has_none() -> None:
    logic = shard()
    assert list(logic.on_eof()[0]) == []
    assert list(shard(logic.snapshot()).on_eof()[0]) == []


def test_half_a_percent_of_lost_frames_are_exactly_what_the_ledger_names() -> None:
    rng = np.random.default_rng(3)
    frames = line(4000)
    lost = {int(k) for k in np.flatnonzero(rng.random(4000) < 0.005) if 0 < k < 3999}
    seen = run([f for f in frames if f.number not in lost], sorted(rng.choice(3900, 20).tolist()))
    named = {k - 10 for _, low, high, _, _, _ in seen.gaps for k in range(low, high + 1)}
    assert named == lost
    assert len(lost) > 10
