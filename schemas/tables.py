"""What the lake holds: each table's columns, with type, unit and meaning."""

from __future__ import annotations

from schemas.columns import CONTEXT, PROVENANCE, SOURCE, WHO, Column, columns
from schemas.gateway_tables import GATEWAY
from schemas.prognostic_tables import PROGNOSTIC

TABLES: dict[str, tuple[Column, ...]] = {
    "windows": columns(
        WHO
        + """
    pack_hash i64 hash of pack_id; with start it names the window
    start_ns time start of the window, on the event-time grid
    end_ns time its end (exclusive)
    revision i32 0, then 1 … for each correction
    provisional bool closed because the pack fell silent
    frames i32 accepted frames
    complete_frames i32 frames with every cell valid
    coverage f32 0..1, share of the window that frames cover
    quality u32 all quality flags of its frames
    mode i8 0 parked, 1 driving, 2 charging, at the end
    current_min_a f32 smallest current, + into the battery
    current_mean_a f32 time-weighted mean
    current_max_a f32 largest current
    pack_v_min f32 lowest pack voltage
    pack_v_mean f32 time-weighted mean
    pack_v_max f32 highest pack voltage
    cell_v_min f32 lowest cell, complete frames only
    cell_v_mean f32 mean of the cell medians
    cell_v_max f32 highest cell, complete frames only
    cell_min i16 the cell that was lowest, counts from 1
    cell_max i16 the cell that was highest, counts from 1
    spread_max_v f32 largest max-min over the cells of one complete frame
    temp_min_c f32 coldest probe
    temp_mean_c f32 mean over probes and time
    temp_max_c f32 hottest probe
    temp_max_probe i16 the hottest probe, counts from 1
    charge_in_ah f32 charge into the pack
    charge_out_ah f32 charge out of the pack
    energy_in_kwh f32 energy into the pack
    energy_out_kwh f32 energy out of the pack
    soc_start f32 usable pack SOC, 0..1
    soc_end f32 usable pack SOC, 0..1
    soc_std f32 its standard deviation
    soc_bms f32 SOC that the vehicle reports
    soc_source i8 0 cells, 1 pack voltage
    soc_low_cell i16 the cell that empties first
    soc_high_cell i16 the cell that fills first
    soe_kwh f32 energy left above the discharge limit
    soe_std_kwh f32 its standard deviation
    sop_discharge_2s_w f32 discharge power for 2 s
    sop_discharge_10s_w f32 discharge power for 10 s
    sop_discharge_30s_w f32 discharge power for 30 s
    sop_charge_2s_w f32 charge power for 2 s
    sop_charge_10s_w f32 charge power for 10 s
    sop_charge_30s_w f32 charge power for 30 s
    sop_discharge_2s_std_w f32 standard deviation of the discharge power for 2 s
    sop_discharge_10s_std_w f32 of that for 10 s
    sop_discharge_30s_std_w f32 of that for 30 s
    sop_charge_2s_std_w f32 standard deviation of the charge power for 2 s
    sop_charge_10s_std_w f32 of that for 10 s
    sop_charge_30s_std_w f32 of that for 30 s
    sop_discharge_2s_limit i8 what binds it: 0 voltage, 1 current, 2 temperature, 3 SOC
    sop_discharge_10s_limit i8 the same
    sop_discharge_30s_limit i8 the same
    sop_charge_2s_limit i8 the same
    sop_charge_10s_limit i8 the same
    sop_charge_30s_limit i8 the same
    sop_discharge_cell i16 the cell that reaches its limit first when discharging, counts from 1
    sop_charge_cell i16 the same when charging
    current_offset_a f32 what the current sensor shows too much
    current_offset_std_a f32 its standard deviation
    r0_ohm f32 mean resistance of a cell group
    r0_std_ohm f32 its standard deviation
    spread_soc f32 max-min of SOC over the cells, at the start of the window
    spread_r0 f32 max-min of R0 over the cells, relative to the median, at the start
    spread_capacity f32 max-min of capacity over the cells, relative to the median, at the start
    spread_soc_std f32 standard deviation of spread_soc
    spread_r0_std f32 standard deviation of spread_r0
    spread_capacity_std f32 standard deviation of spread_capacity
    r0_high_cell i16 the cell with the highest resistance
    capacity_low_cell i16 the cell with the smallest capacity
    drift f32 Page-Hinkley statistic of the worst feature over its threshold
    anomaly_score f32 online model of this pack: score above its own 99.9 % quantile; > 0 is odd
    anomaly_fleet f32 fleet model, 0..1
    anomaly_state i8 0 learning, 1 normal, 2 odd, -1 not scored
    anomaly_feature i8 the feature that weighs most: index into operators/kernels/anomaly.py FEATURES
    speed_mean_kmh f32 mean speed
    odo_km f64 odometer at the end
    lat_deg f64 latitude at the end
    lon_deg f64 longitude at the end
    ambient_c f32 ambient temperature
"""
        + PROVENANCE
    ),
    "states": columns(
        WHO
        + """
    pack_hash i64 hash of pack_id
    t_ns time time of the last frame that it knows
    revision i32 0, then 1 … for each correction
    soc f32 usable pack SOC, 0..1
    soc_std f32 its standard deviation
    soc_source i8 0 cells, 1 pack voltage
    ocv_borrowed bool the OCV curve was measured on another pack
    soe_kwh f32 energy left above the discharge limit
    soe_std_kwh f32 its standard deviation
    capacity_ah f32 usable pack capacity
    capacity_std_ah f32 its standard deviation
    r0_std_ohm f32 standard deviation of the R0 that all cell groups share
    soc_cell f32[] SOC of each cell group
    r0_cell_ohm f32[] R0 of each cell group
    capacity_cell_ah f32[] capacity of each cell group
    soc_cell_std f32 standard deviation of a cell group's SOC against the median
    r0_cell_std_ohm f32 the same of its R0
    capacity_cell_std_ah f32 the same of its capacity
    temp_c f32[] each probe
    withdrawn bool the corrected history has no such record
"""
        + PROVENANCE
    ),
    "sessions": columns(
        """
    id text uuid5(pack, session, kind, start)
    revision i32 0, then 1 … for each correction
"""
        + WHO
        + """
    kind text drive, charge or park
    start_ns time first frame
    end_ns time last frame
    frames i32 accepted frames
    coverage f32 0..1, share of the time that frames cover
    soc_start f32 0..1
    soc_end f32 0..1
    soc_start_std f32 standard deviation
    soc_end_std f32 standard deviation
    charge_in_ah f64 charge into the pack
    charge_out_ah f64 charge out of the pack
    energy_in_kwh f64 energy into the pack
    energy_out_kwh f64 energy out of the pack
    current_mean_a f32 time-weighted mean, + into the battery
    current_max_a f32 largest magnitude, with its sign
    cell_v_min f32 lowest cell of complete frames
    cell_v_max f32 highest cell of complete frames
    temp_min_c f32 coldest probe
    temp_mean_c f32 mean
    temp_max_c f32 hottest probe
    rest_before_s f32 rest before the session began
    odo_start_km f64 odometer
    odo_end_km f64 odometer
    soc_bms_start f32 SOC that the vehicle reports
    soc_bms_end f32 SOC that the vehicle reports
    provisional bool closed because the pack fell silent
    withdrawn bool the corrected history has no such record
    gap_max_s f32 longest time between two frames
    soc_jump f32 largest change of SOC between two frames that the current does not explain
    soh_bms_min f32 SOH that the vehicle reports, lowest
    soh_bms_max f32 SOH that the vehicle reports, highest
    soh_bms_end f32 SOH that the vehicle reports, last
    top_s f32 time charging within the last 0.2 V before full
    top_ah f32 charge there
    top_v_mean f32 voltage of the median cell group there, over time
    top_v_std f32 its standard deviation
    top_v_skewness f32 its skewness
    top_v_kurtosis f32 its excess kurtosis
    hold_s f32 time at full while the current falls from C/4 to C/20
    hold_ah f32 charge then
    hold_a_mean f32 current then, over time
    hold_a_std f32 its standard deviation
    hold_a_skewness f32 its skewness
    hold_a_kurtosis f32 its excess kurtosis
    capacity_ah f32 usable pack capacity as estimated at the end
    capacity_low_ah f32 capacity of the smallest cell group: what balancing could make usable
    r0_rel f32 R0 over the pack file's at the same SOC and temperature
    current_offset_a f32 what the current sensor shows too much, as estimated at the end
    current_offset_std_a f32 its standard deviation
    d_soc_cell f32[] charges only: SOC of each cell group against the median
    d_r0_cell f32[] charges only: R0 of each cell group against the median, relative
    d_q_cell f32[] charges only: capacity of each cell group against the median, relative
    capacity_std_ah f32 standard deviation of capacity_ah
    r0_rel_std f32 standard deviation of r0_rel
    d_soc_std f32 standard deviation of each of d_soc_cell
    d_r0_std f32 standard deviation of each of d_r0_cell
    d_q_std f32 standard deviation of each of d_q_cell
"""
        + PROVENANCE
    ),
    "incidents": columns(
        """
    id text uuid5(pack, kind, subject, opening time)
    revision i32 0 when opened, then 1 …
"""
        + WHO
        + """
    kind text what is wrong
    subject text cell, probe or pack; numbers count from 1
    severity i8 1 note, 2 service, 3 stop soon, 4 thermal danger
    status text open, update or clear
    opened_ns time when it opened
    updated_ns time when this revision was made
    cleared_ns time when it cleared, 1970 while open
    text text plain words
    evidence text JSON object of numbers
    provisional bool raised from a silence
    withdrawn bool the corrected history has no such record
    since_ns time since when the evidence speaks
    cause text the likeliest cause, of operators/kernels/causes; empty where the kind says it all
    likelihood f32 how likely that cause is, 0..1
    causes text JSON object: likelihood by cause
"""
        + PROVENANCE
    ),
    "gaps": columns(
        """
    id text uuid5(pack, gap, kind, time)
    revision i32 0, then 1 … when it is filled
"""
        + WHO
        + """
    kind text sequence, time or expired
    from_ns time last frame before
    to_ns time first frame after
    first_seq i64 first missing number, -1 where nothing is counted
    last_seq i64 last missing number
    missing i64 frames missing, -1 where unknown
"""
        + PROVENANCE
    ),
    **PROGNOSTIC,
    "dead_letters": columns(
        """
    id text uuid5(source, partition, offset, row)
    source text topic, file or bus
    partition i32 partition of the source
    offset i64 position in it
    row i32 row of the message
    reason text why it was refused
    detail text in words
    pack_id text empty where unreadable
    t_ns time as stamped
    expected_ns time what the pack's own line would have had
    content_type text how the payload is encoded
    payload bytes original bytes, or the row's values encoded again
    headers text JSON of the original headers
"""
    ),
    "frames": columns(
        WHO
        + """
    t_ns time event time
    seq i64 the vehicle's frame counter, -1 where none
    revision i32 0, then 1 … for each correction of what was estimated
    lane i8 0 live, 1 backfill
    recv_ns time when the broker got it
    quality u32 quality flags
    current_a f32 + into the battery
    pack_v f32 pack voltage
    cell_v f32[] each cell group, NaN = not available
    temp_c f32[] each probe
    raw f32[] current, pack voltage, cells and probes as they came, where any of them could not be true
    soc f32 estimate after this frame
    soc_std f32 its standard deviation
"""
        + SOURCE
        + CONTEXT
    ),
    **GATEWAY,
}

