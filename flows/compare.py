"""What changed between two runs over the same trace: incidents, sessions, gaps, windows beyond tolerance."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import orjson
from rich.console import Console
from rich.table import Table

from schemas.tables import KEYS, TABLES
from sinks import ducklake

_NAMED = 20  # records of a kind that --json names
_SHOWN = {"incidents": 20}  # and that are printed
_SHOWN_OTHERS = 5
_COLUMNS = 6  # columns named in the printed table
_FLOATS = {"f32", "f64"}  # equal within the tolerance
_INTEGERS = {"i8", "i16", "i32", "i64", "u32"}  # equal or not
_TABLES = {
    # table: what tells its records apart, in words of the world rather than in ids
    "incidents": ("pack_id", "kind", "subject", "opened_ns"),
    "sessions": ("pack_id", "kind", "start_ns"),
    "gaps": ("pack_id", "kind", "from_ns"),
    "windows": ("pack_id", "start_ns"),
}
_TEXTS = {
    "incidents": ("status", "text", "cleared_ns"),
    "sessions": ("end_ns",),
    "gaps": ("to_ns",),
    "windows": ("end_ns",),
}
_IGNORED = {"pack_hash", "revision"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One table of two runs: records in only one of them, and those in both that differ."""

    table: str
    in_a: int
    in_b: int
    only_a: int
    only_b: int
    changed: int  # records in both of which a column differs
    columns: dict[str, int]  # column → records in which it differs
    largest: dict[str, float]  # column → largest absolute difference
    examples_a: list[str]  # the first records of only_a
    examples_b: list[str]
    examples_changed: list[str]

    @property
    def equal(self) -> bool:
        """Say whether there is no difference."""
        return not (self.only_a or self.only_b or self.changed)


def run_compare(run_a: Path, run_b: Path, tolerance: float, *, as_json: bool) -> bool:
    """Print what differs; gives whether anything does.  Raises LakeError where a lake is missing."""
    found = compare(run_a, run_b, tolerance)
    equal = all(d.equal for d in found)
    if as_json:
        report = {"equal": equal} | {d.table: {k: v for k, v in asdict(d).items() if k != "table"} for d in found}
        sys.stdout.write(orjson.dumps(report).decode() + "\n")
    else:
        _show(found)
    return not equal


def compare(run_a: Path, run_b: Path, tolerance: float) -> list[Difference]:
    """Compare the newest revisions of two lakes; floats count as equal within relative `tolerance`."""
    ducklake.check(run_a)
    ducklake.check(run_b)
    with ducklake.attach(run_a) as con:
        ducklake.attach_also(con, run_b, "other")
        return [_table(con, table, tolerance) for table in _TABLES]


def _table(con: duckdb.DuckDBPyConnection, table: str, tolerance: float) -> Difference:
    # Once: a view is worked out anew in every query that names it.
    con.execute(f"CREATE OR REPLACE TEMP TABLE run_a AS FROM lake.{table}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE run_b AS FROM other.{table}")
    key = _TABLES[table]
    on = " AND ".join(f"a.{k} IS NOT DISTINCT FROM b.{k}" for k in key)
    a, b = "temp.run_a", "temp.run_b"
    kinds = {c.name: c.type for c in TABLES[table] if c.name not in {*_IGNORED, *KEYS[table]}}
    numbers = [c for c, kind in kinds.items() if kind in {*_FLOATS, *_INTEGERS}]
    differs = {c: _beyond(c, tolerance) if kinds[c] in _FLOATS else _distinct(c) for c in numbers}
    differs |= {c: _distinct(c) for c in _TEXTS[table]}
    any_of = " OR ".join(differs.values())
    both = f"{a} a JOIN {b} b ON {on}"
    counts = ", ".join(f"count(*) FILTER ({test})" for test in [any_of, *differs.values()])
    apart_by = "max(abs(CAST(a.{c} AS DOUBLE) - CAST(b.{c} AS DOUBLE))) FILTER ({test})"
    largest = ", ".join(apart_by.format(c=c, test=differs[c]) for c in numbers)
    row = con.execute(f"SELECT {counts}, {largest} FROM {both}").fetchone()
    assert row is not None
    changed, each, apart = row[0], row[1 : len(differs) + 1], row[len(differs) + 1 :]
    columns = {c: n for c, n in zip(differs, each, strict=True) if n}
    only_a, only_b = f"{a} a ANTI JOIN {b} b ON {on}", f"{b} a ANTI JOIN {a} b ON {on}"
    return Difference(
        table=table,
        in_a=_count(con, a),
        in_b=_count(con, b),
        only_a=_count(con, only_a),
        only_b=_count(con, only_b),
        changed=changed,
        columns=columns,
        largest={c: float(d) for c, d in zip(numbers, apart, strict=True) if c in columns and d is not None},
        examples_a=_names(con, key, only_a),
        examples_b=_names(con, key, only_b),
        examples_changed=_names(con, key, f"{both} WHERE {any_of}"),
    )


def _distinct(column: str) -> str:
    return f"a.{column} IS DISTINCT FROM b.{column}"


def _beyond(column: str, tolerance: float) -> str:
    """Give the SQL that tells floats apart; a number and none are apart, none and none are not."""
    x, y = f"a.{column}", f"b.{column}"
    near = f"{x} = {y} OR abs({x} - {y}) <= {tolerance} * greatest(abs({x}), abs({y}))"
    return f"NOT coalesce({near}, {x} IS NULL AND {y} IS NULL)"


def _count(con: duckdb.DuckDBPyConnection, source: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {source}").fetchone()
    assert row is not None
    return int(row[0])


def _names(con: duckdb.DuckDBPyConnection, key: tuple[str, ...], source: str) -> list[str]:
    """Name the first records by what tells them apart."""
    text = " || ' ' || ".join(f"coalesce(CAST(a.{k} AS VARCHAR), '–')" for k in key)
    return [row[0] for row in con.execute(f"SELECT {text} FROM {source} ORDER BY ALL LIMIT {_NAMED}").fetchall()]


def _show(found: list[Difference]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    table = Table("table", "in A", "in B", "only A", "only B", "changed", "columns that differ", box=None)
    for column in table.columns[1:6]:
        column.justify = "right"
    for d in found:
        numbers = (d.in_a, d.in_b, d.only_a, d.only_b, d.changed)
        table.add_row(d.table, *(f"{n:,}" for n in numbers), _columns(d))
    console.print(table)
    for d in found:
        for what, names, n in (
            ("only A", d.examples_a, d.only_a),
            ("only B", d.examples_b, d.only_b),
            ("changed", d.examples_changed, d.changed),
        ):
            shown = names[: _SHOWN.get(d.table, _SHOWN_OTHERS)]
            for name in shown:
                console.print(f"{what}: {d.table[:-1]} {name}", soft_wrap=True, markup=False)
            if n > len(shown):
                console.print(f"{what}: {n - len(shown):,} more {d.table}", soft_wrap=True)


def _columns(d: Difference) -> str:
    """Name the columns that differ most often, with how often and how far."""
    most = sorted(d.columns.items(), key=lambda item: -item[1])
    texts = [f"{c} ({n:,}×{f', ≤ {d.largest[c]:.3g}' if c in d.largest else ''})" for c, n in most[:_COLUMNS]]
    more = len(most) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "") or "–"
