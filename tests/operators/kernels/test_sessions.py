"""Sessions against days whose drives and charges are known."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels import sessions as kernel
from schemas.frames import FrameBlock
from tests.support.frames import T0_NS, estimated, frames

CFG = kernel.SessionConfig()
NOMINAL_AH = 60.0
FIELDS = ("slot", "mode", "begin_ns", "end_ns", "acc")


def run(block: FrameBlock, cuts: Sequence[int] = ()) -> kernel.Ended:
    state = kernel.SessionState.empty(2, block.cells, block.probes)
    parts = [
        kernel.step(CFG, state, block.take(slice(a, b)), NOMINAL_AH)[0]
        for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)
    ]
    parts.append(kernel.end_all(state))
    return kernel.Ended(*(np.concatenate([getattr(p, n) for p in parts]) for n in (*FIELDS, "row")))


def stretches(ended: kernel.Ended) -> list[tuple[str, int, int]]:
    begin = (ended.begin_ns - T0_NS) // 10**9
    end = (ended.end_ns - T0_NS) // 10**9
    return [(kernel.KINDS[m], int(a), int(b)) for m, a, b in zip(ended.mode, begin, end, strict=True)]


def of(name: str, ended: kernel.Ended) -> np.ndarray:
    return ended.acc[:, kernel.ACC.index(name)]


def day(parts: list[tuple[int, float, float]]) -> FrameBlock:
    """Frames every 10 s: parts of (seconds, current, speed)."""
    current = np.concatenate([np.full(s // 10, i, np.float32) for s, i, _ in parts])
    speed = np.concatenate([np.full(s // 10, v, np.float32) for s, _, v in parts])
    return estimated(frames(np.arange(len(current)) * 10, current, context={"speed_kmh": speed}))


def test_a_drive_a_park_and_a_charge_are_three_sessions_that_start_where_the_mode_changed() -> None:
    block = day([(1200, -40.0, 50.0), (900, 0.0, 0.0), (1200, 20.0, 0.0)])
    ended = run(block)
    assert stretches(ended) == [("drive", 0, 1190), ("park", 1200, 2090), ("charge", 2100, 3290)]
    assert of("charge_in_as", ended)[2] == pytest.approx(20.0 * 1190 + 100, rel=1e-6)  # 100 As of the ramp 0 → 20 A


def test_a_stop_at_a_light_and_regeneration_do_not_end_a_drive() -> None:
    ended = run(day([(600, -40.0, 50.0), (60, -1.5, 0.0), (20, 30.0, 20.0), (600, -40.0, 50.0)]))
    assert stretches(ended) == [("drive", 0, 1270)]


def test_charging_is_told_from_current_where_no_speed_is_known() -> None:
    block = estimated(frames(range(0, 3000, 10), np.where(np.arange(300) < 150, -30.0, 12.0)))
    assert stretches(run(block)) == [("drive", 0, 1490), ("charge", 1500, 2990)]


def test_a_silence_of_hours_ends_a_drive_but_not_a_park() -> None:
    t_s = np.array([0, 10, 20, 8000, 8010])
    drive = estimated(frames(t_s, -30.0))
    assert stretches(run(drive)) == [("drive", 0, 20), ("drive", 8000, 8010)]
    park = estimated(frames(t_s, 0.0))
    assert stretches(run(park)) == [("park", 0, 8010)]


def test_the_rest_before_a_session_is_measured() -> None:
    ended = run(day([(3600, 0.0, 0.0), (600, 20.0, 0.0)]))
    assert of("rest_before_s", ended)[1] == pytest.approx(3600.0)


def test_no_coulomb_is_lost_between_sessions() -> None:
    block = day([(1200, -40.0, 50.0), (900, 0.0, 0.0), (1200, 20.0, 0.0), (900, -25.0, 60.0)])
    ended = run(block)
    total = np.trapezoid(block.current_a.astype(float), (block.t_ns - T0_NS) / 1e9)
    assert of("current_as", ended).sum() == pytest.approx(total, rel=1e-9)
    assert (of("charge_in_as", ended) - of("charge_out_as", ended)).sum() == pytest.approx(total, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 2500), st.integers(-60, 60), st.integers(0, 3), st.integers(0, 1)),
        min_size=2,
        max_size=60,
    ),
    st.data(),
)
def test_cutting_the_stream_into_blocks_changes_no_bit(
    rows: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    t_s = np.cumsum([dt for dt, _, _, _ in rows])
    speed = np.array([v for _, _, v, _ in rows], np.float32)
    block = estimated(
        frames(
            t_s, [i for _, i, _, _ in rows], pack=[p for *_, p in rows], names=("A", "B"), context={"speed_kmh": speed}
        )
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1))))
    whole, parts = run(block), run(block, cuts)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_rejects_a_rest_current_of_zero() -> None:
    with pytest.raises(ValueError, match="rest_c must be > 0; got 0"):
        kernel.SessionConfig(rest_c=0)
