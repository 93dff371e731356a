"""The telemetry process's tables of gateway.toml: what is accepted, and what a wrong line says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import check
from edge.__main__ import main
from edge.settings import load_settings, parse_settings
from edge.telemetry_settings import FILE, KAFKA, NONE, TelemetrySettings, telemetry_settings
from schemas.checked import ConfigError
from schemas.signed import make_key
from tests.edge.test_settings import GOOD

OURS = """
telemetry = { period_s = 0.5, batch_s = 5, batch_kib = 32 }
outbox = { folder = "box", max_mib = 8, max_days = 3, sync_s = 2, live_age_s = 60 }
blackbox = { before_s = 30, after_s = 10 }
orders = { keys = ["fleet.pub"] }
balancing = { bleed_a = 0.2, by = "charge", budget_w = 15 }
[uplink]
kind = "kafka"
budget_mb_per_day = 5
[uplink.kafka]
bootstrap = "broker:9093"
security = "tls"
"""
PLAIN = GOOD.replace("outbox = { max_mib = 8 }\n", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_key(tmp_path / "fleet", tmp_path / "fleet.pub")
    return tmp_path


def read(text: str, folder: Path) -> TelemetrySettings:
    return telemetry_settings(parse_settings(text.encode(), str(folder / "gateway.toml"), folder))


def test_every_key_is_read_and_paths_start_from_the_file(folder: Path) -> None:
    told = read(PLAIN + OURS, folder)
    assert told.folder == folder / "box"
    assert (told.frames.period_s, told.frames.batch_s, told.frames.batch_bytes) == (0.5, 5.0, 32 << 10)
    outbox = told.outbox
    assert (outbox.max_bytes, outbox.max_days, outbox.sync_s, outbox.live_age_s) == (8 << 20, 3.0, 2.0, 60.0)
    assert (told.blackbox.before_s, told.blackbox.after_s) == (30.0, 10.0)
    assert (told.uplink.kind, told.uplink.budget_bytes) == (KAFKA, 5_000_000)
    assert told.uplink.kafka is not None
    assert told.uplink.kafka.client() == {"bootstrap.servers": "broker:9093", "security.protocol": "SSL"}
    assert len(told.keys) == 1
    assert told.balancing is not None
    assert (told.balancing.bleed_a, told.balancing.by, told.balancing.budget_w) == (0.2, "charge", 15.0)


def test_each_table_may_be_left_out(folder: Path) -> None:
    told = read(PLAIN, folder)
    assert told == TelemetrySettings(folder / "state" / "outbox")
    assert (told.uplink.kind, told.keys, told.balancing) == (NONE, (), None)


@pytest.mark.parametrize(
    ("line", "instead", "error"),
    [
        ("batch_s = 5", "batch_s = 0", "telemetry.batch_s must be a number in 0.1..3600; got 0 ("),
        ("batch_kib = 32", "batch_kib = 32, x = 1", "telemetry.x must be a known key (period_s, batch_s, batch_kib"),
        ("max_mib = 8", "max_mib = 1", "outbox.max_mib must be a number in 4..1e+06; got 1 ("),
        ("max_days = 3", "max_days = 0", "outbox.max_days must be a number > 0 and ≤ 3650; got 0 ("),
        ('folder = "box"', "folder = 3", "outbox.folder must be a text; got 3 ("),
        ("after_s = 10", "after_s = -1", "blackbox.after_s must be a number in 1..600; got -1 ("),
        ('["fleet.pub"]', '["other.pub"]', "a key must be a readable file; got No such file or directory ("),
        ('["fleet.pub"]', '"fleet.pub"', "orders.keys must be a list of files, each an Ed25519 public key as PEM; got"),
        ('["fleet.pub"]', "[]", "orders.keys must be a list of files, each an Ed25519 public key as PEM; got []"),
        ('["fleet.pub"]', '["fleet"]', "a key must be an Ed25519 public key as PEM ("),
        ("bleed_a = 0.2, ", "", "balancing.bleed_a must be a number > 0 and ≤ 10; got nothing ("),
        ("budget_w = 15", "budget_w = 0.8", "balancing.budget_w must be a number in 0.86..10000; got 0.8 ("),
        ('"charge"', '"age"', "balancing.by must be one of voltage, charge; got 'age' ("),
        ('kind = "kafka"', 'kind = "mqtt"', "uplink.kind must be one of kafka, file, none; got 'mqtt' ("),
        ('kind = "kafka"', 'kind = "file"', "uplink.folder must be a text; got nothing ("),
        ("budget_mb_per_day = 5", "budget = 5", "uplink.budget must be a known key (kind, budget_mb_per_day, kafka)"),
        ('"broker:9093"', '"broker"', "uplink.kafka.bootstrap must be host:port, several by comma; got 'broker' ("),
        ('"tls"', '"sasl_tls"', "uplink.kafka.sasl_user must be given with security = sasl_tls; got nothing ("),
        (
            '"tls"',
            '"tls"\ntopics_file = "/none.toml"',
            "topics_file must be a readable .toml; got No such file or directory (/none.toml)",
        ),
    ],
)
def test_a_wrong_line_says_where_it_is_what_it_says_and_what_would_be_right(
    line: str, instead: str, error: str, folder: Path
) -> None:
    assert line in OURS
    with pytest.raises(ConfigError) as caught:
        read(PLAIN + OURS.replace(line, instead), folder)
    assert error in str(caught.value)


def test_a_vehicle_whose_name_the_fleet_would_refuse_stops_the_start(folder: Path) -> None:
    with pytest.raises(ConfigError, match="vehicle must be a text of at most 128 characters; got 'vvv"):
        read(PLAIN.replace('vehicle = "v"', f'vehicle = "{"v" * 129}"'), folder)


def test_a_client_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.telemetry_settings.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"kafka needs: pip install 'ibms\[uplink\]'\); got 'kafka'"):
        read(PLAIN + OURS, folder)


def test_check_says_what_is_kept_and_sent_and_refuses_what_a_start_would(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder / "gateway.toml"
    config.write_text(PLAIN + OURS)
    assert main(["--config", str(config), "--check"]) == 0
    said = capsys.readouterr().out.splitlines()
    for line in (
        "frames         one each 0.5 s, sent after 5 s or 32768 bytes",
        f"outbox         {folder}/box: at most 8 MiB and 3 days",
        "black box      30 s before a trip to 10 s after it",
        "uplink         Kafka at broker:9093, tls; 5 MB a day, then history waits",
        "orders         signed by one of 1 keys",
        "balancing      0.2 A a bleed",
    ):
        assert line in said
    config.write_text(PLAIN + OURS.replace("max_mib = 8", "max_mib = 1"))
    for arguments in (["--check"], []):
        assert main(["--config", str(config), *arguments]) == 2
        assert "outbox.max_mib must be a number in 4..1e+06; got 1" in capsys.readouterr().err


def test_check_names_the_other_ways_out(folder: Path) -> None:
    plain = check.telemetry_lines(read(PLAIN, folder))
    assert "uplink         none: frames stay in the outbox until they are too old" in plain
    assert "orders         none are taken: no keys" in plain
    assert "balancing      not asked for" in plain
    files = read(PLAIN + 'uplink = { kind = "file", folder = "up" }', folder)
    assert files.uplink.kind == FILE
    assert f"uplink         files in {folder}/up; 10 MB a day, then history waits" in check.telemetry_lines(files)


def test_the_example_says_the_defaults() -> None:
    example = load_settings(Path(__file__).parents[2] / "edge" / "deploy" / "gateway.toml")
    told = telemetry_settings(example)
    assert told == TelemetrySettings(Path("/var/lib/ibms/outbox"))
    assert set(example.telemetry) == {"telemetry", "outbox", "blackbox", "uplink"}
