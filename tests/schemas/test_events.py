"""Events: frozen values whose fields are the columns of their table."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from schemas.events import DeadLetter, Gap, Incident, Rows, Session, Tick
from schemas.tables import TABLES

PROVENANCE = {"pack_file", "code_version", "params", "models"}  # filled in on the way to the lake
TABLE = {Session: "sessions", Incident: "incidents", Gap: "gaps", DeadLetter: "dead_letters"}
GAP = Gap("id", 0, "m", "P", "V", "sequence", 1, 5, 2, 4, 3)


@pytest.mark.parametrize("kind", TABLE, ids=lambda k: k.__name__)
def test_every_field_has_its_column_and_every_column_its_field(kind: type) -> None:
    derived = {name for name, value in vars(kind).items() if isinstance(value, property)}
    names = {f.name for f in dataclasses.fields(kind)} | derived
    assert names == {c.name for c in TABLES[TABLE[kind]]} - PROVENANCE


def test_events_are_values() -> None:
    assert Gap("id", 0, "m", "P", "V", "sequence", 1, 5, 2, 4, 3) == GAP
    assert dataclasses.replace(GAP, revision=1) != GAP
    assert pickle.loads(pickle.dumps(GAP)) == GAP  # noqa: S301 - our own bytes
    with pytest.raises(dataclasses.FrozenInstanceError):
        GAP.revision = 1  # type: ignore[misc]


def test_rows_count_their_records() -> None:
    assert len(Rows("windows", "m", ("P",), ("V",), np.zeros(3, np.int32), {})) == 3
    assert Tick(5) == Tick(5)
