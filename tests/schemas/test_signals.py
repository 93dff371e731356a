from __future__ import annotations

from pathlib import Path

import pytest

from schemas.signals import SIGNALS_DIR, SignalsError, load_signals, parse_signals, signals_for

GOOD = """
period_s = 1
max_age_s = 2
drives = ["M"]
[signal.pack_v]
from = "M.V"
[signal.current_a]
from = "M.I"
positive = "discharge"
scale = 0.5
offset = 3
[signal.cell_v]
from = "C.Cell_{n:03}"
first = 0
valid = "C.Ok_{n:03}"
"""
BAD = {  # what replaces what -> what the error must say
    ('from = "M.V"', 'from = "MV"'): r"signal\.pack_v\.from must be Message\.Signal; got 'MV' \(x\.toml\)",
    ('from = "M.V"', ""): r"signal\.pack_v\.from must be Message\.Signal; got nothing",
    ('from = "M.V"', 'from = "M.V{n}"'): r"one signal; \{n\} is for cell_v and temp_c",
    ('from = "C.Cell_{n:03}"', 'from = "C.Cell"'): r"a pattern with \{n\}, or the key cell_v\[0\]",
    ("[signal.pack_v]", "[signal.pack_volts]"): r"signal\.pack_volts must be a column: pack_v, current_a,",
    ("[signal.pack_v]", '[signal."pack_v[1]"]'): r"must be a column",
    ('positive = "discharge"', ""): r"signal\.current_a\.positive must be one of charge, discharge; got nothing",
    ('positive = "discharge"', 'positive = "out"'): r"one of charge, discharge; got 'out'",
    ("scale = 0.5", "scale = 0"): r"scale must be a number other than 0",
    ("scale = 0.5", 'scale = "x"'): r"signal\.current_a\.scale must be a number in .*got 'x'",
    ("scale = 0.5", "scael = 0.5"): r"signal\.current_a\.scael must be a known key \(",
    ("max_age_s = 2", "max_age_s = 0"): r"max_age_s must be a number > 0",
    ("period_s = 1", "period_s = -1"): r"period_s must be a number in 0\.\.3600; got -1",
    ('drives = ["M"]', 'drives = ["X"]'): r"drives must be messages that a signal is taken from; got 'X'",
    ('drives = ["M"]', "drives = 1"): r"drives must be a list of message names; got 1",
    (
        'valid = "C.Ok_{n:03}"',
        'valid = "M.Ok"',
    ): r"valid must be Message\.Signal of the same message \(C\); got 'M\.Ok'",
    ("offset = 3", "invalid_raw = [1.5]"): r"invalid_raw must be a list of whole numbers; got \[1\.5\]",
    ("offset = 3", 'values = { "a" = 1 }'): r"values must be a table of raw value to column value",
    ("offset = 3", 'low = "a"'): r"low must be a number",
    ("period_s = 1", "period_s = = 1"): r"contents must be TOML in UTF-8",
}


@pytest.mark.parametrize("change", BAD, ids=range(len(BAD)))
def test_a_bad_mapping_says_file_key_value_and_what_is_accepted(change: tuple[str, str]) -> None:
    text = GOOD.replace(*change, 1)
    assert text != GOOD
    with pytest.raises(SignalsError, match=BAD[change]) as caught:
        parse_signals(text.encode(), "x.toml")
    assert "\n" not in str(caught.value)
    assert "x.toml" in str(caught.value)


def test_a_current_that_is_positive_out_of_the_battery_is_turned_round() -> None:
    mapping = parse_signals(GOOD.encode(), "x.toml")
    current = next(e for e in mapping.entries if e.column == "current_a")
    assert (current.scale, current.offset) == (-0.5, -3.0)


def test_places_are_named_from_the_first_number() -> None:
    cells = parse_signals(GOOD.encode(), "x.toml").entries[-1]
    assert cells.repeated
    assert [cells.named(k) for k in (0, 11)] == [("Cell_000",), ("Cell_011",)]


def test_a_mapping_is_found_by_the_name_of_its_dbc() -> None:
    assert signals_for(Path("cars") / "bmw_i3_lim.dbc") == SIGNALS_DIR / "bmw_i3_lim.toml"
    with pytest.raises(
        SignalsError, match=r"must be named as one that has a mapping \(bmw_i3_lim, .*got '.*other\.dbc'"
    ):
        signals_for(Path("cars") / "other.dbc")


def test_a_mapping_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SignalsError, match=r"signals must be a readable \.toml; got No such file"):
        load_signals(tmp_path / "x.toml")


@pytest.mark.parametrize("stem", ["bmw_i3_lim", "hyundai_kona_pcan", "tesla_model3", "foxbms", "ibms_pack"])
def test_every_shipped_mapping_loads_and_states_the_sign_of_its_current(stem: str) -> None:
    mapping = load_signals(SIGNALS_DIR / f"{stem}.toml")
    sign = next(e.scale for e in mapping.entries if e.column == "current_a")
    assert sign == (1 if stem in {"bmw_i3_lim", "ibms_pack"} else -1)
