import copy
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.checked import shown
from schemas.ids import file_hash
from schemas.pack import (
    GRID_SOC,
    GRID_TEMP_C,
    OCV_SLOPE_MIN,
    PACKS_DIR,
    PackError,
    PackModel,
    build_grid,
    load_pack,
    pack_names,
    parse_pack,
)

SHIPPED = {
    "bmw-i3-60ah", "bmw-i3-120ah", "leaf-24kwh", "leaf-62kwh", "lg-hg2", "ev-faults-car1", "ev-faults-car2",
    "generic-nmc", "generic-lfp",
}  # fmt: skip
SOUND: dict[str, Any] = tomllib.loads((PACKS_DIR / "leaf-24kwh.toml").read_text(encoding="utf-8"))
OPTIONAL = {("generic",)}


def dump(document: dict[str, Any]) -> bytes:
    """Write as TOML: numbers, texts, lists and truth values read as in JSON."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in item.items()) + " }"
        if isinstance(item, list):
            return "[" + ", ".join(value(v) for v in item) + "]"
        return repr(item) if isinstance(item, float) else json.dumps(item, ensure_ascii=False)

    return "\n".join(f"{json.dumps(k)} = {value(v)}" for k, v in document.items()).encode()


def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Name every key and every list item below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path for key, child in items for path in ((*at, key), *paths(child, (*at, key)))]


PATHS = paths(SOUND)
KEYS = [p for p in PATHS if isinstance(p[-1], str)]


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def refused(document: dict[str, Any]) -> str:
    with pytest.raises(PackError) as caught:
        parse_pack(dump(document), "bad", "packs/bad.toml")
    text = str(caught.value)
    assert "\n" not in text
    assert "packs/bad.toml" in text
    assert " must be " in text
    assert "; got " in text
    return text


def key_of(path: tuple[Any, ...]) -> str:
    return str(next(key for key in reversed(path) if isinstance(key, str)))


def test_the_named_packs_are_all_there() -> None:
    assert set(pack_names()) == SHIPPED


def test_writing_a_sound_file_back_gives_a_sound_file() -> None:
    pack = parse_pack(dump(SOUND), "leaf", "packs/leaf.toml")
    np.testing.assert_array_equal(pack.ocv.v, load_pack("leaf-24kwh").ocv.v)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_on_the_grid_ocv_rises_and_resistances_are_positive(name: str) -> None:
    pack = load_pack(name)
    grid = pack.grid()
    branches = pack.resistance.tau_s.size
    assert (GRID_TEMP_C.size, GRID_SOC.size) == (19, 201)
    assert {t.shape for t in (grid.ocv, grid.docv, grid.r0)} == {(19, 201)}
    assert grid.rb.shape == (branches, 19, 201)
    assert (np.diff(grid.ocv, axis=1) > 0).all()
    assert (grid.docv >= OCV_SLOPE_MIN).all()
    assert (grid.r0 > 0).all()
    assert (grid.rb > 0).all()
    for table in (grid.ocv, grid.docv, grid.r0, grid.rb):
        assert table.dtype == np.float64
        assert table.flags.c_contiguous


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_pack_says_what_it_is_and_from_what(name: str) -> None:
    pack = load_pack(name)
    assert pack.sha == file_hash((PACKS_DIR / f"{name}.toml").read_bytes())
    assert pack.ocv_source == ("borrowed" if pack.ocv_from in SHIPPED or "literature" in pack.ocv_from else "measured")
    assert {"ocv", "resistance", "limits"} <= set(pack.provenance)
    assert pack.probe_of_cell.shape == (pack.series,)
    assert pack.probe_of_cell.max() == pack.probes - 1
    low, high = (2.8, 4.25) if pack.chemistry == "nmc" else (2.5, 3.65)
    assert low - 0.01 < pack.grid().ocv[11, 0] < pack.grid().ocv[11, -1] < high


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_docv_is_the_slope_of_ocv(name: str) -> None:
    grid = load_pack(name).grid()
    chord = np.diff(grid.ocv, axis=1) / np.diff(GRID_SOC)
    mean = (grid.docv[:, 1:] + grid.docv[:, :-1]) / 2
    assert np.abs(mean - chord).max() < 0.15 * np.abs(chord).max()
    assert np.median(np.abs(mean - chord)) < 0.01 * np.median(chord)


def test_the_grid_goes_through_the_files_knots() -> None:
    pack = load_pack("lg-hg2")
    grid = pack.grid()
    for t, temp_c in enumerate(pack.ocv.temp_c):
        row = int(np.flatnonzero(temp_c == GRID_TEMP_C)[0])
        on_grid = np.isclose(np.round(pack.ocv.soc * 200), pack.ocv.soc * 200)
        columns = np.round(pack.ocv.soc[on_grid] * 200).astype(int)
        np.testing.assert_allclose(grid.ocv[row, columns], pack.ocv.v[t, on_grid], atol=1e-9)
        columns = np.round(pack.resistance.soc * 200).astype(int)
        np.testing.assert_allclose(grid.r0[row, columns], pack.resistance.r0_ohm[t], rtol=1e-9)


def test_the_grid_is_built_in_under_20_ms_and_once() -> None:
    pack = load_pack("lg-hg2")
    assert pack.grid() is pack.grid()
    took = []
    for _ in range(5):
        began = time.perf_counter()
        build_grid(pack.ocv, pack.resistance)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.02


def test_a_pack_is_loaded_once() -> None:
    assert load_pack("leaf-24kwh") is load_pack("leaf-24kwh")


@given(st.integers(1, 300), st.integers(0, 60), st.none() | st.integers(1, 900))
def test_a_generic_pack_takes_its_size_from_its_name(series: int, probes: int, ah: int | None) -> None:
    own = load_pack("generic-lfp")
    pack = load_pack(f"generic-lfp@{series}c{probes}t" + (f"{ah}ah" if ah else ""))
    size = (ah or 100) / 100
    assert (pack.series, pack.probes, pack.nominal_ah) == (series, probes, ah or 100)
    assert pack.usable_ah == pytest.approx(own.usable_ah * size)
    np.testing.assert_allclose(pack.grid().r0, own.grid().r0 / size)
    np.testing.assert_allclose(pack.grid().rb, own.grid().rb / size)
    np.testing.assert_array_equal(pack.grid().ocv, own.grid().ocv)
    assert pack.probe_of_cell.shape == (series,)
    assert set(pack.probe_of_cell.tolist()) <= set(range(probes) if probes else [-1])
    assert (np.diff(pack.probe_of_cell) >= 0).all()


@pytest.mark.parametrize(
    "name", ["generic-nmc@", "generic-nmc@96c", "generic-nmc@0c1t", "generic-nmc@96c4t0ah", "generic-nmc@x"]
)
def test_a_suffix_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PackError, match=r"suffix must be .*got '@.*generic-nmc"):
        load_pack(name)


def test_a_pack_that_is_not_generic_takes_no_suffix() -> None:
    with pytest.raises(PackError, match=r"without @ .*got 'leaf-24kwh@96c4t'.*leaf-24kwh.toml"):
        load_pack("leaf-24kwh@96c4t")


def test_an_unknown_pack_is_answered_with_the_known_ones() -> None:
    with pytest.raises(PackError, match=r"one of bmw-i3-120ah, .*; got 'laef'"):
        load_pack("laef")


def test_a_file_can_be_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine@home.toml"
    path.write_bytes((PACKS_DIR / "generic-nmc.toml").read_bytes())
    assert load_pack(str(path)).series == 96
    assert load_pack(f"{path}@12c2t").series == 12
    with pytest.raises(PackError, match="No such file"):
        load_pack(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize("data", [b"series = ", b"\xff\xfe", b"a = 1\na = 2", b"x = " + b"[" * 5000])
def test_bytes_that_are_no_toml_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(PackError, match=r"TOML.*packs/bad.toml") as caught:
        parse_pack(data, "bad", "packs/bad.toml")
    assert "\n" not in str(caught.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([p for p in KEYS if p not in OPTIONAL and not (p[0] == "provenance" and len(p) > 1)]))
def test_a_missing_key_is_named(path: tuple[Any, ...]) -> None:
    document = copy.deepcopy(SOUND)
    del at(document, path[:-1])[path[-1]]
    text = refused(document)
    assert key_of(path) in text
    assert "got nothing" in text


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), st.sampled_from([True, "many", -7.5, [], {"a": 1}, ["x"], 1e308]))
def test_a_value_of_the_wrong_type_is_named(path: tuple[Any, ...], wrong: Any) -> None:
    sound = at(SOUND, path)
    if isinstance(wrong, type(sound)) or (isinstance(sound, int | float) and isinstance(wrong, float)):
        return  # the right type; ranges are tested below
    document = copy.deepcopy(SOUND)
    at(document, path[:-1])[path[-1]] = wrong
    text = refused(document)
    assert key_of(path) in text or (wrong == {"a": 1} and "a must be a known key" in text)
    assert shown(wrong) in text or "got [" in text or "got {" in text


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), st.sampled_from([float("nan"), float("inf"), -1e9, 1e12]))
def test_a_number_outside_its_range_is_named(path: tuple[Any, ...], wrong: float) -> None:
    sound = at(SOUND, path)
    if isinstance(sound, bool) or not isinstance(sound, int | float):
        return
    document = copy.deepcopy(SOUND)
    at(document, path[:-1])[path[-1]] = wrong
    text = refused(document)
    assert key_of(path) in text
    assert shown(wrong) in text


@given(st.sampled_from([(), ("ocv",), ("resistance",), ("thermal",), ("derating",), ("limits", 3)]))
def test_a_key_that_nobody_knows_is_named(path: tuple[Any, ...]) -> None:
    document = copy.deepcopy(SOUND)
    at(document, path)["capcity_ah"] = 3
    text = refused(document)
    assert "capcity_ah must be a known key" in text
    assert "got 3" in text


@given(st.integers(0, 2), st.integers(1, 27))
def test_an_ocv_that_does_not_rise_is_refused_at_its_knot(row: int, knot: int) -> None:
    document = copy.deepcopy(SOUND)
    table = document["ocv"]["v"][row]
    table[knot] = table[knot - 1]
    assert f"ocv.v[{row}][{knot}] must be" in refused(document)


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ({"tier": "MAX"}, "tier", "MAX"),
        ({"quantity": "volts"}, "quantity", "volts"),
        ({"action": "explode"}, "action", "explode"),
        ({"direction": "both"}, "direction", "both"),
        ({"tier": "RSL"}, "tier", "RSL"),
        ({"bound": 4.3}, "bound", "4.23"),
        ({"latch": True}, "reset", "auto"),
        ({"reset": "standby"}, "reset", "standby"),
        ({"max_detect_s": 0.5}, "max_detect_s", "0.5"),
        ({"min_samples": 0}, "min_samples", "0"),
        ({"quantity": "current_a"}, "direction", "any"),
    ],
)
def test_a_limit_that_contradicts_itself_or_its_neighbours_is_refused(
    change: dict[str, Any], key: str, value: str
) -> None:
    document = copy.deepcopy(SOUND)
    document["limits"][0].update(change)
    text = refused(document)
    assert f"].{key} must be" in text
    assert value in text


@pytest.mark.parametrize("soc", [[0.1, 1.0], [0.0, 0.9], [0.0, 0.5, 0.5, 1.0], [1.0, 0.0]])
def test_soc_knots_must_rise_from_0_to_1(soc: list[float]) -> None:
    document = copy.deepcopy(SOUND)
    document["ocv"]["soc"] = soc
    assert "ocv.soc" in refused(document)


def test_the_break_current_has_no_default() -> None:
    document = copy.deepcopy(SOUND)
    del document["break_current_a"]
    assert refused(document).startswith("break_current_a must be a number > 0")


def test_probes_can_be_listed_per_cell_group_counting_from_1() -> None:
    document = copy.deepcopy(SOUND)
    document["probe_of_cell"] = [1] * 50 + [4] * 45 + [0]
    pack: PackModel = parse_pack(dump(document), "listed", "packs/listed.toml")
    assert pack.probe_of_cell.tolist() == [0] * 50 + [3] * 45 + [-1]
    document["probe_of_cell"][7] = 5
    assert "probe_of_cell[7] must be a probe, 1..4" in refused(document)
    document["probe_of_cell"] = [1] * 95
    assert "list of 96 probe numbers" in refused(document)
