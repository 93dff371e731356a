"""Kill a flow again and again, let it finish, and account for what is in its lake."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import duckdb

from schemas.gateway_tables import GATEWAY
from schemas.tables import TABLES
from schemas.topics import PROGNOSTICS
from sinks import ducklake
from tests.support.forked import start

# What frames become; sessions become the others in a flow of their own, and of gateways' words chaos keeps account.
_FLEET = tuple(table for table in TABLES if table not in {*PROGNOSTICS, *GATEWAY})

EPOCHS_S = (30.0, 0.03)  # alternating: only so does an epoch's content differ from the run before
PATIENCE_S = 60.0


@dataclass
class Account:
    """What a killed run's lake lacks and has too much of against an undisturbed run's, in rows by table."""

    kills: int
    whole: bool  # the killed run came to its end: it must have everything
    rows: dict[str, int]  # of the undisturbed run
    lost: dict[str, int]
    repeated: dict[str, int]

    @property
    def sound(self) -> bool:
        return not any(self.repeated.values()) and not (self.whole and any(self.lost.values()))


def run_to_end(work: Path, command: Sequence[str], epoch_s: float = 0.5) -> None:
    """Run (or resume) the flow in `work` until it is done."""
    (work / "done").unlink(missing_ok=True)
    child = start_flow(work, command, epoch_s)
    child.join(PATIENCE_S * 5)
    assert child.exitcode == 0, (work / "log").read_text()[-2000:]
    assert (work / "done").exists()


def kill_often(work: Path, command: Sequence[str], kills: range, seed: int) -> int:
    """Kill the flow at drawn moments, once for each number, unless it comes to its end; gives the kills."""
    work.mkdir(parents=True, exist_ok=True)
    for done, n in enumerate(kills):
        (work / "started").unlink(missing_ok=True)
        epoch_s = EPOCHS_S[n % 2]
        child = start_flow(work, command, epoch_s)
        _wait_for_moment(child, work, random.Random(f"{seed}/{n}"), epoch_s)
        if not kill(child):  # it came to its end
            assert child.exitcode == 0, (work / "log").read_text()[-2000:]
            return done
    return len(kills)


def kill_when(work: Path, command: Sequence[str], epoch_s: float, happened: Callable[[], bool]) -> None:
    """Kill the flow once, as soon as something has happened."""
    child = start_flow(work, command, epoch_s)
    _until(child, PATIENCE_S, happened)
    assert happened(), (work / "log").read_text()[-2000:]
    assert kill(child), "the flow came to its end before it was killed"


def kill(child: ForkServerProcess) -> bool:
    """Send SIGKILL and wait; says whether that was what ended it."""
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


def account(killed: Path, undisturbed: Path, *, kills: int, whole: bool) -> Account:
    """Compare all raw tables of two lakes, row by row and bit by bit; a lake that is not yet there is empty."""
    found = Account(kills, whole, {}, {}, {})
    have = _records(killed) if (killed / ducklake.CATALOG).exists() else {}
    for table, want in _records(undisturbed).items():
        there = have.get(table, Counter())
        found.rows[table] = want.total()
        found.lost[table] = (want - there).total()
        found.repeated[table] = (there - want).total()
    return found


def _records(lake: Path) -> dict[str, Counter[str]]:
    with ducklake.attach(lake) as con:
        return {table: _rows(con, table) for table in _FLEET}


def _rows(con: duckdb.DuckDBPyConnection, table: str) -> Counter[str]:
    """Give the final records; what an idle pack showed provisionally depends on wall time."""
    final = "WHERE NOT provisional" if "provisional" in {c.name for c in TABLES[table]} else ""
    # Text has every digit of a float and equals itself where NaN does not.
    sql = f"SELECT held::VARCHAR FROM (SELECT * EXCLUDE (precedence) FROM raw.{table} {final}) held"
    return Counter(row[0] for row in con.execute(sql).fetchall())


def start_flow(work: Path, command: Sequence[str], epoch_s: float) -> ForkServerProcess:
    """Start the flow `command`, a module and its arguments after the directory."""
    work.mkdir(parents=True, exist_ok=True)
    return start(command[0], [str(work), *command[1:], "--epoch", str(epoch_s)], work / "log")


def _wait_for_moment(child: ForkServerProcess, work: Path, draw: random.Random, epoch_s: float) -> None:
    """Wait for a drawn moment: while it starts, at any time, or as soon as an epoch has become a pending file."""
    kinds = ["start", "any", "pending", "pending", "pending"] if epoch_s < 1 else ["start", "any", "any", "any"]
    kind = draw.choice(kinds)
    if kind == "start":
        _until(child, draw.uniform(0.1, 1.5), lambda: False)
        return
    _until(child, PATIENCE_S, (work / "started").exists)
    _until(child, draw.uniform(0.0, 0.8), lambda: False)
    if kind == "pending":  # the moment that matters lies between it and the snapshot that covers it
        before = _pending(work)
        _until(child, 1.0, lambda: bool(_pending(work) - before))
        _until(child, draw.choice([0.0, 0.0, draw.uniform(0.0, 0.004)]), lambda: False)


def _pending(work: Path) -> set[str]:
    return {p.name for form in ("lake/pending/*/*.arrows", "sealed/*") for p in work.glob(form)}


def _until(child: ForkServerProcess, seconds: float, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.exitcode is None and not happened():
        time.sleep(0.0005)
