"""Print what the protection flow made of recordings and faults, as Markdown: `just faults`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edge.protection import key_of
from flows.cache import use_kernel_cache
from schemas.limits import Limit
from tests.safety.faults import CASES, due
from tests.safety.recordings import HEALTHY, can_of, frames_of, play_can, play_table, table_setup
from tests.safety.replayed import drive
from tests.safety.stream_faults import PHYSICAL, SPOILED, Heard, play_physical, play_spoiled
from tests.safety.tape import Tape, settled
from tests.support.can_data import dbc_path, logs

DBC = {"bmw_i3": "bmw_i3_lim", "hyundai_kona": "hyundai_kona_pcan"}
PERIOD_S = {"car1": 1.0, "car2": 30.0}


def recordings(data_dir: Path) -> Iterator[Sequence[object]]:
    """Give a row for each healthy recording."""
    for car, part in HEALTHY.items():
        for name, block in logs(car):
            if part in name:
                setup = can_of(car, name, dbc_path(DBC[car]))
                tape = play_can(block, setup)
                hours = (int(block.t_ns.max()) - int(block.t_ns.min())) / 3.6e12
                yield f"{car} {Path(name).stem[:48]}", hours, len(block), *_said([tape])
    for car, period_s in PERIOD_S.items():
        table = frames_of(data_dir / f"ev_faults/{car}.parquet", f"ev-faults-{car}")
        played = play_table(table, table_setup(table, period_s))
        hours = sum(tape.allowed[-1][0] - tape.allowed[0][0] for tape in played.tapes) / 3600
        yield car, hours, len(table), *_said(played.tapes)


def _said(tapes: Iterable[Tape]) -> tuple[int, str]:
    fired = [d for tape in tapes for _, d in tape.decisions if d["active"]]
    counted = Counter(f"{d['quantity']} {d['tier']}: {d['action']}" for d in fired)
    grave = sum(d["tier"] == "MSL" for d in fired)
    return grave, "; ".join(f"{n} × {text}" for text, n in sorted(counted.items())) or "nothing"


def not_evaluated(data_dir: Path) -> Iterator[Sequence[object]]:
    """Give the rows that lack a signal, by recording."""
    for car in HEALTHY:
        yield car, _quantities(can_of(car, "2019", dbc_path(DBC[car])).guard.not_evaluated)
    for car, period_s in PERIOD_S.items():
        block = frames_of(data_dir / f"ev_faults/{car}.parquet", f"ev-faults-{car}")
        yield car, _quantities(table_setup(block, period_s).guard.not_evaluated)


def _quantities(rows: Iterable[Limit]) -> str:
    keys = Counter(key_of(row).partition("/")[0] for row in rows)
    return ", ".join(f"{name} ({n})" if n > 1 else name for name, n in keys.items())


def faults(data_dir: Path) -> Iterator[Sequence[object]]:
    """Give a row for each limit that a fault on the recorded car breaks."""
    for case in CASES:
        with settled():
            out = drive(data_dir, case.scene, case.seconds, case.change)
        said = {d["key"]: d["action"] for _, d in out.tape.decisions if d["active"]}
        if not case.rows:
            yield (
                case.name,
                case.broken,
                "–",
                math.nan,
                math.nan,
                math.nan,
                "nothing decided" if not said else str(said),
                "",
            )
        for key, (reached_s, latest_s) in due(case, data_dir).items():
            opened = f"{out.opened_s:.2f}" if "/MSL/" in key and not math.isnan(out.opened_s) else ""
            yield case.name, case.broken, key, reached_s, out.decided_s(key), latest_s, said.get(key, "MISSED"), opened


def simulated(data_dir: Path) -> Iterator[Sequence[object]]:
    """Give a row for each of the simulator's faults."""
    for spoiled in SPOILED:
        kind = f"{spoiled.fault['kind']}, {spoiled.stretch}"
        yield from _heard(kind, spoiled.says, play_spoiled(data_dir, spoiled))
    for physical in PHYSICAL:
        yield from _heard(f"{physical.fault['kind']}, simulated car", physical.says, play_physical(physical))


def _heard(kind: str, says: str, out: Heard) -> Iterator[Sequence[object]]:
    if not out.rows:
        yield kind, says, "–", math.nan, math.nan, "nothing opens" if not out.grave else ", ".join(out.grave)
    for key, (decided_s, latest_s) in out.rows.items():
        yield kind, says, key, decided_s, latest_s, "in time" if decided_s <= latest_s else "MISSED"


def show(title: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    names = columns.split(" | ")
    print(f"\n### {title}\n\n| {columns} |\n|{'---|' * len(names)}", flush=True)
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |", flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables that are asked for."""
    names = ("recordings", "faults", "simulated")
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{', '.join(names)}; all by default")
    what = parser.parse_args(arguments).what or names
    if bad := [name for name in what if name not in names]:
        parser.error(f"what must be out of {', '.join(names)}; got {bad[0]}")
    data_dir = Path(os.environ.get("IBMS_DATA", "../shared/data")).resolve()
    if not data_dir.is_dir():
        parser.error(f"IBMS_DATA must be a directory of recordings; got {data_dir}")
    use_kernel_cache()
    if "recordings" in what:
        show("Healthy recordings", "recording | h | frames or rows | MSL | said", recordings(data_dir))
        show("Rows not evaluated for want of a signal", "recording | rows", not_evaluated(data_dir))
    if "faults" in what:
        columns = "case | what is broken | row | bound reached, s | decided, s | at most, s | then | opened, s"
        show("Faults on a recorded car, messages every 0.1 s", columns, faults(data_dir))
    if "simulated" in what:
        columns = "fault | what it does | row | decided, s | at most, s | "
        show("The simulator's faults, rows every 1 s or 30 s", columns, simulated(data_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
