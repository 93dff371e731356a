"""Time to the first output after a kill: a real process, killed after a durable snapshot."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from flows.bench.restart import last_epoch, resume_s
from flows.run import ABOUT


def test_a_killed_process_comes_back_within_seconds() -> None:
    assert 0.1 < resume_s(20, 4, 0.2) < 60


def test_epochs_are_counted_in_any_state_of_the_store(tmp_path: Path) -> None:
    assert last_epoch(tmp_path) == 0
    (tmp_path / ABOUT).touch()
    (tmp_path / "part-0.sqlite3").write_bytes(b"not yet")
    assert last_epoch(tmp_path) == 0
    with sqlite3.connect(tmp_path / "part-1.sqlite3") as con:
        con.execute("CREATE TABLE snaps (snap_epoch INTEGER)")
        con.executemany("INSERT INTO snaps VALUES (?)", [(3,), (4,), (5,)])
        con.execute("CREATE TABLE fronts (worker_frontier INTEGER)")
        con.executemany("INSERT INTO fronts VALUES (?)", [(4,), (5,)])
    con.close()
    assert last_epoch(tmp_path) == 4, "of epoch 5 some parts are written, and a run would begin it again"
    (tmp_path / ABOUT).unlink()
    assert last_epoch(tmp_path) == 0, "a store that is being made is not opened"
