"""Limits from the fleet: signed, new, in time and tighter, or nothing changes and it is said why."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.cloud_limits import (
    EXPIRED,
    LOOSENING,
    NOT_YET,
    OLDER,
    OTHER_KIND,
    OTHER_VEHICLE,
    REPLAYED,
    CloudConfig,
    State,
    bounds_of,
    caps_of,
    dump,
    expire,
    load,
    receive,
)
from edge.protection import key_of
from edge.tighten import tightened
from schemas.limits import FAST
from schemas.pack import load_pack
from schemas.signed import MALFORMED, UNSIGNED, Signed, sign

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([k]) * 32) for k in (1, 2))
PACK = load_pack("bmw-i3-60ah")
CFG = CloudConfig("V1", (KEY.public_key(),), PACK.limits, PACK.charge_max_a, PACK.discharge_max_a)
LOCAL = {key_of(row): row for row in PACK.limits}
OVER, UNDER = "cell_v/MSL/over/any", "cell_v/MSL/under/any"
S, DAY_NS = 10**9, 86_400 * 10**9
NOW = 1_800_000_000 * S
TIGHT = {"charge_a": 40.0, "bounds": {OVER: 4.2, UNDER: 3.0}}
BEFORE = State(5, NOW + DAY_NS, ((OVER, 4.22),), 60.0)


def _message(content: dict[str, Any] | None = None, **changes: Any) -> Signed:
    return Signed("limits", "V1", 7, NOW - S, NOW + DAY_NS, TIGHT if content is None else content)._replace(**changes)


def _data(content: dict[str, Any] | None = None, **changes: Any) -> bytes:
    return sign(_message(content, **changes), KEY)


def test_a_tighter_limit_is_taken_as_a_whole_and_words_say_it() -> None:
    state, judged = receive(CFG, BEFORE, _data(), NOW)
    assert state.sequence == 7
    assert bounds_of(state) == {OVER: 4.2, UNDER: 3.0}
    assert caps_of(state).charge_a == 40.0
    assert math.isnan(caps_of(state).discharge_a)
    assert (judged.reason, judged.sequence) == ("", 7)
    assert judged.text == f"limits 7 from outside: charge at most 40 A, {OVER} 4.2, {UNDER} 3"


def test_an_empty_message_takes_back_what_was_said() -> None:
    state, judged = receive(CFG, BEFORE, _data({}), NOW)
    assert (state.sequence, state.bounds, judged.reason) == (7, (), "")
    assert all(map(math.isnan, caps_of(state)))
    assert "none any more" in judged.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sign(_message(), OTHER), UNSIGNED),
        (b"", MALFORMED),
        (b"limits please", MALFORMED),
        (json.dumps(_message()._asdict()).encode(), MALFORMED),
        (_data(vehicle="V2"), OTHER_VEHICLE),
        (_data(kind="soc"), OTHER_KIND),
        (_data(sequence=5), REPLAYED),
        (_data(sequence=4), OLDER),
        (_data(expires_ns=NOW), EXPIRED),
        (_data(issued_ns=NOW + 301 * S), NOT_YET),
        (_data(issued_ns=NOW, expires_ns=NOW + 30 * DAY_NS + 1), MALFORMED),
        (_data({"charge_a": PACK.charge_max_a + 0.1}), LOOSENING),
        (_data({"discharge_a": PACK.discharge_max_a + 0.1}), LOOSENING),
        (_data({"charge_a": -1}), MALFORMED),
        (_data({"charge_a": "10"}), MALFORMED),
        (_data({"charge_a": True}), MALFORMED),
        (_data({"charge_a": None}), MALFORMED),
        (_data({"bounds": [4.2]}), MALFORMED),
        (_data({"bounds": {OVER: "4.2"}}), MALFORMED),
        (_data({"bounds": {OVER: 4.26}}), LOOSENING),
        (_data({"bounds": {UNDER: 2.6}}), LOOSENING),
        (_data({"bounds": {OVER: -0.1}}), MALFORMED),
        (_data({"bounds": {UNDER: 6.1}}), MALFORMED),
        (_data({"bounds": {"cell_v/MSL/over/charge": 4.0}}), MALFORMED),
        (_data({"bounds": {"short_a/MSL/over/any": 1.0}}), MALFORMED),
        (_data({"bounds": {OVER: 4.2}, "more": 1}), MALFORMED),
        (_data({"bounds": {OVER: 4.0, UNDER: 2.0}}), LOOSENING),  # one that is good does not carry one that is not
    ],
)
def test_what_is_refused_changes_nothing_and_says_why(data: bytes, reason: str) -> None:
    state, judged = receive(CFG, BEFORE, data, NOW)
    assert state is BEFORE
    assert judged.reason == reason
    assert "refused: " in judged.text
    assert "\n" not in judged.text


def test_infinite_and_missing_numbers_are_no_bounds() -> None:
    for number in (b"Infinity", b"-Infinity", b"NaN", b"1e400"):
        body = json.dumps(_message({"charge_a": 1.25})._asdict()).encode().replace(b"1.25", number)
        data = b"IBMSIGN1" + KEY.sign(b"IBMSIGN1" + body) + body
        state, judged = receive(CFG, BEFORE, data, NOW)
        assert (state, judged.reason) == (BEFORE, MALFORMED), number


def test_the_same_message_counts_once() -> None:
    state, _ = receive(CFG, State(), _data(), NOW)
    assert receive(CFG, state, _data(), NOW)[1].reason == REPLAYED
    assert receive(CFG, state, _data(sequence=6), NOW)[1].reason == OLDER


def test_what_has_expired_stays_expired_even_where_the_clock_is_set_back() -> None:
    state, _ = receive(CFG, State(), _data(), NOW)
    assert expire(state, NOW + DAY_NS - 1) is state
    over = expire(state, NOW + DAY_NS)
    assert (over.sequence, over.bounds, bounds_of(over)) == (7, (), {})
    assert all(map(math.isnan, caps_of(over)))
    assert expire(over, NOW) is over
    assert receive(CFG, over, _data(), NOW)[1].reason == REPLAYED


def _same(a: State, b: State) -> bool:
    return repr(a) == repr(b)  # NaN in a cap


@pytest.mark.parametrize("state", [State(), BEFORE, receive(CFG, State(), _data(), NOW)[0]])
def test_the_state_survives_as_json(state: State) -> None:
    assert _same(load(json.loads(json.dumps(dump(state)))), state)


@pytest.mark.parametrize(
    "kept",
    [None, [], {}, {"sequence": "1", "until_ns": 0, "bounds": {}}, {"sequence": 1, "until_ns": 0, "bounds": [1]},
     {"sequence": 1, "until_ns": 0, "bounds": {"a": "b"}},
     {"sequence": 1, "until_ns": 0, "bounds": {}, "charge_a": "x"}],
)  # fmt: skip
def test_what_was_not_kept_by_us_is_no_state(kept: object) -> None:
    assert _same(load(kept), State())


_NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**12), 10**12),
    st.floats(0, 10),
    st.none(),
    st.text(),
)
_CONTENT = st.fixed_dictionaries(
    {},
    optional={
        "charge_a": _NUMBER,
        "discharge_a": _NUMBER,
        "bounds": st.dictionaries(st.one_of(st.sampled_from(sorted(LOCAL)), st.text(max_size=5)), _NUMBER, max_size=4),
        "more": _NUMBER,
    },
)


@given(
    st.lists(
        st.tuples(
            _CONTENT,
            st.integers(0, 9),
            st.integers(-2 * DAY_NS, 2 * DAY_NS),
            st.integers(-DAY_NS, 40 * DAY_NS),
            st.sampled_from(["V1", "V2"]),
            st.sampled_from([KEY, KEY, OTHER]),
            st.integers(0, 400),
        ),
        max_size=6,
    )
)
def test_whatever_comes_the_final_limit_is_never_looser_than_the_local_one(messages: list[Any]) -> None:
    state = State()
    for content, sequence, issued, lasts, vehicle, key, cut in messages:
        message = Signed("limits", vehicle, sequence, NOW + issued, max(0, NOW + issued + lasts), content)
        data = sign(message, key)
        data = data[:cut] if cut > 300 else data
        after, judged = receive(CFG, state, data, NOW)
        assert (after is state) == bool(judged.reason)
        if not judged.reason:
            assert (vehicle, key) == ("V1", KEY)
            assert sequence > state.sequence
            assert message.expires_ns > NOW
        state = expire(load(json.loads(json.dumps(dump(after)))), NOW)
        for row, final in zip(PACK.limits, tightened(PACK.limits, bounds_of(state)), strict=True):
            assert final.bound <= row.bound if row.over else final.bound >= row.bound
            assert final == row or row.quantity not in FAST
            want = bounds_of(state).get(key_of(row), row.bound)
            assert final.bound == want  # what is in force is what was accepted
        caps = caps_of(state)
        assert not caps.charge_a > PACK.charge_max_a
        assert not caps.discharge_a > PACK.discharge_max_a
        assert not min(caps.charge_a, caps.discharge_a) < 0
