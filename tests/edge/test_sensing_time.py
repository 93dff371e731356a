"""Sensing at any time of the clock, and at its bounds: a clock that starts at 0, or after days, changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edge.sensing import MANY, OK, ONE, STUCK, Arrival, Sample, SensingConfig, SignalRule, Source, State
from edge.sensing import fresh_state as _fresh_state
from edge.sensing import step as _step
from edge.stuck import StuckConfig

S = 10**9
STARTS = [0, 1_000_000 * S]
MAIN, CELLS = range(2)
SENT = {"cell_v": (0.5, 5.0), "current_a": (-500.0, 500.0), "pack_v": (0.0, 24.0)}
MOVES = StuckConfig(idle_a=1.0, stuck_a=10.0, stuck_v=0.5, moved_v=0.005, swing_v=0.3)


def config(*, cells_first: bool = False) -> SensingConfig:
    """Settings made in the test itself: what follows from them is worked out there too."""
    main = Source("Main", 0.1, (("current_a", 0), ("pack_v", 0)))
    cells = Source("Cells", 0.2, (("cell_v", 0), ("cell_v", 1)))
    rules = {name: SignalRule(name in SENT, *SENT.get(name, (0.0, 1.0))) for name in (*MANY, *ONE)}
    sources = (cells, main) if cells_first else (main, cells)
    return SensingConfig(sources, rules, cells=2, probes=0, idle_a=1.0, stuck=MOVES)


Row = tuple[float, float, float, tuple[float, float] | None]  # s, A, V, cells


def drive(start_ns: int, *rows: Row, cells_first: bool = False) -> tuple[State, Sample]:
    """Let both messages speak at each row's time after the start; cells None: they do not."""
    cfg = config(cells_first=cells_first)
    main, cells = (CELLS, MAIN) if cells_first else (MAIN, CELLS)
    state, sample = _step(cfg, _fresh_state(cfg, start_ns), [], start_ns)
    for t_s, current_a, pack_v, cell_v in rows:
        t_ns = start_ns + round(t_s * S)
        came = [Arrival(main, t_ns, (current_a, pack_v))]
        came += [Arrival(cells, t_ns, cell_v)] if cell_v is not None else []
        state, sample = _step(cfg, state, came, t_ns)
    return state, sample


def why(sample: Sample) -> tuple[str, str]:
    return sample.one["current_a"].state, sample.cell_v.state


@pytest.mark.parametrize("cells_first", [False, True])
def test_each_message_is_a_group_of_its_own(cells_first: bool) -> None:
    cfg = config(cells_first=cells_first)
    cells = Arrival(0 if cells_first else 1, S, (3.6, 3.7))
    _, sample = _step(cfg, _fresh_state(cfg, 0), [cells], S)
    assert (sample.cell_v.fresh, sample.temp_c.fresh, sample.came) == ((0,), (), frozenset())


# -- stuck voltages


@pytest.mark.parametrize("start_ns", STARTS)
@pytest.mark.parametrize("cells_first", [False, True])
@pytest.mark.parametrize(("last_s", "state"), [(2.0, STUCK), (1.999999999, OK)])
def test_cells_that_stay_for_two_seconds_after_the_current_moved_are_stuck(
    start_ns: int, cells_first: bool, last_s: float, state: str
) -> None:
    same = (3.6, 3.61)
    rows: list[Row] = [(0.4 * k - 2.0, -5.0, 7.0 + 0.01 * k, same) for k in range(5)]
    rows += [(0.4 * k, -15.1 - 0.1 * k, 7.0 + 0.01 * k, same) for k in range(5)]
    _, sample = drive(start_ns, *rows, (last_s, -20.0, 7.1, same), cells_first=cells_first)
    assert why(sample) == (OK, state)
    assert sample.one["pack_v"].state == OK


@pytest.mark.parametrize("start_ns", STARTS)
def test_a_current_that_came_back_in_between_says_nothing_of_the_cells(start_ns: int) -> None:
    rows: list[Row] = [(0.1 * k, -5.0 - 20.0 * (k % 15 > 0), 7.0 + 0.001 * k, (3.6, 3.61)) for k in range(40)]
    assert why(drive(start_ns, *rows)[1]) == (OK, OK)


@pytest.mark.parametrize("start_ns", STARTS)
def test_a_pack_voltage_that_stays_is_stuck_and_cells_that_move_are_not(start_ns: int) -> None:
    rows: list[Row] = [(0.2 * k, -5.0 - 20.0 * (k > 2), 7.0, (3.6 + 0.001 * k, 3.6)) for k in range(20)]
    _, sample = drive(start_ns, *rows)
    assert (why(sample), sample.one["pack_v"].state) == ((OK, OK), STUCK)


# -- a stuck current


