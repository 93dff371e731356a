"""The fleet flow's wiring: its steps in order, what leaves it, and what makes its records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows import fleet
from flows.settings import FleetSettings
from flows.ticks import TickSource
from operators.shard import EVICT
from replay.source import ReplaySource
from schemas.checked import ConfigError
from schemas.events import Rows, Tick
from schemas.pack import load_pack
from sinks.lake import LakeSink
from tests.support.fleet import MODEL


def _steps(*, ticks: bool) -> list[str]:
    flow = fleet.build(
        FleetSettings(),
        ReplaySource(list),
        LakeSink(Path("unused"), "test", recovery=False),
        (MODEL,),
        ticks=TickSource() if ticks else None,
    )
    return [step.step_id.partition(".")[2] for step in flow.substeps]


def test_steps_come_in_the_order_of_the_design() -> None:
    assert [s for s in _steps(ticks=False) if s not in {"source", "shard"}] == [
        "clean", "estimate", "diagnose", "window", "anomaly", "incidents", "to-arrow", "lake",
    ]  # fmt: skip


def test_ticks_are_joined_before_the_first_stateful_step() -> None:
    names = _steps(ticks=True)
    assert names.index("with-ticks") < names.index("clean")
    assert "ticks" not in _steps(ticks=False)


def test_what_only_steps_read_stays_in_the_flow() -> None:
    one = np.zeros(1, np.int32)
    windows = Rows("windows", "m", ("p",), ("p",), one, {"slot": one, "frames": one})
    inner = [Rows(table, "m", ("p",), ("p",), one, {}) for table in ("findings", EVICT)]
    out = fleet.outward([Tick(1), windows, *inner])
    assert out[0] == Tick(1)
    assert [(r.table, list(r.data)) for r in out if isinstance(r, Rows)] == [("windows", ["frames"])]


def test_provenance_names_pack_files_and_settings() -> None:
    made_by = fleet.provenance(FleetSettings(), (MODEL, "lg-hg2"))
    assert made_by.pack_files == {m: load_pack(m).sha for m in (MODEL, "lg-hg2")}
    assert made_by.params == FleetSettings().params()
    assert made_by.models == ""


def test_a_model_file_that_is_none_stops_the_flow_before_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"format must be 1; got None .*m.json"):
        fleet.provenance(FleetSettings(anomaly_model=str(path)), (MODEL,))
