"""`ibms run prognostics` as a person types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.prognostics_run import load_settings
from schemas.checked import ConfigError
from sinks import ducklake
from tests.flows.test_session_rows import session
from tests.support.commands import Ibms, make_lake


def lake_of(where: Path, first: int = 0, n: int = 12) -> Path:
    good: dict[str, Any] = {
        "soc_start": 0.3, "soc_end": 0.8, "soc_start_std": 0.01, "soc_end_std": 0.01, "charge_in_ah": 27.0,
        "charge_out_ah": 0.0, "capacity_ah": 54.0, "capacity_low_ah": 54.0, "temp_mean_c": 25.0, "gap_max_s": 30.0,
        "soc_jump": 0.001, "r0_rel": 1.0,
    }  # fmt: skip
    short = good | {"soc_start": 0.66}
    return make_lake(where, [session(k, **(short if k % 4 == 3 else good)) for k in range(first, first + n)])


def test_a_lake_alone_is_enough_and_takes_the_results_itself(tmp_path: Path, ibms: Ibms) -> None:
    lake = lake_of(tmp_path / "lake")
    out = ibms("run", "prognostics", "--lake", lake).out
    assert "1 packs, 12 charges, 9 of them counted" in out
    with ducklake.attach(lake) as con:
        ((vehicle, soh, low, high),) = con.execute(
            "SELECT vehicle_id, soh, soh_low, soh_high FROM health_latest"
        ).fetchall()
        ((since, why),) = con.execute("SELECT rejected_since, why FROM why_no_estimate").fetchall()
    assert vehicle == "A"
    assert low < 0.9 < high
    assert abs(soh - 0.9) < 0.02
    assert (since, why) == (1, "1 × SOC rose too little")


def test_a_second_run_over_the_same_lake_replaces_the_first(tmp_path: Path, ibms: Ibms) -> None:
    lake = lake_of(tmp_path / "lake")
    for _ in range(2):
        assert ibms("run", "prognostics", "--lake", lake).code == 0
    with ducklake.attach(lake) as con:
        assert con.execute("SELECT count(*) FROM health").fetchall() == [(12,)]


def test_with_a_recovery_store_a_run_goes_on_with_what_is_new(tmp_path: Path, ibms: Ibms) -> None:
    lake, out = lake_of(tmp_path / "lake"), tmp_path / "out"
    args = ("run", "prognostics", "--lake", str(lake), "--out", str(out), "--recovery", str(tmp_path / "recovery"))
    ibms(*args)
    lake_of(lake, first=12, n=8)
    ibms(*args)
    whole = tmp_path / "whole"
    ibms("run", "prognostics", "--lake", str(lake), "--out", str(whole))
    tables = []
    for where in (out, whole):
        with ducklake.attach(where) as con:
            rows = con.execute("SELECT * FROM health ORDER BY t_ns").fetchnumpy()
            tables.append({k: np.ma.filled(v.astype(object), None).tolist() for k, v in rows.items()})
    assert len(tables[0]["soh"]) == 20
    assert tables[0] == tables[1]


def test_settings_say_the_same(tmp_path: Path, ibms: Ibms) -> None:
    lake = lake_of(tmp_path / "lake")
    config = tmp_path / "prognostics.toml"
    config.write_text(
        f'[source]\nkind = "lake"\ndir = "{lake}"\n[lake]\ndir = "{tmp_path}/out"\n[prognostics]\nshards = 2\n'
    )
    assert "9 of them counted" in ibms("run", "prognostics", "--config", config).out


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[source]\nkind = "trace"', r"source.kind must be one of lake, kafka; got 'trace'"),
        ('[source]\nkind = "lake"', r"source.dir must be a text; got nothing"),
        (
            '[source]\nkind = "lake"\ndir = "x"\n[prognostics]\nshards = 0',
            r"prognostics.shards must be a whole number in",
        ),
        ('[source]\nkind = "lake"\ndir = "x"\n[prognostic]\n', r"prognostic"),
        ('[source]\nkind = "kafka"\nmodels = ["leaf-24kwh"]', r"kafka must be a table with bootstrap"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "prognostics.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=error):
        load_settings(path)


def test_a_lake_that_is_none_and_no_lake_at_all_are_one_line(tmp_path: Path, ibms: Ibms) -> None:
    assert "no lake in" in ibms("run", "prognostics", "--lake", tmp_path / "none").error
    assert "one of --lake and --config must be given; got neither" in ibms("run", "prognostics").error
