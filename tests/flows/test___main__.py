"""What a person sees of `ibms`: help, one line for every error, and silence when the reader leaves."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from flows import __main__ as commands
from schemas.checked import ConfigError
from tests.support.commands import Ibms

COMMANDS = [
    "demo", "replay", "simulate", "run", "run fleet", "train", "train anomaly",
    "train soh", "models", "query", "compare", "bench",
]  # fmt: skip


def test_version_is_that_of_the_distribution(ibms: Ibms) -> None:
    assert ibms("--version").out == f"ibms {version('ibms')}\n"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(ibms: Ibms, command: str) -> None:
    ran = ibms(*command.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"ibms {command}".strip() in ran.out


@pytest.mark.parametrize("group", ["", "run", "train"])
def test_a_group_without_a_command_shows_its_help(ibms: Ibms, group: str) -> None:
    ran = ibms(*group.split())
    assert (ran.code, ran.err) == (2, "")
    assert "Commands" in ran.out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("fly", "fly"),
        ("demo --vehicles x", "--vehicles"),
        ("demo --vehicles x", "got x"),
        ("demo --vehicles 0", "--vehicles"),
        ("demo --hours nan", "--hours"),
        ("demo --period inf", "--period"),
        ("demo --colour red", "--colour"),
        ("demo 3", "3"),
        ("replay", "traces"),
        ("replay none.log --pack bmw-i3-60ah", "trace must be a readable file; got none.log"),
        ("replay none.log --speed 0", "--speed must be max, or a number > 0; got 0"),
        ("replay none.log --speed fast", "--speed must be max, or a number > 0; got fast"),
        ("replay none.log --out a --frames b", "--out and --frames"),
        ("simulate --pack nothing", "pack must be one of"),
        ("simulate --frames no/where.parquet", "no/where.parquet"),
        ("run fleet", "--config"),
        ("run fleet --config none.toml", "none.toml"),
        ("train anomaly --lake none", "no lake in none"),
        ("train anomaly --lake none --until then", "--until must be a time"),
        ("query --lake none", "no lake in none"),
        ("compare none other", "no lake in none"),
        ("bench nothing", "stage must be accuracy, anomaly, diagnosis, kafka or one of fleet_10k"),
        ("bench soc --data none", "--data must be a directory of recordings with lg_hg2 in it; got none"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(ibms: Ibms, typed: str, said: str) -> None:
    ran = ibms(*typed.split())
    assert said in ran.error
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ConfigError("key must be\n 1; got 2"), 2, "key must be 1; got 2"),
        (FileNotFoundError(2, "No such file or directory", "x.toml"), 2, "No such file or directory: x.toml"),
        (OSError(28, "No space left on device"), 1, "OSError: [Errno 28] No space left on device"),
        (ValueError("shapes differ"), 1, "ValueError: shapes differ (IBMS_TRACEBACK=1 shows where)"),
        (KeyError("soc"), 1, "KeyError: 'soc'"),
    ],
)
def test_what_broke_is_told_from_what_was_asked_wrongly(
    ibms: Ibms, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int, said: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        try:
            raise raised
        except type(raised) as error:
            msg = "a step failed"
            raise RuntimeError(msg) from error  # as the runtime wraps errors of steps

    monkeypatch.setattr("flows.query.run_query", broken)
    ran = ibms("query")
    assert said in ran.error
    assert ran.code == code


def test_the_traceback_is_there_for_who_asks(ibms: Ibms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBMS_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["ibms", "query", "--lake", "none"])
    with pytest.raises(ValueError, match="no lake in none"):
        commands.main()


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_interrupted_command_ends_without_a_word(ibms: Ibms, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    def interrupted(*_: object, **__: object) -> None:
        if wrapped:
            raise RuntimeError from KeyboardInterrupt()
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.query.run_query", interrupted)
    ran = ibms("query")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_a_reader_that_leaves_is_no_error(lake: Path, form: str) -> None:
    sql = "SELECT * FROM range(200000)"
    command = f'"{sys.executable}" -m flows.__main__ query --lake "{lake}" --format {form} "{sql}"'
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("\n") == 1
