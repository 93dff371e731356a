"""The kernel's own bounds; that it reads what `wire_json` reads is shown in tests/flows/test_kafka_json.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.kernels.json_scan import CELLS, NUMBER, PROBES, WHOLE, scan

KEYS: dict[bytes, tuple[int, Any]] = {
    b"t": (WHOLE, (0, 1000, 0)), b"n": (WHOLE, (-5, 5, -1)), b"x": (NUMBER, None), b"y": (NUMBER, None),
    b"c": (CELLS, None), b"p": (PROBES, None),
}  # fmt: skip


def text(*frames: str) -> bytes:
    return f'{{"schema":1,"model":"m","pack":"P","frames":[{",".join(frames)}]}}'.encode()


def test_rows_of_a_message_that_is_not_ours_leave_no_trace() -> None:
    good = text('{"t":1,"x":0.5,"c":[1,2.5],"p":[null]}', '{"t":2,"n":-5}')
    bad = text('{"t":3,"y":12345678901234567.8,"c":[7,7]}', '{"t":4,"n":-6}')
    rows_of, ids, values, (cells, probes) = scan([good, bad, good], b"m", KEYS, (2, 1))
    assert rows_of.tolist() == [2, 0, 2]
    assert good[ids[0, 0] : ids[0, 1]] == good[ids[2, 0] : ids[2, 1]] == b"P"
    assert {k: v.tolist() for k, v in values.items() if k != b"x"} == {b"t": [1, 2, 1, 2], b"n": [-1, -5, -1, -5]}
    np.testing.assert_array_equal(values[b"x"], [0.5, np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(cells, [[1, 2.5], [np.nan, np.nan]] * 2)
    assert np.isnan(probes).all()


def test_a_number_too_long_for_one_division_is_read_whole() -> None:
    values = scan([text('{"t":1,"x":-112.06613711319557,"y":0.1}')], b"m", KEYS, (2, 1))[2]
    assert (values[b"x"][0], values[b"y"][0]) == (-112.06613711319557, 0.1)


def test_texts_that_name_a_key_in_a_string_have_no_more_rows_than_they_hold() -> None:
    odd = text('{"t":1}').replace(b'"P"', b'"t"')
    rows_of, _, values, _ = scan([odd, text('{"t":2}')], b"m", KEYS, (2, 1))
    assert rows_of.tolist() == [1, 1]
    assert values[b"t"].tolist() == [1, 2]


def test_no_text_is_no_row() -> None:
    assert scan([], b"m", KEYS, (2, 1))[0].size == 0
