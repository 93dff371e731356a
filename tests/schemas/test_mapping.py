"""Mapping files: each mistake is one line that names file, key, value and what is accepted."""

from __future__ import annotations

import pytest

from schemas.mapping import MappingError, load_mapping, mapping_names, parse_mapping

GOOD = """
model = "generic-nmc"
[time]
column = "t"
format = "relative_s"
[split]
column = "trip"
into = "stretches"
[columns.current_a]
column = "i"
positive = "discharge"
[columns.cell_v]
pattern = "cell_{n:02}"
scale = 0.001
"""


@pytest.mark.parametrize("name", mapping_names())
def test_every_shipped_mapping_loads_and_says_where_current_is_positive(name: str) -> None:
    mapping = load_mapping(name)
    assert mapping.get("current_a") is not None
    assert mapping.get("pack_v") is not None


def test_a_mapping_is_read_as_it_is_written() -> None:
    mapping = parse_mapping(GOOD.encode(), "mine", "mine.toml")
    current, cells = mapping.get("current_a"), mapping.get("cell_v")
    assert current is not None
    assert cells is not None
    assert current.negate
    assert (cells.pattern, cells.first, cells.scale) == ("cell_{n:02}", 1, 0.001)
    assert mapping.split is not None
    assert (mapping.split.packs, mapping.split.gap_s) == (False, 3600.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('positive = "discharge"', "", "columns.current_a.positive must be one of charge, discharge; got nothing"),
        ('positive = "discharge"', 'positive = "minus"', "must be one of charge, discharge; got 'minus'"),
        ("scale = 0.001", "scale = 0", "columns.cell_v.scale must be a number other than 0"),
        ("scale = 0.001", 'scale = "1"', "columns.cell_v.scale must be a number"),
        ("scale = 0.001", "skale = 0.001", "columns.cell_v.skale must be a known key"),
        ('"cell_{n:02}"', '"cell_{}"', "columns.cell_v.pattern must be a name with a number in it"),
        ('"cell_{n:02}"', '"cell_v"', "columns.cell_v.pattern must be a name with a number in it"),
        ('"cell_{n:02}"', '"cell_{n.x}"', "columns.cell_v.pattern must be a name with a number in it"),
        ('pattern = "cell_{n:02}"', "", "must be there"),
        ('pattern = "cell_{n:02}"', "columns = []", "columns.cell_v.columns must be a list of column names"),
        ('column = "i"', 'pattern = "i{n}"', "columns.current_a.columns must be left out"),
        ("[columns.cell_v]", "[columns.cell_mv]", "columns.cell_mv must be one of seq, current_a"),
        ('"relative_s"', '"seconds"', "time.format must be one of timestamp, iso, epoch_s"),
        ('"relative_s"', '"iso"', "time.zone must be a text; got nothing"),
        ('"relative_s"', '"iso"\nzone = "Mars"', 'time.zone must be the zone of the file: "UTC"'),
        ('"relative_s"', '"epoch_s"', 'split.into must be "packs", or order = "time"'),
        ('into = "stretches"', 'into = "parts"', "split.into must be one of packs, stretches"),
        ('into = "stretches"', 'into = "packs"\ngap_s = 5.0', "split.gap_s must be left out"),
        ('into = "stretches"', 'into = "stretches"\norder = "time"', "split.order must be"),
        ('model = "generic-nmc"', "", "model must be a text; got nothing"),
        ("[time]", "[time", "contents must be TOML"),
    ],
)
def test_a_mistake_names_file_key_and_what_is_accepted(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(MappingError) as error:
        parse_mapping(GOOD.replace(old, new).encode(), "mine", "mine.toml")
    assert said in str(error.value)
    assert "(mine.toml)" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mapping_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(MappingError, match="ev_faults"):
        load_mapping("ev-faults")
    with pytest.raises(MappingError, match=r"nowhere\.toml"):
        load_mapping("nowhere.toml")
