-- Every cell group against the median of its pack as last known, the worst first. Example: SELECT * FROM worst_cells LIMIT 20
WITH cells AS (
    SELECT
        vehicle_id,
        pack_id,
        model,
        t_ns,
        unnest(range(1, len(r0_cell_ohm) + 1)) AS cell, -- counts from 1
        unnest(soc_cell) - list_median(soc_cell) AS soc_over_median,
        unnest(r0_cell_ohm) / list_median(r0_cell_ohm) - 1 AS r0_over_median,
        unnest(capacity_cell_ah) / list_median(capacity_cell_ah) - 1 AS capacity_over_median,
        -- standard deviations of these three
        soc_cell_std AS soc_std,
        r0_cell_std_ohm / list_median(r0_cell_ohm) AS r0_std,
        capacity_cell_std_ah / list_median(capacity_cell_ah) AS capacity_std
    FROM states_latest
)
SELECT *, greatest(abs(soc_over_median), r0_over_median, -capacity_over_median) AS worst
FROM cells
ORDER BY worst DESC NULLS LAST, pack_id, cell
