"""Sessions as they come from a lake and from messages."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from flows.session_rows import LakeSessions, decode_sessions, lake_models
from schemas.arrow import Provenance, to_arrow
from schemas.events import DeadLetter, Item, Rows, Session
from schemas.pack import load_pack
from sinks.kafka_records import row_records
from tests.support.commands import make_lake
from tests.support.frames import NS, T0_NS

MODEL = "generic-nmc@4c2t60ah"


def session(n: int, pack: str = "A", vehicle: str = "", **more: Any) -> Session:
    begin = T0_NS + n * 3600 * NS
    plain = {
        "id": f"s-{pack}-{n}", "revision": 0, "model": MODEL, "pack_id": pack, "vehicle_id": vehicle or pack,
        "kind": "charge", "start_ns": begin, "end_ns": begin + 1800 * NS, "frames": 60, "coverage": 1.0,
        "d_r0_cell": (0.1, -0.1, 0.0, 0.2), "d_q_cell": (0.0, float("nan"), 0.0, 0.01),
    }  # fmt: skip
    fields = {name: 0.5 for name in Session.__dataclass_fields__ if name not in plain and not name.endswith("_cell")}
    return Session(**{**fields, "provisional": False, "withdrawn": False, **plain, **more})


def read(lake: Path, cursor: Any = None) -> tuple[list[Item], Any]:
    part = LakeSessions(lake, load_pack).build_part("source", "lake", cursor)
    items: list[Item] = []
    with suppress(StopIteration):
        while True:
            items += part.next_batch()
    place = part.snapshot()
    part.close()
    return items, place


def ids(items: list[Item]) -> list[str]:
    return [str(i) for r in items if isinstance(r, Rows) for i in r.data["id"]]


def test_sessions_come_by_their_end_without_provisional_ones(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", [session(2), session(0), session(1, "B"), session(3, provisional=True)])
    items, _ = read(lake)
    assert ids(items) == ["s-A-0", "s-B-1", "s-A-2"]
    assert lake_models(lake) == (MODEL,)


def test_a_run_that_resumes_goes_on_after_the_newest_that_it_has_read(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", [session(0), session(1)])
    _, place = read(lake)
    make_lake(lake, [session(2), session(3)])
    items, again = read(lake, place)
    assert ids(items) == ["s-A-2", "s-A-3"]
    assert read(lake, again)[0] == []


def test_a_pack_that_moves_begins_new_rows(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", [session(0, "P", "V1"), session(1, "P", "V2"), session(2, "P", "V2")])
    items, _ = read(lake)
    assert [(r.vehicles, len(r)) for r in items if isinstance(r, Rows)] == [(("V1",), 1), (("V2",), 2)]


def test_lists_per_cell_are_rows_of_cells_and_nan_where_there_are_none(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", [session(0), session(1, d_r0_cell=(), d_q_cell=())])
    (rows,) = read(lake)[0]
    assert isinstance(rows, Rows)
    assert rows.data["d_r0_cell"][0].tolist() == pytest.approx([0.1, -0.1, 0.0, 0.2])
    assert np.isnan(rows.data["d_q_cell"][0]).tolist() == [False, True, False, False]
    assert np.isnan(rows.data["d_r0_cell"][1]).all()


class Polled:
    """A message as librdkafka gives it."""

    def __init__(self, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._value, self._headers = value, headers

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers

    def key(self) -> bytes:
        return b"A"

    def topic(self) -> str:
        return "ibms.sessions"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 17


def message(one: Session) -> Polled:
    ((_, batch),) = to_arrow([one], Provenance({}, "1", "p"))  # type: ignore[misc]
    ((_, record),) = row_records("sessions", batch, "fleet")
    return Polled(record.value, record.headers)  # type: ignore[arg-type]


def test_a_session_from_kafka_is_the_same_as_from_the_lake(tmp_path: Path) -> None:
    sessions = [session(0), session(1, d_r0_cell=(), d_q_cell=())]
    (by_lake,) = read(make_lake(tmp_path / "lake", list(sessions)))[0]
    (by_kafka,) = decode_sessions(load_pack)([message(s) for s in sessions])
    assert isinstance(by_lake, Rows)
    assert isinstance(by_kafka, Rows)
    assert by_lake.packs == by_kafka.packs
    for name, column in by_lake.data.items():
        assert np.array_equal(column, by_kafka.data[name], equal_nan=column.dtype.kind == "f"), name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (b"{", "must be JSON"),
        (b"[1]", "must be a JSON object; got list"),
        ({"pack_id": None}, "pack_id must be a text; got None"),
        ({"model": "tesla"}, "pack must be one of"),
        ({"end_ns": 1.5}, "end_ns must be a whole number; got 1.5"),
        ({"soc_end": "full"}, "soc_end must be a number or null; got 'full'"),
        ({"d_r0_cell": [1.0, 2.0]}, "d_r0_cell must hold 4 numbers, or none; got 2"),
        ({"d_q_cell": ["x"] * 4}, "d_q_cell must be a list of numbers"),
    ],
)
def test_what_is_no_session_is_a_dead_letter_with_its_reason(change: Any, why: str) -> None:
    data = (
        change if isinstance(change, bytes) else orjson.dumps({**orjson.loads(message(session(0)).value()), **change})
    )
    good, letter = decode_sessions(load_pack)([Polled(data), message(session(1))])[::-1]
    assert isinstance(letter, DeadLetter)
    assert why in letter.detail
    assert (letter.source, letter.partition, letter.offset, letter.payload) == ("ibms.sessions", 3, 17, data)
    assert ids([good]) == ["s-A-1"]


def test_provisional_sessions_and_markers_are_passed_over() -> None:
    marker = Polled(b"", [("ibms.marker", b"")])
    assert decode_sessions(load_pack)([message(session(0, provisional=True)), marker]) == []