def falls(*pack_v: float, step_s: float = 0.1, current_a: float = -30.0) -> list[Row]:
    return [(step_s * k, current_a, v, (3.6 - 0.001 * k, 3.6)) for k, v in enumerate(pack_v)]


@pytest.mark.parametrize("start_ns", STARTS)
@pytest.mark.parametrize(
    ("rows", "state"),
    [
        (falls(8.0, 7.75, 7.5, 7.5, 7.5), OK),  # by as much as it may
        (falls(8.0, 7.75, 7.5, 7.5, 7.4375), STUCK),
        (falls(8.0, 7.75, 7.75, 7.75, 7.4375, step_s=0.3), STUCK),  # from the first value on, however late the clock
        (falls(8.0, 7.75, 7.5, 7.25), OK),  # four samples
        (falls(8.0, 7.0, 7.0, 7.0, 7.0, current_a=-1.0), OK),  # no current flows
        (falls(8.0, 7.0, 7.0, 7.0, 7.0, current_a=-1.0625), STUCK),
        # a slow fall: the reference is renewed when it is two seconds old
        (falls(8.0, 8.0, 8.0, 8.0, 7.625, 7.25, 7.25, step_s=0.5), OK),
        (falls(8.0, 8.0, 8.0, 8.0, 7.75, 7.6875, 7.1875, step_s=0.5), STUCK),
        (falls(8.0, 8.0, 8.0, 8.0, 7.75, 7.625, 7.5, 7.375, 7.25, 7.125, 7.0, 6.875, step_s=0.5), OK),
    ],
)
def test_a_current_that_stays_while_the_voltage_moves_quickly_is_stuck(
    start_ns: int, rows: list[Row], state: str
) -> None:
    assert drive(start_ns, *rows)[1].one["current_a"].state == state


# -- ages and what froze


@pytest.mark.parametrize("start_ns", STARTS)
def test_a_message_is_heard_and_ages_from_any_time_of_the_clock(start_ns: int) -> None:
    cfg = config()
    state, sample = _step(cfg, _fresh_state(cfg, start_ns - 5 * S), [Arrival(MAIN, start_ns, (1.0, 7.0))], start_ns)
    assert (sample.heard, sample.ages) == ((True, False), (0.0, 25.0))
    assert (state.seen, state.heard) == ((start_ns, start_ns - 5 * S), (True, False))
    _, sample = _step(cfg, state, [], start_ns + 3 * S // 10)
    assert sample.ages == (3.0, 26.5)


@pytest.mark.parametrize("start_ns", STARTS)
def test_frozen_time_runs_from_the_last_change_of_anything(start_ns: int) -> None:
    same: list[Row] = [(0.5 * k, -30.0, 7.0, (3.6, 3.61)) for k in range(7)]
    state, sample = drive(start_ns, *same)
    assert sample.frozen_s == 3.0
    assert [still.since_ns for still in state.stuck.still.values()] == [start_ns] * 3
    _, sample = drive(start_ns, *same[:4], (2.0, -30.0, 7.0, (3.6, 3.62)), (3.0, -30.0, 7.0, None))
    assert sample.frozen_s == 1.0
    assert drive(start_ns)[1].frozen_s == 0.0


# -- settings


def test_the_longest_period_of_a_signal_counts_in_whatever_order_messages_are_listed() -> None:
    two = tuple(Source(f"Cells {k}", period_s, (("cell_v", k),)) for k, period_s in enumerate((0.4, 0.2)))
    assert replace(config(), sources=(config().sources[MAIN], *two)).periods()["cell_v"] == 0.4


def test_a_state_of_other_settings_is_a_broken_invariant() -> None:
    cfg = config()
    with pytest.raises(ValueError, match="zip"):
        _step(cfg, _fresh_state(cfg, 0)._replace(seen=(-1,)), [], 0)


def test_what_is_not_fresh_keeps_its_value_and_its_time() -> None:
    cfg = config()
    state, _ = drive(0, (0.0, 1.0, 7.0, (3.6, 3.6)))
    state, sample = _step(cfg, state, [], S)
    assert not sample.one["current_a"].fresh
    assert (state.one["current_a"].value, state.one["current_a"].t_ns) == (1.0, 0)
    assert math.isnan(sample.one["current_a"].value), "ten periods old"


def test_a_message_that_comes_alone_is_judged_by_what_is_held_of_the_others() -> None:
    cfg = config()
    state, sample = drive(0, (0.0, -5.0, 7.0, (3.6, 3.6)), (0.1, -30.0, 7.0, (3.6, 3.6)))
    for k in range(1, 23):
        t_ns = S // 10 + k * S // 10
        state, sample = _step(cfg, state, [Arrival(CELLS, t_ns, (3.6, 3.6))], t_ns)
        if k == 4:
            state, sample = _step(cfg, state, [Arrival(MAIN, t_ns, (-30.1, 7.1))], t_ns)
    assert sample.cell_v.state == STUCK
