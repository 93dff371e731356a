"""What a gateway shows: metrics, a page, words."""

from __future__ import annotations

import json
import math
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from edge.status import LOOPBACK, fetch, metrics, serve, words
from schemas.checked import ConfigError

LIMITED = {"current_a": 90.0, "power_w": 30000.0, "limit": "temperature", "at": 2}
BEAT: dict[str, Any] = {
    "phase": "closed", "asked": [True, True, False], "charge_a": 90.0, "discharge_a": 180.0, "charge": [LIMITED] * 3,
    "discharge": [LIMITED] * 3, "stop": True, "blind": False, "causes": ["temp_c/RSL/over/charge"],
    "latched": ["crash/MSL/over/any"], "may_close": False, "values": {"current_a": -20.5, "soc": math.nan},
    "states": {"current_a": "ok", "soc": "stale", "hvil": "absent", "cell_v": "missing"}, "cell_v": [3.6, 4, 3.7, 9],
    "temp_c": [], "silent": [1], "frames": 12, "step_counts": [3, 1, 2], "step_total_us": 800.0,
}  # fmt: skip
PAGE: dict[str, Any] = {
    "vehicle": "v-1", "pack": "p", "observer": False, "latch_file": "the latch file must be readable", "beat": BEAT,
    "children": {
        "protection": {"up": True, "restarts": 2, "why": ""},
        "telemetry": {"up": False, "restarts": 0, "why": "ended with code 2"},
    },
    "step_us": (100, 200), "sources": ["Main", "Cells page 1"],
    "telemetry": [["ibms_edge_outbox_bytes", {"lane": 'a"b\\c\n'}, 5.0]],
}  # fmt: skip


def test_metrics_are_prometheus_text() -> None:
    text = metrics(PAGE)
    for line in (
        "# TYPE ibms_edge_charge_limit_amperes gauge",
        "ibms_edge_charge_limit_amperes 90",
        "ibms_edge_may_close 0",
        "ibms_edge_stop_request 1",
        "ibms_edge_frames_total 12",
        'ibms_edge_value{signal="current_a"} -20.5',
        'ibms_edge_value{signal="soc"} NaN',
        'ibms_edge_cause{row="temp_c/RSL/over/charge"} 1',
        'ibms_edge_up{process="telemetry"} 0',
        'ibms_edge_restarts_total{process="protection"} 2',
        'ibms_edge_outbox_bytes{lane="a\\"b\\\\c "} 5',
    ):
        assert line in text.splitlines()
    assert text.endswith("\n")


def test_the_steps_are_a_histogram_that_counts_up() -> None:
    found = [line for line in metrics(PAGE).splitlines() if line.startswith("ibms_edge_step_seconds")]
    assert found == [
        'ibms_edge_step_seconds_bucket{le="0.0001"} 3',
        'ibms_edge_step_seconds_bucket{le="0.0002"} 4',
        'ibms_edge_step_seconds_bucket{le="+Inf"} 6',
        "ibms_edge_step_seconds_sum 0.0008",
        "ibms_edge_step_seconds_count 6",
    ]


def test_before_the_first_word_of_protection_there_are_its_processes_alone() -> None:
    page = {**PAGE, "beat": {}, "telemetry": []}
    assert "ibms_edge_up" in metrics(page)
    assert "charge_limit" not in metrics(page)
    assert words(page).splitlines()[-1] == "no word from protection yet"


def test_words_say_what_a_person_asks() -> None:
    said = words(json.loads(json.dumps({**PAGE, "beat": {**BEAT, "values": {"current_a": -20.5, "soc": None}}})))
    for line in (
        "vehicle      v-1, pack p",
        "protection   up, restarts 2",
        "telemetry    down (ended with code 2), restarts 0",
        "latch file   the latch file must be readable",
        "contactors   closed: plus closed, minus closed, precharge open; closing not allowed",
        "charge       90.0 A now, 30.0 kW for 10 s; temperature at 2 binds",
        "values       current_a -20.5",
        "cell_v       3.600 V (4) to 3.700 V (9)",
        "not usable   soc stale, cell_v missing",
        "silent       Cells page 1",
        "cause        temp_c/RSL/over/charge",
        "latched      crash/MSL/over/any",
    ):
        assert line in said.splitlines()
    assert "nothing commanded" in words({**PAGE, "beat": {**BEAT, "asked": None}})


def test_the_page_is_served_on_loopback_alone_with_null_for_what_is_not_known() -> None:
    server = serve(0, lambda: PAGE)
    address, number = server.server_address[:2]
    try:
        assert address == LOOPBACK
        got = fetch(number)
        assert got["beat"]["values"] == {"current_a": -20.5, "soc": None}
        with urllib.request.urlopen(f"http://{LOOPBACK}:{number}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
            assert answer.read().decode() == metrics(PAGE)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{LOOPBACK}:{number}/", timeout=5)
        with pytest.raises(ConfigError, match=f"http.port must be a free port; got {number}"):
            serve(number, lambda: PAGE)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ConfigError, match=f"a gateway must run and answer on http.port {number}"):
        fetch(number)


def test_what_answers_but_is_no_gateway_is_an_error_too() -> None:
    with socket.socket() as mute:
        mute.bind((LOOPBACK, 0))
        mute.listen()
        mute.settimeout(0.1)
        with pytest.raises(ConfigError, match="a gateway must run"):
            fetch(mute.getsockname()[1])
