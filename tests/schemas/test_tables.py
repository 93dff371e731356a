"""The lake's tables: each column has a known type and a meaning, each table a key and a day."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from schemas import quality
from schemas.columns import NORMAL_90
from schemas.tables import AGAIN, DAY, KEYS, TABLES

TYPES = {"text", "bool", "i8", "i16", "i32", "i64", "u32", "u64", "f32", "f64", "f32[]", "time", "bytes"}
UNDATED = AGAIN | {"dead_letters"}  # what came, and is no result
FLAGS = {k: v for k, v in vars(quality).items() if k.isupper() and isinstance(v, int)}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_there_once_with_type_and_meaning(table: str) -> None:
    names = [c.name for c in TABLES[table]]
    assert len(set(names)) == len(names)
    assert {c.type for c in TABLES[table]} <= TYPES
    assert all(c.meaning for c in TABLES[table])


@pytest.mark.parametrize("table", TABLES)
def test_a_record_can_be_told_from_another_by_columns_that_exist(table: str) -> None:
    names = {c.name for c in TABLES[table]}
    assert set(KEYS[table]) <= names
    assert table in UNDATED or DAY[table] in names


@pytest.mark.parametrize("table", [t for t in TABLES if t not in UNDATED | {"frames"}])
def test_every_result_says_what_made_it_and_can_be_corrected(table: str) -> None:
    assert {"pack_file", "code_version", "params", "models", "revision"} <= {c.name for c in TABLES[table]}


# What is estimated, by how its name begins, and why some of it has no standard deviation of its own.
ESTIMATED = ("soc", "soe", "sop", "soh", "capacity", "r0", "spread", "loss", "usable", "left", "current_offset", "d_")
WITHOUT = {
    "windows.soc_start": "the window before ends with it",
    "windows.soc_end": "soc_std",
    "windows.spread_max_v": "measured",
    "sessions.soc_jump": "bounds an error itself",
    "sessions.capacity_low_ah": "capacity_std_ah, d_q_std",
    "sessions.d_soc_cell": "d_soc_std",
    "sessions.d_r0_cell": "d_r0_std",
    "sessions.d_q_cell": "d_q_std",
    "evidence.soc_jump": "bounds an error itself",
    "evidence.d_ah": "counted; d_soc_std and capacity_std_ah say what is unsure",
    "health.soh_beside": "has no weight",
    "identity.capacity_ah": "the session has it",
    "identity.r0_rel": "the session has it",
    "forecasts.left_cycles": "left_low, left_high",
    "forecasts.left_beside": "has no weight",
    "forecasts.soh_at": "soh_at_low, soh_at_high",
}


def test_every_estimate_has_a_standard_deviation_beside_it_or_a_reason() -> None:
    bare = set()
    for table in ("windows", "states", "sessions", "evidence", "health", "identity", "forecasts", "frames"):
        floats = [c.name for c in TABLES[table] if c.type.startswith("f")]
        known = {name.replace("_std", "") for name in floats if "_std" in name}
        for name in floats:
            own = name.startswith(ESTIMATED) and "_bms" not in name and "_std" not in name
            if own and not name.endswith(("_low", "_high")) and name not in known:
                bare.add(f"{table}.{name}")
    assert bare == set(WITHOUT)


def test_views_take_the_same_number_of_standard_deviations_for_an_interval() -> None:
    views = [p.read_text("utf-8") for p in files("schemas").joinpath("sql").iterdir() if p.name.endswith(".sql")]
    factors = [float(f) for text in views for f in re.findall(r"([0-9.]+) \* \S*(?:_std|sqrt)", text)]
    assert len(factors) >= 9
    assert set(factors) == {NORMAL_90}


def test_times_say_so_and_units_ride_in_names() -> None:
    for columns in TABLES.values():
        for column in columns:
            assert column.name.endswith("_ns") == (column.type == "time"), column.name
            if column.name.endswith(("_a", "_v", "_ah", "_ohm", "_c", "_w", "_kwh", "_kmh", "_km")):
                assert column.type in {"f32", "f64", "f32[]"}, column.name


def test_quality_flags_are_single_bits_with_a_name_each() -> None:
    assert all(bit.bit_count() == 1 for bit in FLAGS.values())
    assert len(set(FLAGS.values())) == len(FLAGS)
    assert {name.lower(): bit for name, bit in FLAGS.items()} == {name: bit for bit, name in quality.NAMES.items()}
    assert max(FLAGS.values()) < 2**32
