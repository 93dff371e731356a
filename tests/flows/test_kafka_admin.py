"""`ibms kafka init` on a real broker: made once, changed where it may be, left alone otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.kafka_admin import connect, describe, plan, read_kafka, run_init
from schemas.checked import ConfigError
from schemas.topics import DECLARED, ROLES, load_topics
from tests.support.broker import Cluster


def _config(tmp_path: Path, kafka: Cluster, declared: str) -> Path:
    (tmp_path / "topics.toml").write_text(declared)
    config = tmp_path / "fleet.toml"
    prefix = kafka.topic("init") + "."
    config.write_text(
        f'[kafka]\nbootstrap = "{kafka.bootstrap}"\nprefix = "{prefix}"\ntopics_file = "{tmp_path / "topics.toml"}"\n'
    )
    return config


def test_topics_are_made_once_as_declared(tmp_path: Path, kafka: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(tmp_path, kafka, DECLARED.read_text().replace("partitions = 64", "partitions = 3"))
    run_init(config, dry_run=True)
    said = capsys.readouterr().out
    assert said.count("create ") == len(ROLES)
    assert said.endswith(f"{len(ROLES)} changes, none made (--dry-run)\n")
    run_init(config, dry_run=False)
    assert capsys.readouterr().out.endswith(f"{len(ROLES)} changes made\n")
    kafka.wait()
    settings = read_kafka(config)
    found = describe(connect(settings), settings.topics().values())
    states = found[settings.topics()["states"].name]
    assert (states.partitions, states.config["cleanup.policy"]) == (16, "compact")
    run_init(config, dry_run=False)
    said = capsys.readouterr().out
    assert said.count("same ") == len(ROLES)
    assert said.endswith("nothing to do\n")


def test_partitions_grow_and_never_shrink_and_settings_follow(
    tmp_path: Path, kafka: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (
        DECLARED.read_text().replace("partitions = 64", "partitions = 2").replace("partitions = 16", "partitions = 4")
    )
    config = _config(tmp_path, kafka, small)
    run_init(config, dry_run=False)
    kafka.wait()
    (tmp_path / "topics.toml").write_text(
        small.replace("partitions = 2", "partitions = 5")
        .replace("partitions = 4", "partitions = 3")
        .replace('"retention.ms" = 604_800_000', '"retention.ms" = 1000_000')
    )
    capsys.readouterr()
    run_init(config, dry_run=False)
    said = capsys.readouterr().out
    assert "2 → 5" in said
    assert "4 partitions, declared 3: Kafka takes no partition away" in said
    assert "retention.ms: 604800000 → 1000000" in said
    kafka.wait()
    settings = read_kafka(config)
    topics = settings.topics()
    found = describe(connect(settings), topics.values())
    assert found[topics["frames"].name].partitions == 5
    assert found[topics["windows"].name].partitions == 4
    assert found[topics["frames"].name].config["retention.ms"] == "1000000"
    assert {step.what for step in plan(topics.values(), found)} == {"same", "leave"}


def test_a_silent_broker_and_a_refused_topic_are_one_clear_error(tmp_path: Path, kafka: Cluster) -> None:
    config = _config(
        tmp_path, kafka, DECLARED.read_text().replace('"retention.ms" = 604_800_000', '"retention.ms" = "x"')
    )
    with pytest.raises(ConfigError, match=r"topic .*frames must be as declared; the cluster refuses: .*retention.ms"):
        run_init(config, dry_run=False)
    assert load_topics()["frames"].config["retention.ms"] == "604800000"
