"""What the gateway says on the bus, and when."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import commands
from edge.commands import (
    ASK_CLOSE,
    ASK_HOLD,
    ASK_OPEN,
    BINDINGS,
    CONTACTORS,
    CURRENTS,
    FAULTS,
    PHASES,
    POWERS,
    Protecting,
    balancing_pages,
    binding,
    contactor_values,
    current_values,
    floored,
    power_values,
    read,
    writer,
)
from edge.contactors import CLOSED, Commands
from edge.derating import HORIZONS_S, Allowed, Limited
from edge.protection import Verdict
from operators.dbc import load_dbc
from schemas.checked import ConfigError
from schemas.limits import QUANTITIES
from schemas.signals import DBC_DIR
from tests.support.vehicle import small_guard

MS = 10**6
OURS = load_dbc(DBC_DIR / "ibms_edge.dbc")
TABLE = small_guard().config.table
CALM = Verdict(False, False, False, 0, 0, False, True, ())
SHUT = Commands(plus=True, minus=True)
CELL_HIGH = "cell_v/MSL/over/any"


def allowed(charge_a: float, discharge_a: float) -> Allowed:
    def one(current_a: float) -> tuple[Limited, ...]:
        return tuple(Limited(current_a, 350.0 * current_a, "temperature", 2) for _ in HORIZONS_S)

    return Allowed(charge_a, discharge_a, one(charge_a), one(discharge_a))


@given(st.floats(0, 6553.4), st.one_of(st.floats(0, 6553.4), st.just(math.nan)), st.integers(0, 15), st.booleans())
def test_what_is_written_is_read_within_the_signal_s_step(
    charge: float, discharge: float, why: int, stop: bool
) -> None:
    said = {"ChargeCurrentMax": charge, "DischargeCurrentMax": discharge, "ChargeBinding": why, "StopRequest": stop}
    sent = writer(OURS).write(CURRENTS, said)
    got = read(OURS.by_name[CURRENTS], sent.data)
    assert got["ChargeCurrentMax"] == pytest.approx(charge, abs=0.0501)
    assert got["DischargeCurrentMax"] == pytest.approx(discharge, abs=0.0501, nan_ok=True)
    assert (got["ChargeBinding"], got["StopRequest"]) == (why, stop)


def test_what_is_too_large_is_cut_below_the_code_for_not_available() -> None:
    sent = writer(OURS).write(CURRENTS, {"ChargeCurrentMax": 1e9, "DischargeCurrentMax": -5.0})
    got = read(OURS.by_name[CURRENTS], sent.data)
    assert got["ChargeCurrentMax"] == pytest.approx(6553.4)
    assert got["DischargeCurrentMax"] == 0.0


def test_each_message_counts_for_itself_and_a_broken_one_reads_as_nothing() -> None:
    ours = writer(OURS)
    seals = [ours.write(CURRENTS, {}).data[6] >> 4 for _ in range(16)]
    assert seals == [*range(15), 0]
    sent = ours.write(CONTACTORS, {})
    assert sent.data[6] >> 4 == 0
    assert read(OURS.by_name[CONTACTORS], sent.data[:7] + bytes([sent.data[7] ^ 1])) == {}


def test_the_numbers_of_causes_phases_and_bindings_are_those_of_the_bus_description() -> None:
    labels = OURS.by_name[CONTACTORS].signals["FaultCode"].labels
    assert {n: text.removeprefix("limit ") for n, text in labels.items() if n} == dict(enumerate(FAULTS, 1))
    assert tuple(QUANTITIES) == FAULTS
    phases = OURS.by_name[CONTACTORS].signals["Phase"].labels
    assert [phases[n].lower() for n in range(len(PHASES))] == list(PHASES)
    for way in ("ChargeBinding", "DischargeBinding"):
        assert set(OURS.by_name[CURRENTS].signals[way].labels) == {0, *range(1, len(BINDINGS) + 1), 15}
    assert [binding(name) for name in (*BINDINGS, CELL_HIGH)] == [*range(1, len(BINDINGS) + 1), 15]


def test_a_request_says_what_is_asked_of_each_contactor_and_the_gravest_cause() -> None:
    verdict = CALM._replace(causes=(CELL_HIGH, "silence/RSL/over/any"), stop=True, close_allowed=False)
    got = contactor_values(TABLE, Commands(minus=True), CLOSED, verdict, may_close=False)
    assert (got["Plus"], got["Minus"], got["Precharge"]) == (ASK_OPEN, ASK_CLOSE, ASK_OPEN)
    assert (got["FaultCode"], got["FaultTier"], got["FaultOver"], got["FaultDirection"]) == (1, 3, True, 0)
    assert (got["Causes"], got["StopRequest"], got["InhibitClose"]) == (2, True, True)
    held = contactor_values(TABLE, Commands(hold=True), "hold", CALM, may_close=True)
    assert [held[name] for name in ("Plus", "Minus", "Precharge")] == [ASK_HOLD] * 3
    assert "FaultCode" not in held


def test_allowed_currents_and_power_are_rounded_to_the_safe_side() -> None:
    assert [floored(a) for a in (12.39, 12.3, 0.05, 0.0, -1.0)] == [12.3, 12.3, 0.0, 0.0, 0.0]
    got = current_values(allowed(40.0, 99.99), CALM)
    assert (got["ChargeCurrentMax"], got["DischargeCurrentMax"]) == (40.0, 99.9)
    assert got["ChargeBinding"] == binding("temperature")
    power = power_values(allowed(40.0, 10.01), 2)
    assert (power["Horizon"], power["ChargePowerMax"], power["DischargePowerMax"]) == (2, 14.0, 3.5)
    assert power["BindingPlace"] == 2


def test_the_balancing_mask_goes_out_in_pages_of_48_cells() -> None:
    mask = [False] * 100
    mask[0] = mask[47] = mask[48] = mask[99] = True
    pages = list(balancing_pages(mask))
    assert pages == [{"Page": 0, "Bleed": 1 | 1 << 47}, {"Page": 1, "Bleed": 1}, {"Page": 2, "Bleed": 1 << 3}]
    got = [read(OURS.by_name[commands.BALANCING], writer(OURS).write(commands.BALANCING, page).data) for page in pages]
    assert [(g["Page"], g["Bleed"]) for g in got] == [(p["Page"], p["Bleed"]) for p in pages]


class Told:
    """What goes out over time, by message."""

    def __init__(self) -> None:
        self.says = Protecting(writer(OURS), TABLE)
        self.names = commands.known_ids(OURS.by_name.values())

    def at(self, ms: int, asked: Commands = SHUT, verdict: Verdict = CALM, limits: Allowed | None = None) -> list[str]:
        sent = self.says.due(asked, CLOSED, verdict, limits or allowed(100.0, 200.0), may_close=True, now_ns=ms * MS)
        return [self.names[one.can_id, one.ext] for one in sent]


def test_the_heartbeat_comes_in_its_period_and_limits_in_theirs() -> None:
    told = Told()
    heard = [(ms, name) for ms in range(0, 400, 10) for name in told.at(ms)]
    assert [ms for ms, name in heard if name == CONTACTORS] == list(range(0, 400, 20))
    assert [ms for ms, name in heard if name == CURRENTS] == [0, 100, 200, 300]
    assert [ms for ms, name in heard if name == POWERS] == [0, 100, 200, 300]


def test_a_contactor_or_a_cause_that_changes_is_said_at_once() -> None:
    told = Told()
    told.at(0)
    assert told.at(1) == []
    assert told.at(2, asked=Commands()) == [CONTACTORS]
    assert told.at(3, asked=Commands()) == []
    assert told.at(4, asked=Commands(), verdict=CALM._replace(causes=(CELL_HIGH,))) == [CONTACTORS]


def test_a_limit_that_falls_is_said_at_once_and_one_that_rises_or_trembles_waits() -> None:
    told = Told()
    told.at(0)
    assert told.at(1, limits=allowed(120.0, 200.0)) == []
    assert told.at(2, limits=allowed(99.5, 199.0)) == []
    assert told.at(3, limits=allowed(98.9, 200.0)) == [CURRENTS]
    assert told.at(4, limits=allowed(98.9, 150.0)) == [CURRENTS]
    assert told.at(5, limits=allowed(0.0, 0.0)) == [CURRENTS]
    assert told.at(6, limits=allowed(0.0, 0.0)) == []


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        (("BO_ 130 CurrentLimits: 8", "BO_ 130 Currents: 8"), "got no such CurrentLimits"),
        (("BO_ 130 CurrentLimits: 8", "BO_ 130 CurrentLimits: 16"), "8 bytes each with Counter and Crc"),
        ((" SG_ ChargeCurrentMax : 0|16@1+", " SG_ ChargeCurrentMax : 7|16@0+"), "little-endian whole signals"),
    ],
)
def test_a_bus_description_that_lacks_our_messages_stops_the_start(
    tmp_path: Path, change: tuple[str, str], accepted: str
) -> None:
    text = (DBC_DIR / "ibms_edge.dbc").read_text()
    assert change[0] in text
    other = tmp_path / "other.dbc"
    other.write_text(text.replace(*change, 1))
    with pytest.raises(ConfigError, match=accepted):
        writer(load_dbc(other))
