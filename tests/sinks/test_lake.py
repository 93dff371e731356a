"""The lake sink: two phases, one transaction, nothing repeated after a resume."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import bytewax.operators as op
import duckdb
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main

from schemas.events import Tick
from sinks import ducklake
from sinks.ducklake import LakeError
from sinks.lake import LakeSink, publish_pending
from tests.support.lake import NEVER, ask, count, part, records, session, tables, windows


def test_rows_are_published_at_the_first_item_after_their_snapshot_and_not_before(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_epochs=1)
    lake.write_batch(records(windows(3)))
    assert count(tmp_path) == 0
    lake.snapshot()
    assert count(tmp_path) == 0
    lake.write_batch([Tick(1)])
    lake.settle()
    assert count(tmp_path) == 3


def test_a_quiet_sink_publishes_by_ticks_once_rows_have_waited_a_minute(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_s=60)
    for second, expected in ((100, 0), (101, 0), (159, 0), (161, 2)):
        lake.write_batch([*(records(windows(2)) if second == 100 else []), Tick(second * 10**9)])
        lake.settle()
        assert count(tmp_path) == expected, second
        lake.snapshot()


def test_rows_are_published_once_enough_bytes_wait(tmp_path: Path) -> None:
    lake = part(tmp_path, publish_bytes=50_000)
    for number in range(6):
        lake.write_batch(records(windows(100, first=100 * number)))
        lake.snapshot()
    lake.settle()
    assert 0 < count(tmp_path) < 600


def test_resuming_publishes_what_the_snapshot_covers_and_forgets_what_is_newer(tmp_path: Path) -> None:
    lake = part(tmp_path)
    lake.write_batch(records(windows(1, first=0)))
    durable = lake.snapshot()
    lake.write_batch(records(windows(1, first=1)))
    lake.snapshot()  # never became durable
    lake.close()

    again = part(tmp_path, durable)
    again.settle()
    assert ask(tmp_path, "SELECT start_ns = epoch_ms(1767571200000) FROM raw.windows") == [(True,)]
    again.write_batch(records(windows(1, first=2)))
    again.snapshot()
    again.close()
    assert publish_pending(tmp_path, "test") == 1
    assert ask(tmp_path, "SELECT minute(start_ns) FROM windows ORDER BY ALL") == [(0,), (2,)]


def test_a_fresh_start_forgets_what_an_earlier_one_left_pending(tmp_path: Path) -> None:
    lake = part(tmp_path)
    lake.write_batch(records(windows(1)))
    lake.snapshot()
    lake.close()
    part(tmp_path).close()
    assert publish_pending(tmp_path, "test") == 0
    assert count(tmp_path) == 0


def test_an_epoch_that_the_lake_holds_is_not_inserted_again(tmp_path: Path) -> None:
    lake = part(tmp_path)
    lake.write_batch(records(windows(2)))
    durable = lake.snapshot()
    kept = next(tmp_path.glob("pending/sink-test/*.arrows"))
    content = kept.read_bytes()
    lake.close()
    publish_pending(tmp_path, "test")
    kept.write_bytes(content)  # as after a kill between the commit and the file's deletion
    part(tmp_path, durable).close()
    assert count(tmp_path) == 2
    assert not kept.exists()


def test_a_lake_that_is_ahead_of_the_recovery_store_is_refused(tmp_path: Path) -> None:
    lake = part(tmp_path)
    old = lake.snapshot()
    lake.write_batch(records(windows(2)))
    lake.snapshot()
    lake.close()
    publish_pending(tmp_path, "test")
    with pytest.raises(LakeError, match="the recovery store is older: epoch 0"):
        part(tmp_path, old)


def test_a_recovery_store_of_another_sink_is_refused(tmp_path: Path) -> None:
    lake = part(tmp_path)
    state = lake.snapshot()
    lake.close()
    with pytest.raises(LakeError, match="the recovery store is of run 1 of other"):
        part(tmp_path, {**state, "name": "other"})


def test_without_recovery_everything_is_published_by_close(tmp_path: Path) -> None:
    lake = part(tmp_path, recovery=False)
    lake.write_batch(records(windows(2)))
    lake.snapshot()
    assert count(tmp_path) == 0
    lake.close()
    assert count(tmp_path) == 2


def test_without_recovery_rows_are_published_inside_a_long_epoch(tmp_path: Path) -> None:
    lake = part(tmp_path, recovery=False, publish_bytes=50_000)
    for number in range(6):
        lake.write_batch(records(windows(100, first=100 * number)))
    lake.settle()
    assert count(tmp_path) > 0
    lake.close()
    assert count(tmp_path) == 600


def test_what_comes_while_an_epoch_is_published_is_not_published_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, real = Event(), ducklake.publish

    def slow(*given: Any) -> bool:
        assert goes_on.wait(10)
        return real(*given)

    monkeypatch.setattr(ducklake, "publish", slow)
    lake = part(tmp_path, publish_epochs=1)
    lake.write_batch(records(windows(1, first=0)))
    lake.snapshot()
    lake.write_batch(records(windows(1, first=1)))
    lake.snapshot()  # not durable: no item has come since
    goes_on.set()
    lake.settle()
    assert ask(tmp_path, "SELECT minute(start_ns) FROM windows") == [(0,)]
    lake.close()
    assert publish_pending(tmp_path, "test") == 1
    assert count(tmp_path) == 2


def test_what_a_publish_fails_with_ends_the_flow_at_a_later_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> bool:
        msg = "no room"
        raise duckdb.IOException(msg)

    monkeypatch.setattr(ducklake, "publish", full)
    lake = part(tmp_path, publish_epochs=1)
    lake.write_batch(records(windows(1)))
    lake.snapshot()
    lake.write_batch([Tick(1)])

    def go_on() -> None:
        for second in range(1000):
            time.sleep(0.01)
            lake.write_batch([Tick(second)])

    with pytest.raises(duckdb.IOException, match="no room"):
        go_on()
    lake.close()


def test_an_epoch_larger_than_memory_allows_is_spilled_and_whole(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sinks.pending.SPILL_BYTES", 10_000)
    lake = part(tmp_path)
    for number in range(20):
        lake.write_batch(records(windows(50, first=50 * number), session(number)))
    assert (tmp_path / "pending/sink-test/open.tmp").stat().st_size > 0
    lake.snapshot()
    lake.close()
    publish_pending(tmp_path, "test")
    assert count(tmp_path) == 1000
    assert count(tmp_path, "sessions") == 20


def test_a_failed_insert_leaves_no_row_of_any_table_and_no_progress(tmp_path: Path) -> None:
    con = ducklake.open_writer(tmp_path)
    ducklake.new_run(con, "test")
    rows = tables(windows(2))
    rows["no_such_table"] = rows["windows"]
    with pytest.raises((duckdb.Error, KeyError)):
        ducklake.publish(con, "test", 1, rows)
    assert ducklake.last_run(con, "test") == ducklake.Run(1, 0, 0)
    con.close()
    assert count(tmp_path) == 0


class _Flow:
    """A flow of lake items, with recovery, that can be run again."""

    def __init__(self, work: Path, items: list[Any]) -> None:
        self.lake, self._items, self._recovery = work / "lake", items, work / "recovery"
        self._recovery.mkdir()
        init_db_dir(str(self._recovery), 1)

    def run(self) -> None:
        flow = Dataflow("small")
        items = op.input("source", flow, TestingSource(self._items))
        out = op.flat_map("to-arrow", items, lambda item: [("lake", r) for r in records(item)])
        op.output("lake", out, LakeSink(self.lake, "test", recovery=True, **(NEVER | {"publish_epochs": 1})))
        config = RecoveryConfig(str(self._recovery))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=config)


def test_the_last_epoch_of_a_flow_is_published_after_its_return(tmp_path: Path) -> None:
    flow = _Flow(tmp_path, [windows(1, first=i) for i in range(4)])
    flow.run()
    assert count(flow.lake) == 3
    assert publish_pending(flow.lake, "test") == 1
    assert count(flow.lake) == 4
    assert publish_pending(flow.lake, "test") == 0


def test_a_finished_run_resumed_adds_nothing(tmp_path: Path) -> None:
    flow = _Flow(tmp_path, [windows(1, first=i) for i in range(4)])
    for _ in range(3):
        flow.run()
        publish_pending(flow.lake, "test")
        assert count(flow.lake) == 4


def test_a_run_killed_before_its_last_publish_shows_everything_after_the_next_start(tmp_path: Path) -> None:
    flow = _Flow(tmp_path, [windows(1, first=i) for i in range(4)])
    flow.run()  # and nobody called publish_pending
    flow.run()
    assert count(flow.lake) == 4
