-- How far apart the cell groups of each pack are, with 90 % intervals, and which are worst. Example: SELECT * FROM imbalance ORDER BY spread_capacity DESC
WITH spreads AS (
    SELECT
        vehicle_id,
        pack_id,
        model,
        t_ns,
        list_max(soc_cell) - list_min(soc_cell) AS spread_soc,
        (list_max(r0_cell_ohm) - list_min(r0_cell_ohm)) / list_median(r0_cell_ohm) AS spread_r0,
        (list_max(capacity_cell_ah) - list_min(capacity_cell_ah)) / list_median(capacity_cell_ah) AS spread_capacity,
        -- of a difference between two cell groups, whose errors are their own; 1.645 standard deviations to each end
        1.645 * sqrt(2) * soc_cell_std AS soc_90,
        1.645 * sqrt(2) * r0_cell_std_ohm / list_median(r0_cell_ohm) AS r0_90,
        1.645 * sqrt(2) * capacity_cell_std_ah / list_median(capacity_cell_ah) AS capacity_90,
        -- counted from 1
        list_position(soc_cell, list_min(soc_cell)) AS soc_low_cell,
        list_position(r0_cell_ohm, list_max(r0_cell_ohm)) AS r0_high_cell,
        list_position(capacity_cell_ah, list_min(capacity_cell_ah)) AS capacity_low_cell
    FROM states_latest
)
SELECT
    vehicle_id,
    pack_id,
    model,
    t_ns,
    spread_soc,
    greatest(spread_soc - soc_90, 0) AS spread_soc_low,
    spread_soc + soc_90 AS spread_soc_high,
    soc_low_cell,
    spread_r0,
    greatest(spread_r0 - r0_90, 0) AS spread_r0_low,
    spread_r0 + r0_90 AS spread_r0_high,
    r0_high_cell,
    spread_capacity,
    greatest(spread_capacity - capacity_90, 0) AS spread_capacity_low,
    spread_capacity + capacity_90 AS spread_capacity_high,
    capacity_low_cell
FROM spreads
