"""What is asked of pack and vehicle beside limits, and when it is said on the bus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge import care, local_soc
from edge.care import Asked, Asking, care_config, fresh_state
from edge.commands import BALANCING, THERMAL, Sent, read, writer
from edge.link import Told
from edge.telemetry_settings import BalancingSettings
from operators.dbc import load_dbc
from schemas.pack import load_pack
from schemas.signals import DBC_DIR
from tests.support.frames import NS, T0_NS, frames

PACK = load_pack("generic-nmc@4c2t60ah")
OURS = load_dbc(DBC_DIR / "ibms_edge.dbc")
BEAT: Told = {"kind": "beat", "phase": "closed", "causes": []}
MS = 10**6
BLEEDS = BalancingSettings(0.1, budget_w=1.0)


def _run(
    asked: BalancingSettings | None, seconds: np.ndarray, told: Told = BEAT, **more: Any
) -> tuple[care.State, Asked]:
    cfg = care_config(PACK, asked)
    state, out = fresh_state(cfg), None
    for t_s in seconds:
        state, out = care.step(cfg, state, frames([t_s], **more), [told], T0_NS + round(t_s * NS))
    assert out is not None
    return state, out


def test_a_cell_that_is_too_full_bleeds_at_rest_and_its_charge_is_reckoned_less() -> None:
    state, out = _run(BLEEDS, np.arange(0, 330.0, 5.0), cell_v=[[3.70, 3.70, 3.75, 3.70]])
    assert out.balance is not None
    assert out.balance.mask.tolist() == [False, False, True, False]
    cfg = care_config(PACK, BLEEDS)
    later = care.step(cfg, state, frames([340.0], cell_v=[[3.70, 3.70, 3.75, 3.70]]), [BEAT], T0_NS + 340 * NS)[0]
    fell = state.soc.cell_soc - later.soc.cell_soc
    assert fell[2] > 0
    assert fell[0] == pytest.approx(0.0, abs=1e-9)


def test_without_the_words_of_protection_nothing_bleeds() -> None:
    cells = [[3.70, 3.70, 3.75, 3.70]]
    out = _run(BLEEDS, np.arange(0, 330.0, 5.0), {"kind": "alert"}, cell_v=cells)[1]
    assert out.balance is not None
    assert not out.balance.mask.any()


def test_who_does_not_balance_asks_for_no_bleed() -> None:
    state, out = _run(None, np.arange(0, 330.0, 5.0), cell_v=[[3.70, 3.70, 3.75, 3.70]])
    assert (state.balancing, out.balance) == (None, None)
    assert [name for name, _ in _said(Asking(writer(OURS)).due(out, 0))] == [THERMAL]


def test_a_hot_pack_that_charges_is_cooled_and_a_thermal_event_whatever_it_does() -> None:
    charges = {"drive_state": np.array([2], np.int8)}
    assert _run(None, np.arange(0, 3.0), temp_c=44.0, context=charges)[1].request.cooling > 0.5
    assert _run(None, np.arange(0, 3.0), temp_c=25.0)[1].request.cooling == 0.0
    event = BEAT | {"causes": ["thermal_event/MSL/over/any"]}
    assert _run(None, np.arange(0, 3.0), event, temp_c=25.0)[1].request.cooling == 1.0


def test_the_charge_of_the_run_before_is_taken_up() -> None:
    cfg = care_config(PACK, None)
    before = _run(None, np.arange(0, 10.0), cell_v=3.9)[0]
    state = fresh_state(cfg, local_soc.dump(before.soc))
    assert state.soc.cell_soc == pytest.approx(before.soc.cell_soc, abs=1e-5)
    assert state.soc.source == local_soc.KEPT


def _said(sent: list[Sent]) -> list[tuple[str, dict[str, float]]]:
    names = {m.can_id: m for m in OURS.by_name.values()}
    return [(names[one.can_id].name, read(names[one.can_id], one.data)) for one in sent]


def test_requests_go_out_at_once_where_they_change_and_otherwise_in_their_period() -> None:
    asking = Asking(writer(OURS))
    out = _run(BLEEDS, np.arange(0, 330.0, 5.0), cell_v=[[3.70, 3.70, 3.75, 3.70]])[1]
    first = dict(_said(asking.due(out, 0)))
    assert (first[BALANCING]["Bleed"], first[BALANCING]["Page"]) == (0b100, 0)
    assert (first[THERMAL]["Cooling"], first[THERMAL]["Heating"]) == (0.0, 0.0)
    assert asking.due(out, 499 * MS) == []
    assert [name for name, _ in _said(asking.due(out, 500 * MS))] == [THERMAL, BALANCING]
    hot = out._replace(request=out.request._replace(cooling=0.5))
    assert [(name, said["Cooling"]) for name, said in _said(asking.due(hot, 600 * MS))] == [(THERMAL, 50.0)]
    assert out.balance is not None
    quiet = hot._replace(balance=out.balance._replace(mask=np.zeros(4, np.bool_)))
    assert [(name, said["Bleed"]) for name, said in _said(asking.due(quiet, 700 * MS))] == [(BALANCING, 0.0)]


def test_a_long_pack_is_asked_page_by_page() -> None:
    out = _run(BLEEDS, np.arange(0, 3.0))[1]
    assert out.balance is not None
    mask = np.zeros(96, np.bool_)
    mask[[0, 95]] = True
    said = _said(Asking(writer(OURS)).due(out._replace(balance=out.balance._replace(mask=mask)), 0))
    assert [(one["Page"], one["Bleed"]) for name, one in said if name == BALANCING] == [(0, 1), (1, 1 << 47)]


def test_settings_of_the_gateway_go_before_those_of_the_pack() -> None:
    asked = care_config(PACK, BalancingSettings(0.3, "charge", 5.0))
    assert asked.balancing is not None
    assert (asked.balancing.by, asked.balancing.bleed_a, asked.balancing.budget_w) == ("charge", 0.3, 5.0)
    assert asked.soc.bleed_a == 0.3
