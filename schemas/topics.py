"""Which Kafka topics there are: their names, partitions, retention and compaction, from one declaration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.checked import Table, read_table

DECLARED = Path(__file__).parent / "topics.toml"
INPUTS = ("frames", "backfill", "gateways")  # gateways: what they say beside frames
# a role that a sink writes → the table of the lake whose records go there: the same name
OUTPUTS = ("windows", "states", "sessions", "incidents", "gaps", "dead_letters")
PROGNOSTICS = ("evidence", "health", "identity", "twins", "forecasts")  # as OUTPUTS, of the prognostics flow
ROLES = (*INPUTS, *OUTPUTS, *PROGNOSTICS, "commands")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_MOST_PARTITIONS = 10_000
_MOST_REPLICAS = 9


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: `replication` 0 is the cluster's default; `config` as Kafka names it."""

    role: str
    name: str
    meaning: str
    partitions: int
    replication: int
    config: Mapping[str, str]


def load_topics(path: Path | None = None, prefix: str = "") -> dict[str, Topic]:
    """Read a declaration, by role; raises ConfigError with file, key, value and what is accepted."""
    whole = read_table(path or DECLARED, "topics_file must be a readable .toml")
    topics = {role: _topic(role, whole.table(role), prefix) for role in ROLES}
    whole.done()
    return topics


def _topic(role: str, table: Table, prefix: str) -> Topic:
    name = prefix + table.text("name", default=role.replace("_", "-"))
    if not _NAME.fullmatch(name):
        table.refuse("name", "letters, digits, '.', '_' and '-', prefix included", name)
    made = Topic(
        role,
        name,
        table.text("meaning"),
        table.integer("partitions", 1, _MOST_PARTITIONS),
        table.integer("replication", 0, _MOST_REPLICAS),
        _config(table),
    )
    table.done()
    return made


def _config(table: Table) -> dict[str, str]:
    value = table.raw("config")
    if value is None:
        return {}
    if not isinstance(value, dict):
        table.refuse("config", "a table of topic settings, as Kafka names them", value)
    for key, item in value.items():
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            table.refuse(f"config.{key}", "a text or a number", item)
    return {key: str(item) for key, item in value.items()}
