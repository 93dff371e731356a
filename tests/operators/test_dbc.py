from __future__ import annotations

from pathlib import Path

import pytest

from operators.dbc import load_dbc
from schemas.checked import ConfigError
from tests.support.can_data import dbc_path


def test_a_file_that_is_missing_or_no_dbc_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"readable file; got No such file or directory \(.*none\.dbc\)"):
        load_dbc(tmp_path / "none.dbc")
    (tmp_path / "bad.dbc").write_bytes(b"\xff\xfenot a dbc")
    with pytest.raises(ConfigError, match=r"must be a DBC file; got .*bad\.dbc\)"):
        load_dbc(tmp_path / "bad.dbc")


def test_overlapping_signals_of_a_real_file_are_read() -> None:
    signals = load_dbc(dbc_path("bmw_i3_lim")).by_name["LIMMsg3B4"].signals
    assert {"PP_Status", "HW_Charger_EN"} <= set(signals)


def test_a_multiplexer_with_a_long_name_keeps_its_signals() -> None:
    message = load_dbc(dbc_path("tesla_model3")).by_name["ID201VCFRONT_loggingAndVitals10Hz"]
    mux = message.signals["VCFRONT_exvState"].mux
    assert mux is not None
    assert mux.name == "VCFRONT_loggingAndVitals10HzIndex"


def test_the_cycle_time_is_in_seconds() -> None:
    assert load_dbc(dbc_path("foxbms")).by_name["f_BmsState"].cycle_s == pytest.approx(0.1)
