"""A vehicle on a gateway's bus where there is none: it says what a vehicle says, and has the fault that was asked."""

from __future__ import annotations

import time
from pathlib import Path

import can
import pytest

from edge import check, simulate
from edge.__main__ import main
from edge.commands import VEHICLE, read
from edge.settings import load_settings, parse_settings, prepare
from edge.telemetry_settings import telemetry_settings
from operators.dbc import load_dbc
from schemas.checked import ConfigError
from schemas.signals import DBC_DIR
from tests.edge.test_settings import GOOD

LOOPBACK = Path(__file__).parents[2] / "edge" / "deploy" / "loopback.toml"
OURS, PACK = load_dbc(DBC_DIR / "ibms_edge.dbc").by_name, load_dbc(DBC_DIR / "ibms_pack.dbc").by_name


def _frames(fault: str, name: str, after_s: float = 0.0) -> tuple[list[can.Message], list[str]]:
    """Give what a simulated vehicle sends in 0.3 s, and what it says."""
    settings = parse_settings(GOOD.replace('"one"', f'"{name}"').encode(), "gateway.toml", Path("/etc/ibms"))
    said: list[str] = []
    begun: list[float] = []

    def over() -> bool:
        begun.append(time.monotonic())  # at each turn
        return begun[-1] > begun[0] + 0.3 and len(begun) > 20

    with can.Bus(interface="virtual", channel=name) as bus:
        simulate.run(settings, fault, after_s, said.append, over)
        got = []
        while (message := bus.recv(0)) is not None:
            got.append(message)
    return got, said


def test_a_vehicle_without_a_fault_says_everything() -> None:
    got, said = _frames("", "healthy")
    ids = {message.arbitration_id for message in got}
    assert {PACK[name].can_id for name in ("CellVoltages", "ProbeTemperatures", "PackState", "PackFrame")} <= ids
    assert OURS[VEHICLE].can_id in ids
    assert said == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [("crash", "the crash sensor fires"), ("silence", "no cell voltage comes any more"), ("over-voltage", "cell 5 at")],
)
def test_a_fault_comes_when_it_is_asked_for_and_is_said(fault: str, words: str) -> None:
    got, said = _frames(fault, fault)
    assert [text.startswith(words) for text in said] == [True]
    crashed = [read(OURS[VEHICLE], bytes(m.data))["Crash"] for m in got if m.arbitration_id == OURS[VEHICLE].can_id]
    assert (1.0 in crashed) == (fault == "crash")
    cells = [m for m in got if m.arbitration_id == PACK["CellVoltages"].can_id]
    assert (cells == []) == (fault == "silence")


def test_a_fault_that_is_far_has_not_come() -> None:
    assert _frames("crash", "later", after_s=60.0)[1] == []


def test_a_pack_without_a_fifth_cell_has_no_such_fault() -> None:
    small = GOOD.replace("generic-nmc@6c2t60ah", "generic-nmc@4c2t60ah")
    settings = parse_settings(small.encode(), "gateway.toml", Path("/etc/ibms"))
    with pytest.raises(ConfigError, match=r"pack must have more than 4 cell groups; got 4 \(gateway.toml\)"):
        simulate.run(settings, "", 0.0, print, lambda: True)


@pytest.mark.parametrize("arguments", [["--fault", "fire"], ["--after", "0"], ["--after", "soon"]])
def test_a_wrong_argument_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--config", str(LOOPBACK), *arguments])
    assert ended.value.code == 2
    assert "error: argument --" in capsys.readouterr().err.splitlines()[-1]


def test_the_example_for_loopback_is_a_good_one() -> None:
    settings = load_settings(LOOPBACK)
    assert check.may_start(prepare(settings))
    assert telemetry_settings(settings).balancing is not None
