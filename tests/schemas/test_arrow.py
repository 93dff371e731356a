"""Records as Arrow: every column, who and provenance, nulls."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.arrow import SCHEMAS, Provenance, to_arrow
from schemas.events import DeadLetter, Gap, Incident, Item, Rows, Session, Tick
from schemas.frames import make_block
from schemas.ids import hash64
from schemas.tables import TABLES

MADE_BY = Provenance({"m": "filehash"}, "1.2", "settings", "trained")
GAP = Gap("g", 0, "m", "A", "VA", "time", 1, 2, 3, 4, 5)


def _one(item: Item) -> pa.RecordBatch:
    (record,) = to_arrow([item], MADE_BY)
    assert not isinstance(record, Tick)
    return record[1]


def _rows(n: int = 3, **data: Any) -> Rows:
    pack = np.array([1, 0, 1], np.int32)[:n]
    return Rows("windows", "m", ("A", "B"), ("VA", "VB"), pack, {"start_ns": np.arange(n), **data})


def test_rows_get_who_and_provenance_by_dictionary() -> None:
    got = _one(_rows())
    assert got.schema == SCHEMAS["windows"]
    assert got["pack_id"].to_pylist() == ["B", "A", "B"]
    assert got["vehicle_id"].to_pylist() == ["VB", "VA", "VB"]
    assert got["pack_hash"].to_pylist() == [hash64(p) for p in "BAB"]
    made = [got[c].to_pylist()[0] for c in ("model", "pack_file", "code_version", "params", "models")]
    assert made == ["m", "filehash", "1.2", "settings", "trained"]
    assert pa.types.is_dictionary(got["pack_id"].type)


def test_a_model_whose_file_is_unknown_has_an_empty_hash() -> None:
    (record,) = to_arrow([_rows()], Provenance({}, "1", "p"))
    assert not isinstance(record, Tick)
    assert record[1]["pack_file"].to_pylist() == [""] * 3


def test_nan_and_what_a_step_did_not_fill_are_null() -> None:
    got = _one(_rows(soc_end=np.array([0.5, np.nan, 0.25], np.float32)))
    assert got["soc_end"].to_pylist() == [0.5, None, 0.25]
    assert got["mode"].null_count == 3


def test_minus_zero_becomes_zero_in_columns_lists_and_events() -> None:
    assert str(_one(_rows(odo_km=np.full(3, -0.0)))["odo_km"].to_pylist()) == "[0.0, 0.0, 0.0]"
    state = Rows("states", "m", ("A",), ("A",), np.zeros(1, np.int32), {"soc_cell": np.array([[-0.0]], np.float32)})
    assert str(_one(state)["soc_cell"].to_pylist()) == "[[0.0]]"
    session = Session("s", 0, "m", "A", "A", "park", 1, 2, 3, *(-0.0,) * 21)
    assert str(_one(session)["soc_end"].to_pylist()) == "[0.0]"


def test_input_arrays_are_not_changed() -> None:
    mine = np.array([-0.0, np.nan, 1.0])
    before = mine.tobytes()
    _one(_rows(odo_km=mine))
    assert mine.tobytes() == before


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_rows_give_nothing(rows: int) -> None:
    assert len(to_arrow([_rows(rows)], MADE_BY)) == rows


def test_frames_carry_cells_as_lists_and_what_estimate_added() -> None:
    block = make_block(
        "m", ["A"], pack=[0, 0], t_ns=[1, 2], cell_v=[[3.5, np.nan], [3.25, 3.5]], temp_c=np.zeros((2, 0))
    ).with_derived(soc=np.array([0.5, 0.25]), slot=np.zeros(2, np.int32))
    got = _one(block)
    assert got.schema == SCHEMAS["frames"]
    assert got["cell_v"].to_pylist() == [[3.5, None], [3.25, 3.5]]
    assert got["temp_c"].to_pylist() == [[], []]
    assert got["soc"].to_pylist() == [0.5, 0.25]
    assert got["t_ns"].cast(pa.int64()).to_pylist() == [1, 2]


def test_events_of_one_table_share_a_batch_and_ticks_pass() -> None:
    got = to_arrow([GAP, Tick(5), GAP, _rows()], MADE_BY)
    assert got[0] == Tick(5)
    assert [(r[0], r[1].num_rows) for r in got if not isinstance(r, Tick)] == [("windows", 3), ("gaps", 2)]


def test_each_kind_of_event_fills_every_column_of_its_table() -> None:
    words = ("short", "pack", 4, "open", 1, 2, 0, "words", {"b": 1.0, "a": 2.0})
    events: dict[str, Item] = {
        "sessions": Session(
            "s",
            0,
            "m",
            "A",
            "A",
            "park",
            1,
            2,
            3,
            *(0.5,) * 21,
            False,
            False,
            *(0.5,) * 22,
            *((0.5,),) * 3,
            *(0.5,) * 5,
        ),
        "incidents": Incident("i", 0, "m", "A", "A", *words, causes={"cooling": 0.9}),
        "gaps": GAP,
        "dead_letters": DeadLetter("d", "bus", 1, 2, 3, "late", "", "A", 1, 2, "json", b"\x00\xff"),
    }
    for table, event in events.items():
        got = _one(event)
        assert got.schema == SCHEMAS[table]
        assert all(c.null_count == 0 for c in got.columns), table
        assert {f.name for f in fields(event)} <= {c.name for c in TABLES[table]}, table
    assert _one(events["incidents"])["evidence"].to_pylist() == ['{"a":2.0,"b":1.0}']
    assert _one(events["incidents"])["causes"].to_pylist() == ['{"cooling":0.9}']
    assert _one(events["dead_letters"])["payload"].to_pylist() == [b"\x00\xff"]


def test_a_table_or_column_that_the_lake_does_not_have_is_a_broken_flow() -> None:
    with pytest.raises(AssertionError, match="findings is no table"):
        to_arrow([Rows("findings", "m", ("A",), ("A",), np.zeros(1, np.int32), {})], MADE_BY)
    with pytest.raises(AssertionError, match="no columns"):
        _one(_rows(nonsense=np.zeros(3)))
