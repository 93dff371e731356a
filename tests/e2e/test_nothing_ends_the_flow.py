"""No recording and no garbage ends the flow, and garbage too gives the same records however it is cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flows.run import run_flow
from flows.settings import FleetSettings, RecoverySettings
from flows.traces import TraceOptions, trace_items
from operators.assemble import Assembler
from operators.dbc import load_dbc
from replay.source import ReplaySource, gather
from schemas.events import Item
from schemas.frames import BACKFILL, CONTEXT, LIVE, FrameBlock, make_block
from schemas.pack import load_pack
from schemas.signals import load_signals, signals_for
from sinks import ducklake
from sinks.lake import LakeSink
from tests.support.can_data import CARS, dbc_path, logs, need_traces
from tests.support.fleet import BEGIN_NS, MODEL, NS, cut, differences, flow_into, run

# -- recordings


def _into_lake(items: Iterable[Item], lake: Path) -> tuple[int, dict[str, int]]:
    """Run the flow over items; gives the frames that went in and the rows of each table."""
    frames = 0

    def counted() -> Iterator[Item]:
        nonlocal frames
        for item in gather(items):
            frames += len(item) if isinstance(item, FrameBlock) else 0
            yield item

    sink = LakeSink(lake, "test", recovery=False)
    flow = flow_into(sink, ReplaySource(counted), FleetSettings(state_s=600.0))
    run_flow(flow, RecoverySettings(), 4)
    with ducklake.attach(lake) as con:
        tables = ("windows", "states", "sessions", "incidents", "gaps", "dead_letters")
        rows = {t: con.execute(f"SELECT count(*) FROM raw.{t}").fetchall()[0][0] for t in tables}
        rows["frames"] = con.execute("SELECT coalesce(sum(frames), 0) FROM windows").fetchall()[0][0]
    print(f"{frames} frames, {rows}")
    return frames, rows


@pytest.mark.parametrize(
    ("path", "share"),
    [
        ("ev_faults/car1.parquet", 0.95),  # the file repeats some times
        ("ev_faults/car2.parquet", 0.95),
        ("bmw_i3_trips/bmw_i3_trips_10hz.parquet", 0.99),
        ("leaf_roadtrip/leaf_roadtrip.parquet", 0.99),
        ("lg_hg2/lg_hg2_1hz.parquet", 0.95),
        ("lg_hg2/lg_hg2_c20.parquet", 0.95),
        ("leaf_cell/leaf_cell.parquet", 0.95),
    ],
)
def test_a_recorded_table_runs_to_its_end(data_dir: Path, tmp_path: Path, path: str, share: float) -> None:
    items = trace_items(TraceOptions((str(data_dir / path),), ""))
    frames, rows = _into_lake(items, tmp_path / "lake")
    assert rows["frames"] >= share * frames > 0
    assert rows["sessions"] > 0


@pytest.mark.parametrize("name", ["bmw_i3_dc_ionity_mid.candump.log.gz", "bmw_i3_dc_circontrol_end.candump.log.gz"])
def test_a_recorded_candump_runs_to_its_end(data_dir: Path, tmp_path: Path, name: str) -> None:
    traces = data_dir / "can_traces"
    dbc = str(traces / "dbc" / "bmw_i3_lim.dbc")
    frames, rows = _into_lake(trace_items(TraceOptions((str(traces / name),), "bmw-i3-60ah", dbc)), tmp_path / "lake")
    assert rows["frames"] == frames > 0


@pytest.mark.parametrize("car", sorted(CARS))
def test_every_recorded_can_log_runs_to_its_end(tmp_path: Path, car: str) -> None:
    need_traces()
    frames, rows = _into_lake(_assembled(car), tmp_path / "lake")
    assert rows["frames"] > 0.5 * frames > 0


def _assembled(car: str) -> Iterator[Item]:
    dbc = load_dbc(dbc_path(CARS[car]))
    pack = load_pack("bmw-i3-60ah" if car == "bmw_i3" else "generic-nmc@96c4t60ah")
    for name, block in logs(car):
        assembler = Assembler(
            load_signals(signals_for(dbc.path)), dbc, model=pack.name, cells=pack.series, probes=pack.probes,
            pack_id=f"{car} {name}", period_s=1.0,
        )  # fmt: skip
        for made in (assembler.push(block), assembler.flush()):
            if made is not None:
                yield made


# -- garbage

VALUES = np.array(
    [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0, 1e-40, 3.7, 3.6, 4.4, 25.0, -300.0, 70.0], np.float32
)
TIMES = [-(2**63), -1, 0, 1, 1000 * NS, 2**63 - 1, 2**62]
NUMBERS = [-(2**63), -2, -1, 0, 1, 2**31, 2**62, 2**63 - 1]
NAMES = ["A", "ä 'quoted\"; --", "", "x" * 500, "\x00\n\t", "🔋"]


@st.composite
def garbage(draw: st.DrawFn) -> FrameBlock:
    """Frames of three packs that mostly run on, with anything in any column."""
    n = draw(st.integers(0, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    wild = draw(st.sampled_from([0.0, 0.05, 0.5]))
    random = np.random.default_rng(seed)
    order = np.arange(n) + (random.integers(-3, 4, n) if draw(st.booleans()) else 0)
    period_ns = draw(st.sampled_from([1, 10**6, NS, 10 * NS, 3600 * NS]))

    def any_of(values: Any, plain: Any, dtype: Any) -> Any:
        plain = np.array(np.broadcast_to(plain, n), dtype)
        at = np.flatnonzero(random.random(n) < wild)
        with np.errstate(over="ignore"):  # to infinity
            plain[at] = np.array(values).astype(dtype)[random.integers(0, len(values), at.size)]
        return plain

    def values(columns: int, plain: float) -> Any:
        return np.stack([any_of(VALUES, plain + 0.001 * random.normal(size=n), np.float32) for _ in range(columns)], 1)

    names = draw(st.lists(st.sampled_from(sorted(CONTEXT)), max_size=4, unique=True))
    extremes = draw(hnp.arrays(np.float64, 3, elements=st.floats()))
    return make_block(
        MODEL,
        NAMES,
        pack=random.integers(0, draw(st.integers(1, len(NAMES))), n),
        t_ns=any_of(TIMES, BEGIN_NS + order * period_ns, np.int64),
        seq=any_of(NUMBERS, order if draw(st.booleans()) else -1, np.int64),
        current_a=values(1, -30.0)[:, 0],
        pack_v=values(1, 29.6)[:, 0],
        cell_v=values(8, 3.7),
        temp_c=values(2, 25.0),
        lane=any_of([LIVE, BACKFILL, 255], LIVE, np.uint8),
        recv_ns=any_of(TIMES, 0, np.int64),
        src_offset=np.arange(n),
        context={
            k: any_of(extremes if np.issubdtype(CONTEXT[k], np.floating) else [0, 1, 100], 1, CONTEXT[k]) for k in names
        },
    )


@settings(max_examples=int(os.environ.get("IBMS_EXAMPLES", "150")))
@given(garbage(), st.lists(st.integers(0, 40), max_size=6), st.sampled_from([1, 4, 64]))
def test_garbage_ends_nothing_and_gives_the_same_records_in_any_cut(
    block: FrameBlock, at: list[int], shards: int
) -> None:
    settings = FleetSettings(window_s=10.0, state_s=60.0, keep_frames=True)
    whole = run([block], settings)
    parts = cut(block, [min(a, len(block)) for a in at])
    assert differences(whole, run(parts, replace(settings, shards=shards))) == []


def test_the_lake_takes_what_garbage_leaves(tmp_path: Path) -> None:
    """Extremes of every column, and names that mean something to SQL."""
    n = 600
    random = np.random.default_rng(1)
    wild = random.random(n) < 0.3
    t_ns = BEGIN_NS + np.arange(n) * NS
    t_ns[wild] = np.array(TIMES)[random.integers(0, len(TIMES), wild.sum())]
    seq = np.where(random.random(n) < 0.3, np.array(NUMBERS)[random.integers(0, len(NUMBERS), n)], np.arange(n))
    block = make_block(
        MODEL, NAMES, pack=np.arange(n) % len(NAMES), t_ns=t_ns, seq=seq,
        current_a=VALUES[random.integers(0, len(VALUES), n)], pack_v=VALUES[random.integers(0, len(VALUES), n)],
        cell_v=VALUES[random.integers(0, len(VALUES), (n, 8))], temp_c=VALUES[random.integers(0, len(VALUES), (n, 2))],
        src_offset=np.arange(n),
    )  # fmt: skip
    _, rows = _into_lake([block], tmp_path / "lake")
    assert rows["windows"] > 0
    assert rows["dead_letters"] > 0
    with ducklake.attach(tmp_path / "lake") as con:
        found = {row[0] for row in con.execute("SELECT DISTINCT pack_id FROM windows").fetchall()}
    assert found == set(NAMES)
