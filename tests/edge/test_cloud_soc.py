"""SOC from outside: signed, for this vehicle, newer, plausible; everything else changes nothing but is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import local_soc
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
