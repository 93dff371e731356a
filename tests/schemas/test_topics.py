"""The declaration of topics: what ships is sound, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.checked import ConfigError
from schemas.message import MAX_BYTES
from schemas.tables import TABLES
from schemas.topics import DECLARED, OUTPUTS, ROLES, load_topics


def test_what_ships_fits_what_is_written_and_read_back() -> None:
    topics = load_topics(prefix="fleet.")
    assert set(topics) == set(ROLES)
    assert set(OUTPUTS) <= set(TABLES)
    assert {t.name for t in topics.values()} >= {"fleet.frames", "fleet.dead-letters"}
    assert int(topics["frames"].config["max.message.bytes"]) >= MAX_BYTES
    assert int(topics["dead_letters"].config["max.message.bytes"]) >= 2 * MAX_BYTES
    # a resumed sink reads back records of the last epoch: compaction must leave them
    assert topics["states"].config["cleanup.policy"] == "compact"
    assert int(topics["states"].config["min.compaction.lag.ms"]) >= 3_600_000


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("partitions = 64", "partitions = 0", r"frames.partitions must be a whole number in 1..10000; got 0"),
        ("[gaps]", "[gap]", r"gaps.meaning must be a text; got nothing"),
        ("replication = 0", "replica = 3", r"frames.replication must be a whole number in 0..9; got nothing"),
        ('"retention.ms" = 604_800_000 ', '"retention.ms" = true ', r"frames.config.retention.ms must be a text or a"),
        ('meaning = "frames', 'name = "a b"\nmeaning = "frames', r"frames.name must be letters, digits"),
    ],
)
def test_a_wrong_declaration_is_named(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = tmp_path / "topics.toml"
    assert old in DECLARED.read_text()
    path.write_text(DECLARED.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=error):
        load_topics(path)
