"""Telemetry tables as frames: recorded cars against physics, and tables that are damaged, odd or plainly wrong."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from replay.tables import START_NS, find_mapping, read_table
from schemas.checked import ConfigError
from schemas.events import DeadLetter
from schemas.frames import FrameBlock, concat
from schemas.mapping import TableMap, load_mapping, parse_mapping
from tests.support.blocks import assert_same_frames

NS = 10**9
SETS = {
    "ev_faults/car1": "ev_faults",
    "ev_faults/car2": "ev_faults",
    "bmw_i3_trips/bmw_i3_trips_10hz": "bmw_i3_trips",
    "leaf_roadtrip/leaf_roadtrip": "leaf_roadtrip",
    "lg_hg2/lg_hg2_1hz": "lg_hg2",
    "lg_hg2/lg_hg2_c20": "lg_hg2_c20",
    "leaf_cell/leaf_cell": "leaf_cell",
}


def all_of(found: Iterable[FrameBlock | DeadLetter]) -> tuple[FrameBlock, list[DeadLetter]]:
    items = list(found)
    return concat([i for i in items if isinstance(i, FrameBlock)]), [i for i in items if isinstance(i, DeadLetter)]


def recorded(data_dir: Path, name: str, **options: Any) -> FrameBlock:
    block, letters = all_of(read_table(data_dir / f"{name}.parquet", load_mapping(SETS[name]), **options))
    assert letters == []
    return block


# -- recorded sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_every_row_of_a_recorded_set_becomes_a_frame(data_dir: Path, name: str) -> None:
    path = data_dir / f"{name}.parquet"
    assert find_mapping(path).name == SETS[name]
    block = recorded(data_dir, name)
    assert sorted(block.src_offset.tolist()) == list(range(pq.ParquetFile(path).metadata.num_rows))
    assert np.isfinite(block.current_a).mean() > 0.99
    assert np.isfinite(block.pack_v).mean() > 0.99


def test_no_recorded_table_ends_the_reader_but_by_one_clear_line(data_dir: Path) -> None:
    paths = sorted(data_dir.rglob("*.parquet"))
    unmapped = []
    for path in paths:
        try:
            mapping = find_mapping(path)
        except ConfigError:
            with pytest.raises(ConfigError, match=rf"^map must say what [^\n]* \({path}\)$"):
                find_mapping(path)
            unmapped.append(path.parent.name)
            continue
        assert sum(len(b) for b in read_table(path, mapping) if isinstance(b, FrameBlock)) > 600
    assert len(paths) - len(unmapped) >= len(SETS)
    assert set(unmapped) == {"can_traces", "soh_features"}  # no telemetry: bus frames, and features of cycles


@pytest.mark.parametrize("name", SETS)
def test_voltage_rises_with_current_into_the_battery(data_dir: Path, name: str) -> None:
    block = recorded(data_dir, name)
    same_line = (np.diff(block.pack) == 0) & (np.abs(np.diff(block.t_ns)) < 400 * NS)
    di, dv = np.diff(block.current_a)[same_line], np.diff(block.pack_v)[same_line]
    steps = np.abs(di) > 0.3 * np.nanstd(block.current_a)
    assert steps.sum() > 5
    # v = ocv + i·r0: a step of current into the battery lifts the voltage
    assert (np.sign(di[steps]) == np.sign(dv[steps])).mean() > 0.75
    assert np.polyfit(di[steps], dv[steps], 1)[0] > 0


@pytest.mark.parametrize(
    "name", ["ev_faults/car1", "ev_faults/car2", "bmw_i3_trips/bmw_i3_trips_10hz", "leaf_roadtrip/leaf_roadtrip"]
)
def test_soc_falls_while_current_leaves_the_battery(data_dir: Path, name: str) -> None:
    block = recorded(data_dir, name)
    dt_s = np.diff(block.t_ns) / NS
    near = (dt_s > 0) & (dt_s < 400)
    charge_ah = np.where(near, block.current_a[1:] * dt_s / 3600, 0.0)
    d_soc = np.where(near, np.diff(block.context["soc_bms"].astype(np.float64)), 0.0)
    chunk = max(len(charge_ah) // 60, 1)
    edges = range(0, len(charge_ah), chunk)
    q = np.array([np.nansum(charge_ah[a : a + chunk]) for a in edges])
    z = np.array([np.nansum(d_soc[a : a + chunk]) for a in edges])
    assert np.corrcoef(q, z)[0, 1] > 0.8


@pytest.mark.parametrize("name", ["ev_faults/car1", "ev_faults/car2", "leaf_roadtrip/leaf_roadtrip"])
def test_cells_add_up_to_the_pack(data_dir: Path, name: str) -> None:
    block = recorded(data_dir, name)
    assert abs(np.median(block.cell_v.sum(axis=1, dtype=np.float64) - block.pack_v)) < 4.0


def test_a_car_gives_its_own_number_of_cells_and_probes_and_its_own_offset_of_temperature(data_dir: Path) -> None:
    one, two = recorded(data_dir, "ev_faults/car1"), recorded(data_dir, "ev_faults/car2")
    assert (one.model, two.model) == ("generic-nmc@96c24t", "generic-nmc@88c19t")
    assert 25 < np.nanmedian(one.temp_c) < 40
    assert 15 < np.nanmedian(two.temp_c) < 40
    highest = pq.read_table(data_dir / "ev_faults/car2.parquet", columns=["BMSProbeTempMax"])["BMSProbeTempMax"]
    assert np.median(np.abs(np.nanmax(two.temp_c, axis=1) - np.asarray(highest))) <= 1
    assert np.isnan(two.temp_c).sum() == 2  # two raw zeros
    assert one.packs == ("car1",)
    assert str(np.datetime64(int(one.t_ns[0]), "ns"))[:19] == "2021-05-05T01:10:00"  # 09:10 in China
    assert np.isclose(np.median(two.context["isolation_ohm"]), 5e6)


def test_what_a_table_says_wrongly_stays_for_clean_to_judge(data_dir: Path) -> None:
    one = recorded(data_dir, "ev_faults/car1")
    assert one.cell_v.max() > 60  # impossible cells are not hidden
    assert (np.diff(one.t_ns) == 0).sum() == 6  # nor are repeated times


def test_trips_follow_each_other_on_one_line_of_time(data_dir: Path) -> None:
    block = recorded(data_dir, "bmw_i3_trips/bmw_i3_trips_10hz", vehicle="i3", start_ns=1_600_000_000 * NS)
    assert (block.packs, block.vehicles, block.model) == (("i3",), ("i3",), "bmw-i3-60ah")
    step_s = np.diff(block.t_ns) / NS
    assert (step_s > 3000).sum() == 39
    assert np.allclose(step_s[step_s < 3000], 0.1, atol=0.0011)
    assert block.t_ns[0] == 1_600_000_000 * NS
    assert np.isnan(block.cell_v).all()


def test_the_days_of_a_road_trip_come_in_the_order_of_time_in_kilometres(data_dir: Path) -> None:
    block = recorded(data_dir, "leaf_roadtrip/leaf_roadtrip")
    assert (np.diff(block.t_ns) > 0).all()
    assert block.src_offset[0] > 300  # the file begins with the later journey
    odo_km = block.context["odo_km"]
    # Portland to Denver: 1,580 km as the crow flies, about 2,000 by road, more by way of chargers
    june = odo_km[block.t_ns < np.datetime64("2022-07-01", "ns").astype(np.int64)]
    assert 1900 < june[-1] - june[0] < 2200


def test_each_laboratory_test_is_a_pack_of_its_own(data_dir: Path) -> None:
    block = recorded(data_dir, "lg_hg2/lg_hg2_1hz", vehicle="cell")
    assert len(block.packs) == 61
    assert set(block.vehicles) == {"cell"}
    first = [int(block.t_ns[block.pack == i][0]) for i in range(61)]
    assert first == [START_NS] * 61


@pytest.mark.parametrize("name", ["ev_faults/car2", "leaf_roadtrip/leaf_roadtrip"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_csv_gives_the_same_frames_as_parquet(data_dir: Path, tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"{Path(name).name}{ending}"
    with gzip.open(path, "wb", 1) if ending.endswith("gz") else path.open("wb") as file:
        pa_csv.write_csv(pq.read_table(data_dir / f"{name}.parquet"), file)
    block, letters = all_of(read_table(path, load_mapping(SETS[name])))
    assert letters == []
    want = recorded(data_dir, name)
    for one in (block, want):  # Parquet has the odometer as float32, text as it was meant
        one.context["odo_km"][:] = one.context["odo_km"].astype(np.float32)
    assert_same_frames(block, want)


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_frames_do_not_depend_on_how_the_file_is_cut(data_dir: Path, tmp_path: Path, rows: int) -> None:
    for name in ("ev_faults/car2", "leaf_roadtrip/leaf_roadtrip", "lg_hg2/lg_hg2_c20"):
        path = tmp_path / f"{Path(name).name}.parquet"
        pq.write_table(pq.read_table(data_dir / f"{name}.parquet"), path, row_group_size=777)
        block, _ = all_of(read_table(path, load_mapping(SETS[name]), rows=rows))
        assert_same_frames(block, recorded(data_dir, name))


def test_a_named_model_must_fit_the_table(data_dir: Path) -> None:
    path = data_dir / "ev_faults/car2.parquet"
    assert next(read_table(path, load_mapping("ev_faults"), "ev-faults-car2")).model == "ev-faults-car2"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"ev-faults-car1 has 96, .*car2\.parquet has 88"):
        read_table(path, load_mapping("ev_faults"), "ev-faults-car1")
    with pytest.raises(ConfigError, match="pack must say its cells"):
        read_table(data_dir / "bmw_i3_trips/bmw_i3_trips_10hz.parquet", load_mapping("bmw_i3_trips"), "generic-nmc")


# -- made tables -------------------------------------------------------------------------------------

MAP = """
model = "generic-nmc"
[time]
column = "t"
format = "{format}"
{zone}
[vehicle]
column = "car"
[columns.current_a]
column = "i"
positive = "{positive}"
invalid = [999]
[columns.cell_v]
pattern = "c{{n}}"
scale = 0.001
low = 1.0
high = 5.0
[columns.pack_v]
column = "v"
optional = true
[columns.contactor_state]
column = "k"
optional = true
values = {{ 5 = 2, 7 = 0 }}
"""


def mapping(how: str = "epoch_s", zone: str = "", positive: str = "charge") -> TableMap:
    return parse_mapping(
        MAP.format(format=how, zone=f'zone = "{zone}"' if zone else "", positive=positive).encode(), "m", "m.toml"
    )


def csv(tmp_path: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


HEAD = "t,car,i,c1,c2,k\n"


def test_values_are_scaled_signed_translated_and_blanked(tmp_path: Path) -> None:
    path = csv(tmp_path, HEAD + "1.5e9,a,5,3700,3701,5\n1500000001,a,999,x,0,7\n1500000002.25,b, -2 ,,3702,9\n")
    block, letters = all_of(read_table(path, mapping(positive="discharge")))
    assert letters == []
    assert block.t_ns.tolist() == [1_500_000_000 * NS, 1_500_000_001 * NS, 1_500_000_002 * NS + 250_000_000]
    np.testing.assert_array_equal(block.current_a, np.array([-5, np.nan, 2], np.float32))
    np.testing.assert_allclose(block.cell_v, [[3.7, 3.701], [np.nan, np.nan], [np.nan, 3.702]], rtol=1e-6)
    assert np.isnan(block.pack_v).all()
    assert block.context["contactor_state"].tolist() == [2, 0, -1]
    assert [block.packs[i] for i in block.pack] == ["a", "a", "b"]
    assert block.model == "generic-nmc@2c0t"


def test_a_row_without_time_is_a_dead_letter_with_its_values(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        HEAD + "1,a,1,3700,3700,5\n,a,2,3700,3700,5\nnoon,a,3,3700,3700,5\n1e30,a,4,3700,3700,5\n5,a,5,3700,3700,5\n",
    )
    block, letters = all_of(read_table(path, mapping(), part=2))
    assert block.src_offset.tolist() == [0, 4]
    assert set(block.src_part.tolist()) == {2}
    assert [(x.reason, x.offset, x.partition, x.source) for x in letters] == [
        ("no_time", i, 2, "trace.csv") for i in (1, 2, 3)
    ]
    assert orjson.loads(letters[1].payload)["t"] == "noon"
    assert len({x.id for x in letters}) == 3


def test_a_line_of_another_width_is_a_dead_letter_and_keeps_its_number(tmp_path: Path) -> None:
    path = csv(tmp_path, HEAD + "1,a,1,3700,3700,5\n2,a,1\n3,a,1,3700,3700,5,9,9\n4,a,1,3700,3700,5\n")
    block, letters = all_of(read_table(path, mapping()))
    assert block.src_offset.tolist() == [0, 3]
    assert [(x.offset, x.payload) for x in letters] == [(1, b"2,a,1"), (2, b"3,a,1,3700,3700,5,9,9")]


@pytest.mark.parametrize(
    "garbage", [b"\xff\xfe\x00,a,1,3700,3700,5\n", b'1,"\x80\x81",1,3700,3700,5\n', b"\x00\x00,,,,,\n"]
)
def test_bytes_that_are_no_text_end_nothing(tmp_path: Path, garbage: bytes) -> None:
    path = csv(tmp_path, HEAD.encode() + garbage + b"4,a,1,3700,3700,5\n")
    block, letters = all_of(read_table(path, mapping()))
    assert len(block) + len(letters) == 2
    assert block.t_ns[-1] == 4 * NS


def test_a_truncated_gz_gives_what_it_holds_and_a_dead_letter(tmp_path: Path) -> None:
    rows = "".join(f"{i},a,{i % 7},37{i % 90:02},3700,5\n" for i in range(400_000))
    path = csv(tmp_path, gzip.compress((HEAD + rows).encode())[:-5000], "trace.csv.gz")
    block, letters = all_of(read_table(path, mapping()))
    assert len(block) > 100_000
    assert block.src_offset.tolist() == list(range(len(block)))
    assert [x.reason for x in letters] == ["undecodable"]


def test_a_damaged_row_group_is_a_dead_letter_and_its_neighbours_pass(tmp_path: Path) -> None:
    n = 3000
    rng = np.random.default_rng(1)
    path = tmp_path / "trace.parquet"
    table = pa.table(
        {
            "t": np.arange(n),
            "car": ["a"] * n,
            "i": rng.normal(size=n),
            "c1": rng.normal(3700, 5, n),
            "c2": rng.normal(3700, 5, n),
        }
    )
    pq.write_table(table, path, row_group_size=1000, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(3)
    data = bytearray(path.read_bytes())
    begin = min(x for x in (column.dictionary_page_offset, column.data_page_offset) if x)
    data[begin : begin + column.total_compressed_size] = b"\xaa" * column.total_compressed_size
    path.write_bytes(data)
    block, letters = all_of(read_table(path, mapping()))
    assert [x.reason for x in letters] == ["undecodable"]
    assert letters[0].offset == 1000
    assert block.src_offset.tolist() == [*range(1000), *range(2000, 3000)]


LOCAL = [
    ("iso", "2021-05-05T09:10:00", "+08:00", "2021-05-05T01:10:00"),
    ("iso", "2021-05-05 09:10:00.25", "Europe/Berlin", "2021-05-05T07:10:00.25"),
    ("iso", "2021-01-05T09:10:00+02:00", "UTC", "2021-01-05T07:10:00"),
    ("iso", "2021-01-05T09:10:00Z", "+05:30", "2021-01-05T09:10:00"),
    ("timestamp", "2021-01-05T09:10:00", "-03:30", "2021-01-05T12:40:00"),
    ("%d.%m.%Y %H:%M:%S", "05.01.2021 09:10:00", "Europe/Berlin", "2021-01-05T08:10:00"),
    ("%m/%d/%Y %H:%M:%S", "09/12/2022 8:08:33", "America/Denver", "2022-09-12T14:08:33"),
    ("epoch_ms", "1600000000123", "", "2020-09-13T12:26:40.123"),
    ("epoch_us", "1600000000123456", "", "2020-09-13T12:26:40.123456"),
    ("epoch_ns", "1600000000123457000", "", "2020-09-13T12:26:40.123457"),
    ("relative_s", "12.5", "", "2020-01-01T00:00:12.5"),
    ("relative_hms", "25:19:08.386", "", "2020-01-02T01:19:08.386"),
]


@pytest.mark.parametrize(("how", "text", "zone", "utc"), LOCAL)
def test_times_of_any_format_are_utc(tmp_path: Path, how: str, text: str, zone: str, utc: str) -> None:
    path = csv(tmp_path, HEAD + f"{text},a,1,3700,3700,5\nnever,a,1,3700,3700,5\n")
    block, letters = all_of(read_table(path, mapping(how, zone)))
    assert np.datetime64(int(block.t_ns[0]), "ns") == np.datetime64(utc, "ns")
    assert [x.reason for x in letters] == ["no_time"]


def test_of_an_hour_that_comes_twice_the_first_is_taken(tmp_path: Path) -> None:
    path = csv(tmp_path, HEAD + "2021-10-31T02:30:00,a,1,3700,3700,5\n2021-10-31T03:30:00,a,1,3700,3700,5\n")
    block, _ = all_of(read_table(path, mapping("iso", "Europe/Berlin")))
    assert [str(np.datetime64(int(t), "ns"))[11:16] for t in block.t_ns] == ["00:30", "02:30"]


def test_a_parquet_time_with_a_zone_of_its_own_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    stamp = pa.array([1_600_000_000_000, None], pa.timestamp("ms", "Asia/Tokyo"))
    pq.write_table(pa.table({"t": stamp, "i": [1.0, 1.0], "c1": [3700, 3700]}), path)
    block, letters = all_of(read_table(path, mapping("timestamp", "+08:00")))
    assert block.t_ns.tolist() == [1_600_000_000 * NS]
    assert block.packs == ("trace",)
    assert len(letters) == 1


def test_a_cell_that_the_table_leaves_out_keeps_its_place(tmp_path: Path) -> None:
    block, _ = all_of(read_table(csv(tmp_path, "t,i,c1,c3\n1,1,3701,3703\n"), mapping()))
    np.testing.assert_allclose(block.cell_v, [[3.701, np.nan, 3.703]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("t,i\n1,1\n", "a.csv", "table must have a column c1, as m.toml says; it has t, i"),
        ("i,c1\n1,1\n", "a.csv", "table must have a column t"),
        ("t,i,c1,i\n1,1,1,1\n", "a.csv", "column i must be there once"),
        ("", "a.csv", "table must be readable Parquet or CSV"),
        ("t,i,c1\n", "a.parquet", "table must be readable Parquet or CSV"),
        ("t,i,c1\n", "a.xlsx", "table must end in one of .parquet"),
        ("t,i,c1\n", "a.csv.gz", "table must be readable Parquet or CSV"),
    ],
)
def test_a_table_that_cannot_be_read_says_so_before_the_first_frame(
    tmp_path: Path, text: str, name: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read_table(csv(tmp_path, text, name), mapping())
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="table must be readable"):
        read_table(tmp_path / "none.parquet", mapping())


def test_a_table_that_no_shipped_mapping_fits_names_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fits none of bmw_i3_trips, ev_faults"):
        find_mapping(csv(tmp_path, "a,b\n1,2\n"))
