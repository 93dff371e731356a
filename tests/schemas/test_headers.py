"""Key and headers of a message, through text and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.headers import pack_headers, unpack_headers

VALUES = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)


@given(VALUES, st.lists(st.tuples(st.text(max_size=10), VALUES), max_size=5))
def test_key_and_headers_come_back_byte_by_byte(key: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    assert unpack_headers(pack_headers(key, headers)) == (key, headers)


@given(
    st.text(max_size=40) | st.sampled_from(["", "{}", "[]", "1", '{"key": 1, "headers": 2}', '{"key":{"base64":"x"}}'])
)
def test_a_text_of_another_kind_has_neither(text: str) -> None:
    assert unpack_headers(text) == (None, [])


def test_names_repeat_and_order_stays() -> None:
    headers = [("a", b"1"), ("b", None), ("a", b"\xff")]
    assert pack_headers(b"v", headers) == '{"key":"v","headers":[["a","1"],["b",null],["a",{"base64":"/w=="}]]}'
    assert unpack_headers(pack_headers(b"v", headers))[1] == headers
