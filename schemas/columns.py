"""How a table of the lake is written down: a column a line, with type and meaning; columns that many tables share."""

from __future__ import annotations

from dataclasses import dataclass

NORMAL_90 = 1.645  # standard deviations to each end of a 90 % interval; the views in schemas/sql have it as well


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `type` is text, bool, i8 … i64, u32, u64, f32, f64, f32[], time (UTC, ns) or bytes."""

    name: str
    type: str
    meaning: str


def columns(text: str) -> tuple[Column, ...]:
    """Read one column a line: name, type, meaning."""
    return tuple(Column(*line.split(maxsplit=2)) for line in text.splitlines() if line.strip())


WHO = """
    pack_id text the pack
    vehicle_id text the vehicle that carries it
    model text pack model, schemas/packs/<model>.toml
"""
PROVENANCE = """
    pack_file text hash of the pack file
    code_version text version of the code
    params text hash of the settings
    models text hash of the trained models, empty where none
"""
CONTEXT = """
    soc_bms f32 SOC that the vehicle reports, 0..1
    soh_bms f32 SOH that the vehicle reports, 0..1
    speed_kmh f32 speed
    odo_km f64 odometer
    lat_deg f64 latitude
    lon_deg f64 longitude
    altitude_m f32 height
    ambient_c f32 ambient temperature
    coolant_c f32 coolant
    isolation_ohm f32 isolation resistance
    link_v f32 voltage behind the contactors
    current2_a f32 second current sensor
    contactor_state i8 0 open, 1 precharge, 2 closed
    hvil i8 1 closed loop, 0 open
    drive_state i8 0 parked, 1 driving, 2 charging
    charge_type i8 0 none, 1 AC, 2 DC
    alarm_level i8 the vehicle's own alarm, 0..4
    balancing_mask u64 bit c: the bleed of cell group c is on
    humidity_pct f32 humidity in the pack
    pressure_kpa f32 pressure in the pack
    vibration_g f32 vibration
"""
SOURCE = """
    src_part i32 partition of the source
    src_offset i64 position in it
    src_row i32 row of the message
"""
