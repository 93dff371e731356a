"""A settings file is right as a whole, or refused with file, key, value and what is accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.settings import FleetSettings, SimulateSettings, TraceSettings, load_settings, time_ns
from schemas.checked import ConfigError

SIMULATE = '[source]\nkind = "simulate"\n'
TRACES = '[source]\nkind = "traces"\npaths = ["a.log"]\n'


def test_a_file_that_says_little_gets_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SIMULATE)
    settings = load_settings(path)
    assert settings.source == SimulateSettings()
    assert settings.fleet == FleetSettings()
    assert (settings.lake.dir, settings.lake.encrypt) == (Path("lake"), False)
    assert (settings.recovery.dir, settings.ticks) == (None, False)


def test_every_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        """
        ticks = true
        [source]
        kind = "traces"
        paths = ["a.log", "b.log"]
        pack = "lg-hg2"
        dbc = "d"
        map = "m"
        vehicle = "v"
        period_s = 0
        start = 2026-01-05T08:00:00Z
        from = "2026-01-05T08:00:00"
        to = 2026-01-06
        speed = 10
        [fleet]
        shards = 64
        window_s = 10
        state_s = 60
        lateness_s = 0
        idle_close_s = 20
        keep_frames = true
        anomaly_model = "m.json"
        [lake]
        dir = "l"
        encrypt = true
        [recovery]
        dir = "r"
        epoch_s = 0.5
        """
    )
    s = load_settings(path)
    assert isinstance(s.source, TraceSettings)
    assert s.source == TraceSettings(
        ("a.log", "b.log"), "lg-hg2", "d", "m", "v", 0.0, "2026-01-05 08:00:00+00:00", "2026-01-05T08:00:00",
        "2026-01-06", 10.0,
    )  # fmt: skip
    assert s.fleet == FleetSettings(64, 10, 60, 0, 20, keep_frames=True, anomaly_model="m.json")
    assert (s.lake.dir, s.lake.encrypt, s.recovery.dir, s.recovery.epoch_s, s.ticks) == (
        Path("l"), True, Path("r"), 0.5, True,
    )  # fmt: skip
    assert s.recovery.epoch.total_seconds() == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "source must be a table; got nothing"),
        ("x", "contents must be TOML"),
        ('[source]\nkind = "radio"', "source.kind must be one of traces, simulate, kafka; got 'radio'"),
        ("flet = 3\n" + SIMULATE, "flet must be a known key"),
        ("fleet = 3\n" + SIMULATE, "fleet must be a table; got 3"),
        ("ticks = 3\n" + SIMULATE, "ticks must be true or false; got 3"),
        (SIMULATE + "vehicles = 0", "source.vehicles must be a whole number in 1..10000000; got 0"),
        (SIMULATE + "hours = 0", "source.hours must be a number > 0"),
        (SIMULATE + "period_s = 601", "source.period_s must be a number in 0.01..600; got 601"),
        (SIMULATE + "models = []", "source.models must be a list of pack models; got []"),
        (SIMULATE + "models = [3]", "source.models must be a list of pack models; got [3]"),
        (SIMULATE + "seed = -1", "source.seed must be a whole number"),
        (SIMULATE + "faults = 1", "source.faults must be true or false; got 1"),
        (SIMULATE + 'speed = "fast"', "source.speed must be \"max\", or a number > 0; got 'fast'"),
        (SIMULATE + "speed = 0", "source.speed must be a number > 0"),
        (SIMULATE + "paths = []", "source.paths must be a known key"),
        ('[source]\nkind = "traces"\npaths = "a"', "source.paths must be a list of trace files; got 'a'"),
        ('[source]\nkind = "traces"\npaths = []', "source.paths must be a list of trace files; got []"),
        (TRACES + "pack = 3", "source.pack must be a text; got 3"),
        (TRACES + "dbc = 3", "source.dbc must be a text; got 3"),
        (TRACES + "map = 3", "source.map must be a text; got 3"),
        (TRACES + "vehicle = 3", "source.vehicle must be a text; got 3"),
        (TRACES + "period_s = -1", "source.period_s must be a number in 0..3600; got -1"),
        (TRACES + 'start = "then"', "source.start must be a time as 2026-01-05T08:00:00Z; got 'then'"),
        (TRACES + "from = 3", "source.from must be a time"),
        (TRACES + "to = 9999-01-01", "source.to must be a time"),
        (SIMULATE + "[fleet]\nshards = 0", "fleet.shards must be a whole number in 1..4096; got 0"),
        (SIMULATE + "[fleet]\nwindow_s = 0", "fleet.window_s must be a number in 1..3600; got 0"),
        (SIMULATE + "[fleet]\nstate_s = 0", "fleet.state_s must be a number in 1..86400; got 0"),
        (SIMULATE + "[fleet]\nlateness_s = 61", "fleet.lateness_s must be a number in 0..60; got 61"),
        (SIMULATE + "[fleet]\nidle_close_s = 0", "fleet.idle_close_s must be a number in 1..86400; got 0"),
        (SIMULATE + "[fleet]\nkeep_frames = 1", "fleet.keep_frames must be true or false; got 1"),
        (SIMULATE + "[fleet]\nanomaly_model = 1", "fleet.anomaly_model must be a file; got 1"),
        (SIMULATE + "[fleet]\nx = 1", "fleet.x must be a known key"),
        (SIMULATE + "[lake]\ndir = 1", "lake.dir must be a text; got 1"),
        (SIMULATE + "[lake]\nencrypt = 1", "lake.encrypt must be true or false; got 1"),
        (SIMULATE + "[lake]\nx = 1", "lake.x must be a known key"),
        (SIMULATE + '[recovery]\ndir = ""', "recovery.dir must be a directory; got ''"),
        (SIMULATE + "[recovery]\nepoch_s = 0", "recovery.epoch_s must be a number in 0.01..3600; got 0"),
        (SIMULATE + "[recovery]\nx = 1", "recovery.x must be a known key"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_is_accepted(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        load_settings(path)
    assert said in str(wrong.value)
    assert str(path) in str(wrong.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got No such file or directory .*none.toml"):
        load_settings(tmp_path / "none.toml")


@pytest.mark.parametrize("change", [{"window_s": 10.0}, {"state_s": 10.0}, {"lateness_s": 1.0}])
def test_params_tell_settings_apart_that_can_change_a_result(change: dict[str, float]) -> None:
    assert replace(FleetSettings(), **change).params() != FleetSettings().params()  # type: ignore[arg-type]


def test_params_do_not_know_how_the_work_was_spread() -> None:
    assert replace(FleetSettings(), shards=64, keep_frames=True).params() == FleetSettings().params()


def test_a_time_without_a_zone_is_utc_and_keeps_its_microseconds() -> None:
    assert time_ns("1970-01-02", "t") == 86_400 * 10**9
    assert time_ns("1970-01-01T01:00:00+01:00", "t") == 0
    assert time_ns("2026-01-05T00:00:00.000001Z", "t") == 1_767_571_200_000_001_000


@pytest.mark.parametrize("text", ["", "now", "2300-01-01", "1969-12-31T23:59:59Z", "0001-01-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="t must be a time as 2026-01-05T08:00:00Z"):
        time_ns(text, "t")
