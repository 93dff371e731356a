"""The lake's views: one per table with the records that count, and the questions of schemas/sql."""

from __future__ import annotations

import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.resources import files

from schemas.ids import NAMESPACE
from schemas.tables import AGAIN, DAY, KEYS, TABLES

# Beside the columns of TABLES a raw table has this one; of the records with one key the highest counts.
# Zero is the common case (final, revision 0, not in the lake before), so that a file's statistics tell that
# nothing in it supersedes anything.
PRECEDENCE = "precedence"
_RUNS = 1 << 20  # runs of one lake
_PROVISIONAL = 1 << 60  # below every final record

_ABOUT = {
    "windows": "Each pack's closed windows. Example: SELECT * FROM windows WHERE vehicle_id = 'V1' ORDER BY start_ns",
    "states": "What the estimators knew. Example: SELECT t_ns, soc FROM states WHERE pack_id = 'V1' ORDER BY t_ns",
    "sessions": "Drives, charges and parking. Example: SELECT * FROM sessions WHERE kind = 'charge' ORDER BY start_ns",
    "incidents": "Faults, as last revised. Example: SELECT vehicle_id, kind, text FROM incidents ORDER BY opened_ns",
    "gaps": "Frames that never came. Example: SELECT pack_id, sum(missing) FROM gaps WHERE missing > 0 GROUP BY ALL",
    "evidence": "Charges judged as measurements. Example: SELECT reason, count(*) FROM evidence GROUP BY ALL",
    "health": "SOH after each charge. Example: SELECT t_ns, soh FROM health WHERE pack_id = 'V1' ORDER BY t_ns",
    "identity": "Packs that moved or were exchanged. Example: SELECT * FROM identity WHERE kind <> 'first_seen'",
    "twins": "What a pack's circuit misses. Example: SELECT t_ns, event, reason FROM twins WHERE event <> ''",
    "forecasts": "Life left. Example: SELECT t_ns, left_cycles, left_low, left_high, reason FROM forecasts",
    "dead_letters": "Refused input with its bytes. Example: SELECT reason, detail FROM dead_letters LIMIT 20",
    "gateway_reports": "What gateways say beside frames. Example: SELECT vehicle_id, t_ns, text FROM gateway_reports",
    "black_box_frames": "Frames around each trip, all of them. Example: SELECT t_ns, cell_v FROM black_box_frames",
    "frames": "Raw frames, where kept. Example: SELECT t_ns, pack_v FROM frames WHERE pack_id = 'V1' ORDER BY t_ns",
}


@dataclass(frozen=True, slots=True)
class View:
    """A view of the lake: `about` says what it answers and ends in "Example: SELECT …"."""

    name: str
    about: str
    sql: str


def precedence(table: str, run: int, horizon_ns: int) -> str:
    """Give the SQL that ranks a record among those with its key: final, then revision, then the newer run.

    A run's records after `horizon_ns`, the newest that the lake held when it began, count as a first run's.
    """
    names = {c.name for c in TABLES[table]}
    revision = "coalesce(revision, 0)::BIGINT" if "revision" in names else "0::BIGINT"
    provisional = f" - coalesce(provisional, false)::BIGINT * {_PROVISIONAL}" if "provisional" in names else ""
    older = f"epoch_ns({DAY[table]}) <= {horizon_ns}" if table in DAY else "true"
    return f"{revision} * {_RUNS} + CASE WHEN {older} THEN {run - 1} ELSE 0 END{provisional}"


def views() -> list[View]:
    """Give every view, each after those that it reads."""
    folder = files("schemas").joinpath("sql")
    found = sorted((p for p in folder.iterdir() if p.name.endswith(".sql")), key=lambda p: p.name)
    questions = {p.name.removesuffix(".sql"): p.read_text("utf-8") for p in found}
    after = {name: sorted(questions.keys() & _words(text) - {name}) for name, text in questions.items()}
    order = TopologicalSorter(after).static_order()
    return [_records(table) for table in TABLES] + [_question(name, questions[name]) for name in order]


def _words(sql: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r"--.*", "", sql)))


def _question(name: str, text: str) -> View:
    about = text.splitlines()[0].removeprefix("--").strip()
    assert "Example: SELECT" in about, f"schemas/sql/{name}.sql: the first line must say what it answers and an example"
    return View(name, about, text)


def _records(table: str) -> View:
    """Show the records that count, without sorting the whole table: few supersede or are superseded."""
    if table in AGAIN:
        return View(table, _ABOUT[table], _first_told(table))
    keys = KEYS[table]
    same = " AND ".join(f"newer.{k} = held.{k}" for k in keys)
    names = ", ".join(keys)
    chosen = f"* EXCLUDE ({PRECEDENCE})"
    if table == "windows":
        chosen = f"{_window_id()} AS id, {chosen}"
    finals = f"""
    SELECT {chosen} FROM raw.{table} AS held
    ANTI JOIN (SELECT {names}, {PRECEDENCE} FROM raw.{table} WHERE {PRECEDENCE} > 0) AS newer
        ON {same} AND newer.{PRECEDENCE} > held.{PRECEDENCE}
    WHERE {PRECEDENCE} >= 0"""
    provisional = f"""
    UNION ALL
    SELECT {chosen} FROM raw.{table} AS held
    ANTI JOIN (SELECT {names}, {PRECEDENCE} FROM raw.{table}) AS newer
        ON {same} AND newer.{PRECEDENCE} > held.{PRECEDENCE}
    WHERE {PRECEDENCE} < 0"""
    columns = {c.name for c in TABLES[table]}
    if "withdrawn" in columns:
        finals += " AND NOT coalesce(withdrawn, false)"
    return View(table, _ABOUT[table], finals + (provisional if "provisional" in columns else ""))


def _first_told(table: str) -> str:
    """Give the SQL of the records whose message came first of those with its id, as the newest run read it."""
    rank = f"row({PRECEDENCE}, -src_part, -src_offset)"
    return f"""
    SELECT * EXCLUDE ({PRECEDENCE}) FROM raw.{table} AS held
    SEMI JOIN (SELECT id, max({rank}) AS rank FROM raw.{table} GROUP BY id) AS first
        ON first.id = held.id AND first.rank = {rank}"""


def _window_id() -> str:
    """Give the SQL of schemas.ids.record_id(pack_id, "window", "-", start): a uuid5 (RFC 9562) from SHA-1."""
    namespace = "".join(f"\\x{byte:02x}" for byte in NAMESPACE.bytes)
    name = "encode(pack_id || '|window|-|' || epoch_ns(start_ns)::VARCHAR)"
    sha = f"sha1('{namespace}'::BLOB || {name})"
    variant = f"substr('89ab89ab89ab89ab', instr('0123456789abcdef', substr({sha}, 17, 1)), 1)"
    parts = [f"substr({sha}, 1, 8)", f"substr({sha}, 9, 4)", f"'5' || substr({sha}, 14, 3)"]
    parts += [f"{variant} || substr({sha}, 18, 3)", f"substr({sha}, 21, 12)"]
    return " || '-' || ".join(parts)
