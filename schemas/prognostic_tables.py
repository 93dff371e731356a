"""What the lake holds of packs' health and life: each table's columns, with type, unit and meaning."""

from __future__ import annotations

from schemas.columns import PROVENANCE, WHO, Column, columns

PROGNOSTIC: dict[str, tuple[Column, ...]] = {
    "evidence": columns(
        WHO
        + """
    pack_hash i64 hash of pack_id
    session_id text the charge
    revision i32 of the charge
    start_ns time when it began
    t_ns time when it ended
    accepted bool it counted
    reason text what speaks against it, by comma: operators/kernels/evidence.py REASONS; empty where accepted
    weight f32 0..1, how much it moved the estimate
    d_soc f32 change of SOC
    d_soc_std f32 its standard deviation
    d_ah f64 charge that went in
    capacity_ah f32 what it says by itself of the pack once balanced
    capacity_std_ah f32 its standard deviation
    charge_out_ah f32 charge that was taken out meanwhile
    temp_mean_c f32 mean temperature
    coverage f32 0..1, share of the time that frames cover
    gap_max_s f32 longest time between two frames
    soc_jump f32 largest change of SOC between two frames that the current does not explain
    soh_bms_end f32 SOH that the vehicle reports
"""
        + PROVENANCE
    ),
    "health": columns(
        WHO
        + """
    pack_hash i64 hash of pack_id
    session_id text the charge after which this is so
    revision i32 of the charge
    t_ns time when it ended
    soh f32 capacity of the pack once balanced over that of a new one: what ages
    soh_std f32 its standard deviation
    soh_low f32 90 % interval, lower end
    soh_high f32 90 % interval, upper end
    soh_capacity f32 from charges alone
    soh_capacity_std f32 its standard deviation
    soh_resistance f32 from the growth of R0 alone
    soh_resistance_std f32 its standard deviation
    soh_model f32 from the trained model alone
    soh_model_std f32 its standard deviation
    soh_model_sha text hash of the trained model, empty where none spoke
    soh_beside f32 from the model that runs beside it, without weight
    soh_beside_sha text hash of that model, empty where none ran
    loss_imbalance f32 SOH that balancing would give back
    loss_imbalance_std f32 its standard deviation
    loss_temperature f32 SOH that the cold of this charge kept from being drawn
    loss_temperature_std f32 its standard deviation
    usable f32 soh less both losses
    usable_std f32 its standard deviation
    capacity_ah f32 soh as charge
    capacity_std_ah f32 soh_std as charge
    r0_rel f32 R0 over the pack file's at the same SOC and temperature
    r0_rel_std f32 its standard deviation
    cycles f32 full cycles since first seen
    accepted i32 charges that counted, so far
    rejected i32 charges that did not, so far
    last_accepted_ns time the newest charge that counted, 1970 where none did
    soh_bms f32 SOH that the vehicle reports
"""
        + PROVENANCE
    ),
    "identity": columns(
        """
    id text uuid5(pack, identity, kind, time)
    revision i32 always 0
"""
        + WHO
        + """
    kind text first_seen, moved (by its id), recognised (by its cells) or replaced (by a pack not known)
    t_ns time end of the session that showed it
    vehicle_before text where it was; of a replaced pack, the pack that was here
    agreement f32 of its cells with the pattern known, -1..1
    patterns i32 patterns learned of it
    capacity_ah f32 when last seen
    r0_rel f32 R0 over the pack file's, when last seen
"""
        + PROVENANCE
    ),
    "twins": columns(
        WHO
        + """
    pack_hash i64 hash of pack_id
    session_id text the charge
    revision i32 of the charge
    t_ns time when it ended
    v_charge f32 mean voltage of the charge, per cell group
    v_circuit f32 what the circuit model said of it
    v_residual f32 what the learned residual would have added, before it learned from this charge
    circuit_rmse_v f32 error of the circuit alone over the newest charges
    residual_rmse_v f32 the same with the residual
    kept bool the residual is used: it beats the circuit alone
    charges i32 charges that told of the circuit, so far
    weights f32[] of the residual after this charge: operators/kernels/circuit_error.py FEATURES
    event text kept, dropped or retrained; empty where nothing changed
    reason text why, in words
"""
        + PROVENANCE
    ),
    "forecasts": columns(
        WHO
        + """
    pack_hash i64 hash of pack_id
    session_id text the charge after which this is said: the first, and then one a week
    revision i32 of the charge
    t_ns time when it ended
    soh f32 SOH from which it goes on
    soh_std f32 its standard deviation
    cycles f32 full cycles since first seen
    cycles_per_day f32 since then, at this pack's own pace; null in its first week
    eol_soh f32 SOH at which life ends
    left_cycles f32 full cycles to the end of life
    left_low f32 90 % interval, lower end
    left_high f32 90 % interval, upper end
    at_cycles f32[] full cycles since first seen, from now to the interval's end
    soh_at f32[] SOH there
    soh_at_low f32[] 5 % of what may be there
    soh_at_high f32[] 95 %
    model_sha text hash of the model that says it, empty where none does
    left_beside f32 cycles to the end of life by the model that runs beside it
    beside_sha text hash of that model, empty where none ran
    reason text why there is no number: no_model, not_valid_yet, no_capacity or short_history; empty where there is one
"""
        + PROVENANCE
    ),
}
