"""`ibms doctor`: what is wrong is named with what to do, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import doctor
from flows.doctor import Finding, examine, run_doctor
from flows.kafka_admin import run_init
from tests.support.broker import Cluster

CONFIG = """
outputs = ["lake", "kafka"]
[source]
kind = "kafka"
models = ["{model}"]
[kafka]
bootstrap = "{bootstrap}"
prefix = "doctor."
[lake]
dir = "{folder}/lake"
[recovery]
dir = "{folder}/recovery"
"""


def written(folder: Path, bootstrap: str, model: str = "generic-nmc@4c2t60ah") -> Path:
    config = folder / "fleet.toml"
    config.write_text(CONFIG.format(bootstrap=bootstrap, folder=folder, model=model))
    return config


def wrong(found: list[Finding]) -> dict[str, str]:
    return {one.what: one.advice for one in found if one.state == "wrong"}


def test_topics_that_are_missing_are_named_until_they_are_made(
    kafka: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, kafka.bootstrap)
    assert wrong(list(examine(config))) == {"topic": "ibms kafka init"}
    assert run_doctor(config) == 1
    run_init(config, dry_run=False)
    capsys.readouterr()
    assert run_doctor(config) == 0
    told = capsys.readouterr().out
    assert "4 cell groups, 2 probes" in told
    assert "GiB free under" in told


def test_a_broker_that_does_not_answer_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.kafka_admin._ANSWER_S", 1.5)
    found = list(examine(written(tmp_path, "127.0.0.1:1")))
    assert list(wrong(found)) == ["broker"]
    assert "kafka.bootstrap must be brokers that answer; got 127.0.0.1:1" in next(
        f.text for f in found if f.what == "broker"
    )


def test_settings_that_cannot_be_read_end_the_examination(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("[source]\nkind = 'tape'\n")
    (one,) = examine(tmp_path / "fleet.toml")
    assert (one.what, one.state) == ("settings", "wrong")
    assert "kind must be" in one.text


def test_an_unknown_pack_and_a_missing_store_are_told(tmp_path: Path) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text('[source]\nkind = "simulate"\nmodels = ["tesla-roadster"]\n')
    found = {one.what: one for one in examine(config)}
    assert found["pack"].state == "wrong"
    assert found["recovery"].state == "warning"
    assert "broker" not in found


@pytest.mark.parametrize(("answer", "state"), [(True, "ok"), (False, "warning"), (None, "warning")])
def test_the_clock_is_as_the_kernel_says(tmp_path: Path, answer: bool | None, state: str) -> None:
    (tmp_path / "fleet.toml").write_text('[source]\nkind = "simulate"\n')
    (clock,) = (f for f in examine(tmp_path / "fleet.toml", lambda: answer) if f.what == "clock")
    assert clock.state == state


def test_a_full_disk_and_one_that_cannot_be_written_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert doctor._disk("lake disk", tmp_path / "file" / "lake").state == "wrong"
    assert doctor._disk("lake disk", tmp_path / "new" / "lake").state == "ok"
    monkeypatch.setattr(doctor, "_FREE_BYTES", 1 << 60)
    assert doctor._disk("lake disk", tmp_path).advice == "make room: 5 GiB or more"


def test_the_kernel_answers_or_not_but_never_raises() -> None:
    assert doctor.synchronised() in {True, False, None}
