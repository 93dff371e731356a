import re
from pathlib import Path

import numpy as np
import pytest

from replay.fit import bmw_i3, borrow, leaf, lg_hg2
from replay.fit.rc import predict, rmse_v
from replay.fit_packs import main, specs
from schemas.pack import PACKS_DIR, PackModel, load_pack, pack_names, parse_pack

# Seconds on one core; the others build on a fit that takes longer.
CHEAP = ["generic-nmc", "generic-lfp", "bmw-i3-60ah", "bmw-i3-120ah", "leaf-62kwh"]
HEAVY = ["leaf-24kwh", "lg-hg2", "ev-faults-car1", "ev-faults-car2"]


def test_every_shipped_pack_has_a_recipe() -> None:
    assert sorted(specs(Path())) == pack_names()
    assert sorted(CHEAP + HEAVY) == pack_names()


def wording(pack: PackModel) -> dict[str, str]:
    """What the numbers are from, without the last digits of the residuals."""
    return {key: re.sub(r"\.\d+", "", text) for key, text in pack.provenance.items()}


def same_as_committed(fresh: Path, names: list[str]) -> None:
    """Equal within what a different linear algebra library may change in the last written digits."""
    for name in names:
        new = parse_pack((fresh / f"{name}.toml").read_bytes(), name, f"{name}.toml")
        old = parse_pack((PACKS_DIR / f"{name}.toml").read_bytes(), name, f"{name}.toml")
        np.testing.assert_allclose(new.ocv.v, old.ocv.v, atol=3e-4, err_msg=name)
        np.testing.assert_allclose(new.resistance.r0_ohm, old.resistance.r0_ohm, rtol=5e-3, err_msg=name)
        np.testing.assert_allclose(new.resistance.rb_ohm, old.resistance.rb_ohm, rtol=5e-3, err_msg=name)
        assert (new.limits, new.usable_ah, new.sum_offset_v) == (old.limits, old.usable_ah, old.sum_offset_v)
        assert wording(new) == wording(old), name


def test_the_committed_packs_are_what_the_cheap_fits_give(data_dir: Path, tmp_path: Path) -> None:
    assert main([*CHEAP, "--data", str(data_dir), "--out", str(tmp_path)]) == 0
    same_as_committed(tmp_path, CHEAP)


@pytest.mark.slow
def test_the_committed_packs_are_what_the_heavy_fits_give(data_dir: Path, tmp_path: Path) -> None:
    assert main([*HEAVY, "--data", str(data_dir), "--out", str(tmp_path)]) == 0
    same_as_committed(tmp_path, HEAVY)


def test_leaf_24kwh_predicts_its_cells_pulse_tests_within_8_mv_at_each_temperature(data_dir: Path) -> None:
    grid = load_pack("leaf-24kwh").grid()
    for temp_c, cell in leaf.read(data_dir).items():
        of_two = type(cell)(cell.t_s, 2 * cell.current_a, cell.v, cell.soc, cell.temp_c)
        error = 1e3 * rmse_v(grid, [of_two])
        print(f"leaf-24kwh, pulse test at {temp_c} °C: RMSE {error:.2f} mV")
        assert cell.v[-1] == pytest.approx(3.0, abs=0.01)
        assert error < 8
        assert error < 3


def test_lg_hg2_predicts_a_drive_it_was_not_fitted_to(data_dir: Path) -> None:
    grid = load_pack("lg-hg2").grid()
    most = {-20: 65, -10: 55, 0: 35, 25: 18, 40: 18}  # mV; in half a second a drive's current moves that much
    for (temp_c, test), run in lg_hg2.read(data_dir, "LA92").items():
        error = 1e3 * rmse_v(grid, [run])
        print(f"lg-hg2, {test} at {temp_c} °C: RMSE {error:.1f} mV")
        assert error < most.pop(temp_c)
    assert not most


def test_bmw_i3_predicts_the_trips_it_was_not_fitted_to(data_dir: Path) -> None:
    held_out = bmw_i3.read(data_dir)[1::2]
    error = 1e3 * rmse_v(load_pack("bmw-i3-60ah").grid(), held_out)
    print(f"bmw-i3-60ah, {len(held_out)} other trips: RMSE {error:.1f} mV a cell")
    assert error < 10
    per_trip = bmw_i3.capacities_ah(data_dir)
    capacity_ah, trips = np.median(per_trip), len(per_trip)
    assert trips == 37
    assert capacity_ah == pytest.approx(load_pack("bmw-i3-60ah").usable_ah, abs=0.05)


def test_the_borrowed_curve_of_car1_follows_its_median_cell(data_dir: Path) -> None:
    pack = load_pack("ev-faults-car1")
    runs = borrow.runs(borrow.ev_faults(data_dir, "car1"), 0.05, 0.90, 60)
    errors = np.concatenate([predict(pack.grid(), run) - run.v for run in runs])
    assert np.sqrt(np.mean(errors**2)) < 0.012
    assert abs(np.median(errors)) < 0.005


@pytest.mark.parametrize(("car", "offset_v"), [("car1", 0.0), ("car2", 3.67)])
def test_pack_sensor_and_sum_of_cells_differ_by_the_packs_offset(data_dir: Path, car: str, offset_v: float) -> None:
    assert borrow.sum_offset_v(data_dir, car) == pytest.approx(offset_v, abs=0.02)
    assert load_pack(f"ev-faults-{car}").sum_offset_v == pytest.approx(offset_v, abs=0.02)


def test_an_unknown_pack_and_missing_recordings_are_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["laef", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "got 'laef'" in capsys.readouterr().err
    assert main(["lg-hg2", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "must be in" in error
    assert "lg_hg2" in error
    assert list(tmp_path.iterdir()) == []
