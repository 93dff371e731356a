"""What wrong times, disorder, losses, repeats and missing cells do to a fleet's records: what they must, no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.clean import CleanStep
from operators.estimate import EstimateStep
from operators.kernels import soc
from operators.kernels.clean import CleanConfig
from operators.kernels.estimate import EstimateConfig
from operators.shard import ShardLogic
from replay.tables import find_mapping, read_table
from schemas.events import Item
from schemas.frames import FrameBlock, concat, make_block
from schemas.pack import load_pack
from schemas.quality import FROZEN, INCOMPLETE
from tests.support.fleet import (
    BEGIN_NS,
    MODEL,
    NS,
    SETTINGS,
    arrive,
    cut_every,
    differences,
    disturb,
    drive,
    run,
    spoil,
)

AHEAD_NS = 300 * NS
PAST_NS = 1000 * NS  # 1970-01-01T00:16:40


@pytest.fixture(scope="module")
def minutes() -> FrameBlock:
    """Ten minutes of three packs, a frame a second, one sense wire open for three of them."""
    return spoil(drive(3, 1 / 6, 1.0), (100, 280), "wire")


# -- wrong times


@settings(max_examples=25)
@given(st.data())
def test_a_frame_with_a_wrong_clock_is_a_dead_letter_and_makes_no_other_frame_late(
    minutes: FrameBlock, data: st.DataObject
) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    wrong: dict[int, int] = {}
    for pack in range(3):
        mine = np.flatnonzero(minutes.pack == pack)[:-5]  # at the end nothing would contradict a clock
        for row in draw.choice(mine, data.draw(st.integers(0, 4), label="frames"), replace=False).tolist():
            wrong[row] = int(minutes.t_ns[row]) + AHEAD_NS if draw.random() < 0.5 else PAST_NS
    stamped = minutes.t_ns.copy()
    stamped[list(wrong)] = list(wrong.values())
    delay = np.where(draw.random(len(minutes)) < 0.05, draw.uniform(0, 4, len(minutes)), 0.0)
    frames = minutes.with_frames(t_ns=stamped).take(arrive(minutes, delay))
    got = run(cut_every(frames, 500))

    letters = [] if "dead_letters" not in got else got["dead_letters"].to_pylist()
    by_source = {(x["partition"], x["offset"]): x for x in letters}
    assert len(by_source) == len(letters) == len(wrong)
    for row, t_ns in wrong.items():
        letter = by_source[int(minutes.src_part[row]), int(minutes.src_offset[row])]
        assert letter["reason"] == ("clock_past" if t_ns == PAST_NS else "clock_future")
        assert letter["t_ns"].value == t_ns
        assert abs(letter["expected_ns"].value - int(minutes.t_ns[row])) <= 10 * NS
    assert sum(got["windows"]["frames"].to_pylist()) == len(minutes) - len(wrong)
    assert "gaps" not in got, "a frame that was refused did come"


# -- order, repeats, losses


@pytest.mark.parametrize("seed", range(3))
def test_repeats_and_disorder_within_the_lateness_are_invisible(minutes: FrameBlock, seed: int) -> None:
    frames, _ = disturb(minutes, seed, duplicates=0.05, delayed=0.05)
    assert len(frames) > 1.03 * len(minutes)
    in_order = run([minutes])
    assert {"windows", "sessions", "incidents", "states"} == in_order.keys()
    assert differences(in_order, run(cut_every(frames, 333))) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_ledger_names_exactly_the_frames_that_never_came(minutes: FrameBlock, seed: int) -> None:
    frames, dropped = disturb(minutes, seed, dropped=0.005)
    want = set()
    for pack in range(3):
        came = frames.seq[frames.pack == pack]
        lost = minutes.seq[dropped[minutes.pack[dropped] == pack]]
        known = lost[(lost > came.min()) & (lost < came.max())]  # what is missing at an end nobody can tell
        want |= {(minutes.packs[pack], int(q)) for q in known}
    gaps = run(cut_every(frames, 100))["gaps"].to_pylist()
    named = [(g["pack_id"], q) for g in gaps for q in range(g["first_seq"], g["last_seq"] + 1)]
    assert len(want) >= 5
    assert sorted(named) == sorted(want)
    assert all(g["missing"] == g["last_seq"] - g["first_seq"] + 1 for g in gaps)


# -- frozen frames


class Estimates:
    """Clean and estimate alone, with their states to look at."""

    def __init__(self, model: str) -> None:
        pack = load_pack(model)
        self._clean = ShardLogic(
            lambda _, slots: CleanStep(pack, slots, CleanConfig(), "test"), load_pack, None, assigns=True
        )
        self._estimate = ShardLogic(
            lambda _, _slots: EstimateStep(pack, EstimateConfig()), load_pack, None, assigns=False
        )

    def take(self, items: list[Item]) -> list[FrameBlock]:
        out, _ = self._clean.on_batch(items)
        out, _ = self._estimate.on_batch(list(out))
        return [b for b in out if isinstance(b, FrameBlock)]

    @property
    def state(self) -> Any:
        return self._estimate.state


def _frozen(period_s: float) -> tuple[FrameBlock, int]:
    """A pack under changing current whose frame 100 comes again and again for 113 s; gives the last repeat."""
    n, repeats = 400, int(113 / period_s)
    draw = np.random.default_rng(5)
    current = np.repeat(draw.normal(-20, 15, n // 10), 10)
    cell_v = 3.7 + 0.001 * current[:, None] + draw.normal(0, 0.002, (n, 8))
    source = np.arange(n)
    source[100 : 101 + repeats] = 100
    current[100] = -40.0
    block = make_block(
        MODEL, ["A"], pack=np.zeros(n), t_ns=BEGIN_NS + (np.arange(n) * period_s * NS).astype(np.int64),
        seq=np.arange(n), current_a=current[source], pack_v=cell_v[source].sum(axis=1), cell_v=cell_v[source],
        temp_c=np.full((n, 2), 25.0),
    )  # fmt: skip
    return block, 100 + repeats


@pytest.mark.parametrize(("period_s", "repeat"), [(1.0, 5), (2.0, 3), (0.5, 10), (10.0, 3)])
def test_a_frame_that_repeats_for_113_s_under_current_teaches_no_estimator(period_s: float, repeat: int) -> None:
    """`repeat`: the first that is flagged, after 3 repeats and the longer of 5 s and 4 frames."""
    block, last = _frozen(period_s)
    flow = Estimates(MODEL)
    quality, before, early = [], None, None
    for n in range(last + 1):
        quality += [q for b in flow.take([block.take(slice(n, n + 1))]) for q in b.derived["quality"].tolist()]
        if n == 90:
            early = flow.state.cell[0].copy()
        if n == 100 + repeat - 1:
            before = flow.state.core[0].copy(), flow.state.cell[0].copy()
    assert np.flatnonzero(np.array(quality) & FROZEN).tolist() == list(range(100 + repeat, last + 1))
    assert before is not None
    assert early is not None
    assert (early != before[1]).any(), "nothing is learned anyway"
    np.testing.assert_array_equal(flow.state.cell[0], before[1])
    assert flow.state.core[0, soc.Z] == before[0][soc.Z]


def test_frames_that_stand_still_open_an_incident_which_clears() -> None:
    frames = drive(3, 0.6, 2.0)

    def frozen(block: FrameBlock) -> set[str]:
        incidents = run([block]).get("incidents")
        found = [] if incidents is None else incidents.to_pylist()
        return {x["status"] for x in found if x["kind"] == "frozen"}

    assert frozen(frames) == set()
    assert frozen(spoil(frames, (200, 400), "frozen")) == {"open", "clear"}


def test_single_repeats_of_a_recorded_car_are_not_frozen(data_dir: Path) -> None:
    path = data_dir / "ev_faults" / "car1.parquet"
    blocks = [b for b in read_table(path, find_mapping(path)) if isinstance(b, FrameBlock)]
    car = concat(blocks)
    repeats = _repeats_under_current(car, 0.02 * load_pack(car.model).nominal_ah)
    flow = Estimates(car.model)
    quality = np.concatenate([b.derived["quality"] for part in cut_every(car, 4096) for b in flow.take([part])])
    print(f"{repeats} repeats under current, {len(quality)} frames")
    assert repeats >= 60
    assert not (quality & FROZEN).any()


def _repeats_under_current(car: FrameBlock, least_a: float) -> int:
    """Count frames that are the one before in every value, at a later time."""
    columns = (car.current_a[:, None], car.pack_v[:, None], car.cell_v, car.temp_c)
    every = np.concatenate(columns, axis=1).view(np.uint32)
    again = (every[1:] == every[:-1]).all(axis=1) & (np.diff(car.t_ns) > 0) & (np.abs(car.current_a[1:]) > least_a)
    return int(again.sum())


# -- missing cells


@pytest.mark.parametrize("valid", [96, 95, 81, 40, 0])
def test_a_minimum_over_some_of_the_cells_is_not_published(valid: int) -> None:
    n = 300
    draw = np.random.default_rng(1)
    cell_v = 3.7 + draw.normal(0, 0.01, (n, 96))
    cell_v[:, draw.permutation(96)[valid:]] = np.nan
    block = make_block(
        "generic-nmc@96c4t60ah", ["A"], pack=np.zeros(n), t_ns=BEGIN_NS + np.arange(n) * NS, seq=np.arange(n),
        current_a=np.full(n, -10.0), pack_v=np.full(n, 96 * 3.7), cell_v=cell_v, temp_c=np.full((n, 4), 25.0),
    )  # fmt: skip
    got = run([block], replace(SETTINGS, window_s=60.0))
    whole = valid == 96
    for table in ("windows", "sessions"):
        for name in ("cell_v_min", "cell_v_max"):
            assert (got[table][name].null_count == 0) is whole, (table, name)
    windows = got["windows"]
    assert windows["spread_max_v"].null_count == (0 if whole else len(windows))
    assert set(windows["cell_min"].to_pylist()) != {-1} if whole else set(windows["cell_min"].to_pylist()) == {-1}
    assert windows["complete_frames"].to_pylist() == (windows["frames"].to_pylist() if whole else [0] * len(windows))
    assert all(bool(q & INCOMPLETE) is not whole for q in windows["quality"].to_pylist())
