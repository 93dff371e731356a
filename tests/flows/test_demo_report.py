"""The demo's page is readable at 110 columns, and its JSON has the promised keys."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from flows.demo_report import Report, duration, show, to_json
from flows.truth import Health, Outcome, SocError

KEYS = [
    "vehicles", "frames", "seconds", "frames_per_s", "soc_rmse_pct", "faults_injected", "faults_found",
    "median_delay_s", "false_incidents_per_vehicle_month", "dead_letters", "lake",
]  # fmt: skip
NAN = float("nan")
REPORT = Report(
    vehicles=200,
    frames=1_234_567,
    seconds=12.3,
    frames_per_s=100_371,
    soc_rmse_pct=1.234,
    faults_injected=3,
    faults_found=2,
    median_delay_s=90.0,
    false_incidents_per_vehicle_month=0.125,
    dead_letters={"clock_past": 60, "late": 4},
    lake="/somewhere/else/lake",
    soc=[SocError("", 10, 1.234, 1.0, 88.0), SocError("bmw-i3-60ah", 10, 1.234, NAN, 88.0)],
    outcomes=[
        Outcome("internal_short", "v", 0, found=True, delay_s=60.0, by="leak"),
        Outcome("internal_short", "w", 0, found=True, delay_s=120.0, by="cell_spread"),
        Outcome("stuck_value", "x", 0, found=False, delay_s=NAN, by="", seen_s=1800.0),
    ],
    false_incidents={"cooling": 2, "leak": 1},
    trace="/somewhere/else/sim-000001.log",
    trace_pack="generic-nmc@96c16t60ah",
    can_frames=5000,
    replayed_frames=150,
    replay_difference_pct=0.0,
    health=[
        *(Health(f"sim-{n:06d}", "bmw-i3-60ah", 0.871, 0.82, 0.92, 3, true=0.86) for n in range(9)),
        Health("sim-000009", "bmw-i3-60ah", 0.9, 0.71, 1.09, 0, true=0.8),
    ],
)


def _page(report: Report, capsys: pytest.CaptureFixture[str]) -> str:
    show(report)
    return capsys.readouterr().out


def test_json_has_the_promised_keys_and_no_others() -> None:
    assert list(json.loads(to_json(REPORT))) == KEYS


def test_what_is_no_number_is_null_in_json() -> None:
    nothing = replace(REPORT, faults_found=0, median_delay_s=NAN)
    assert json.loads(to_json(nothing))["median_delay_s"] is None


def test_the_page_says_what_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page(REPORT, capsys)
    for said in ("200", "1,234,567", "12.3 s", "100,371 frames/s", "1.23 % RMSE", "2 of 3", "1.5 min", "0.12 per",
                 "cooling 2, leak 1", "clock_past 60, late 4", "/somewhere/else/lake"):  # fmt: skip
        assert said in page


def test_each_pack_model_and_each_kind_of_fault_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in _page(REPORT, capsys).splitlines()]
    assert ["bmw-i3-60ah", "10", "1.23", "%", "–", "%", "88", "%"] in lines
    assert ["internal", "short", "2", "2", "1.5", "min", "leak,", "cell", "spread"] in lines
    assert ["stuck", "value", "1", "0", "–"] in lines


def test_of_what_was_not_found_it_says_how_much_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page(REPORT, capsys)
    assert "stuck value in x: awake for 30.0 min since it began" in page
    assert "internal short in" not in page
    assert "Not found" not in _page(replace(REPORT, outcomes=REPORT.outcomes[:2]), capsys)


def test_each_vehicle_is_named_with_its_soh_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page(REPORT, capsys)
    assert "sim-000008  87 (82–92)" in page
    assert "sim-000009  90 (71–109) *" in page
    assert "*" not in page.partition("sim-000000")[2].partition("sim-000009")[0]


def test_the_truth_counts_only_where_something_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in _page(REPORT, capsys).splitlines()]
    assert ["bmw-i3-60ah", "10", "9", "1.10", "%", "10.00", "%", "100", "%"] in lines


def test_the_page_is_at_most_110_columns_wide(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(map(len, _page(REPORT, capsys).splitlines())) <= 110


def test_a_demo_that_found_nothing_says_so_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page(
        replace(REPORT, faults_found=0, median_delay_s=NAN, dead_letters={}, false_incidents={}, outcomes=[]), capsys
    )
    assert "0 of 3\n" in page
    assert "dead letters     none" in page


def test_what_to_type_next_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page(replace(REPORT, lake="/a b/lake", trace="/a b/t.log"), capsys)
    assert "ibms query --lake '/a b/lake'\n" in page
    assert "ibms replay '/a b/t.log' --dbc ibms_pack --pack generic-nmc@96c16t60ah\n" in page


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1.0 min"), (3600, "1.0 h"), (np.inf, "–"), (NAN, "–")]
)
def test_a_time_is_said_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
