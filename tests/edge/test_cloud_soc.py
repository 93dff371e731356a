"""SOC from outside: signed, for this vehicle, newer, plausible; everything else changes nothing but is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import calibration, local_soc
from edge.cloud_limits import EXPIRED, LOOSENING, NOT_YET, OLDER, OTHER_KIND, OTHER_VEHICLE, REPLAYED
from edge.cloud_soc import IMPLAUSIBLE, receive
from edge.local_soc import State, fresh_state, local_soc_config
from schemas.pack import load_pack
from schemas.signed import MALFORMED, UNSIGNED, Signed, sign
from tests.support.frames import NS, T0_NS, frames

CFG = local_soc_config(load_pack("generic-nmc@4c2t60ah"))
KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
KEYS = (KEY.public_key(),)
CONTENT = {"soc": 0.5, "std": 0.02, "t_ns": T0_NS}
NOW_NS = T0_NS + 10 * NS


def _state() -> State:
    block = frames(np.arange(0, 10.0), 0.0, cell_v=3.69)
    return local_soc.step(CFG, fresh_state(CFG), block, None, NOW_NS)[0]


def _signed(content: object = CONTENT, key: Ed25519PrivateKey = KEY, **more: Any) -> bytes:
    told = {"kind": "soc", "vehicle": "V1", "sequence": 5, "issued_ns": T0_NS, "expires_ns": T0_NS + 3600 * NS}
    return sign(Signed(**(told | {"content": content} | more)), key)  # type: ignore[arg-type]


def test_a_good_one_moves_the_soc_once() -> None:
    state, judged = receive(CFG, _state(), _signed(), KEYS, "V1", NOW_NS)
    assert judged.reason == ""
    assert local_soc.told(CFG, state, NOW_NS).soc == pytest.approx(0.5, abs=0.03)
    assert receive(CFG, state, _signed(), KEYS, "V1", NOW_NS) == (state, judged._replace(
        reason=REPLAYED, text=receive(CFG, state, _signed(), KEYS, "V1", NOW_NS)[1].text
    ))  # fmt: skip
    assert receive(CFG, state, _signed(sequence=4), KEYS, "V1", NOW_NS)[1].reason == OLDER


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", MALFORMED),
        (_signed(key=Ed25519PrivateKey.from_private_bytes(b"\1" * 32)), UNSIGNED),
        (_signed(kind="limits"), OTHER_KIND),
        (_signed(vehicle="V2"), OTHER_VEHICLE),
        (_signed(expires_ns=NOW_NS), EXPIRED),
        (_signed(issued_ns=NOW_NS + 1000 * NS, expires_ns=NOW_NS + 2000 * NS), NOT_YET),
        (_signed({}), MALFORMED),
        (_signed(CONTENT | {"more": 1}), MALFORMED),
        (_signed(CONTENT | {"soc": 1.2}), MALFORMED),
        (_signed(CONTENT | {"soc": True}), MALFORMED),
        (_signed(CONTENT | {"soc": "0.5"}), MALFORMED),
        (_signed(CONTENT | {"std": 0.0}), MALFORMED),
        (_signed(CONTENT | {"std": 0.9}), MALFORMED),
        (_signed(CONTENT | {"t_ns": 1.5}), MALFORMED),
    ],
)
def test_others_change_nothing(data: bytes, reason: str) -> None:
    before = _state()
    state, judged = receive(CFG, before, data, KEYS, "V1", NOW_NS)
    assert state is before
    assert judged.reason == reason
    assert judged.text.startswith("SOC ")


def test_one_that_does_not_fit_is_refused_but_not_heard_twice() -> None:
    before = _state()
    rested = before._replace(anchor_std=0.01)
    state, judged = receive(CFG, rested, _signed(CONTENT | {"soc": 0.95}), KEYS, "V1", NOW_NS)
    assert judged.reason == IMPLAUSIBLE
    assert state == rested._replace(sequence=5)
    assert LOOSENING not in judged.text


def test_capacity_and_sensor_error_are_counted_with_and_come_with_a_soc_or_alone() -> None:
    told = {"capacity_ah": 52.8, "capacity_std_ah": 0.6, "offset_a": 0.4, "offset_std_a": 0.02}
    for content in (CONTENT | told, told, {k: told[k] for k in ("capacity_ah", "capacity_std_ah")}):
        state, judged = receive(CFG, _state(), _signed(content), KEYS, "V1", NOW_NS)
        assert judged.reason == ""
        assert "52.8 ± 0.6 Ah" in judged.text
        assert state.known.capacity_ah == 52.8
        assert local_soc.capacity_of(CFG, state) == 52.8
    state, _ = receive(CFG, _state(), _signed(told), KEYS, "V1", NOW_NS)
    blind = frames(np.arange(10.0, 3611.0), 5.28 + 0.4, cell_v=np.nan, pack_v=np.nan)
    after = local_soc.step(CFG, state, blind, None, NOW_NS)[0]
    assert after.cell_soc - state.cell_soc == pytest.approx(0.1, abs=1e-3), "a tenth of what the pack really holds"
    assert local_soc.std_of(CFG, after) < local_soc.std_of(CFG, after._replace(known=calibration.NONE))
    again = local_soc.load(CFG, json.loads(json.dumps(local_soc.dump(after))))
    assert again.known == after.known, "a restart counts on with it"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"capacity_ah": 52.8}, MALFORMED),
        ({"capacity_ah": 52.8, "capacity_std_ah": "0.6"}, MALFORMED),
        ({"capacity_ah": None, "capacity_std_ah": 0.6}, MALFORMED),
        ({"offset_a": 0.4, "offset_std_a": True}, MALFORMED),
        ({"capacity_ah": 80.0, "capacity_std_ah": 0.6}, IMPLAUSIBLE),
        ({"capacity_ah": 5.0, "capacity_std_ah": 0.6}, IMPLAUSIBLE),
        ({"offset_a": 40.0, "offset_std_a": 0.6}, IMPLAUSIBLE),
    ],
)
def test_a_message_with_one_part_that_cannot_be_changes_nothing(wrong: dict[str, object], reason: str) -> None:
    before = _state()
    state, judged = receive(CFG, before, _signed(CONTENT | wrong), KEYS, "V1", NOW_NS)
    assert judged.reason == reason
    assert state._replace(sequence=before.sequence) == before
    assert state.sequence == (5 if reason == IMPLAUSIBLE else before.sequence)


def test_many_words_of_the_fleet_are_no_surer_than_one() -> None:
    state = _state()
    for k in range(20):
        told = CONTENT | {"soc": local_soc.usable(state.cell_soc)}
        state, judged = receive(CFG, state, _signed(told, sequence=10 + k), KEYS, "V1", NOW_NS)
        assert judged.reason == ""
    assert local_soc.std_of(CFG, state) == pytest.approx(0.02)
