"""gateway.toml: what is accepted, and that a wrong line says file, key, value and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import check
from edge.__main__ import main
from edge.settings import load_settings, parse_settings, prepare
from schemas.checked import ConfigError
from schemas.signals import DBC_DIR, SIGNALS_DIR

EXAMPLE = Path(__file__).parents[2] / "edge" / "deploy" / "gateway.toml"
GOOD = """
vehicle = "v"
pack = "generic-nmc@6c2t60ah"
state_dir = "state"
can = { interface = "virtual", channel = "one", options = { receive_own_messages = true } }
map = [{ dbc = "ibms_pack.dbc" }, { dbc = "ibms_edge.dbc", signals = "ibms_edge.toml" }]
signals = { absent = ["current2_a"], cycle_s = { CellVoltages = 0.05 } }
protection = { delay_s = 0.1, priority = 0 }
http = { port = 9000 }
outbox = { max_mib = 8 }
"""


def parsed(text: str) -> None:
    prepare(parse_settings(text.encode(), "gateway.toml", Path("/etc/ibms")))


def test_every_key_is_read_and_paths_start_from_the_file() -> None:
    settings = parse_settings(GOOD.encode(), "gateway.toml", Path("/etc/ibms"))
    assert (settings.vehicle, settings.state_dir) == ("v", Path("/etc/ibms/state"))
    assert settings.can.options == {"receive_own_messages": True}
    assert [(m.dbc, m.signals) for m in settings.maps] == [
        (DBC_DIR / "ibms_pack.dbc", SIGNALS_DIR / "ibms_pack.toml"),
        (DBC_DIR / "ibms_edge.dbc", SIGNALS_DIR / "ibms_edge.toml"),
    ]
    assert (settings.absent, settings.cycle_s) == (("current2_a",), {"CellVoltages": 0.05})
    assert (settings.delay_s, settings.priority, settings.http_port) == (0.1, 0, 9000)
    assert settings.telemetry == {"outbox": {"max_mib": 8}}
    prepared = prepare(settings)
    assert "current2_a" not in prepared.plan.required
    assert {s.period_s for s in prepared.plan.sources if s.name.startswith("CellVoltages")} == {0.05}


def test_the_example_is_a_good_one() -> None:
    prepared = prepare(load_settings(EXAMPLE))
    assert check.may_start(prepared)
    assert prepared.guard.not_evaluated == ()


@pytest.mark.parametrize(
    ("line", "instead", "error"),
    [
        ('vehicle = "v"', "", "vehicle must be a text; got nothing (gateway.toml)"),
        ('vehicle = "v"', "vehicle = 3", "vehicle must be a text; got 3 (gateway.toml)"),
        ('vehicle = "v"', 'vehicle = "v"\nvehicel = 1', "vehicel must be a known key (map, signals, http, protection"),
        ('"generic-nmc@6c2t60ah"', '"leaf"', "pack must be one of"),
        ('"generic-nmc@6c2t60ah"', '"generic-nmc@6c2t60ah"\npack = 1', "contents must be TOML in UTF-8; got"),
        ('channel = "one"', "channel = 1", "can.channel must be a text; got 1 (gateway.toml)"),
        ("receive_own_messages = true", "x = [1]", "can.options must be a table of texts, numbers and truth values"),
        ('{ dbc = "ibms_pack.dbc" }', '{ dbc = "no.dbc" }', "dbc must be named as one that has a mapping"),
        ('"ibms_edge.toml"', '"other.toml"', "signals must be a readable .toml; got No such file or directory"),
        ('"current2_a"', '"current3_a"', "signals.absent must be a list out of cell_v, temp_c, pack_v"),
        (
            "CellVoltages = 0.05",
            "CellVoltages = 0",
            "signals.cycle_s.CellVoltages must be a number > 0 and ≤ 3600; got 0",
        ),
        ("CellVoltages = 0.05", "Cells = 0.05", "cycle_s must be of a message that a signal is taken from; got Cells"),
        ("CellVoltages = 0.05", "CellVoltages = 5", "cell_v MOL (any, over 4.21): worst detection must be ≤ 2 s; got"),
        ("delay_s = 0.1", "delay_s = 11", "protection.delay_s must be a number in 0..10; got 11 (gateway.toml)"),
        ("priority = 0", "priority = 100", "protection.priority must be a whole number in 0..99; got 100"),
        ("port = 9000", "port = 70000", "http.port must be a whole number in 0..65535; got 70000 (gateway.toml)"),
        ("port = 9000", "prot = 9000", "http.prot must be a known key"),
        ('"current2_a"]', '"current_a"]', "current_a must be required; got absent (gateway.toml)"),
    ],
)
def test_a_wrong_line_says_where_it_is_what_it_says_and_what_would_be_right(
    line: str, instead: str, error: str
) -> None:
    assert line in GOOD
    with pytest.raises(ConfigError) as caught:
        parsed(GOOD.replace(line, instead, 1))
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_that_comes_too_late_stops_the_start_but_not_an_observer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slow = GOOD.replace("CellVoltages = 0.05", "PackState = 5")
    with pytest.raises(ConfigError, match=r"more: see --check \(gateway.toml\)"):
        parsed(slow)
    parsed(slow.replace('["current2_a"]', '["cell_v"]'))
    config = tmp_path / "gateway.toml"
    config.write_text(slow)
    assert main(["--config", str(config), "--check"]) == 1
    said = capsys.readouterr().out
    assert "too slow       pack_v MOL (any, over" in said
    assert said.splitlines()[-1] == "result         it does not start: rows would come too late"


def test_a_check_lists_rows_without_their_signal_and_what_an_observer_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(GOOD.replace('["current2_a"]', '["current2_a", "isolation_ohm", "cell_v"]'))
    assert main(["--config", str(config), "--check"]) == 0
    said = capsys.readouterr().out
    assert "not evaluated  current_mismatch_a/RSL/over/any: needs current2_a" in said
    assert "not evaluated  isolation_ohm_per_v/MSL/under/any: needs isolation_ohm" in said
    assert "warning        no cell voltages: observer, contactors are never commanded" in said


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "--config must name the gateway's settings (gateway.toml); got nothing"),
        (
            ["--config", "/no/such.toml"],
            "config must be a readable .toml; got No such file or directory (/no/such.toml)",
        ),
        (["status", "--config", "/no/such.toml"], "config must be a readable .toml"),
    ],
)
def test_a_wrong_command_is_one_clear_line(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("ibms-edge: ")
    assert error in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["0", "3601", "long", "nan"])
def test_the_bench_s_seconds_are_checked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--seconds", text])
    assert f"must be a number in 1..3600; got {text}" in capsys.readouterr().err
