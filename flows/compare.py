"""What changed between two runs over the same trace: incidents, sessions, windows beyond tolerance."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from schemas.tables import KEYS, TABLES
from sinks import ducklake

_SHOWN = 20
_NUMBERS = {"i8", "i16", "i32", "i64", "u32", "f32", "f64"}
_TABLES = {
    # table: what tells its records apart, in words of the world rather than in ids
    "incidents": ("pack_id", "kind", "subject", "opened_ns"),
    "sessions": ("pack_id", "kind", "start_ns"),
    "gaps": ("pack_id", "kind", "from_ns"),
    "windows": ("pack_id", "start_ns"),
}
_TEXTS = {"incidents": ("severity", "status", "text"), "sessions": ("end_ns",), "gaps": ("missing",), "windows": ()}
_IGNORED = {"pack_hash", "revision"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One table of two runs: records in only one of them, and columns that differ in both."""

    table: str
    in_a: int
    in_b: int
    only_a: list[str]
    only_b: list[str]
    columns: dict[str, int]  # column → records in which it differs
    largest: dict[str, float]  # column → largest absolute difference


def run_compare(run_a: Path, run_b: Path, tolerance: float, *, as_json: bool) -> bool:
    """Print what differs; gives whether anything does.  Raises LakeError where a lake is missing."""
    found = compare(run_a, run_b, tolerance)
    if as_json:
        sys.stdout.write(orjson.dumps({d.table: asdict(d) for d in found}).decode() + "\n")
    else:
        _show(found)
    return any(d.only_a or d.only_b or d.columns for d in found)


def compare(run_a: Path, run_b: Path, tolerance: float) -> list[Difference]:
    """Compare the newest revisions of two lakes; numbers count as equal within relative `tolerance`."""
    ducklake.check(run_b)
    con = ducklake.attach(run_a)
    ducklake.attach_also(con, run_b, "other")
    return [_table(con, table, tolerance) for table in _TABLES]


def _table(con: Any, table: str, tolerance: float) -> Difference:  # noqa: ANN401 - duckdb's connection
    key = _TABLES[table]
    on = " AND ".join(f"a.{k} IS NOT DISTINCT FROM b.{k}" for k in key)
    name = " || ' ' || ".join(f"CAST({{side}}.{k} AS VARCHAR)" for k in key)
    a, b = f"lake.{table}", f"other.{table}"

    def only(side: str, other: str, alias: str, beta: str) -> list[str]:
        text = name.format(side=alias)
        sql = f"SELECT {text} FROM {side} {alias} ANTI JOIN {other} {beta} ON {on} ORDER BY 1"
        return [row[0] for row in con.execute(sql).fetchall()]

    numbers = [c.name for c in TABLES[table] if c.type in _NUMBERS and c.name not in {*_IGNORED, *KEYS[table]}]
    differs = {
        c: f"NOT coalesce(a.{c} = b.{c} OR abs(a.{c} - b.{c}) <= {tolerance} * greatest(abs(a.{c}), abs(b.{c})), "
        f"a.{c} IS NULL AND b.{c} IS NULL)"
        for c in numbers
    } | {c: f"a.{c} IS DISTINCT FROM b.{c}" for c in _TEXTS[table]}
    counts = ", ".join(f"count(*) FILTER ({test})" for test in differs.values())
    largest = ", ".join(f"max(abs(CAST(a.{c} AS DOUBLE) - b.{c}))" for c in numbers)
    both = con.execute(f"SELECT {counts}, {largest} FROM {a} a JOIN {b} b ON {on}").fetchone()
    changed = {c: n for c, n in zip(differs, both, strict=False) if n}
    apart = {c: d for c, d in zip(numbers, both[len(differs) :], strict=True) if c in changed and d is not None}
    in_a, in_b = (con.execute(f"SELECT count(*) FROM {side}").fetchone()[0] for side in (a, b))
    return Difference(table, in_a, in_b, only(a, b, "a", "b"), only(b, a, "b", "a"), changed, apart)


def _show(found: list[Difference]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    summary = Table("table", *(f"{head}" for head in ("in A", "in B", "only A", "only B", "columns that differ")))
    for column in summary.columns[1:5]:
        column.justify = "right"
    for d in found:
        columns = ", ".join(
            f"{c} ({n}×, ≤ {d.largest[c]:.3g})" if c in d.largest else f"{c} ({n}×)" for c, n in d.columns.items()
        )
        summary.add_row(d.table, str(d.in_a), str(d.in_b), str(len(d.only_a)), str(len(d.only_b)), columns or "–")
    console.print(summary)
    for d in found:
        for side, names in (("A", d.only_a), ("B", d.only_b)):
            for name in names[:_SHOWN]:
                console.print(f"only {side}: {d.table[:-1]} {name}", highlight=False)
            if len(names) > _SHOWN:
                console.print(f"only {side}: {len(names) - _SHOWN} more {d.table}")
