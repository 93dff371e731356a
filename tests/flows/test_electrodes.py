"""`ibms electrodes`: losses that PyBaMM put into a cell are read back; what cannot be read says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.electrodes import Charge, curve, file_charge, lake_charges, read
from operators.kernels.electrodes import resting_at
from schemas.arrow import SCHEMAS
from schemas.checked import ConfigError
from schemas.pack import PackModel, load_pack
from sinks.lake import LakeSink
from tests.support.commands import Ibms

PACK = load_pack("lg-hg2")


@pytest.mark.parametrize(
    "lost", [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1), (0.15, 0.08, 0.05)]
)
def test_what_pybamm_took_from_a_cell_is_read_back_within_two_points(
    spm: Any, lost: tuple[float, float, float]
) -> None:
    ref = spm.reference("Chen2020")
    new, (lithium, negative, positive) = ref.empty, (1 - share for share in lost)
    cell = resting_at(ref.halves, new.qn_ah * negative, new.qp_ah * positive, new.lithium_ah * lithium, 2.8)
    q, v = spm.simulate_charge(ref, cell, ref.capacity_ah / 20)
    said = read(charge_of(ref, PACK, q, np.round(v, 3)), PACK)  # as fine as a monitor tells it
    assert (said.lithium_lost, said.negative_lost, said.positive_lost) == pytest.approx(lost, abs=0.02)
    assert said.fit_rmse_v is not None
    assert said.fit_rmse_v < 0.004
    assert said.spm_rmse_v is not None
    assert said.spm_rmse_v < 0.006
    assert not said.reason


def charge_of(ref: Any, pack: PackModel, q_ah: Any, cell_v: Any) -> Charge:
    """A C/20 charge of a cell of the set's size, as one of the pack's size."""
    current_a = pack.usable_ah / 20
    t_s = q_ah / ref.capacity_ah * 20 * 3600
    return Charge("A", "", t_s, np.full(q_ah.size, current_a), cell_v)


def test_the_loss_of_a_plateau_is_not_told(spm: Any) -> None:
    ref = spm.reference("Prada2013")
    pack = load_pack("generic-lfp")
    q, v = spm.simulate_charge(ref, ref.empty, ref.capacity_ah / 20)
    said = read(charge_of(ref, pack, q, v), pack)
    assert said.positive_lost is None
    assert "plateau" in said.reason
    assert said.lithium_lost == pytest.approx(0.0, abs=0.02)


def flat(hours: float, current_a: float, rows: int = 400) -> Charge:
    t_s = np.linspace(0.0, 3600 * hours, rows)
    return Charge("A", "", t_s, np.full(rows, current_a), np.linspace(3.2, 4.1, rows))


@pytest.mark.parametrize(
    ("charge", "reason"),
    [
        (flat(20.0, 0.13, rows=20), "20 rows of charging; 50 are needed"),
        (flat(5.0, 0.2), "36 % of capacity at a steady current; 50 % are needed"),
        (flat(2.0, 1.2), "charged at 0.43 C; at most C/5 shows the electrodes"),
        (flat(20.0, 0.13), ""),
    ],
)
def test_a_charge_that_says_nothing_says_why(charge: Charge, reason: str) -> None:
    assert curve(charge, PACK.usable_ah)[3] == reason


def test_the_hold_at_full_is_left_out() -> None:
    slow = flat(20.0, 0.13)
    falling = np.where(np.arange(400) < 300, 0.13, 0.03)
    held = Charge("A", "", slow.t_s, falling, slow.cell_v)
    assert curve(held, PACK.usable_ah)[0][-1] == pytest.approx(0.13 * 15, rel=0.01)


def test_a_file_without_its_columns_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("t_s,v\n0,1\n")
    with pytest.raises(ConfigError, match="must be a lake, or a CSV or Parquet file with t_s, current_a, cell_v"):
        file_charge(file)


def test_a_file_without_a_pack_and_a_folder_without_a_lake_are_named(tmp_path: Path, ibms: Ibms) -> None:
    file = tmp_path / "a.csv"
    file.write_text("t_s,current_a,cell_v\n0,1,3\n")
    assert "--pack must name the pack model of a file" in ibms("electrodes", file).error
    assert "no lake in" in ibms("electrodes", tmp_path).error


def test_of_each_pack_of_a_lake_the_widest_charge_is_read(tmp_path: Path) -> None:
    """Two packs with two charges each; of the second, frames were not kept."""
    t_ns = np.arange(0, 200) * 60 * 10**9
    rows = [
        {"id": f"{pack_id}{begin}", "pack_id": pack_id, "model": PACK.name, "kind": "charge", "revision": 0,
         "start_ns": begin, "end_ns": begin + int(t_ns[-1]), "soc_start": 0.0, "soc_end": swing}
        for pack_id, swing, begin in (("A", 0.2, 0), ("A", 0.9, 10**13), ("B", 0.5, 0))
    ]  # fmt: skip
    frames = [
        {"pack_id": "A", "model": PACK.name, "t_ns": 10**13 + int(t), "seq": k, "revision": 0, "current_a": 1.0,
         "pack_v": 3.2 + 0.004 * k}
        for k, t in enumerate(t_ns)
    ]  # fmt: skip
    part = LakeSink(tmp_path, "made", recovery=False).build_part("lake", "lake", None)
    part.write_batch([("sessions", pa.RecordBatch.from_pylist(rows, SCHEMAS["sessions"]))])
    part.write_batch([("frames", pa.RecordBatch.from_pylist(frames, SCHEMAS["frames"]))])
    part.snapshot()
    part.close()
    ((of, charge),) = lake_charges(tmp_path, "", 10)
    assert (of.name, charge.pack_id, charge.at) == (PACK.name, "A", "1970-01-01T02:46:40Z")
    assert charge.t_s.tolist() == (t_ns / 1e9).tolist()
    assert charge.cell_v == pytest.approx(3.2 + 0.004 * np.arange(200), abs=1e-5)
    assert list(lake_charges(tmp_path, "leaf-24kwh", 10)) == []