# The columns that tell one record from another, revision aside.
KEYS: dict[str, tuple[str, ...]] = {
    "windows": ("pack_hash", "start_ns"),
    "states": ("pack_hash", "t_ns"),
    "sessions": ("id",),
    "incidents": ("id",),
    "gaps": ("id",),
    "evidence": ("session_id", "revision"),
    "health": ("session_id",),
    "identity": ("id",),
    "twins": ("session_id",),
    "forecasts": ("session_id",),
    "dead_letters": ("id",),
    "frames": ("pack_id", "t_ns", "seq"),
    "gateway_reports": ("id",),
    "black_box_frames": ("id", "src_row"),
}

# What gateways send again where they do not know that it arrived: a record has the id of its message, and one counts.
AGAIN = frozenset(GATEWAY)

# The column by whose UTC day a table is partitioned.  Dead letters and what gateways say are rare, and stamped by
# clocks that nobody has checked.
DAY: dict[str, str] = {
    "windows": "start_ns",
    "states": "t_ns",
    "sessions": "start_ns",
    "incidents": "opened_ns",
    "gaps": "from_ns",
    "evidence": "t_ns",
    "health": "t_ns",
    "identity": "t_ns",
    "twins": "t_ns",
    "forecasts": "t_ns",
    "frames": "t_ns",
}
