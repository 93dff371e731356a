"""What the lake holds of what gateways say: each table's columns, with type, unit and meaning."""

from __future__ import annotations

from schemas.columns import CONTEXT, SOURCE, WHO, Column, columns

GATEWAY: dict[str, tuple[Column, ...]] = {
    "gateway_reports": columns(
        """
    id text the gateway's own name of it, the same however often it is sent
"""
        + WHO
        + """
    what text decision, alert, order (from afar, judged), dropped (what its outbox gave up) or start
    t_ns time when, by the gateway's clock; of what was dropped, its first time
    end_ns time of what was dropped, its last time; otherwise t_ns
    recv_ns time when the broker got it
    limit_key text decision: quantity/tier/over|under/direction of the limit
    active bool decision: true where the limit is broken, false where it is kept again
    opens bool decision: the limit asks for open contactors
    tier text decision: RSL or MSL
    quantity text decision: what the limit is about, schemas/limits.py QUANTITIES
    subject text decision: cell, probe, contactor or pack, as incidents name it; dropped: kind of the records
    value f64 decision: what broke or keeps the limit
    bound f64 decision: the limit
    since_ns time decision: first sample beyond the limit, 1970 otherwise
    action text decision: what is done
    phase text decision, alert: of the contactors from then on
    charge_a f64 decision, alert: charge current that is allowed from then on
    discharge_a f64 decision, alert: the same for discharge
    soc f64 SOC by the gateway's own count then, 0..1
    soc_std f64 its standard deviation
    result text order: taken, or why not; dropped: why
    sequence i64 order: its number, -1 otherwise
    records i64 dropped: how many records
    bytes i64 dropped: how many bytes
    text text plain words
    gateway_version text version of the gateway's software, empty where it does not say
    src_part i32 partition of the source
    src_offset i64 position in it
"""
    ),
    "black_box_frames": columns(
        """
    id text the gateway's own name of this piece of the recording
"""
        + WHO
        + """
    trip_ns time the trip that began the recording: t_ns of its decision
    piece i32 number of the piece, from 0
    last_piece bool no piece follows
    t_ns time event time
    seq i64 the vehicle's frame counter, -1 where none
    recv_ns time when the broker got it
    current_a f32 + into the battery
    pack_v f32 pack voltage
    cell_v f32[] each cell group, NaN = not available
    temp_c f32[] each probe
"""
        + SOURCE
        + CONTEXT
    ),
}
